// SPDX-License-Identifier: Apache-2.0
#include "host/process/sandbox.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "host/process/empty_root.h"
#include "host/process/file_access.h"
#include "host/process/system_call_filter.h"
#include "ipc/abi/names.h"
#include "ipc/sanitizer.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr rlim_t kOpenFilesMax = 512;
constexpr rlim_t kThreadsMax = 1024;
constexpr char kHostName[] = "bulkhead-host";
constexpr long kTmpfs = 0x01021994;  // TMPFS_MAGIC

absl::Status Failed(const char* what) {
  return absl::InternalError(absl::StrCat("sandbox: ", what, ": ", std::strerror(errno)));
}

std::string ReadAll(int fd) {
  std::array<char, 4096> text;
  const ssize_t bytes = fd < 0 ? -1 : pread(fd, text.data(), text.size(), 0);
  return bytes <= 0 ? std::string() : std::string(text.data(), static_cast<size_t>(bytes));
}

// The namespaces that a process enters by itself, but for that of users.
struct Namespace {
  bh_sandbox_layer layer;
  int flag;
  const char* link;  // in /proc/self
};
constexpr Namespace kNamespaces[] = {
    {BH_LAYER_MOUNTS, CLONE_NEWNS, "ns/mnt"},        {BH_LAYER_NETWORK, CLONE_NEWNET, "ns/net"},
    {BH_LAYER_IPC, CLONE_NEWIPC, "ns/ipc"},          {BH_LAYER_NAMES, CLONE_NEWUTS, "ns/uts"},
    {BH_LAYER_GROUPS, CLONE_NEWCGROUP, "ns/cgroup"},
};

// Of this thread; a process with capabilities that are ambient loses them with the others.
struct CapabilitySets {
  uint64_t effective = 0, permitted = 0, inheritable = 0;

  bool operator==(const CapabilitySets&) const = default;
  static CapabilitySets None() { return {}; }
  // All of them where it can't be known.
  static CapabilitySets Get() {
    __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct halves[2] = {};
    if (syscall(SYS_capget, &header, halves) != 0) return {~0ull, ~0ull, ~0ull};
    const auto join = [&](__u32 __user_cap_data_struct::*set) {
      return halves[0].*set | uint64_t{halves[1].*set} << 32;
    };
    return {join(&__user_cap_data_struct::effective), join(&__user_cap_data_struct::permitted),
            join(&__user_cap_data_struct::inheritable)};
  }
  bool Set() const {
    __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct halves[2] = {};
    for (int half = 0; half < 2; ++half) {
      halves[half] = {.effective = static_cast<__u32>(effective >> 32 * half),
                      .permitted = static_cast<__u32>(permitted >> 32 * half),
                      .inheritable = static_cast<__u32>(inheritable >> 32 * half)};
    }
    return syscall(SYS_capset, &header, halves) == 0;
  }
};

bool Has(unsigned capability) { return (CapabilitySets::Get().effective >> capability & 1) != 0; }

// A change of ids takes them out of the effective set.
void UseAgain(std::initializer_list<unsigned> capabilities) {
  CapabilitySets sets = CapabilitySets::Get();
  for (const unsigned capability : capabilities) {
    sets.effective |= sets.permitted & uint64_t{1} << capability;
  }
  (void)sets.Set();
}

bool DropBounds() {
  for (unsigned capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return false;
  }
  return true;
}

// All that is known of the process before it is another one's, and what it has become.
int ParentDeathSignal() {
  int signal = 0;
  return prctl(PR_GET_PDEATHSIG, &signal, 0, 0, 0) == 0 ? signal : 0;
}

class Sandbox {
 public:
  Sandbox(uint32_t layers, const SandboxGrants& grants, SandboxReport* report)
      : layers_(layers),
        grants_(grants),
        report_(*report),
        self_(open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC)),
        status_(OpenOwn("status", O_RDONLY)),
        writes_(!grants.writable.empty() || grants.scratch_bytes != 0) {
    for (size_t i = 0; i < std::size(kNamespaces); ++i) before_[i] = NumberOf(kNamespaces[i].link);
  }

  absl::Status Enter() {
    CheckResources();
    CheckProcesses();
    const bool rights = Has(CAP_SYS_ADMIN);
    if (rights) EnterNamespaces();
    if (absl::Status status = BecomeUser(); !status.ok()) return status;
    EnterUsers(/*with_others=*/!rights);
    if (absl::Status status = DropPrivileges(); !status.ok()) return status;
    if (absl::Status status = LimitResources(); !status.ok()) return status;
    if (absl::Status status = LimitFilesByName(); !status.ok()) return status;
    if (absl::Status status = CheckGrants(); !status.ok()) return status;
    return LimitSystemCalls();
  }

 private:
  bool Wants(uint32_t layer) const { return (layers_ & layer) != 0; }
  bool Held(uint32_t layer) const { return (report_.layers & layer) != 0; }
  void Lack(uint32_t layer, absl::string_view why) {
    report_.lacks.push_back(absl::StrCat(bh_sandbox_layer_name(layer), ": ", why));
  }
  // What a test from inside has found.
  void Conclude(uint32_t layer, bool holds, absl::string_view otherwise) {
    if (holds) {
      report_.layers |= layer;
    } else {
      Lack(layer, otherwise);
    }
  }

  UniqueFd OpenOwn(const char* name, int flags) const {
    return UniqueFd(openat(self_.get(), name, flags | O_CLOEXEC));
  }
  ino_t NumberOf(const char* link) const {
    struct stat object = {};
    return fstatat(self_.get(), link, &object, 0) == 0 ? object.st_ino : 0;
  }
  bool Left(const char* link, ino_t before) const {
    const ino_t now = NumberOf(link);
    return now != 0 && before != 0 && now != before;
  }

  // ---- What the supervisor has made

  // In version 1 a process is in a group of each hierarchy, and only some of them are the host's.
  void CheckResources() {
    if (!Wants(BH_LAYER_RESOURCES)) return;
    if (grants_.group.empty()) {
      return Lack(BH_LAYER_RESOURCES, grants_.group_lacks.empty()
                                          ? "it was given no control group"
                                          : absl::string_view(grants_.group_lacks));
    }
    const std::string groups = ReadAll(OpenOwn("cgroup", O_RDONLY).get());
    bool limited = false;
    for (const absl::string_view line : absl::StrSplit(groups, '\n')) {
      const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
      if (parts.size() < 3 || !absl::EndsWith(parts[2], absl::StrCat("/", grants_.group))) continue;
      const std::vector<absl::string_view> of = absl::StrSplit(parts[1], ',');
      limited = limited || parts[0] == "0" || std::count(of.begin(), of.end(), "memory") != 0;
    }
    Conclude(BH_LAYER_RESOURCES, limited, "it is not in the control group that was made for it");
  }

  void CheckProcesses() {
    if (!Wants(BH_LAYER_PROCESSES)) return;
    Conclude(BH_LAYER_PROCESSES, getpid() == 1 && getppid() == 0,
             grants_.processes_lack.empty() ? "it was started in its supervisor's namespace"
                                            : absl::string_view(grants_.processes_lack));
  }

  // ---- Namespaces

  int Flags() const {
    int flags = 0;
    for (const Namespace& one : kNamespaces) flags |= Wants(one.layer) ? one.flag : 0;
    return flags;
  }

  void EnterNamespaces() {
    std::array<int, std::size(kNamespaces)> errors = {};
    if (Flags() != 0 && unshare(Flags()) != 0) {
      for (size_t i = 0; i < std::size(kNamespaces); ++i) {
        const bool wanted = Wants(kNamespaces[i].layer);
        if (wanted && unshare(kNamespaces[i].flag) != 0) errors[i] = errno;
      }
    }
    for (size_t i = 0; i < std::size(kNamespaces); ++i) {
      const Namespace& one = kNamespaces[i];
      if (!Wants(one.layer)) continue;
      if (errors[i] != 0) {
        Lack(one.layer, std::strerror(errors[i]));
      } else if (!Left(one.link, before_[i])) {
        Lack(one.layer, absl::StrCat("/proc/self/", one.link, " is what it was"));
      } else {
        Arrange(one.layer);
      }
    }
  }

  // What is in a new namespace, and a test of it.
  void Arrange(bh_sandbox_layer layer) {
    switch (layer) {
      case BH_LAYER_MOUNTS:
        return EmptyTheRoot();
      case BH_LAYER_NETWORK:
        return Conclude(layer, HasNoNetwork(), "an address outside can be reached");
      case BH_LAYER_IPC:
        return Conclude(layer, HasNoObjects(), "it has System V objects that it did not make");
      case BH_LAYER_NAMES:
        return Conclude(layer, HasAnotherName(), "the machine's name can be read");
      case BH_LAYER_GROUPS:
        return Conclude(layer, SeesNoGroups(), "the names of its control groups can be read");
      default:
        return;
    }
  }

  void EmptyTheRoot() {
    struct stat before = {}, after = {}, above = {};
    std::string without_proc;
    if (stat("/", &before) != 0) return Lack(BH_LAYER_MOUNTS, std::strerror(errno));
    const absl::Status status = EnterEmptyRoot(
        {.readable = grants_.readable,
         .writable = grants_.writable,
         .scratch_bytes = grants_.scratch_bytes,
         .user = Wants(BH_LAYER_OWN_USER) && grants_.user != 0 ? grants_.user : geteuid(),
         .group = Wants(BH_LAYER_OWN_USER) && grants_.user != 0 ? grants_.user : getegid(),
         .own_processes = Held(BH_LAYER_PROCESSES)},
        &without_proc);
    if (!status.ok()) return Lack(BH_LAYER_MOUNTS, status.message());
    struct statfs system = {};
    const bool another = stat("/", &after) == 0 && stat("/..", &above) == 0 &&
                         after.st_dev != before.st_dev && above.st_ino == after.st_ino &&
                         above.st_dev == after.st_dev && statfs("/", &system) == 0 &&
                         system.f_type == kTmpfs;
    const bool read_only = mkdir("/written", 0700) != 0 && errno == EROFS;
    Conclude(BH_LAYER_MOUNTS, another && read_only,
             another ? "its root can be written" : "its root is the machine's");
  }

  static bool HasNoNetwork() {
    const UniqueFd datagrams(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!datagrams.valid()) return errno == EAFNOSUPPORT;
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(9);
    address.sin_addr.s_addr = htonl(0xc0000201);  // 192.0.2.1, which is given to no machine
    return connect(datagrams.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
               0 &&
           errno == ENETUNREACH;
  }

  static bool HasNoObjects() {
    shm_info info = {};
    const int used = shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&info));
    return used < 0 ? errno == ENOSYS : info.used_ids == 0;
  }

  static bool HasAnotherName() {
    utsname name = {};
    return sethostname(kHostName, sizeof(kHostName) - 1) == 0 && setdomainname("", 0) == 0 &&
           uname(&name) == 0 && std::string_view(name.nodename) == kHostName;
  }

  bool SeesNoGroups() const {
    const std::string groups = ReadAll(OpenOwn("cgroup", O_RDONLY).get());
    for (const absl::string_view line : absl::StrSplit(groups, '\n', absl::SkipEmpty())) {
      if (!absl::EndsWith(line, ":/")) return false;
    }
    return !groups.empty();
  }

  // A process without CAP_SYS_ADMIN gets it there, over the other namespaces that it enters with
  // it.
  void EnterUsers(bool with_others) {
    if (with_others && Flags() == 0 && !Wants(BH_LAYER_USERS)) return;
    if (!with_others && !Wants(BH_LAYER_USERS)) return;
    const std::string wanted = absl::StrCat(geteuid(), " ", geteuid(), " 1");
    const std::string groups = absl::StrCat(getegid(), " ", getegid(), " 1");
    // Its supervisor may have made one together with the process id namespace.
    if (getpid() != 1 || !HasMap("uid_map", wanted)) {
      (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // else its maps are root's
      if (unshare(CLONE_NEWUSER) != 0) {
        const std::string why = std::strerror(errno);
        if (Wants(BH_LAYER_USERS)) Lack(BH_LAYER_USERS, why);
        if (with_others) LackNamespaces(absl::StrCat("there is no user namespace: ", why));
        return;
      }
      Write("setgroups", "deny");
      Write("uid_map", wanted);
      Write("gid_map", groups);
    }
    if (Wants(BH_LAYER_USERS)) {
      // With all rights in there: no other id exists.
      const gid_t root = 0;
      const bool stays = syscall(SYS_setresuid, geteuid() + 1, -1, -1) != 0 &&
                         syscall(SYS_setresgid, getegid() + 1, -1, -1) != 0 &&
                         syscall(SYS_setgroups, 1, &root) != 0;
      Conclude(BH_LAYER_USERS, stays && HasMap("uid_map", wanted) && HasMap("gid_map", groups),
               "it has other ids than its own");
    }
    if (with_others) EnterNamespaces();
  }

  bool HasMap(const char* map, const std::string& wanted) const {
    const std::string text = ReadAll(OpenOwn(map, O_RDONLY).get());
    const std::vector<std::string> words =
        absl::StrSplit(text, absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
    const std::vector<std::string> wanted_words = absl::StrSplit(wanted, ' ');
    return words == wanted_words;
  }
  void Write(const char* name, const std::string& text) const {
    const UniqueFd file = OpenOwn(name, O_WRONLY);
    (void)!write(file.get(), text.data(), text.size());  // its test says what came of it
  }
  void LackNamespaces(const std::string& why) {
    for (const Namespace& one : kNamespaces) {
      if (Wants(one.layer)) Lack(one.layer, why);
    }
  }

  // ---- User and privileges

  absl::Status BecomeUser() {
    if (!Wants(BH_LAYER_OWN_USER)) return absl::OkStatus();
    const uid_t user = grants_.user;
    if (user == 0) {
      Lack(BH_LAYER_OWN_USER, grants_.user_lacks.empty() ? "it was given none"
                                                         : absl::string_view(grants_.user_lacks));
      return absl::OkStatus();
    }
    // Root may make user namespaces where others may not; the rights end below.
    const bool keeps = Wants(BH_LAYER_USERS) && Wants(BH_LAYER_PRIVILEGES);
    if (prctl(PR_SET_KEEPCAPS, keeps ? 1 : 0, 0, 0, 0) != 0) return Failed("keeping rights");
    if (setresgid(user, user, user) != 0) return Failed("the host's own group");
    if (setresuid(user, user, user) != 0) return Failed("the host's own user");
    UseAgain({CAP_SYS_ADMIN, CAP_SETPCAP});
    uid_t real = 0, effective = 0, saved = 0;
    Conclude(BH_LAYER_OWN_USER,
             getresuid(&real, &effective, &saved) == 0 && real == user && effective == user &&
                 saved == user && getegid() == user && !Has(CAP_SETUID) &&
                 syscall(SYS_setresuid, 0, 0, 0) != 0,
             "it can be root again");
    return absl::OkStatus();
  }

  absl::Status DropPrivileges() {
    const pid_t parent = getppid();
    // Which a change of ids takes back. A service that leaves its hosts to the next has not asked
    // for it: they end with the last copy of their control socket's other end.
    if (parent_death_signal_ != 0 && prctl(PR_SET_PDEATHSIG, parent_death_signal_) != 0) {
      return Failed("ending with the supervisor");
    }
    // In a process id namespace of its own both are 0: there the control socket tells, which the
    // supervisor's end closes before this is sent (Life::Start() in main.cc).
    if (parent_death_signal_ != 0 && getppid() != parent)
      return absl::CancelledError("sandbox: the supervisor has died");
    if (!Wants(BH_LAYER_PRIVILEGES)) return absl::OkStatus();
    // A process without capabilities may not be permitted to drop the bounding set, and need not.
    if (Has(CAP_SETPCAP) && !DropBounds()) return Failed("dropping the bounding set");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Failed("no_new_privs");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return Failed("not dumpable");
    const rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) return Failed("no core dumps");
    if (!CapabilitySets::None().Set()) return Failed("dropping capabilities");
    const bool none_left = CapabilitySets::Get() == CapabilitySets::None();
    Conclude(BH_LAYER_PRIVILEGES,
             none_left && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
                 prctl(PR_GET_DUMPABLE) == 0 && chroot("/") != 0 && errno == EPERM,
             "it has capabilities, or a way to them");
    return absl::OkStatus();
  }

  absl::Status LimitResources() {
    if (!Wants(BH_LAYER_LIMITS)) return absl::OkStatus();
    rlimit files = {};
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return Failed("reading the limit of open files");
    if (files.rlim_max > kOpenFilesMax) files = {kOpenFilesMax, kOpenFilesMax};
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) return Failed("limiting open files");
    // Of the user's processes together, and of no account for root.
    const rlimit threads = {kThreadsMax, kThreadsMax};
    const bool own_user = Wants(BH_LAYER_OWN_USER) && grants_.user != 0;
    if (own_user && setrlimit(RLIMIT_NPROC, &threads) != 0) return Failed("limiting threads");
    const int beyond = fcntl(STDERR_FILENO, F_DUPFD, static_cast<int>(kOpenFilesMax));
    if (beyond >= 0) close(beyond);
    Conclude(BH_LAYER_LIMITS, beyond < 0, "it can open more files than its limit");
    return absl::OkStatus();
  }

  // ---- Files and system calls

  absl::Status LimitFilesByName() {
    if (!Wants(BH_LAYER_FILES)) return absl::OkStatus();
    std::vector<std::string> writable(grants_.writable.begin(), grants_.writable.end());
    if (grants_.scratch_bytes != 0 && Held(BH_LAYER_MOUNTS)) writable.push_back(kScratchFolder);
    const absl::Status status = LimitFiles(grants_.readable, writable);
    if (absl::IsUnimplemented(status)) {
      Lack(BH_LAYER_FILES, status.message());
      return absl::OkStatus();
    }
    if (!status.ok()) return status;
    const UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    Conclude(BH_LAYER_FILES, !root.valid() && errno == EACCES,
             "it can open what it is not granted");
    return absl::OkStatus();
  }

  absl::Status CheckGrants() const {
    if (grants_.scratch_bytes != 0 && !Held(BH_LAYER_MOUNTS)) {
      return absl::FailedPreconditionError(
          "sandbox: the manifest's 'scratch_mib' needs the layer mounts, which is missing here");
    }
    if (writes_ && !Held(BH_LAYER_MOUNTS) && !Held(BH_LAYER_FILES)) {
      return absl::FailedPreconditionError(
          "sandbox: the manifest's 'writes' needs the layer files or mounts; both are missing "
          "here");
    }
    return absl::OkStatus();
  }

  absl::Status LimitSystemCalls() {
    if (!Wants(BH_LAYER_SYSTEM_CALLS)) return absl::OkStatus();
    if (absl::Status status = FilterSystemCalls(grants_.ioctls, writes_); !status.ok()) {
      return status;
    }
    const std::string state = ReadAll(status_.get());
    const bool filtered = state.empty() || state.find("\nSeccomp:\t2") != state.npos;
    const int made = socket(AF_UNIX, SOCK_STREAM, 0);
    const bool refused = made < 0 && errno == EPERM;
    if (made >= 0) close(made);
    Conclude(BH_LAYER_SYSTEM_CALLS, filtered && refused, "it can make sockets");
    return absl::OkStatus();
  }

  const uint32_t layers_;
  const SandboxGrants& grants_;
  SandboxReport& report_;
  int parent_death_signal_ = ParentDeathSignal();
  const UniqueFd self_;    // /proc/self as it was: the empty root has another /proc
  const UniqueFd status_;  // of it
  const bool writes_;
  std::array<ino_t, std::size(kNamespaces)> before_ = {};
};

}  // namespace

absl::Status EnterSandbox(uint32_t layers, const SandboxGrants& grants, SandboxReport* report) {
  return Sandbox(layers, grants, report).Enter();
}

}  // namespace bulkhead
