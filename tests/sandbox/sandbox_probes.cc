// SPDX-License-Identifier: Apache-2.0
//
// sandbox-probes: runs each escape probe of probe.h against a host's sandbox, in a process of its
// own: with all layers, with each layer alone that claims to stop it, and without any, where it has
// to escape, or shows nothing on this machine. Needs root; all that it makes is in namespaces of
// its own, and ends with it.
//
//   0   no probe escaped, and enough of them could be tried
//   1   one escaped, or too few could be tried
//   2   wrong usage, or an error
//   77  this machine can't run it
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/process/sandbox.h"
#include "host/report/report.h"
#include "host/supervisor/host_cgroup.h"
#include "ipc/abi/names.h"
#include "ipc/unique_fd.h"
#include "tests/sandbox/probe.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

constexpr int kExitTrouble = 2;
constexpr int kExitSkipped = 77;
constexpr uid_t kUser = 60999;  // one of those that hosts have
constexpr int kWithinMs = 60'000;
constexpr uint64_t kMiB = 1 << 20;
constexpr HostLimits kLimits = {.memory_bytes_max = 32 * kMiB};
// Of those below a machine may lack something for some: it is to show most of them.
constexpr double kTriedMin = 60;

// What a run of a probe comes to, beside Outcome.
constexpr int kLacksLayer = 10;
constexpr int kBroken = 11;
constexpr int kHangs = 12;

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "sandbox-probes: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(kExitTrouble);
}

void Write(const std::string& path, mode_t mode) {
  std::ofstream(path) << "text\n";
  if (chmod(path.c_str(), mode) != 0) Fail(path);
}

// Everything that probes reach for, as it is before each of them.
void Furnish(const World& world) {
  for (const auto& entry : fs::directory_iterator(world.folder)) {
    if (entry.path().filename().string().starts_with("made") ||
        entry.path().filename() == "renamed") {
      fs::remove_all(entry.path());
    }
  }
  if (chown(world.file.c_str(), 0, 0) != 0) Fail(world.file);
  Write(world.file, 0666);
  Write(world.secret, 0600);
  Write(world.folder + "/remove", 0666);
  Write(world.folder + "/rename", 0666);
}

int Listen(int domain, const void* address, size_t bytes) {
  const int made = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (made < 0 ||
      bind(made, static_cast<const sockaddr*>(address), static_cast<socklen_t>(bytes)) != 0 ||
      listen(made, 100) != 0) {
    Fail("a socket that listens");
  }
  return made;
}

char known_word[] = "KNOWN=word";

World MakeWorld() {
  // Nothing of this is seen outside, or left behind.
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) != 0) Fail("unshare");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) Fail("mount");
  for (const char* folder : {"/tmp", "/dev/shm"}) {
    if (mount("probes", folder, "tmpfs", 0, "mode=1777") != 0 && errno != ENOENT) Fail(folder);
  }
  World world;
  world.folder = "/tmp/world";
  if (mkdir(world.folder.c_str(), 0755) != 0 || chmod(world.folder.c_str(), 0777) != 0) {
    Fail(world.folder);
  }
  world.file = world.folder + "/file";
  world.secret = world.folder + "/secret";
  world.unix_socket = world.folder + "/socket";
  Write(world.file, 0666);
  world.file_fd = open(world.file.c_str(), O_RDONLY);
  world.folder_fd = open(world.folder.c_str(), O_PATH | O_DIRECTORY);

  sockaddr_in tcp = {};
  tcp.sin_family = AF_INET;
  tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof(tcp);
  const int listener = Listen(AF_INET, &tcp, sizeof(tcp));
  if (getsockname(listener, reinterpret_cast<sockaddr*>(&tcp), &bytes) != 0) Fail("getsockname");
  world.tcp_port = ntohs(tcp.sin_port);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, world.unix_socket.data(), world.unix_socket.size());
  Listen(AF_UNIX, &name, sizeof(name));
  if (chmod(world.unix_socket.c_str(), 0777) != 0) Fail(world.unix_socket);
  world.abstract_socket = absl::StrCat("bulkhead-probes-", getpid());
  name = {};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path + 1, world.abstract_socket.data(), world.abstract_socket.size());
  Listen(AF_UNIX, &name, offsetof(sockaddr_un, sun_path) + 1 + world.abstract_socket.size());

  world.victim_word = known_word;
  world.victim = fork();
  if (world.victim == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  world.victim_pidfd = static_cast<int>(syscall(SYS_pidfd_open, world.victim, 0));
  world.network_fd = open("/proc/self/ns/net", O_RDONLY);
  world.shared_memory = shmget(IPC_PRIVATE, 4096, 0666);
  world.message_queue = msgget(IPC_PRIVATE, 0666);
  world.semaphores = semget(IPC_PRIVATE, 1, 0666);
  world.posix_queue = "/bulkhead-probes";
  if (mq_open(world.posix_queue.c_str(), O_RDWR | O_CREAT, 0666, nullptr) < 0) {
    world.posix_queue.clear();
  }
  utsname names = {};
  uname(&names);
  world.machine_name = names.nodename;
  world.memory_bytes = 256 * kMiB;
  world.threads = 1500;
  return world;
}

struct Run {
  int outcome = kBroken;
  std::string lacks;  // why a layer could not be entered
  bool stopped() const { return outcome == static_cast<int>(Outcome::kStopped); }
  bool escaped() const { return outcome == static_cast<int>(Outcome::kEscaped); }
};

// In the child. `report` is written to.
[[noreturn]] void TryIt(const Probe& probe, uint32_t layers, const World& world,
                        const HostCgroup& group, int report) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // What it mounts and unmounts is its own affair.
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    _exit(kBroken);
  }
  for (const UniqueFd& door : group.doors()) {
    if (write(door.get(), "0", 1) != 1) _exit(kBroken);
  }
  if (layers != 0) {
    SandboxReport reached;
    const absl::Status status =
        EnterSandbox(layers, {.user = kUser, .group = group.name()}, &reached);
    std::string lacks(status.message());
    for (const std::string& lack : reached.lacks)
      absl::StrAppend(&lacks, lacks.empty() ? "" : "; ", lack);
    if (!status.ok() || reached.layers != layers) {
      (void)!write(report, lacks.data(), lacks.size());
      _exit(kLacksLayer);
    }
  }
  close(report);
  _exit(static_cast<int>(probe.run(world)));
}

class Runner {
 public:
  explicit Runner(const World& world) : world_(world) {}

  Run Try(const Probe& probe, uint32_t layers) {
    Furnish(world_);
    HostCgroup group;
    if ((layers & BH_LAYER_RESOURCES) != 0) {
      absl::StatusOr<HostCgroup> made = groups_.Make(kLimits);
      if (!made.ok())
        return {.outcome = kLacksLayer, .lacks = std::string(made.status().message())};
      group = *std::move(made);
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) Fail("pipe");
    const UniqueFd out(ends[0]);
    UniqueFd in(ends[1]);
    std::fflush(nullptr);
    const unsigned long flags = SIGCHLD | ((layers & BH_LAYER_PROCESSES) != 0 ? CLONE_NEWPID : 0u);
    const auto pid = static_cast<pid_t>(syscall(SYS_clone, flags, nullptr, nullptr, nullptr, 0));
    if (pid < 0) Fail("clone");
    if (pid == 0) TryIt(probe, layers, world_, group, in.get());
    in.reset();
    const Run run = Await(pid, out);
    group.Remove();
    return run;
  }

 private:
  static Run Await(pid_t pid, const UniqueFd& out) {
    Run run;
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    pollfd ended = {process.get(), POLLIN, 0};
    const bool hangs = poll(&ended, 1, kWithinMs) != 1;
    if (hangs) kill(pid, SIGKILL);
    int status = -1;
    waitpid(pid, &status, 0);
    std::array<char, 4096> text;
    const ssize_t bytes = read(out.get(), text.data(), text.size());
    if (bytes > 0) run.lacks.assign(text.data(), static_cast<size_t>(bytes));
    // A signal is the filter's, or the kernel's for want of memory: both stop it.
    run.outcome = hangs                 ? kHangs
                  : WIFSIGNALED(status) ? static_cast<int>(Outcome::kStopped)
                                        : WEXITSTATUS(status);
    return run;
  }

  const World& world_;
  HostCgroups groups_ = HostCgroups::Find();
};

const char* WordOf(const Run& run) {
  switch (run.outcome) {
    case static_cast<int>(Outcome::kStopped):
      return "stopped";
    case static_cast<int>(Outcome::kEscaped):
      return "ESCAPED";
    case static_cast<int>(Outcome::kNothingThere):
      return "nothing";
    case kLacksLayer:
      return "missing";
    case kHangs:
      return "HANGS";
    default:
      return "BROKEN";
  }
}

// What stops a call may say that there is nothing: in a sandbox it is stopped all the same.
bool Holds(const Run& run) {
  return run.stopped() || run.outcome == static_cast<int>(Outcome::kNothingThere);
}

int Measure(const std::string& json, const std::string& only) {
  const World world = MakeWorld();
  Runner runner(world);
  // What this machine has: the rest is not to be held against it here.
  const Probe nothing = {"nothing", "", BH_LAYERS_ALL,
                         [](const World&) { return Outcome::kStopped; }};
  uint32_t layers = 0;
  nlohmann::ordered_json missing = nlohmann::ordered_json::array();
  for (uint32_t layer = 1; layer <= BH_LAYERS_ALL; layer <<= 1) {
    const Run run = runner.Try(nothing, layer);
    if (run.stopped()) {
      layers |= layer;
      continue;
    }
    const std::string why = run.lacks.empty() ? bh_sandbox_layer_name(layer) : run.lacks;
    std::printf("this machine lacks the layer %s\n", why.c_str());
    missing.push_back(why);
  }

  int tried = 0, past_all = 0, past_one = 0, alone = 0;
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
  std::printf("%-46s %-8s %-8s %s\n", "probe", "bare", "all", "each layer alone that claims it");
  for (const Probe& probe : Probes()) {
    if (!only.empty() && only != probe.name) continue;
    const Run bare = runner.Try(probe, 0);
    const Run all = runner.Try(probe, layers);
    tried += bare.escaped() ? 1 : 0;
    past_all += Holds(all) ? 0 : 1;
    std::string line;
    nlohmann::ordered_json each = nlohmann::ordered_json::object();
    for (uint32_t layer = 1; layer <= BH_LAYERS_ALL; layer <<= 1) {
      if ((probe.layers & layer) == 0) continue;
      const bool there = (layers & layer) != 0;
      const Run run = there ? runner.Try(probe, layer) : Run{.outcome = kLacksLayer, .lacks = ""};
      alone += there ? 1 : 0;
      past_one += !there || Holds(run) ? 0 : 1;
      const char* name = bh_sandbox_layer_name(layer);
      each[name] = WordOf(run);
      absl::StrAppend(&line, line.empty() ? "" : ", ", name,
                      there && Holds(run) ? "" : absl::StrCat(" ", WordOf(run)));
    }
    std::printf("%-46s %-8s %-8s %s\n", probe.name, WordOf(bare), WordOf(all), line.c_str());
    if (!all.lacks.empty()) std::printf("  %s\n", all.lacks.c_str());
    table.push_back({{"probe", probe.name},
                     {"group", probe.group},
                     {"bare", WordOf(bare)},
                     {"all_layers", WordOf(all)},
                     {"alone", each}});
  }
  kill(world.victim, SIGKILL);

  Report report("sandbox-probes");
  report.AddFigure("probes that escape past all layers", past_all, "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("probes that escape past one layer that claims to stop them", past_one, "", 0,
                   Report::Relation::kAtMost);
  if (only.empty()) {
    report.AddFigure("probes that escape without a sandbox", tried, "", kTriedMin,
                     Report::Relation::kAtLeast);
  }
  report.AddInfo("probes", static_cast<double>(Probes().size()), "");
  report.AddInfo("probes against one layer alone", alone, "");
  report.AddInfo("layers that this machine lacks", static_cast<double>(missing.size()), "");
  report.SetDetail("missing_layers", missing);
  report.SetDetail("probes", table);
  report.PrintTable(std::cout);
  if (!json.empty()) {
    if (const absl::Status status = report.WriteJson(json); !status.ok()) {
      std::fprintf(stderr, "sandbox-probes: %s\n", std::string(status.message()).c_str());
      return kExitTrouble;
    }
  }
  return report.ExitCode();
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Tries to get out of a driver host's sandbox, in each way that a table lists (root)");
  std::string json, only;
  app.add_option("--json", json, "Write the report to this file")->type_name("FILE");
  app.add_option("--only", only, "One probe, by its name")->type_name("PROBE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitTrouble;
  }
  if (geteuid() != 0) {
    std::printf("SKIP: only root can try what only layers keep it from\n");
    return kExitSkipped;
  }
  // Its folder may be about to be hidden by one of the world's.
  if (!json.empty()) {
    const fs::path report = fs::absolute(json);
    const int folder = open(report.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) Fail(report.parent_path());
    json = absl::StrCat("/proc/self/fd/", folder, "/", report.filename().string());
  }
  return Measure(json, only);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) { return bulkhead::Main(argc, argv); }
