// SPDX-License-Identifier: Apache-2.0
//
// What docs/bad-days.md says of a service that runs out of something, is stopped, or has the worst
// of drivers and clients.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/service/state_folder.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "tests/testing/daemon_fixture.h"
#include "tests/testing/send_signal.h"
#include "tests/testing/stopped_process.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BadDays : public Daemon {
 protected:
  void ExpectGuarded() {
    EXPECT_FALSE(Opens(files_ + "/infected"));
    EXPECT_TRUE(Opens(files_ + "/clean"));
  }
  // Rules that deny files_/marked, too.
  std::string OtherRules() {
    std::ofstream(files_ + "/marked") << "what the new rule looks for\n";
    const std::string other = folder_ + "/other";
    fs::copy(rules_, other, fs::copy_options::recursive);
    std::ofstream(other + "/new.yar")
        << "rule new_rule { strings: $a = \"the new rule looks for\" condition: $a }\n";
    return other;
  }
  Outcome GiveContent(const std::string& folder) {
    return Run("content --driver scanner --content " + folder + pid_);
  }
  // Until it is so; false when it does not come to that.
  template <typename Condition>
  static bool Becomes(const Condition& condition) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (!condition()) {
      if (MonotonicNowNs() > until_ns) return false;
      poll(nullptr, 0, 20);
    }
    return true;
  }
};

// ---- Descriptors

// Leaves the process `free` descriptors more than it has now.
class FewDescriptors {
 public:
  FewDescriptors(pid_t process, int free) : process_(process) {
    if (prlimit(process_, RLIMIT_NOFILE, nullptr, &before_) != 0) return;
    rlimit few = before_;
    few.rlim_cur = 0;
    for (int left = free;; ++few.rlim_cur) {
      const std::string name =
          "/proc/" + std::to_string(process_) + "/fd/" + std::to_string(few.rlim_cur);
      struct stat status = {};
      if (lstat(name.c_str(), &status) != 0 && left-- == 0) break;
    }
    in_force_ = prlimit(process_, RLIMIT_NOFILE, &few, nullptr) == 0;
  }
  ~FewDescriptors() { prlimit(process_, RLIMIT_NOFILE, &before_, nullptr); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  bool in_force() const { return in_force_; }

 private:
  const pid_t process_;
  rlimit before_ = {};
  bool in_force_ = false;
};

ptrdiff_t DescriptorsOf(pid_t process) {
  return std::distance(fs::directory_iterator("/proc/" + std::to_string(process) + "/fd"), {});
}

TEST_F(BadDays, DescriptorsThatRunOutRefuseAChangeAndEndNoGuard) {
  Write(Scanner() + GuardOf(files_));
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const std::string other = OtherRules();
  const ptrdiff_t before = DescriptorsOf(service);
  {
    const FewDescriptors few(service, 4);
    ASSERT_TRUE(few.in_force());
    ExpectGuarded();
    const Outcome refused = GiveContent(other);
    EXPECT_NE(refused.code, 0);
    EXPECT_THAT(refused.text, HasSubstr("Too many open files"));
    ExpectGuarded();
    EXPECT_TRUE(Opens(files_ + "/marked")) << "the content before is in force";
  }
  EXPECT_TRUE(Becomes([&] { return DescriptorsOf(service) <= before; }));
  EXPECT_EQ(GiveContent(other).code, 0);
  EXPECT_FALSE(Opens(files_ + "/marked"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(BadDays, AHostThatDiesWithoutDescriptorsIsReplacedWhenThereAreSome) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs descriptors of its own";
  Write(Scanner() + GuardOf(files_) + "deadline = '60s'\n");
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const pid_t host = Host();
  {
    const FewDescriptors none(service, 0);
    ASSERT_TRUE(none.in_force());
    ExpectGuarded();
    SendSignal(host, SIGKILL);
    AwaitEnd(host);
    EXPECT_EQ(SendSignal(service, 0), 0);
  }
  ExpectGuarded();
  EXPECT_NE(Host(), host);
  EXPECT_EQ(StopService(), 0);
}

// ---- Clients

TEST_F(BadDays, AThousandClientsTakeNothingFromTheGuard) {
  Write("[service]\nmetrics = '" + folder_ + "/metrics.sock'\n" + Scanner() + GuardOf(files_));
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const ptrdiff_t before = DescriptorsOf(service);
  const std::string path = InstanceSocket(service);
  {
    // All at once. Some ask and never read; some say nothing.
    std::vector<ControlSocket> clients;
    for (int i = 0; i < 1000; ++i) {
      absl::StatusOr<ControlSocket> client = ControlSocket::Connect(path);
      ASSERT_TRUE(client.ok()) << i << ": " << client.status();
      if (i % 2 == 0) client->Send(MakeGetEvents(0)).IgnoreError();
      clients.push_back(*std::move(client));
      if (i % 250 == 0) ExpectGuarded();
    }
    // To readers of metrics.
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    (folder_ + "/metrics.sock").copy(address.sun_path, sizeof(address.sun_path) - 1);
    std::vector<UniqueFd> readers;
    for (int i = 0; i < 1000; ++i) {
      readers.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      (void)!connect(readers.back().get(), reinterpret_cast<sockaddr*>(&address),
                     sizeof(address));  // a full queue refuses it
    }
    ExpectGuarded();
    EXPECT_EQ(Run("status").code, 0) << "those before do not keep it from its answer";
    EXPECT_LT(DescriptorsOf(service), before + 200);
  }
  EXPECT_TRUE(Becomes([&] { return DescriptorsOf(service) <= before; }));
  // At the same time: more than wait for their answers, so that some are told to try again, or lose
  // their connection.
  std::atomic<int> answered{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 50; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const absl::StatusOr<ControlMessage> answer = AskInstance(path, MakeGetStatus());
        if (answer.ok() && answer->as<wire::Status>() != nullptr) answered.fetch_add(1);
      }
    });
  }
  ExpectGuarded();
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(answered.load(), 0);
  EXPECT_EQ(Run("status").code, 0);
  EXPECT_EQ(StopService(), 0);
}

// ---- The disk

class FullDisk : public BadDays {
 protected:
  void SetUp() override {
    BadDays::SetUp();
    if (IsSkipped()) return;
    state_ = StateBases().front();
    disk_ = folder_ + "/disk";
    fs::create_directories(state_);
    fs::create_directories(disk_);
    // One file system for state and log, which no other process sees.
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("bulkhead-test", disk_.c_str(), "tmpfs", 0, "size=2m") != 0) {
      GTEST_SKIP() << "can't mount a file system of its own: " << std::strerror(errno);
    }
    fs::create_directories(disk_ + "/state");
    ASSERT_EQ(mount((disk_ + "/state").c_str(), state_.c_str(), nullptr, MS_BIND, nullptr), 0)
        << std::strerror(errno);
    mounted_ = true;
    // Where Begin() lets the service write what it says.
    fs::create_symlink(disk_ + "/log", folder_ + "/output");
  }
  void TearDown() override {
    if (mounted_) {
      EXPECT_EQ(umount(state_.c_str()), 0) << std::strerror(errno);
      EXPECT_EQ(umount(disk_.c_str()), 0) << std::strerror(errno);
    }
    BadDays::TearDown();
  }
  void Fill() {
    std::ofstream file(disk_ + "/filler", std::ios::binary);
    const std::string page(4096, 'x');
    while (file.write(page.data(), static_cast<std::streamsize>(page.size())) && file.flush()) {
    }
  }
  std::string state_, disk_;
  bool mounted_ = false;
};

TEST_F(FullDisk, RefusesAChangeOfContentAndTakesNothingBack) {
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  const std::string other = OtherRules();
  std::ofstream(other + "/large.txt") << std::string(64 << 10, '#');
  Fill();
  const Outcome refused = GiveContent(other);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.text, HasSubstr("No space left on device"));
  ExpectGuarded();
  EXPECT_TRUE(Opens(files_ + "/marked"));
  EXPECT_EQ(Driver().at("content"), 1);
  // What is in force is still there for the next host, and for the next service.
  const pid_t host = Host();
  SendSignal(host, SIGKILL);
  AwaitEnd(host);
  ExpectGuarded();
  KillService();
  ExpectGuarded();
  ASSERT_GT(Start(), 0);
  ExpectGuarded();
  // A reload is refused for the same reason.
  fs::copy(other, rules_, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  const Outcome reload = Run("reload" + pid_);
  EXPECT_EQ(reload.code, 1);
  EXPECT_THAT(reload.text, HasSubstr("No space left on device"));
  ExpectGuarded();
  fs::remove(disk_ + "/filler");
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_FALSE(Opens(files_ + "/marked"));
  EXPECT_EQ(StopService(), 0);
}

// ---- Drivers

TEST_F(BadDays, SixtyFourDriversServeDieAndEndTogether) {
  constexpr int kInstances = 8, kDrivers = 8;
  if (kSanitized) GTEST_SKIP() << "64 hosts of a sanitizer's take minutes";
  std::string drivers;
  for (int i = 1; i <= kDrivers; ++i) {
    const std::string name = "numbered-" + std::to_string(i);
    const std::string driver = folder_ + "/" + name;
    fs::create_directories(driver);
    fs::copy_file(build_ + "/test-modules/" + name + ".so", driver + "/library.so");
    std::ofstream(driver + "/manifest.json")
        << R"({"schema": 1, "name": ")" << name << R"(", "version": "1.0.0", "driver_abi": 1,)"
        << R"( "library": "library.so", "callbacks": ["file_open"], "altitude": )" << i << "}\n";
    drivers += "[[driver]]\nname = '" + driver + "'\n";
  }
  struct One {
    pid_t service = -1;
    std::string config, file;
  };
  std::vector<One> all;
  for (int i = 0; i < kInstances; ++i) {
    One one = {.config = folder_ + "/many-" + std::to_string(i) + ".toml"};
    const std::string guarded = folder_ + "/guarded-" + std::to_string(i);
    fs::create_directories(guarded);
    one.file = guarded + "/file";
    std::ofstream(one.file) << "nothing to see\n";
    config_ = one.config;
    // A call is held through the death of all eight, and the start of the next.
    Write(drivers + GuardOf(fs::canonical(guarded)) + "deadline = '10m'\n");
    one.service = Start();
    ASSERT_GT(one.service, 0);
    all.push_back(std::move(one));
  }
  const auto hosts = [&] {
    std::vector<pid_t> pids;
    const nlohmann::json report =
        nlohmann::json::parse(Run("status --json -").text, nullptr, /*allow_exceptions=*/false);
    for (const One& one : all) {
      for (const nlohmann::json& instance : report.value("running", nlohmann::json::array())) {
        if (instance.value("config", "") != one.config) continue;
        for (const nlohmann::json& driver : instance.at("drivers")) {
          if (driver.value("state", "") == "serving") pids.push_back(driver.value("pid", -1));
        }
      }
    }
    return pids;
  };
  const std::vector<pid_t> first = hosts();
  ASSERT_EQ(first.size(), size_t{kInstances * kDrivers});
  for (const One& one : all) EXPECT_TRUE(Opens(one.file));
  for (const One& one : all) {
    const Outcome reload = Run("reload --pid " + std::to_string(one.service));
    EXPECT_EQ(reload.code, 0) << reload.text;
  }
  for (const pid_t host : first) SendSignal(host, SIGKILL);
  for (const One& one : all) EXPECT_TRUE(Opens(one.file)) << "held for the next hosts";
  std::vector<pid_t> second;
  EXPECT_TRUE(Becomes([&] {
    second = hosts();
    return second.size() == first.size();
  })) << second.size();
  for (const pid_t host : first) {
    EXPECT_EQ(std::count(second.begin(), second.end(), host), 0) << host;
  }
  // A ninth driver is one too many for a service.
  config_ = folder_ + "/nine.toml";
  Write(drivers + Scanner() + GuardOf(files_));
  const Outcome nine = RunProgram("bulkheadd", "--config " + config_);
  EXPECT_NE(nine.code, 0);
  EXPECT_THAT(nine.text, HasSubstr("9 drivers; a service has 8 at most"));
  for (int i = 0; i < kInstances; ++i) EXPECT_EQ(StopService(), 0);
}

class FaultyDay : public BadDays {
 protected:
  // A call in the driver's hands at its deadline is denied.
  void Serve(const std::string& deadline) {
    Write("[[driver]]\nname = 'faulty'\n" + GuardOf(files_) + "deadline = '" + deadline + "'\n");
    ASSERT_GT(Start(), 0);
    EXPECT_TRUE(Opens(files_ + "/clean"));
    host_ = Host();
    ASSERT_GT(host_, 0);
  }
  // A thread of the host blocks all signals that can be blocked.
  bool IsDeaf() const {
    constexpr uint64_t kAll = 0x7ffbfeff;  // 1 to 31, without SIGKILL and SIGSTOP
    std::error_code error;
    for (const auto& task :
         fs::directory_iterator("/proc/" + std::to_string(host_) + "/task", error)) {
      std::ifstream status(task.path() / "status");
      for (std::string line; std::getline(status, line);) {
        if (!line.starts_with("SigBlk:")) continue;
        if ((std::stoull(line.substr(7), nullptr, 16) & kAll) == kAll) return true;
      }
    }
    return false;
  }
  std::string File(const std::string& name) {
    std::ofstream(more_ + "/" + name) << "nothing to see\n";
    fs::rename(more_ + "/" + name, files_ + "/" + name);  // made where no driver is asked
    return files_ + "/" + name;
  }
  // Another host serves, and the service has not minded.
  void ExpectReplaced() {
    EXPECT_TRUE(Opens(files_ + "/clean"));
    EXPECT_NE(Host(), host_);
    EXPECT_EQ(Driver().at("state"), "serving");
    EXPECT_EQ(StopService(), 0);
  }
  pid_t host_ = -1;
};

TEST_F(FaultyDay, ADriverCannotStartAProcess) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs a wider filter";
  Serve("10m");
  EXPECT_TRUE(Opens(File("fork-1"))) << "its fork() is refused, and it lives on";
  EXPECT_EQ(Host(), host_);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(FaultyDay, ADriverThatBlocksSignalsIsKilledWhenItHangs) {
  Serve("2s");
  EXPECT_FALSE(Opens(File("deaf-1")));
  ExpectReplaced();
}

TEST_F(FaultyDay, ADriverThatBlocksSignalsEndsWithTheService) {
  Serve("10m");
  EXPECT_FALSE(IsDeaf());
  const std::string file = File("deaf-1");
  std::thread opener([&] { (void)Opens(file); });
  EXPECT_TRUE(Becomes([&] { return IsDeaf(); }));
  EXPECT_EQ(StopService(), 0);
  opener.join();
  EXPECT_NE(SendSignal(host_, 0), 0);
}

TEST_F(FaultyDay, ADriverThatLeaksEndsAtItsLimitAndTakesNothingAlong) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime reserves terabytes: not limited then";
  Serve("10m");
  EXPECT_FALSE(Opens(File("memory-1")));
  ExpectReplaced();
}

TEST_F(FaultyDay, ADriverThatFloodsItsLogIsCutAndServesOn) {
  Serve("10m");
  EXPECT_TRUE(Opens(File("flood-1")));
  EXPECT_TRUE(Opens(files_ + "/clean"));
  EXPECT_EQ(Host(), host_);
  EXPECT_EQ(StopService(), 0);
  std::ifstream log(folder_ + "/output");
  EXPECT_LT(std::count(std::istreambuf_iterator<char>(log), {}, '\n'), 2000);
}

// ---- Processes that are stopped

class Suspended : public BadDays {
 protected:
  static constexpr char kDeadline[] = "deadline = '3s'\n";
  static constexpr char kDenied[] =
      "[policy]\nabsent = 'hold,deny'\ncrashed = 'hold,deny'\nhung = 'hold,deny'\n";
  void SetUp() override {
    BadDays::SetUp();
    if (IsSkipped()) return;
    // By default a call that never had a turn is allowed at its deadline.
    Write(Scanner() + GuardOf(files_) + kDeadline + kDenied);
    service_ = Start();
    ASSERT_GT(service_, 0);
    host_ = Host();
    worker_ = Shim();
    keeper_ = ParentOf(worker_);
    store_ = StoreProcess();
    for (const pid_t process : {host_, worker_, keeper_, store_}) ASSERT_GT(process, 1);
  }
  static bool Stop(pid_t process) { return StopProcess(process, MonotonicAfterNs(kSoonNs)); }
  void GoesOn(std::initializer_list<pid_t> stopped) {
    for (const pid_t process : stopped) SendSignal(process, SIGCONT);
    EXPECT_TRUE(Becomes([&] { return Opens(files_ + "/clean") && Host() > 0; }));
    ExpectGuarded();
    EXPECT_EQ(StopService(), 0);
  }
  pid_t service_ = -1, host_ = -1, worker_ = -1, keeper_ = -1, store_ = -1;
};

TEST_F(Suspended, TheServiceIsNotMissed) {
  ASSERT_TRUE(Stop(service_));
  ExpectGuarded();
  GoesOn({service_});
}

TEST_F(Suspended, TheStoreIsNotMissed) {
  ASSERT_TRUE(Stop(store_));
  ExpectGuarded();
  EXPECT_EQ(Run("status").code, 0);
  GoesOn({store_});
}

TEST_F(Suspended, TheKeeperIsNotMissed) {
  ASSERT_TRUE(Stop(keeper_));
  ExpectGuarded();
  GoesOn({keeper_});
}

TEST_F(Suspended, TheWorkerIsReplaced) {
  SendSignal(worker_, SIGSTOP);
  ExpectGuarded();
  EXPECT_TRUE(Becomes([&] { return Shim() > 0 && Shim() != worker_; }));
  GoesOn({});
}

// The call that it never took is answered by policy at its deadline; the next host answers those
// after it.
TEST_F(Suspended, TheHostIsReplaced) {
  ASSERT_TRUE(Stop(host_));
  EXPECT_FALSE(Opens(files_ + "/infected"));
  EXPECT_TRUE(Becomes([&] { return Opens(files_ + "/clean"); }));
  EXPECT_NE(Host(), host_);
  GoesOn({});
}

TEST_F(Suspended, WithoutHostAndServiceTheShimAnswersByTheDeadline) {
  ASSERT_TRUE(Stop(host_));
  ASSERT_TRUE(Stop(service_));
  EXPECT_FALSE(Opens(files_ + "/infected"));
  EXPECT_FALSE(Opens(files_ + "/clean"));
  GoesOn({host_, service_});
}

// The bound of what is promised: fanotify waits for its listener.
TEST_F(Suspended, WithoutKeeperAndWorkerCallersWaitUntilOneGoesOn) {
  ASSERT_TRUE(Stop(keeper_));
  ASSERT_TRUE(Stop(worker_));
  std::atomic<bool> ended{false};
  std::thread opener([&] {
    EXPECT_FALSE(Opens(files_ + "/infected"));
    ended.store(true);
  });
  poll(nullptr, 0, 3500);  // longer than its deadline
  EXPECT_FALSE(ended.load());
  SendSignal(worker_, SIGCONT);
  opener.join();
  GoesOn({keeper_});
}

}  // namespace
}  // namespace bulkhead
