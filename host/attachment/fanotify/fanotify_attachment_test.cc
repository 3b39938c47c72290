// SPDX-License-Identifier: Apache-2.0
//
// The whole attachment on real files: kernel, shim processes, channel, a host (threads of this
// test). This process opens the files, so it is not excluded here, as a supervisor otherwise is.
#include "host/attachment/fanotify/fanotify_attachment.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "tests/testing/fake_file_server.h"
#include "tests/testing/fake_host.h"
#include "tests/testing/fake_observer.h"
#include "tests/testing/guarded_volume_fixture.h"

namespace bulkhead {
namespace {

constexpr uint64_t kSecond = kNanosecondsPerSecond;

// What each thread of a process and of its descendants waits for, for a reader of the test's
// output.
void ShowThreads(pid_t pid) {
  const auto line_of = [](const std::filesystem::path& file) {
    std::ifstream input(file);
    std::stringstream text;
    text << input.rdbuf();
    std::string line = text.str();
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
  };
  std::error_code error;
  for (const auto& thread :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", error)) {
    std::cerr << "  " << thread.path().filename().string() << " " << line_of(thread.path() / "comm")
              << "syscall " << line_of(thread.path() / "syscall") << "in "
              << line_of(thread.path() / "stack") << "\n";
    std::ifstream children(thread.path() / "children");
    for (pid_t child; children >> child;) ShowThreads(child);
  }
}

// Kills this process when a test does not end: the guard ends with it, and waiting processes
// continue. Far more than any test takes, on a busy machine too.
//
// Its thread has started when the constructor returns, and holds no lock of the allocator's from
// then on: gcc 12's AddressSanitizer hands such a lock to a forked child, which then waits for it
// without end.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds limit)
      : thread_([this, limit] {
          std::unique_lock<std::mutex> lock(mutex_);
          started_ = true;
          changed_.notify_all();
          if (changed_.wait_for(lock, limit, [this] { return done_; })) return;
          std::cerr << "the test did not end within " << limit.count() << " s; its threads:\n";
          ShowThreads(getpid());
          std::abort();
        }) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return started_; });
  }
  ~Watchdog() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;
  bool done_ = false;
  std::thread thread_;
};

std::set<std::string> OpenFiles() {
  std::set<std::string> open;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    open.insert(entry.path().filename());
  }
  return open;
}

bool IsAlive(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("State:", 0) == 0) return line.find('Z') == std::string::npos;
  }
  return false;
}

// Polls for a condition that has no wake-up; bounded by far more than it takes.
template <typename Condition>
bool Eventually(Condition condition) {
  const uint64_t until_ns = MonotonicAfterNs(20 * kSecond);
  while (!condition()) {
    if (MonotonicNowNs() > until_ns) return false;
    std::this_thread::yield();
  }
  return true;
}

// 0, or the errno of open(2).
int TryOpen(const std::string& path) {
  UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return file.valid() ? 0 : errno;
}

// Opens a file again and again, in a thread of its own.
class SteadyOpener {
 public:
  explicit SteadyOpener(std::string path)
      : path_(std::move(path)), thread_([this] {
          while (!stop_.load()) {
            if (TryOpen(path_) == 0) ++opened_;
            ++tried_;
          }
        }) {}
  ~SteadyOpener() {
    stop_.store(true);
    thread_.join();
  }
  // So many more opens have begun and ended.
  void AwaitMore(int opens) const {
    const int from = tried_.load();
    EXPECT_TRUE(Eventually([&] { return tried_.load() > from + opens; }));
  }
  int opened() const { return opened_.load(); }

 private:
  const std::string path_;
  std::atomic<bool> stop_{false};
  std::atomic<int> opened_{0};
  std::atomic<int> tried_{0};
  std::thread thread_;
};

// The result of exec of the program: its exit code, or errno + 1000 when it could not be executed.
int TryExec(const std::string& program) {
  const pid_t pid = fork();
  if (pid == 0) {
    execl(program.c_str(), program.c_str(), nullptr);
    _exit(errno == EPERM ? 101 : 102);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TestAnswer DenyInfected(const FakeHostCall& call) {
  return call.content.rfind("infected", 0) == 0 ? TestAnswer::kDeny : TestAnswer::kAllow;
}

// A driver that answers a call for each permission, and remembers what it answered.
class StepwiseDriver {
 public:
  TestAnswer operator()(const FakeHostCall& call) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return permitted_ > answered_.size(); });
    answered_.push_back(call.path);
    changed_.notify_all();
    return TestAnswer::kAllow;
  }
  void Permit(size_t calls) {
    std::lock_guard<std::mutex> lock(mutex_);
    permitted_ += calls;
    changed_.notify_all();
  }
  // Waits until so many are answered (bounded).
  std::vector<std::string> Answered(size_t calls) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return answered_.size() >= calls; });
    return answered_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t permitted_ = 0;
  std::vector<std::string> answered_;
};

class FanotifyAttachmentTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0) {
      refusal_ = "fanotify permission events need root (CAP_SYS_ADMIN)";
      return;
    }
    absl::StatusOr<GuardedVolume> volume = GuardedVolume::Mount();
    if (!volume.ok()) {
      refusal_ = volume.status().ToString();
      return;
    }
    volume_ = new GuardedVolume(*std::move(volume));
    const absl::Status probe = FanotifyAttachment::Probe();
    if (!probe.ok()) refusal_ = probe.ToString();
  }
  static void TearDownTestSuite() {
    delete volume_;
    volume_ = nullptr;
  }

  void SetUp() override {
    if (!refusal_.empty()) GTEST_SKIP() << refusal_;
    if (kThreadSanitized) {
      GTEST_SKIP() << "ThreadSanitizer's runtime does not survive clone(CLONE_FILES) in the keeper";
    }
    // Thousands of opens at once, where 1024 descriptors are the usual soft limit.
    rlimit files = {};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    watchdog_.emplace(std::chrono::seconds(60));
  }

  void TearDown() override {
    driver_.Permit(1'000'000);  // whatever it still has in hand
    hosts_.clear();
    attachment_.reset();
    watchdog_.reset();
  }

  void Start(uint64_t deadline_ns = 30 * kSecond, uint32_t in_flight_max = 4096,
             const std::string& shim_program = ShimProgram()) {
    FanotifyAttachment::Options options;
    options.shim_program = shim_program;
    deadline_ns_ = deadline_ns;
    options.in_flight_max = in_flight_max;
    options.log = [this](const std::string& text) {
      std::lock_guard<std::mutex> lock(log_mutex_);
      log_.push_back(text);
    };
    options.on_protection = [this](const GuardProtection& guard) {
      std::lock_guard<std::mutex> lock(log_mutex_);
      told_.push_back(guard);
    };
    absl::StatusOr<std::unique_ptr<FanotifyAttachment>> attachment =
        FanotifyAttachment::Create(options);
    ASSERT_TRUE(attachment.ok()) << attachment.status();
    attachment_ = *std::move(attachment);
    attachment_->link()->SetObserver(&observer_);
    ASSERT_TRUE(attachment_->link()->Include(getpid()).ok());
  }

  static std::string ShimProgram() {
    return std::filesystem::canonical("/proc/self/exe").parent_path().parent_path() /
           "bulkhead-shim-fanotify";
  }

  ChannelId Add(const std::string& driver = "test", uint32_t altitude = 1000,
                const bh_policy& policy = DefaultPolicy(), uint32_t lanes = 2) {
    ChannelSpec spec;
    spec.driver = driver;
    spec.altitude = altitude;
    spec.policy = policy;
    spec.geometry = {.lanes = lanes, .slots_per_lane = 32, .call_chunks = 128, .reply_chunks = 0};
    spec.cache_entries = 0;
    absl::StatusOr<ChannelId> channel = attachment_->link()->AddChannel(spec);
    EXPECT_TRUE(channel.ok()) << channel.status();
    return channel.value_or(0);
  }

  FakeHost* StartHost(ChannelId channel, uint32_t generation, TestDriver driver,
                      uint32_t workers = 2) {
    absl::StatusOr<std::unique_ptr<FakeHost>> host =
        FakeHost::Start(*attachment_->link(), channel, generation, std::move(driver), workers);
    EXPECT_TRUE(host.ok()) << host.status();
    if (!host.ok()) return nullptr;
    hosts_.push_back(*std::move(host));
    return hosts_.back().get();
  }

  void Guard(const std::string& directory, MarkKind kind = MarkKind::kAuto,
             const bh_callback_set& callbacks = GuardSpec().callbacks) {
    const absl::StatusOr<MarkKind> guarded = attachment_->Guard(
        {.folder = directory, .mark = kind, .callbacks = callbacks, .deadline_ns = deadline_ns_});
    ASSERT_TRUE(guarded.ok()) << guarded.status();
  }

  bh_protection LevelOf(size_t guard) const { return attachment_->Protections().at(guard).level; }
  std::string ReasonsOf(size_t guard) const {
    std::string all;
    const GuardProtection now = attachment_->Protections().at(guard);
    for (const std::string& reason : now.reasons) all += reason + "\n";
    return all;
  }

  std::vector<GuardProtection> Told() {
    std::lock_guard<std::mutex> lock(log_mutex_);
    return told_;
  }

  // Starts, with a file system of the fake server in this folder as the first that is guarded. Not
  // ok: this machine has no such file system.
  absl::StatusOr<std::unique_ptr<FakeFileServer>> GuardServed(const std::string& folder) {
    std::filesystem::create_directory(folder);
    auto served = FakeFileServer::Mount(folder);
    if (!served.ok()) return served;
    Start();
    StartHost(Add(), 1, DenyInfected);
    Guard(folder);
    return served;
  }

  static GuardedVolume* volume_;
  static std::string refusal_;

  StepwiseDriver driver_;  // of the tests that start a host with it
  FakeObserver observer_;
  std::mutex log_mutex_;
  std::vector<std::string> log_;
  std::vector<GuardProtection> told_;
  uint64_t deadline_ns_ = 0;  // of Guard()
  std::unique_ptr<FanotifyAttachment> attachment_;
  std::vector<std::unique_ptr<FakeHost>> hosts_;
  std::optional<Watchdog> watchdog_;
};

GuardedVolume* FanotifyAttachmentTest::volume_ = nullptr;
std::string FanotifyAttachmentTest::refusal_;

TEST_F(FanotifyAttachmentTest, ACleanFileOpensAndAnInfectedOneIsRefused) {
  const std::string clean = volume_->File("a/clean", "nothing to see");
  const std::string infected = volume_->File("a/infected", "infected");
  Start();
  std::mutex mutex;
  FakeHostCall seen;
  FakeHost* host = StartHost(Add(), 1, [&](const FakeHostCall& call) {
    std::lock_guard<std::mutex> lock(mutex);
    seen = call;
    return DenyInfected(call);
  });
  Guard(volume_->path() + "/a");
  EXPECT_EQ(TryOpen(clean), 0);
  EXPECT_EQ(TryOpen(infected), EPERM);
  EXPECT_EQ(host->calls(), 2u);
  std::lock_guard<std::mutex> lock(mutex);
  EXPECT_EQ(seen.path, infected);
  EXPECT_EQ(seen.file.pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(seen.file.size, 8u);
  const FanotifyAttachment::Counters counters = attachment_->counters();
  EXPECT_EQ(counters.events, 2u);
  EXPECT_EQ(counters.allowed, 1u);
  EXPECT_EQ(counters.denied, 1u);
  EXPECT_EQ(counters.incarnation, 1u);
}

TEST_F(FanotifyAttachmentTest, ExecutionIsACallbackOfItsOwn) {
  std::ifstream source("/bin/true", std::ios::binary);
  std::stringstream image;
  image << source.rdbuf();
  const std::string good = volume_->File("exec/good", image.str(), /*executable=*/true);
  const std::string bad = volume_->File("exec/bad", image.str(), /*executable=*/true);
  Start();
  StartHost(Add(), 1, [](const FakeHostCall& call) {
    return call.callback == BH_CALLBACK_FILE_EXEC && call.path.find("/bad") != std::string::npos
               ? TestAnswer::kDeny
               : TestAnswer::kAllow;
  });
  Guard(volume_->path() + "/exec");
  EXPECT_EQ(TryExec(good), 0);
  EXPECT_EQ(TryExec(bad), 101) << "execve must fail with EPERM";
  EXPECT_EQ(TryOpen(bad), 0) << "only its execution is refused";
}

TEST_F(FanotifyAttachmentTest, AReadCanBeRefusedToo) {
  const std::string infected = volume_->File("access/infected", "infected");
  Start();
  StartHost(Add(), 1, DenyInfected);
  Guard(volume_->path() + "/access", MarkKind::kAuto, SetOf({BH_CALLBACK_FILE_ACCESS}));
  // Opened under the guard: newer kernels decide at the open whether reads are watched.
  UniqueFd file(open(infected.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  char byte;
  EXPECT_EQ(read(file.get(), &byte, 1), -1);
  EXPECT_EQ(errno, EPERM);
}

TEST_F(FanotifyAttachmentTest, AWholeFileSystemIsGuardedByOneMark) {
  const std::string deep = volume_->File("whole/deep/down/infected", "infected");
  Start();
  StartHost(Add(), 1, DenyInfected);
  const absl::StatusOr<MarkKind> kind = attachment_->Guard({.folder = volume_->path()});
  ASSERT_TRUE(kind.ok()) << kind.status();
  EXPECT_EQ(*kind, MarkKind::kFilesystem);
  EXPECT_EQ(TryOpen(deep), EPERM);
  attachment_->RemoveGuards();
  EXPECT_EQ(TryOpen(deep), 0);
  Guard(volume_->path(), MarkKind::kMount);
  EXPECT_EQ(TryOpen(deep), EPERM);
}

TEST_F(FanotifyAttachmentTest, ATreeIsGuardedWithTheDirectoriesThatCome) {
  volume_->File("tree/one/file", "x");
  const std::string outside = volume_->File("beside/infected", "infected");
  Start();
  StartHost(Add(), 1, DenyInfected);
  const absl::StatusOr<MarkKind> kind = attachment_->Guard({.folder = volume_->path() + "/tree"});
  ASSERT_TRUE(kind.ok()) << kind.status();
  EXPECT_EQ(*kind, MarkKind::kDirectory);
  EXPECT_EQ(attachment_->guarded_directories(), 2u);
  EXPECT_EQ(TryOpen(outside), 0);
  EXPECT_EQ(attachment_->counters().events, 0u) << "files outside cause no events";

  std::filesystem::create_directories(volume_->path() + "/tree/two/three");
  ASSERT_TRUE(Eventually([&] { return attachment_->guarded_directories() == 4; }));
  // Created outside and moved in, so that its creation is not denied.
  std::filesystem::rename(outside, volume_->path() + "/tree/two/three/infected");
  EXPECT_EQ(TryOpen(volume_->path() + "/tree/two/three/infected"), EPERM);
  // A directory that moves within the tree stays guarded, and so do new directories below its new
  // name.
  std::filesystem::rename(volume_->path() + "/tree/two", volume_->path() + "/tree/moved");
  EXPECT_EQ(TryOpen(volume_->path() + "/tree/moved/three/infected"), EPERM);
  std::filesystem::create_directory(volume_->path() + "/tree/moved/three/four");
  EXPECT_TRUE(Eventually([&] { return attachment_->guarded_directories() == 5; }));
}

// The holder of a lease may take 45 s to give it up. Meanwhile only opens of that file are denied.
TEST_F(FanotifyAttachmentTest, ALeaseOnAFileDelaysNoOtherFile) {
  const std::string clean = volume_->File("leases/clean", "nothing to see");
  const std::string leased = volume_->File("leases/leased", "nothing to see");
  const UniqueFd holder(open(leased.c_str(), O_RDWR | O_CLOEXEC));
  const auto before = signal(SIGIO, SIG_IGN);
  ASSERT_EQ(fcntl(holder.get(), F_SETLEASE, F_WRLCK), 0) << std::strerror(errno);
  Start(2 * kSecond);
  StartHost(Add(), 1, DenyInfected);
  Guard(volume_->path() + "/leases");
  EXPECT_EQ(TryOpen(leased), EPERM);
  EXPECT_EQ(TryOpen(clean), 0);
  EXPECT_EQ(attachment_->counters().late, 0u);
  EXPECT_EQ(fcntl(holder.get(), F_SETLEASE, F_UNLCK), 0);
  signal(SIGIO, before);
}

// Its path is longer than open() accepts. It is opened through a directory near it, as an attacker
// would.
TEST_F(FanotifyAttachmentTest, ADirectoryDeeperThanAnyPathIsGuarded) {
  volume_->File("deep/before/file", "x");
  UniqueFd at(open((volume_->path() + "/deep/before").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string name(200, 'd');
  const auto dig = [&] {
    for (int i = 0; i < 25; ++i) {
      ASSERT_EQ(mkdirat(at.get(), name.c_str(), 0700), 0);
      at.reset(openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      ASSERT_TRUE(at.valid());
    }
  };
  const auto infect = [&] {
    UniqueFd file(openat(at.get(), "infected", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(write(file.get(), "infected", 8), 8);
  };
  const auto opens = [&] {
    return UniqueFd(openat(at.get(), "infected", O_RDONLY | O_CLOEXEC)).valid() ? 0 : errno;
  };
  dig();
  infect();
  Start();
  StartHost(Add(), 1, DenyInfected);
  Guard(volume_->path() + "/deep");
  EXPECT_EQ(opens(), EPERM);
  EXPECT_EQ(LevelOf(0), BH_PROTECTION_FULL);
  // One that comes below it.
  const uint64_t before = attachment_->guarded_directories();
  dig();
  ASSERT_TRUE(Eventually([&] { return attachment_->guarded_directories() == before + 25; }));
  ASSERT_TRUE(attachment_->link()->Exclude(getpid()).ok());
  infect();
  ASSERT_TRUE(attachment_->link()->Include(getpid()).ok());
  EXPECT_EQ(opens(), EPERM);
}

// What is at the place is guarded, whatever was there when the guard began.
TEST_F(FanotifyAttachmentTest, AFolderThatIsMadeAnewIsGuardedAgain) {
  const std::string folder = volume_->path() + "/anew";
  const std::string infected = volume_->File("anew/infected", "infected");
  Start();
  StartHost(Add(), 1, DenyInfected);
  Guard(folder);
  EXPECT_EQ(TryOpen(infected), EPERM);
  EXPECT_EQ(LevelOf(0), BH_PROTECTION_FULL);
  // Moved away: its files stay guarded, the place is empty.
  std::filesystem::rename(folder, folder + "-old");
  EXPECT_TRUE(Eventually([&] { return LevelOf(0) == BH_PROTECTION_NONE; }));
  EXPECT_EQ(TryOpen(folder + "-old/infected"), EPERM);
  // A symbolic link is another place.
  std::filesystem::create_directory_symlink(folder + "-old", folder);
  EXPECT_TRUE(Eventually([&] { return ReasonsOf(0).find("symbolic link") != std::string::npos; }))
      << ReasonsOf(0);
  std::filesystem::remove(folder);
  // Made anew beside it, and moved there with what it holds.
  volume_->File("anew-next/infected", "infected");
  std::filesystem::rename(folder + "-next", folder);
  EXPECT_TRUE(Eventually([&] { return LevelOf(0) == BH_PROTECTION_FULL; }));
  EXPECT_EQ(TryOpen(infected), EPERM);
  // Removed and made again at once: it may have the same number.
  for (int i = 0; i < 3; ++i) {
    const uint64_t losses = attachment_->Protections().at(0).losses;
    volume_->File("anew-next/infected", "infected");
    std::filesystem::remove_all(folder);
    std::filesystem::rename(folder + "-next", folder);
    EXPECT_TRUE(Eventually([&] {
      const GuardProtection now = attachment_->Protections().at(0);
      return now.losses > losses && now.level == BH_PROTECTION_FULL;
    }));
    EXPECT_EQ(TryOpen(infected), EPERM);
  }
  // Each loss is told, and each end of one.
  EXPECT_TRUE(Eventually([&] {
    const std::vector<GuardProtection> told = Told();
    return !told.empty() && told.back().level == BH_PROTECTION_FULL && told.back().losses >= 4;
  }));
  EXPECT_EQ(Told().front().level, BH_PROTECTION_NONE);
}

TEST_F(FanotifyAttachmentTest, AFileSystemThatComesAndGoesIsGuarded) {
  const std::string place = volume_->path() + "/place";
  const std::string below = volume_->File("place/infected", "infected");
  const auto mount_there = [&] {
    ASSERT_EQ(mount("none", place.c_str(), "tmpfs", 0, "size=1m"), 0) << std::strerror(errno);
  };
  mount_there();
  volume_->File("place/infected", "infected");
  volume_->File("place/deep/infected", "infected");
  Start();
  StartHost(Add(), 1, DenyInfected);
  Guard(place);
  EXPECT_EQ(TryOpen(place + "/deep/infected"), EPERM);
  // What it had covered is at the place then.
  ASSERT_EQ(umount2(place.c_str(), MNT_DETACH), 0);
  ASSERT_TRUE(Eventually([&] { return attachment_->guarded_directories() == 1; }));
  EXPECT_TRUE(Eventually([&] { return LevelOf(0) == BH_PROTECTION_FULL; }));
  EXPECT_EQ(TryOpen(below), EPERM);
  // Another file system over it.
  const uint64_t losses = attachment_->Protections().at(0).losses;
  ASSERT_TRUE(attachment_->link()->Exclude(getpid()).ok());
  mount_there();
  volume_->File("place/deep/infected", "infected");
  ASSERT_TRUE(attachment_->link()->Include(getpid()).ok());
  EXPECT_TRUE(Eventually([&] {
    const GuardProtection now = attachment_->Protections().at(0);
    return now.losses > losses && now.level == BH_PROTECTION_FULL;
  }));
  EXPECT_EQ(TryOpen(place + "/deep/infected"), EPERM);
  // The attachment keeps no descriptor there, but for the moment of an answer or of a check.
  EXPECT_TRUE(Eventually([&] { return umount(place.c_str()) == 0; })) << std::strerror(errno);
}

TEST_F(FanotifyAttachmentTest, AMountBelowAGuardIsShown) {
  const std::string below = volume_->path() + "/above/below it";
  std::filesystem::create_directories(below);
  Start();
  StartHost(Add(), 1, DenyInfected);
  Guard(volume_->path() + "/above");
  EXPECT_EQ(LevelOf(0), BH_PROTECTION_FULL);
  ASSERT_EQ(mount("none", below.c_str(), "tmpfs", 0, "size=1m"), 0) << std::strerror(errno);
  EXPECT_TRUE(Eventually([&] { return LevelOf(0) == BH_PROTECTION_DEGRADED; }));
  EXPECT_THAT(ReasonsOf(0), testing::HasSubstr(below));
  // Guarded by itself it is covered.
  Guard(below);
  EXPECT_TRUE(Eventually([&] { return LevelOf(0) == BH_PROTECTION_FULL; })) << ReasonsOf(0);
  EXPECT_EQ(LevelOf(1), BH_PROTECTION_FULL);
  ASSERT_EQ(umount2(below.c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(Eventually([&] { return attachment_->Protections().at(1).losses > 0; }));
  EXPECT_TRUE(Eventually([&] { return LevelOf(1) == BH_PROTECTION_FULL; }));
}

// A directory of another is dragged in while the tree is being looked at.
TEST_F(FanotifyAttachmentTest, ASymbolicLinkInAComponentsPlaceLeadsNoMarkOutside) {
  const std::string tree = volume_->path() + "/dragged";
  const std::string outside = volume_->File("not-dragged/sub/infected", "infected");
  std::filesystem::create_directories(tree);
  Start();
  StartHost(Add(), 1, DenyInfected);
  Guard(tree);
  for (int i = 0; i < 200; ++i) {
    std::filesystem::create_directories(tree + "/a/sub");
    std::filesystem::rename(tree + "/a", tree + "/b");
    std::filesystem::create_directory_symlink(volume_->path() + "/not-dragged", tree + "/a");
    std::filesystem::create_directories(tree + "/b/sub/later");
    std::filesystem::remove(tree + "/a");
    std::filesystem::remove_all(tree + "/b");
  }
  std::filesystem::create_directories(tree + "/last");
  const uint64_t events = attachment_->counters().events;
  EXPECT_EQ(TryOpen(outside), 0);
  EXPECT_EQ(attachment_->counters().events, events);
}

TEST_F(FanotifyAttachmentTest, WhoIsExcludedIsNotAskedAbout) {
  const std::string infected = volume_->File("excluded/infected", "infected");
  Start();
  FakeHost* host = StartHost(Add(), 1, DenyInfected);
  Guard(volume_->path() + "/excluded");
  EXPECT_EQ(TryOpen(infected), EPERM);
  ASSERT_TRUE(attachment_->link()->Exclude(getpid()).ok());
  EXPECT_EQ(TryOpen(infected), 0);
  EXPECT_EQ(host->calls(), 1u);
  EXPECT_EQ(attachment_->counters().excluded, 1u);
  ASSERT_TRUE(attachment_->link()->Include(getpid()).ok());
  EXPECT_EQ(TryOpen(infected), EPERM);
}

TEST_F(FanotifyAttachmentTest, TheHigherDriverIsAskedFirstAndItsDenialEndsIt) {
  const std::string file = volume_->File("altitude/file", "x");
  Start();
  std::atomic<int> verdict_of_high{0};
  FakeHost* low =
      StartHost(Add("low", 10), 1, [](const FakeHostCall&) { return TestAnswer::kAllow; });
  // Added while a worker runs: the next worker takes over with both.
  FakeHost* high = StartHost(Add("high", 500), 1, [&](const FakeHostCall&) {
    return verdict_of_high.load() == 0 ? TestAnswer::kAllow : TestAnswer::kDeny;
  });
  Guard(volume_->path() + "/altitude");
  EXPECT_EQ(TryOpen(file), 0);
  EXPECT_EQ(low->calls(), 1u);
  verdict_of_high.store(1);
  EXPECT_EQ(TryOpen(file), EPERM);
  EXPECT_EQ(high->calls(), 2u);
  EXPECT_EQ(low->calls(), 1u);
}

TEST_F(FanotifyAttachmentTest, WithoutAHostThePolicyAnswersByTheDeadline) {
  const std::string file = volume_->File("absent/file", "x");
  bh_policy policy = DefaultPolicy();
  policy.rule[BH_CLASS_FILE][BH_REASON_ABSENT] = {BH_ACTION_HOLD, BH_ACTION_DENY};
  Start(/*deadline_ns=*/50'000'000);
  const ChannelId channel = Add("test", 1000, policy);
  Guard(volume_->path() + "/absent");
  const uint64_t before_ns = MonotonicNowNs();
  EXPECT_EQ(TryOpen(file), EPERM);
  EXPECT_GE(MonotonicNowNs() - before_ns, 50'000'000u);
  policy.rule[BH_CLASS_FILE][BH_REASON_ABSENT] = {BH_ACTION_ALLOW, BH_ACTION_ALLOW};
  ASSERT_TRUE(attachment_->link()->SetPolicy(channel, policy).ok());
  EXPECT_EQ(TryOpen(file), 0);
  absl::StatusOr<bh_statistics> statistics = attachment_->link()->Statistics(channel);
  ASSERT_TRUE(statistics.ok()) << statistics.status();
  EXPECT_EQ(statistics->by_policy[BH_REASON_ABSENT], 2u);
}

TEST_F(FanotifyAttachmentTest, EachGuardHasItsDeadlineThroughATakeoverToo) {
  const std::string hasty = volume_->File("hasty/file", "x");
  const std::string patient = volume_->File("patient/file", "x");
  bh_policy policy = DefaultPolicy();
  policy.rule[BH_CLASS_FILE][BH_REASON_ABSENT] = {BH_ACTION_HOLD, BH_ACTION_DENY};
  Start(/*deadline_ns=*/50 * kSecond);
  const ChannelId channel = Add("test", 1000, policy);
  Guard(volume_->path() + "/patient");
  deadline_ns_ = 50'000'000;
  Guard(volume_->path() + "/hasty");
  std::atomic<int> opened{-1};
  std::thread opener([&] { opened.store(TryOpen(patient)); });
  EXPECT_EQ(TryOpen(hasty), EPERM);
  // The next worker finds the open of `patient` in the journal, with the group that it came from.
  while (attachment_->counters().events < 2) std::this_thread::yield();
  ASSERT_EQ(kill(attachment_->worker_pid(), SIGKILL), 0);
  observer_.WaitFor(FakeObserver::News::kTakeover, 1);
  const uint64_t before_ns = MonotonicNowNs();
  EXPECT_EQ(TryOpen(hasty), EPERM);
  EXPECT_GE(MonotonicNowNs() - before_ns, 50'000'000u);
  EXPECT_EQ(opened.load(), -1) << "it had the other guard's deadline";
  StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kAllow; });
  opener.join();
  EXPECT_EQ(opened.load(), 0);
}

TEST_F(FanotifyAttachmentTest, ADeadlineTooManyIsRefusedByName) {
  Start();
  Add();
  for (uint64_t i = 0; i < 4; ++i) {
    const std::string folder =
        std::filesystem::path(volume_->File("many" + std::to_string(i) + "/file", "x"))
            .parent_path();
    ASSERT_TRUE(attachment_->Guard({.folder = folder, .deadline_ns = (i + 1) * kSecond}).ok());
    ASSERT_TRUE(attachment_->Guard({.folder = folder, .deadline_ns = (i + 1) * kSecond}).ok());
  }
  const absl::Status refused =
      attachment_->Guard({.folder = volume_->path() + "/many0", .deadline_ns = 5 * kSecond})
          .status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("/many0"));
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("5000 ms"));
}

// ---- Guards that go, come and change

class FanotifyReguardTest : public FanotifyAttachmentTest {
 protected:
  // A folder with an infected file.
  std::string Folder(const std::string& name) {
    volume_->File(name + "/infected", "infected");
    return volume_->path() + "/" + name;
  }
  static std::string InfectedIn(const std::string& folder) { return folder + "/infected"; }
  void StartWith(const std::vector<GuardSpec>& guards) {
    Start();
    StartHost(Add(), 1, DenyInfected);
    for (const GuardSpec& guard : guards) {
      const absl::StatusOr<MarkKind> kind = attachment_->Guard(guard);
      ASSERT_TRUE(kind.ok()) << kind.status();
    }
  }
  void Reguard(const std::vector<GuardSpec>& guards) {
    const absl::Status status = attachment_->Reguard(guards);
    ASSERT_TRUE(status.ok()) << status;
    std::vector<std::string> wanted, guarded;
    for (const GuardSpec& guard : guards) wanted.push_back(guard.folder);
    for (const GuardProtection& guard : attachment_->Protections()) {
      guarded.push_back(guard.folder);
      EXPECT_EQ(guard.level, BH_PROTECTION_FULL) << guard.folder;
    }
    EXPECT_EQ(guarded, wanted);
  }
};

TEST_F(FanotifyReguardTest, AGuardThatGoesOpensNoHoleInAnother) {
  const std::string outer = Folder("outer"), inner = Folder("outer/inner"), other = Folder("other");
  StartWith({{.folder = outer}, {.folder = inner}, {.folder = other}});
  {
    const SteadyOpener of_inner(InfectedIn(inner)), of_other(InfectedIn(other));
    of_inner.AwaitMore(10);
    Reguard({{.folder = outer}, {.folder = other}});
    of_inner.AwaitMore(10);
    Reguard({{.folder = inner}, {.folder = outer}, {.folder = other}});
    Reguard({{.folder = inner}, {.folder = other}});
    of_inner.AwaitMore(10);
    of_other.AwaitMore(10);
    EXPECT_EQ(TryOpen(InfectedIn(outer)), 0) << "it is not guarded any more";
    // What comes is in force before what goes is not.
    Reguard({{.folder = outer}, {.folder = other}});
    of_inner.AwaitMore(10);
    EXPECT_EQ(of_inner.opened(), 0);
    EXPECT_EQ(of_other.opened(), 0);
  }
  Reguard({});
  const uint64_t events = attachment_->counters().events;
  for (const std::string& folder : {outer, inner, other}) {
    EXPECT_EQ(TryOpen(InfectedIn(folder)), 0) << folder;
  }
  EXPECT_EQ(attachment_->counters().events, events);
  Reguard({{.folder = other}});
  EXPECT_EQ(TryOpen(InfectedIn(other)), EPERM);
}

TEST_F(FanotifyReguardTest, AGuardThatChangesIsInForceAllTheWhile) {
  const std::string one = Folder("one"), two = Folder("two");
  const std::vector<GuardSpec> forms = {
      {.folder = one},
      {.folder = one, .mark = MarkKind::kDirectory, .deadline_ns = 20 * kSecond},
      {.folder = one, .mark = MarkKind::kFilesystem, .deadline_ns = 20 * kSecond},
      {.folder = one,
       .callbacks = SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_ACCESS}),
       .deadline_ns = 20 * kSecond},
      {.folder = one, .mark = MarkKind::kMount},
  };
  StartWith({forms[0], {.folder = two}});
  const SteadyOpener of_one(InfectedIn(one)), of_two(InfectedIn(two));
  for (int round = 0; round < 3; ++round) {
    for (const GuardSpec& form : forms) {
      Reguard({form, {.folder = two}});
      of_one.AwaitMore(2);
      of_two.AwaitMore(2);
    }
  }
  EXPECT_EQ(of_one.opened(), 0);
  EXPECT_EQ(of_two.opened(), 0);
}

TEST_F(FanotifyReguardTest, WhatAGuardNoLongerAsksAboutIsNoCall) {
  const std::string folder = Folder("events");
  const std::string program = volume_->File("events/program", "#!/bin/sh\nexit 7\n", true);
  const GuardSpec of_exec = {.folder = folder, .callbacks = SetOf({BH_CALLBACK_FILE_EXEC})};
  StartWith({{.folder = folder}});
  EXPECT_EQ(TryOpen(InfectedIn(folder)), EPERM);
  Reguard({of_exec});
  EXPECT_EQ(TryOpen(InfectedIn(folder)), 0);
  const uint64_t events = attachment_->counters().events;
  EXPECT_EQ(TryExec(program), 7);
  EXPECT_GT(attachment_->counters().events, events);
}

TEST_F(FanotifyReguardTest, AfterAnErrorTheGuardsAreThoseFromBefore) {
  const std::string one = Folder("stays"), two = Folder("new");
  StartWith({{.folder = one}});
  const SteadyOpener of_one(InfectedIn(one));
  const GuardSpec none = {.folder = volume_->path() + "/none"};
  const GuardSpec asks_nothing = {.folder = one, .callbacks = SetOf({})};
  for (int round = 0; round < 3; ++round) {
    // The first of them is set, beside a guard with the same deadline, when the second fails.
    const absl::Status missing = attachment_->Reguard({{.folder = one}, {.folder = two}, none});
    EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound) << missing;
    const absl::Status wrong = attachment_->Reguard({{.folder = two}, asks_nothing});
    EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument) << wrong;
    EXPECT_EQ(TryOpen(InfectedIn(two)), 0) << "it is not guarded";
    ASSERT_EQ(attachment_->Protections().size(), 1u);
  }
  of_one.AwaitMore(10);
  EXPECT_EQ(of_one.opened(), 0);
  EXPECT_TRUE(log_.empty()) << log_.front();
  Reguard({{.folder = one}, {.folder = two}});
  EXPECT_EQ(TryOpen(InfectedIn(two)), EPERM);
}

TEST_F(FanotifyReguardTest, SomeOfTheDeadlinesChangeAtOnce) {
  std::vector<GuardSpec> guards;
  for (uint64_t i = 0; i < 4; ++i) {
    guards.push_back(
        {.folder = Folder("all" + std::to_string(i)), .deadline_ns = (10 + i) * kSecond});
  }
  StartWith(guards);
  for (size_t round = 0; round < 6; ++round) {
    guards[round % 4].deadline_ns += 5 * kSecond;
    guards[(round + 1) % 4].deadline_ns += 5 * kSecond;
    Reguard(guards);
    for (const GuardSpec& guard : guards) EXPECT_EQ(TryOpen(InfectedIn(guard.folder)), EPERM);
  }
  const std::vector<GuardSpec> before = guards;
  const auto expect_refused = [&](const std::string& why) {
    const absl::Status refused = attachment_->Reguard(guards);
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr(why));
    for (const GuardSpec& guard : before) EXPECT_EQ(TryOpen(InfectedIn(guard.folder)), EPERM);
    guards = before;
  };
  for (size_t i = 0; i < 3; ++i) guards[i].deadline_ns += 7 * kSecond;
  expect_refused("change fewer of them at a time");
  guards.push_back({.folder = Folder("all4"), .deadline_ns = kSecond});
  expect_refused("/all4");
  EXPECT_EQ(TryOpen(InfectedIn(volume_->path() + "/all4")), 0);
  Reguard({});
  for (GuardSpec& guard : guards) guard.deadline_ns += kSecond;
  Reguard(guards);
}

TEST_F(FanotifyReguardTest, AModeChangesAloneAndWithOthers) {
  const std::string one = Folder("mode-one"), two = Folder("mode-two");
  const auto in = [](const std::string& folder, bh_mode mode) {
    return GuardSpec{.folder = folder, .mode = mode};
  };
  StartWith({in(one, BH_MODE_ENFORCE)});
  Reguard({in(one, BH_MODE_AUDIT)});
  EXPECT_EQ(TryOpen(InfectedIn(one)), 0);
  Reguard({in(one, BH_MODE_AUDIT), in(two, BH_MODE_ENFORCE)});
  EXPECT_EQ(TryOpen(InfectedIn(two)), EPERM);
  Reguard({in(one, BH_MODE_ENFORCE), in(two, BH_MODE_AUDIT)});
  EXPECT_EQ(TryOpen(InfectedIn(one)), EPERM);
  EXPECT_EQ(TryOpen(InfectedIn(two)), 0);
}

// Its thread looks at the place for as long as the guard is there.
TEST_F(FanotifyReguardTest, AGuardWhoseFolderIsGoneGoesAndAnotherStays) {
  const std::string gone = Folder("gone"), stays = Folder("here");
  StartWith({{.folder = gone}, {.folder = stays}});
  std::filesystem::rename(gone, volume_->path() + "/moved");
  ASSERT_TRUE(Eventually([&] { return LevelOf(0) == BH_PROTECTION_NONE; }));
  Reguard({{.folder = stays}});
  EXPECT_EQ(TryOpen(InfectedIn(volume_->path() + "/moved")), 0) << "its marks went, too";
  EXPECT_EQ(TryOpen(InfectedIn(stays)), EPERM);
  std::filesystem::rename(volume_->path() + "/moved", gone);
  EXPECT_EQ(TryOpen(InfectedIn(gone)), 0);
}

TEST_F(FanotifyAttachmentTest, AHungHostHoldsThousandsUntilTheDeadlineAndNoLonger) {
  constexpr int kOpeners = 1500;
  constexpr uint64_t kSlower = 4;  // than opens that wait for no other
  const std::string file = volume_->File("hang/file", "x");
  constexpr uint64_t kDeadline = kSecond;
  Start(kDeadline);
  const ChannelId channel = Add();
  StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kDropped; });
  Guard(volume_->path() + "/hang");
  const auto open_by = [&](int count) {
    std::atomic<int> allowed{0};
    std::vector<std::thread> openers;
    for (int i = 0; i < count; ++i) {
      openers.emplace_back([&] { allowed.fetch_add(TryOpen(file) == 0 ? 1 : 0); });
    }
    for (std::thread& opener : openers) opener.join();
    return allowed.load();
  };
  // What this machine takes now for as many events, about which no driver is asked.
  ASSERT_TRUE(attachment_->link()->Exclude(getpid()).ok());
  const uint64_t began_ns = MonotonicNowNs();
  EXPECT_EQ(open_by(kOpeners), kOpeners);
  const uint64_t unasked_ns = MonotonicNowNs() - began_ns;
  ASSERT_TRUE(attachment_->link()->Include(getpid()).ok());
  const int allowed = open_by(kOpeners);
  // What the driver had in hand is denied; what had no turn is allowed.
  const auto statistics = attachment_->link()->Statistics(channel);
  ASSERT_TRUE(statistics.ok()) << statistics.status();
  const uint64_t in_hand = statistics->by_policy[BH_REASON_OVERDUE];
  EXPECT_GT(in_hand, 0u);
  EXPECT_EQ(static_cast<uint64_t>(allowed) + in_hand, uint64_t{kOpeners});
  const FanotifyAttachment::Counters counters = attachment_->counters();
  EXPECT_EQ(counters.events, static_cast<uint64_t>(2 * kOpeners));
  EXPECT_EQ(counters.excluded, static_cast<uint64_t>(kOpeners));
  EXPECT_GE(counters.answer_ns_max, kDeadline);
  constexpr uint64_t kLate = kSecond / 10;  // that counts as late, on a machine that is not busy
  EXPECT_LE(counters.answer_ns_max, kDeadline + kLate + kSlower * unasked_ns);
  RecordProperty("late_ms", static_cast<int>((counters.answer_ns_max - kDeadline) / 1'000'000));
  RecordProperty("unasked_ms", static_cast<int>(unasked_ns / 1'000'000));
  EXPECT_GE(observer_.WaitFor(FakeObserver::News::kHung, 1), 1u);
  EXPECT_EQ(counters.full, 0u);
}

TEST_F(FanotifyAttachmentTest, WhatDoesNotFitIsAnsweredAtOnce) {
  constexpr int kOpeners = 40;
  constexpr int kInFlight = 8;
  constexpr int kShare = kInFlight / 2;  // of one opener, while there is no other
  const std::string file = volume_->File("full/file", "x");
  Start(/*deadline_ns=*/50 * kSecond, /*in_flight_max=*/kInFlight);
  std::promise<void> answer;
  StartHost(Add(), 1, [answered = answer.get_future().share()](const FakeHostCall&) {
    answered.wait();
    return TestAnswer::kDeny;
  });
  Guard(volume_->path() + "/full");
  std::atomic<int> allowed{0};
  std::atomic<int> denied{0};
  std::vector<std::thread> openers;
  for (int i = 0; i < kOpeners; ++i) {
    openers.emplace_back([&] { (TryOpen(file) == 0 ? allowed : denied).fetch_add(1); });
  }
  EXPECT_TRUE(Eventually([&] { return allowed.load() == kOpeners - kShare; }));
  EXPECT_EQ(denied.load(), 0) << "the driver has not answered yet";
  answer.set_value();
  for (std::thread& opener : openers) opener.join();
  EXPECT_EQ(denied.load(), kShare);
  EXPECT_EQ(attachment_->counters().full, static_cast<uint64_t>(kOpeners - kShare));
  EXPECT_EQ(attachment_->counters().let_through, static_cast<uint64_t>(kOpeners - kShare));
  EXPECT_EQ(LevelOf(0), BH_PROTECTION_DEGRADED);
  EXPECT_THAT(ReasonsOf(0),
              testing::HasSubstr("accesses let through without a driver's decision: 36, the last"));
  ASSERT_FALSE(Told().empty());
  EXPECT_EQ(Told().back().level, BH_PROTECTION_DEGRADED);
}

// Processes of a user without rights that open a file of the folder, once each.
class Flood {
 public:
  Flood(uid_t user, const std::string& folder, const std::string& file, int processes)
      : folder_(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
    for (int i = 0; i < processes; ++i) {
      const pid_t pid = fork();
      if (pid == 0) {
        if (syscall(SYS_setresuid, user, user, user) != 0) _exit(2);
        const int opened = openat(folder_.get(), file.c_str(), O_RDONLY | O_CLOEXEC);
        _exit(opened >= 0 ? 0 : errno == EPERM ? 1 : 2);
      }
      pids_.push_back(pid);
    }
  }
  ~Flood() {
    for (const pid_t pid : pids_) kill(pid, SIGKILL);
    Wait();
  }
  // Waits for all; how many ended with each code: opened, refused, failed otherwise.
  std::array<int, 3> Wait() {
    for (const pid_t pid : pids_) {
      int status = 0;
      waitpid(pid, &status, 0);
      const size_t code = WIFEXITED(status) ? static_cast<size_t>(WEXITSTATUS(status)) : 2;
      ++ended_[std::min<size_t>(code, 2)];
    }
    pids_.clear();
    return ended_;
  }

 private:
  const UniqueFd folder_;
  std::vector<pid_t> pids_;
  std::array<int, 3> ended_ = {};
};

TEST_F(FanotifyAttachmentTest, AUsersFloodDoesNotKeepOthersWaiting) {
  constexpr int kFlood = 100;
  const std::string folder = volume_->path() + "/fair";
  volume_->File("fair/common", "x");
  const std::string mine = volume_->File("fair/mine", "x");
  Start(/*deadline_ns=*/50 * kSecond);
  const ChannelId channel = Add("test", 1000, DefaultPolicy(), /*lanes=*/1);
  StartHost(channel, 1, std::ref(driver_), /*workers=*/1);
  Guard(folder);
  const auto with_the_host = [&] {
    const absl::StatusOr<bh_statistics> statistics = attachment_->link()->Statistics(channel);
    return statistics.ok() ? statistics->in_flight : 0;
  };
  Flood flood(65534, folder, "common", kFlood);
  EXPECT_TRUE(Eventually([&] { return attachment_->counters().events == kFlood; }));
  // Three quarters of the slots, and one or two more where two threads took some at once.
  EXPECT_TRUE(Eventually([&] { return with_the_host() >= 24; })) << with_the_host();
  const uint64_t crowd = with_the_host();
  EXPECT_LT(crowd, 32u);
  Flood other(65533, folder, "mine", 1);
  EXPECT_TRUE(Eventually([&] { return with_the_host() > crowd; })) << "no room was left for it";
  // Behind what the driver has in hand, and the one that had its turn before.
  constexpr size_t kBefore = 4;
  std::vector<std::string> answered;
  for (size_t calls = 1; calls <= kBefore; ++calls) {
    driver_.Permit(1);
    answered = driver_.Answered(calls);
  }
  EXPECT_THAT(answered, testing::Contains(mine));
  driver_.Permit(kFlood);
  EXPECT_THAT(other.Wait(), testing::ElementsAre(1, 0, 0));
  EXPECT_THAT(flood.Wait(), testing::ElementsAre(kFlood, 0, 0)) << "nobody is refused";
  EXPECT_EQ(driver_.Answered(kFlood + 1).size(), size_t{kFlood} + 1) << "nobody is let through";
}

TEST_F(FanotifyAttachmentTest, AUserHasNoMoreThanItsShareOfTheRoom) {
  constexpr int kFlood = 100;
  constexpr uint32_t kRoom = 32;
  const std::string folder = volume_->path() + "/room";
  volume_->File("room/common", "x");
  const std::string mine = volume_->File("room/mine", "x");
  Start(/*deadline_ns=*/50 * kSecond, /*in_flight_max=*/kRoom);
  const ChannelId channel = Add();
  StartHost(channel, 1, std::ref(driver_));
  Guard(folder);
  Flood flood(65534, folder, "common", kFlood);
  EXPECT_TRUE(Eventually([&] { return attachment_->counters().crowded >= kFlood - kRoom; }));
  Flood other(65533, folder, "mine", 1);
  EXPECT_TRUE(Eventually([&] { return attachment_->counters().events == kFlood + 1; }));
  driver_.Permit(kFlood + 1);
  EXPECT_THAT(other.Wait(), testing::ElementsAre(1, 0, 0));
  const std::array<int, 3> ended = flood.Wait();
  EXPECT_EQ(ended[2], 0);
  const FanotifyAttachment::Counters counters = attachment_->counters();
  EXPECT_EQ(static_cast<uint64_t>(ended[1]), counters.crowded) << "refused at once, and no other";
  EXPECT_EQ(counters.full, 0u) << "room is left for others";
  EXPECT_THAT(driver_.Answered(0), testing::Contains(mine));
  const absl::StatusOr<bh_statistics> statistics = attachment_->link()->Statistics(channel);
  ASSERT_TRUE(statistics.ok()) << statistics.status();
  for (uint32_t reason = 0; reason < BH_REASON_COUNT; ++reason) {
    EXPECT_EQ(statistics->by_policy[reason], 0u) << "let through unasked: " << reason;
  }
}

// Opens files in a loop from several threads, and counts wrong verdicts.
class Storm {
 public:
  Storm(GuardedVolume& volume, const std::string& folder) {
    for (int i = 0; i < 16; ++i) {
      const bool infected = i % 3 == 0;
      files_.push_back(
          {volume.File(folder + "/" + std::to_string(i), infected ? "infected" : "clean"),
           infected});
    }
  }
  ~Storm() { Stop(); }

  void Start() {
    for (size_t t = 0; t < 4; ++t) {
      threads_.emplace_back([this, t] {
        for (size_t i = t; !stop_.load(); ++i) {
          const auto& [path, infected] = files_[i % files_.size()];
          if (TryOpen(path) != (infected ? EPERM : 0)) wrong_.fetch_add(1);
          opens_.fetch_add(1);
        }
      });
    }
  }
  void Stop() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  uint64_t opens() const { return opens_.load(); }
  uint64_t wrong() const { return wrong_.load(); }

 private:
  std::vector<std::pair<std::string, bool>> files_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> opens_{0};
  std::atomic<uint64_t> wrong_{0};
  std::vector<std::thread> threads_;
};

TEST_F(FanotifyAttachmentTest, WorkersAreKilledInAStormAndNoOpenIsLostOrWrong) {
  constexpr uint32_t kKills = 30;
  Storm storm(*volume_, "storm");
  Start();
  StartHost(Add(), 1, DenyInfected);
  Guard(volume_->path() + "/storm");
  storm.Start();
  for (uint32_t kill_number = 1; kill_number <= kKills; ++kill_number) {
    // Each worker answers something before it dies.
    const uint64_t opens = storm.opens() + 20;
    ASSERT_TRUE(Eventually([&] { return storm.opens() >= opens; }));
    const pid_t worker = attachment_->worker_pid();
    ASSERT_GT(worker, 0);
    ASSERT_EQ(kill(worker, SIGKILL), 0);
    ASSERT_EQ(observer_.WaitFor(FakeObserver::News::kTakeover, kill_number), kill_number);
  }
  const uint64_t opens = storm.opens() + 100;
  ASSERT_TRUE(Eventually([&] { return storm.opens() >= opens; }));
  storm.Stop();
  EXPECT_EQ(storm.wrong(), 0u);
  const FanotifyAttachment::Counters counters = attachment_->counters();
  EXPECT_EQ(counters.incarnation, kKills + 1);
  EXPECT_GT(counters.adopted, 0u) << "no kill hit a worker that had events";
  EXPECT_EQ(counters.late, 0u);
  EXPECT_EQ(counters.replayed, 0u);
  EXPECT_EQ(counters.read_errors, 0u);
  EXPECT_TRUE(IsAlive(attachment_->keeper_pid()));
}

// The kernel opens a file while its event is read. Each open that its file system lets wait holds
// one reader of such file systems up, and none of the others.
TEST_F(FanotifyAttachmentTest, AnOpenThatDoesNotEndDelaysNoOther) {
  const std::string file = volume_->File("kernels/file", "x");
  const std::string folder = volume_->path() + "/served";
  auto served = GuardServed(folder);
  if (!served.ok()) GTEST_SKIP() << served.status();
  Guard(volume_->path() + "/kernels");
  constexpr int kHeld = kSlowReaders - 1;
  Flood held(65534, folder, "held", kHeld);
  for (int i = 0; i < kHeld; ++i) ASSERT_TRUE((*served)->AwaitHeld()) << i;
  EXPECT_EQ(TryOpen(file), 0);
  EXPECT_EQ(TryOpen(folder + "/free"), 0) << "of the same file system";
  (*served)->LetGo();
  EXPECT_THAT(held.Wait(), testing::ElementsAre(kHeld, 0, 0));
}

// All of them are held up: other file systems do not mind, and the shim ends when it is to.
TEST_F(FanotifyAttachmentTest, OpensThatDoNotEndDelayNoOtherFileSystem) {
  const std::string file = volume_->File("kernels/file", "x");
  const std::string folder = volume_->path() + "/served";
  auto served = GuardServed(folder);
  if (!served.ok()) GTEST_SKIP() << served.status();
  Guard(volume_->path() + "/kernels");
  Flood held(65534, folder, "held", 2 * kSlowReaders);
  for (uint32_t i = 0; i < kSlowReaders; ++i) ASSERT_TRUE((*served)->AwaitHeld()) << i;
  EXPECT_EQ(TryOpen(file), 0);
  served->reset();  // its server dies: the kernel ends what waits for it
  const std::array<int, 3> ended = held.Wait();
  EXPECT_EQ(ended[0], 0) << "opened without a server";
  EXPECT_EQ(TryOpen(file), 0);
}

// The kernel denies what it can't open for the drivers, without asking one.
TEST_F(FanotifyAttachmentTest, WhatTheKernelDeniesForUsIsCountedAndSaid) {
  const std::string folder = volume_->path() + "/served";
  auto served = GuardServed(folder);
  if (!served.ok()) GTEST_SKIP() << served.status();
  Flood owner(65534, folder, "not-for-root", 1);
  EXPECT_THAT(owner.Wait(), testing::ElementsAre(0, 1, 0));
  EXPECT_EQ(TryOpen(folder + "/free"), 0);
  EXPECT_EQ(attachment_->counters().read_errors, 1u);
  for (int look = 0; look < 2; ++look) (void)attachment_->Protections();
  std::lock_guard<std::mutex> lock(log_mutex_);
  EXPECT_EQ(std::count_if(log_.begin(), log_.end(),
                          [](const std::string& line) {
                            return line.find("the kernel denied 1 opens") != std::string::npos &&
                                   line.find("Permission denied") != std::string::npos;
                          }),
            1)
      << "once";
}

// By a debugger's user, or a script that stops what uses too much of a CPU.
TEST_F(FanotifyAttachmentTest, AStoppedWorkerIsReplaced) {
  const std::string file = volume_->File("stopped/file", "x");
  Start(/*deadline_ns=*/50 * kSecond);
  StartHost(Add(), 1, std::ref(driver_));
  Guard(volume_->path() + "/stopped");
  std::thread opener([&] { EXPECT_EQ(TryOpen(file), 0); });
  EXPECT_TRUE(Eventually([&] { return attachment_->counters().events == 1; }));
  EXPECT_EQ(kill(attachment_->worker_pid(), SIGSTOP), 0);
  EXPECT_EQ(observer_.WaitFor(FakeObserver::News::kTakeover, 1), 1u);
  driver_.Permit(3);  // both shims' questions about it, and one more
  opener.join();
  EXPECT_EQ(TryOpen(file), 0);
}

TEST_F(FanotifyAttachmentTest, TheNextShimContinuesWhenTheKeeperDies) {
  const std::string clean = volume_->File("keeper/clean", "x");
  const std::string infected = volume_->File("keeper/infected", "infected");
  Start();
  const ChannelId channel = Add();
  FakeHost* host = StartHost(channel, 1, DenyInfected);
  Guard(volume_->path() + "/keeper");
  EXPECT_EQ(TryOpen(infected), EPERM);
  const pid_t keeper = attachment_->keeper_pid();
  const pid_t worker = attachment_->worker_pid();
  ASSERT_EQ(kill(keeper, SIGKILL), 0);
  ASSERT_EQ(observer_.WaitFor(FakeObserver::News::kShimLost, 1), 1u);
  EXPECT_TRUE(Eventually([&] { return !IsAlive(worker); }));
  EXPECT_NE(attachment_->keeper_pid(), keeper);
  // The supervisor's part: the old host serves memory that no shim writes any more.
  EXPECT_EQ(host->Die(BH_END_STOPPED).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Add(), channel) << "the same channel under the same id";
  StartHost(channel, 2, DenyInfected);
  EXPECT_EQ(TryOpen(infected), EPERM);
  EXPECT_EQ(TryOpen(clean), 0);
}

TEST_F(FanotifyAttachmentTest, WhatWaitsWhenKeeperAndWorkerDieIsAnsweredByPolicy) {
  const std::string file = volume_->File("both/file", "x");
  bh_policy policy = DefaultPolicy();
  policy.rule[BH_CLASS_FILE][BH_REASON_CRASHED] = {BH_ACTION_HOLD, BH_ACTION_DENY};
  Start();
  const ChannelId channel = Add("test", 1000, policy);
  FakeHost* host = StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kDropped; });
  Guard(volume_->path() + "/both");
  std::atomic<int> refused{0};
  std::vector<std::thread> openers;
  for (int i = 0; i < 4; ++i) {
    openers.emplace_back([&] { refused.fetch_add(TryOpen(file) == EPERM ? 1 : 0); });
  }
  ASSERT_TRUE(Eventually([&] { return attachment_->counters().events == 4; }));
  const pid_t worker = attachment_->worker_pid();
  ASSERT_EQ(kill(attachment_->keeper_pid(), SIGKILL), 0);
  ASSERT_EQ(kill(worker, SIGKILL), 0);
  for (std::thread& opener : openers) opener.join();
  EXPECT_EQ(refused.load(), 4);
  ASSERT_EQ(observer_.WaitFor(FakeObserver::News::kShimLost, 1), 1u);
  EXPECT_EQ(attachment_->counters().replayed, 4u);
  EXPECT_EQ(attachment_->counters().let_through, 0u);
  host->Die(BH_END_STOPPED).IgnoreError();
  StartHost(channel, 2, [](const FakeHostCall&) { return TestAnswer::kAllow; });
  EXPECT_EQ(TryOpen(file), 0);
}

TEST_F(FanotifyAttachmentTest, WhenNoShimCanBeStartedTheMachineContinues) {
  const std::string file = volume_->File("broken/file", "infected");
  std::ifstream source(ShimProgram(), std::ios::binary);
  std::stringstream image;
  image << source.rdbuf();
  const std::string program = volume_->File("program/shim", image.str(), /*executable=*/true);
  Start(30 * kSecond, 4096, program);
  FakeHost* host = StartHost(Add(), 1, DenyInfected);
  Guard(volume_->path() + "/broken");
  EXPECT_EQ(TryOpen(file), EPERM);
  std::filesystem::remove(program);
  ASSERT_EQ(kill(attachment_->keeper_pid(), SIGKILL), 0);
  ASSERT_EQ(observer_.WaitFor(FakeObserver::News::kShimLost, 1), 1u);
  EXPECT_EQ(TryOpen(file), 0);
  EXPECT_EQ(attachment_->keeper_pid(), 0);
  EXPECT_EQ(host->Die(BH_END_STOPPED).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::IsUnavailable(attachment_->link()->Statistics(0).status()));
  EXPECT_EQ(LevelOf(0), BH_PROTECTION_NONE);
  EXPECT_THAT(ReasonsOf(0), testing::HasSubstr("can't be started"));
  {
    std::lock_guard<std::mutex> lock(log_mutex_);
    ASSERT_FALSE(log_.empty());
    EXPECT_THAT(log_.back(), testing::HasSubstr("NOT guarded"));
  }
  // It can be started again, however long that took; a folder that is missing then is guarded when
  // it comes.
  std::filesystem::rename(volume_->path() + "/broken", volume_->path() + "/away");
  volume_->File("program/shim", image.str(), /*executable=*/true);
  ASSERT_EQ(observer_.WaitFor(FakeObserver::News::kShimLost, 2), 2u);
  EXPECT_EQ(LevelOf(0), BH_PROTECTION_NONE);
  std::filesystem::rename(volume_->path() + "/away", volume_->path() + "/broken");
  // The open above came before the guards were let go, or after.
  const bh_protection level =
      attachment_->counters().let_through == 0 ? BH_PROTECTION_FULL : BH_PROTECTION_DEGRADED;
  EXPECT_TRUE(Eventually([&] { return LevelOf(0) == level; })) << ReasonsOf(0);
  EXPECT_GT(attachment_->keeper_pid(), 0);
  StartHost(Add(), 2, DenyInfected);
  EXPECT_EQ(TryOpen(file), EPERM);
  EXPECT_TRUE(Eventually([&] {
    const std::vector<GuardProtection> told = Told();
    return !told.empty() && told.back().level == level && told.back().losses == 1;
  }));
}

// Its exec waits for a worker, as the open of any guarded file, and there is none.
TEST_F(FanotifyAttachmentTest, AShimWhoseProgramIsGuardedIsStartedAgainToo) {
  const std::string file = volume_->File("own/file", "infected");
  std::ifstream source(ShimProgram(), std::ios::binary);
  std::stringstream image;
  image << source.rdbuf();
  Start(30 * kSecond, 4096, volume_->File("own/shim", image.str(), /*executable=*/true));
  bh_policy policy = DefaultPolicy();
  policy.rule[BH_CLASS_FILE][BH_REASON_CRASHED] = {BH_ACTION_HOLD, BH_ACTION_DENY};
  StartHost(Add("test", 1000, policy), 1, DenyInfected);
  Guard(volume_->path() + "/own");
  EXPECT_EQ(TryOpen(file), EPERM);
  ASSERT_EQ(kill(attachment_->keeper_pid(), SIGKILL), 0);
  EXPECT_EQ(TryOpen(file), EPERM) << "by the host, or as after a crash when the guards were let go";
  ASSERT_EQ(observer_.WaitFor(FakeObserver::News::kShimLost, 2), 2u);
  EXPECT_TRUE(Eventually([&] { return LevelOf(0) == BH_PROTECTION_FULL; })) << ReasonsOf(0);
  StartHost(Add(), 2, DenyInfected);
  EXPECT_EQ(TryOpen(file), EPERM);
  std::lock_guard<std::mutex> lock(log_mutex_);
  EXPECT_EQ(std::count_if(log_.begin(), log_.end(),
                          [](const std::string& line) {
                            return line.find("is it guarded itself?") != std::string::npos &&
                                   line.find("NOT guarded") != std::string::npos;
                          }),
            1);
}

TEST_F(FanotifyAttachmentTest, AKilledSupervisorLeavesNothingBehind) {
  const std::string file = volume_->File("orphans/file", "x");
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd told(ends[0]);
  UniqueFd tell(ends[1]);
  const pid_t supervisor = fork();
  if (supervisor == 0) {
    FanotifyAttachment::Options options;
    options.shim_program = ShimProgram();
    absl::StatusOr<std::unique_ptr<FanotifyAttachment>> attachment =
        FanotifyAttachment::Create(options);
    if (!attachment.ok()) _exit(1);
    if (!(*attachment)->Guard({.folder = volume_->path() + "/orphans"}).ok()) _exit(2);
    const pid_t pids[2] = {(*attachment)->keeper_pid(), (*attachment)->worker_pid()};
    if (write(tell.get(), pids, sizeof(pids)) != sizeof(pids)) _exit(3);
    for (;;) pause();
  }
  tell.reset();
  pid_t pids[2] = {0, 0};
  EXPECT_EQ(read(told.get(), pids, sizeof(pids)), static_cast<ssize_t>(sizeof(pids)));
  kill(supervisor, SIGKILL);
  waitpid(supervisor, nullptr, 0);
  ASSERT_GT(pids[0], 0);
  ASSERT_GT(pids[1], 0);
  EXPECT_TRUE(Eventually([&] { return !IsAlive(pids[0]) && !IsAlive(pids[1]); }));
  EXPECT_EQ(TryOpen(file), 0);
}

TEST_F(FanotifyAttachmentTest, StoppingAnswersWaitingProcessesAndLeavesNothing) {
  const std::string file = volume_->File("stop/file", "x");
  const std::set<std::string> before = OpenFiles();
  Start();
  const ChannelId channel = Add();
  FakeHost* host = StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kDropped; });
  Guard(volume_->path() + "/stop");
  std::thread opener([&] { EXPECT_EQ(TryOpen(file), 0); });
  ASSERT_TRUE(Eventually([&] { return attachment_->counters().events == 1; }));
  const pid_t keeper = attachment_->keeper_pid();
  const pid_t worker = attachment_->worker_pid();
  attachment_->Stop();
  opener.join();
  EXPECT_TRUE(Eventually([&] { return !IsAlive(keeper) && !IsAlive(worker); }));
  EXPECT_EQ(TryOpen(file), 0);
  host->Die(BH_END_STOPPED).IgnoreError();
  hosts_.clear();
  attachment_.reset();
  EXPECT_EQ(OpenFiles(), before);
}

TEST_F(FanotifyAttachmentTest, WhatCanNotBeGuardedIsAnErrorThatSaysWhy) {
  const std::string file = volume_->File("errors/file", "x");
  Start();
  EXPECT_EQ(attachment_->Guard({.folder = file}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(attachment_->Guard({.folder = volume_->path() + "/none"}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(attachment_->Guard({.folder = volume_->path(), .callbacks = SetOf({})}).status().code(),
            absl::StatusCode::kInvalidArgument);
  ChannelSpec spec;
  spec.geometry = {};
  spec.driver = "bad";
  EXPECT_EQ(attachment_->link()->AddChannel(spec).status().code(),
            absl::StatusCode::kInvalidArgument);
  Add("once");
  spec.driver = "once";
  EXPECT_EQ(attachment_->link()->AddChannel(spec).status().code(),
            absl::StatusCode::kAlreadyExists);

  FanotifyAttachment::Options options;
  options.shim_program = volume_->path() + "/no-such-program";
  const absl::Status missing = FanotifyAttachment::Create(options).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound) << missing;
  EXPECT_THAT(std::string(missing.message()), testing::HasSubstr("installed"));
}

TEST_F(FanotifyAttachmentTest, WithoutPrivilegesTheErrorSaysWhatToDo) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(3);
    const absl::Status status = FanotifyAttachment::Probe();
    _exit(absl::IsPermissionDenied(status) &&
                  std::string(status.message()).find("root") != std::string::npos
              ? 0
              : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace bulkhead
