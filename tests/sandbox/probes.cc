// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/fanotify.h>
#include <linux/futex.h>
#include <linux/if_alg.h>
#include <linux/if_packet.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sandbox/probe.h"

namespace bulkhead {
namespace {

// Whether a call that must fail has done so. Nothing there: the machine lacks what it is about.
Outcome Of(long result) {
  if (result >= 0) return Outcome::kEscaped;
  switch (errno) {
    case ENOSYS:
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
    case ENODEV:
    case ENXIO:
      return Outcome::kNothingThere;
    default:
      return Outcome::kStopped;
  }
}

// The same of calls that the filter answers with ENOSYS.
Outcome OfAny(long result) { return result >= 0 ? Outcome::kEscaped : Outcome::kStopped; }

// A call with an argument that the kernel refuses only after it has permitted the call.
Outcome Permitted(long result, int refused_with) {
  if (result >= 0 || errno == refused_with) return Outcome::kEscaped;
  return Of(result);
}

Outcome Opens(const char* path, int flags = O_RDONLY) {
  const int file = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0644);
  return file >= 0 ? Outcome::kEscaped : Outcome::kStopped;
}

std::string ReadFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text(1 << 16, '\0');
  const ssize_t bytes = file < 0 ? -1 : read(file, text.data(), text.size());
  text.resize(bytes < 0 ? 0 : static_cast<size_t>(bytes));
  if (file >= 0) close(file);
  return text;
}

std::string OfVictim(const World& world, const char* name) {
  return "/proc/" + std::to_string(world.victim) + "/" + name;
}

// The first device node of this kind; empty: /dev has none.
std::string DeviceOf(mode_t kind) {
  DIR* folder = opendir("/dev");
  std::string found;
  while (const dirent* entry = folder != nullptr && found.empty() ? readdir(folder) : nullptr) {
    const std::string path = std::string("/dev/") + entry->d_name;
    struct stat object = {};
    if (stat(path.c_str(), &object) == 0 && (object.st_mode & S_IFMT) == kind) found = path;
  }
  if (folder != nullptr) closedir(folder);
  return found;
}

Outcome Connects(int domain, const void* address, size_t bytes) {
  const int made = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (made < 0) return Outcome::kStopped;
  return OfAny(connect(made, static_cast<const sockaddr*>(address), static_cast<socklen_t>(bytes)));
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bpf_insn Exit() {
  return {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};
}

// ---- Short names for the table

constexpr uint32_t kPrivileges = BH_LAYER_PRIVILEGES, kLimits = BH_LAYER_LIMITS,
                   kCalls = BH_LAYER_SYSTEM_CALLS, kFiles = BH_LAYER_FILES,
                   kUser = BH_LAYER_OWN_USER, kUsers = BH_LAYER_USERS, kMounts = BH_LAYER_MOUNTS,
                   kProcesses = BH_LAYER_PROCESSES, kNetwork = BH_LAYER_NETWORK,
                   kIpc = BH_LAYER_IPC, kNames = BH_LAYER_NAMES, kGroups = BH_LAYER_GROUPS,
                   kResources = BH_LAYER_RESOURCES;
// What root's capabilities permit in the first user namespace only.
constexpr uint32_t kRights = kCalls | kPrivileges | kUser | kUsers;
// Changes of the file system, by name.
constexpr uint32_t kChanges = kCalls | kFiles | kMounts;
constexpr uint32_t kSignals = kCalls | kProcesses | kUser;
constexpr uint32_t kTracing = kCalls | kProcesses | kUser | kPrivileges;

using W = const World&;

constexpr Probe kProbes[] = {
    // ---- Files
    {"read /etc/shadow", "files", kFiles | kMounts | kUser,
     [](W) { return Opens("/etc/shadow"); }},
    {"read /etc/passwd", "files", kFiles | kMounts, [](W) { return Opens("/etc/passwd"); }},
    {"read another's private file", "files", kFiles | kMounts | kUser,
     [](W w) { return Opens(w.secret.c_str()); }},
    {"read a file that is open to all", "files", kFiles | kMounts,
     [](W w) { return Opens(w.file.c_str()); }},
    {"list /root", "files", kFiles | kMounts | kUser,
     [](W) { return Opens("/root", O_RDONLY | O_DIRECTORY); }},
    {"list /", "files", kFiles, [](W) { return Opens("/", O_RDONLY | O_DIRECTORY); }},
    {"openat2 of a file", "files", kChanges,
     [](W w) {
       open_how how = {};
       return OfAny(syscall(SYS_openat2, AT_FDCWD, w.file.c_str(), &how, sizeof(how)));
     }},
    {"learn that a file exists", "files", kMounts,
     [](W w) { return OfAny(access(w.file.c_str(), F_OK)); }},
    {"make a file", "files", kChanges,
     [](W w) { return Opens((w.folder + "/made").c_str(), O_WRONLY | O_CREAT); }},
    {"make a file in /tmp", "files", kChanges,
     [](W) { return Opens("/tmp/bulkhead-sandbox-probe", O_WRONLY | O_CREAT); }},
    {"write a file", "files", kChanges, [](W w) { return Opens(w.file.c_str(), O_WRONLY); }},
    {"truncate a file", "files", kCalls | kMounts,
     [](W w) { return OfAny(truncate(w.file.c_str(), 0)); }},
    {"remove a file", "files", kChanges,
     [](W w) { return OfAny(unlink((w.folder + "/remove").c_str())); }},
    {"rename a file", "files", kChanges,
     [](W w) {
       return OfAny(rename((w.folder + "/rename").c_str(), (w.folder + "/renamed").c_str()));
     }},
    {"make a folder", "files", kChanges,
     [](W w) { return OfAny(mkdir((w.folder + "/made-folder").c_str(), 0755)); }},
    {"make a symbolic link", "files", kChanges,
     [](W w) { return OfAny(symlink("/etc/shadow", (w.folder + "/made-link").c_str())); }},
    {"make a hard link", "files", kChanges,
     [](W w) { return OfAny(link(w.file.c_str(), (w.folder + "/made-name").c_str())); }},
    {"make a named pipe", "files", kChanges,
     [](W w) { return OfAny(mkfifo((w.folder + "/made-pipe").c_str(), 0600)); }},
    {"change a file's mode", "files", kCalls | kMounts | kUser,
     [](W w) { return OfAny(chmod(w.file.c_str(), 06777)); }},
    {"change a file's owner", "files", kCalls | kMounts | kUser | kPrivileges,
     [](W w) { return OfAny(chown(w.file.c_str(), 1, 1)); }},
    {"change a file's times", "files", kCalls | kMounts | kUser,
     [](W w) {
       const timespec times[] = {{1, 0}, {1, 0}};
       return OfAny(utimensat(AT_FDCWD, w.secret.c_str(), times, 0));
     }},
    {"change a file's attributes", "files", kCalls | kMounts | kUser | kPrivileges,
     [](W w) { return Of(setxattr(w.file.c_str(), "trusted.probe", "x", 1, 0)); }},
    {"watch a folder", "files", kCalls | kMounts,
     [](W w) {
       return OfAny(inotify_add_watch(inotify_init1(0), w.folder.c_str(), IN_ALL_EVENTS));
     }},
    {"read what is mounted", "files", kMounts,
     [](W) {
       const std::string mounts = ReadFile("/proc/self/mountinfo");
       return mounts.find(" / / rw") != mounts.npos || mounts.find(" /sys rw") != mounts.npos
                  ? Outcome::kEscaped
                  : Outcome::kStopped;
     }},
    {"open by handle", "files", kRights,
     [](W) {
       std::array<char, sizeof(file_handle) + 128> room = {};
       auto* handle = reinterpret_cast<file_handle*>(room.data());
       handle->handle_bytes = 128;
       int mount_id = 0;
       // The libraries are what every layer leaves in sight: on the file system of /etc, mostly.
       const int place = open("/usr/lib", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
       if (name_to_handle_at(place, "", handle, &mount_id, AT_EMPTY_PATH) != 0) return Of(-1);
       return Of(open_by_handle_at(place, handle, O_RDONLY));
     }},

    // ---- Inherited descriptors
    {"read above a folder that was left open", "descriptors", kFiles,
     [](W w) { return OfAny(openat(w.folder_fd, "secret", O_RDONLY | O_CLOEXEC)); }},
    {"write in a folder that was left open", "descriptors", kCalls | kFiles,
     [](W w) { return OfAny(openat(w.folder_fd, "made-at", O_WRONLY | O_CREAT, 0644)); }},
    {"open what it has for reading anew for writing", "descriptors", kCalls | kFiles,
     [](W w) { return Opens(("/proc/self/fd/" + std::to_string(w.file_fd)).c_str(), O_WRONLY); }},
    {"signal by a descriptor of a process", "descriptors", kSignals,
     [](W w) { return OfAny(syscall(SYS_pidfd_send_signal, w.victim_pidfd, 0, nullptr, 0)); }},
    {"take a descriptor out of a process", "descriptors", kCalls | kUser | kPrivileges,
     [](W w) { return OfAny(syscall(SYS_pidfd_getfd, w.victim_pidfd, 0, 0)); }},
    {"enter a network by its descriptor", "descriptors", kRights,
     [](W w) { return OfAny(setns(w.network_fd, CLONE_NEWNET)); }},

    // ---- Devices
    {"make a device node", "devices", kChanges | kPrivileges | kUser | kUsers,
     [](W w) {
       return OfAny(mknod((w.folder + "/made-device").c_str(), S_IFCHR | 0666, makedev(1, 3)));
     }},
    {"open a disk", "devices", kFiles | kMounts | kUser,
     [](W) {
       const std::string disk = DeviceOf(S_IFBLK);
       return disk.empty() ? Outcome::kStopped : Opens(disk.c_str());
     }},
    {"open the kernel's log", "devices", kFiles | kMounts,
     [](W) { return Opens("/dev/kmsg"); }},
    {"open a terminal", "devices", kFiles | kMounts, [](W) { return Opens("/dev/ptmx"); }},
    {"an ioctl that no transport needs", "devices", kCalls,
     [](W) {
       int ends[2];
       int on = 1;
       if (pipe2(ends, 0) != 0) return Outcome::kStopped;
       return OfAny(ioctl(ends[0], FIONBIO, &on));
     }},
    {"access to ports", "devices", kRights, [](W) { return OfAny(ioperm(0x80, 1, 1)); }},

    // ---- Other processes
    {"signal a process", "processes", kSignals, [](W w) { return OfAny(kill(w.victim, 0)); }},
    // Which succeeds, for a user of its own, too, if there is any process.
    {"signal every process", "processes", kCalls | kProcesses,
     [](W) { return OfAny(kill(-1, 0)); }},
    {"signal a thread", "processes", kSignals,
     [](W w) { return OfAny(syscall(SYS_tgkill, w.victim, w.victim, 0)); }},
    {"queue a signal", "processes", kSignals,
     [](W w) {
       siginfo_t info = {};
       info.si_code = SI_QUEUE;
       return OfAny(syscall(SYS_rt_sigqueueinfo, w.victim, 0, &info));
     }},
    {"signal through a descriptor's owner", "processes", kCalls | kProcesses,
     [](W w) {
       int ends[2];
       if (pipe2(ends, 0) != 0) return Outcome::kStopped;
       return OfAny(fcntl(ends[0], F_SETOWN, w.victim));
     }},
    {"open a process", "processes", kCalls | kProcesses,
     [](W w) { return OfAny(syscall(SYS_pidfd_open, w.victim, 0)); }},
    {"trace a process", "processes", kTracing | kFiles,
     [](W w) {
       const long seized = ptrace(PTRACE_SEIZE, w.victim, nullptr, nullptr);
       if (seized == 0) ptrace(PTRACE_DETACH, w.victim, nullptr, nullptr);
       return OfAny(seized);
     }},
    {"have itself traced", "processes", kCalls,
     [](W) { return OfAny(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)); }},
    {"read a process's memory", "processes", kTracing | kFiles,
     [](W w) {
       char byte = 0;
       const iovec here = {&byte, 1}, there = {const_cast<char*>(w.victim_word), 1};
       return OfAny(process_vm_readv(w.victim, &here, 1, &there, 1, 0));
     }},
    {"write a process's memory", "processes", kTracing | kFiles,
     [](W w) {
       char byte = 'B';
       const iovec here = {&byte, 1}, there = {const_cast<char*>(w.victim_word), 1};
       return OfAny(process_vm_writev(w.victim, &here, 1, &there, 1, 0));
     }},
    {"open a process's memory", "processes", kFiles | kUser | kPrivileges,
     [](W w) { return Opens(OfVictim(w, "mem").c_str(), O_RDONLY); }},
    {"read a process's environment", "processes", kFiles | kUser | kPrivileges,
     [](W w) {
       return ReadFile(OfVictim(w, "environ")).empty() ? Outcome::kStopped : Outcome::kEscaped;
     }},
    {"read a process's command line", "processes", kFiles,
     [](W w) { return Opens(OfVictim(w, "cmdline").c_str()); }},
    {"reach the machine's root through a process", "processes",
     kFiles | kUser | kPrivileges,
     [](W w) { return Opens((OfVictim(w, "root") + "/etc/passwd").c_str()); }},
    {"list the processes", "processes", kFiles,
     [](W w) {
       DIR* folder = opendir("/proc");
       bool found = false;
       const std::string name = std::to_string(w.victim);
       while (const dirent* entry = folder != nullptr ? readdir(folder) : nullptr) {
         found = found || name == entry->d_name;
       }
       return found ? Outcome::kEscaped : Outcome::kStopped;
     }},
    {"change a process's limits", "processes", kSignals,
     [](W w) {
       rlimit limit = {};
       return OfAny(prlimit(w.victim, RLIMIT_NOFILE, nullptr, &limit));
     }},
    {"move a process to another CPU", "processes", kSignals,
     [](W w) {
       cpu_set_t cpus;
       CPU_ZERO(&cpus);
       CPU_SET(0, &cpus);
       return OfAny(sched_setaffinity(w.victim, sizeof(cpus), &cpus));
     }},
    {"change a process's priority", "processes", kSignals,
     [](W w) {
       return OfAny(setpriority(PRIO_PROCESS, static_cast<id_t>(w.victim), 5));
     }},
    {"change a process's disk priority", "processes", kSignals,
     [](W w) {
       constexpr int kProcess = 1, kBestEffort = 2 << 13 | 7;  // linux/ioprio.h, which is C only
       return OfAny(syscall(SYS_ioprio_set, kProcess, w.victim, kBestEffort));
     }},

    // ---- Programs and processes of its own
    {"fork", "programs", kCalls,
     [](W) {
       const long pid = syscall(SYS_fork);
       if (pid == 0) _exit(0);
       return OfAny(pid);
     }},
    {"clone a process", "programs", kCalls,
     [](W) {
       const long pid = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
       if (pid == 0) _exit(0);
       return OfAny(pid);
     }},
    {"execute a program", "programs", kChanges,
     [](W) {
       // An escape ends in the program, with its exit code.
       const char* const words[] = {"sh", "-c", "exit 1", nullptr};
       char* const none[] = {nullptr};
       return OfAny(execve("/bin/sh", const_cast<char* const*>(words), none));
     }},
    {"execute what it has made in memory", "programs", kCalls,
     [](W) {
       const int program = memfd_create("probe", MFD_CLOEXEC);
       constexpr char kText[] = "#!/nowhere\n";  // found to be a program, and no interpreter
       if (program < 0 || write(program, kText, sizeof(kText) - 1) < 0) return Outcome::kStopped;
       char* const none[] = {nullptr};
       return Permitted(syscall(SYS_execveat, program, "", none, none, AT_EMPTY_PATH), ENOENT);
     }},

    // ---- Namespaces and mounts
    {"make a user namespace", "namespaces", kCalls,
     [](W) { return OfAny(unshare(CLONE_NEWUSER)); }},
    {"make a mount namespace", "namespaces", kCalls | kPrivileges | kUser,
     [](W) { return OfAny(unshare(CLONE_NEWNS)); }},
    {"make a network namespace", "namespaces", kCalls | kPrivileges | kUser,
     [](W) { return OfAny(unshare(CLONE_NEWNET)); }},
    {"clone3 into a user namespace", "namespaces", kCalls,
     [](W) {
       struct {
         uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
       } arguments = {};
       arguments.flags = CLONE_NEWUSER;
       arguments.exit_signal = SIGCHLD;
       const long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
       if (pid == 0) _exit(0);
       return OfAny(pid);
     }},
    {"mount a file system", "namespaces", kCalls | kPrivileges | kUser,
     [](W w) { return OfAny(mount("probe", w.folder.c_str(), "tmpfs", 0, nullptr)); }},
    {"unmount a file system", "namespaces", kCalls | kPrivileges | kUser,
     [](W) { return OfAny(umount2("/proc", MNT_DETACH)); }},
    {"mount with descriptors", "namespaces", kCalls | kPrivileges | kUser,
     [](W) { return OfAny(fsopen("tmpfs", 0)); }},
    {"copy a tree of mounts", "namespaces", kCalls | kPrivileges | kUser,
     [](W) { return OfAny(open_tree(AT_FDCWD, "/usr/lib", OPEN_TREE_CLONE)); }},
    {"make a mount writable", "namespaces", kCalls | kPrivileges | kUser,
     [](W) {
       mount_attr attributes = {};
       attributes.attr_clr = MOUNT_ATTR_NOSUID;
       return Permitted(
           mount_setattr(AT_FDCWD, "/usr/lib", 0, &attributes, sizeof(attributes)), EINVAL);
     }},
    {"change its root", "namespaces", kCalls | kPrivileges | kUser,
     [](W) { return OfAny(chroot("/usr/lib")); }},

    // ---- Network
    {"connect over TCP", "network", kCalls | kNetwork,
     [](W w) {
       const sockaddr_in address = Loopback(w.tcp_port);
       return Connects(AF_INET, &address, sizeof(address));
     }},
    {"send over UDP", "network", kCalls | kNetwork,
     [](W w) {
       const sockaddr_in address = Loopback(w.tcp_port);
       const int made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
       return made < 0 ? Outcome::kStopped
                       : OfAny(sendto(made, "x", 1, 0, reinterpret_cast<const sockaddr*>(&address),
                                      sizeof(address)));
     }},
    {"connect to an abstract socket", "network", kCalls | kNetwork,
     [](W w) {
       sockaddr_un address = {};
       address.sun_family = AF_UNIX;
       std::memcpy(address.sun_path + 1, w.abstract_socket.data(), w.abstract_socket.size());
       return Connects(AF_UNIX, &address,
                       offsetof(sockaddr_un, sun_path) + 1 + w.abstract_socket.size());
     }},
    {"connect to a socket by its name", "network", kCalls | kMounts,
     [](W w) {
       sockaddr_un address = {};
       address.sun_family = AF_UNIX;
       std::memcpy(address.sun_path, w.unix_socket.data(), w.unix_socket.size());
       return Connects(AF_UNIX, &address, sizeof(address));
     }},
    {"read packets", "network", kRights,
     [](W) { return Of(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL))); }},
    {"raw sockets", "network", kRights,
     [](W) { return Of(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); }},
    {"sockets of the hypervisor", "network", kCalls,
     [](W) { return Of(socket(AF_VSOCK, SOCK_STREAM, 0)); }},
    {"sockets of the kernel's ciphers", "network", kCalls,
     [](W) { return Of(socket(AF_ALG, SOCK_SEQPACKET, 0)); }},
    {"read the list of connections", "network", kNetwork,
     [](W w) {
       char port[8];
       std::snprintf(port, sizeof(port), ":%04X ", w.tcp_port);
       const std::string sockets = ReadFile("/proc/self/net/tcp");
       return sockets.find(port) != sockets.npos ? Outcome::kEscaped : Outcome::kStopped;
     }},
    {"read the names of sockets", "network", kNetwork,
     [](W w) {
       const std::string sockets = ReadFile("/proc/self/net/unix");
       return sockets.find(w.abstract_socket) != sockets.npos ? Outcome::kEscaped
                                                              : Outcome::kStopped;
     }},

    // ---- Objects that processes share
    {"attach System V shared memory", "ipc", kCalls | kIpc,
     [](W w) {
       return shmat(w.shared_memory, nullptr, 0) == reinterpret_cast<void*>(-1)
                  ? Outcome::kStopped
                  : Outcome::kEscaped;
     }},
    {"send to a System V queue", "ipc", kCalls | kIpc,
     [](W w) {
       struct {
         long type;
         char text;
       } message = {1, 'x'};
       return OfAny(msgsnd(w.message_queue, &message, 1, IPC_NOWAIT));
     }},
    {"change System V semaphores", "ipc", kCalls | kIpc,
     [](W w) { return OfAny(semctl(w.semaphores, 0, SETVAL, 1)); }},
    {"open a POSIX queue", "ipc", kCalls | kIpc,
     [](W w) {
       return w.posix_queue.empty() ? Outcome::kNothingThere
                                    : OfAny(mq_open(w.posix_queue.c_str(), O_RDWR | O_CLOEXEC));
     }},
    {"open POSIX shared memory", "ipc", kChanges,
     [](W) { return Opens("/dev/shm/bulkhead-sandbox-probe", O_RDWR | O_CREAT); }},
    {"add a key to a keyring", "ipc", kCalls,
     [](W) {
       return Of(syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING));
     }},
    {"look for a key", "ipc", kCalls,
     [](W) {
       return Permitted(syscall(SYS_request_key, "user", "bulkhead-sandbox-probe", nullptr, 0),
                        ENOKEY);
     }},
    {"join a session of keys", "ipc", kCalls,
     [](W) { return Of(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr)); }},

    // ---- The kernel's wide interfaces
    {"io_uring", "kernel", kCalls,
     [](W) {
       std::array<char, 256> parameters = {};
       return Of(syscall(SYS_io_uring_setup, 1, parameters.data()));
     }},
    {"a BPF map", "kernel", kCalls,
     [](W) {
       bpf_attr attributes = {};
       attributes.map_type = BPF_MAP_TYPE_ARRAY;
       attributes.key_size = attributes.value_size = 4;
       attributes.max_entries = 1;
       return Of(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes)));
     }},
    {"a BPF program", "kernel", kRights,
     [](W) {
       const bpf_insn program[] = {
           {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
           Exit()};
       bpf_attr attributes = {};
       attributes.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
       attributes.insns = reinterpret_cast<uintptr_t>(program);
       attributes.insn_cnt = 2;
       attributes.license = reinterpret_cast<uintptr_t>("GPL");
       return Of(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes)));
     }},
    {"userfaultfd", "kernel", kCalls,
     [](W) { return Of(syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* user mode only */)); }},
    {"perf events of the machine", "kernel", kRights,
     [](W) {
       perf_event_attr attributes = {};
       attributes.type = PERF_TYPE_SOFTWARE;
       attributes.size = sizeof(attributes);
       attributes.config = PERF_COUNT_SW_CONTEXT_SWITCHES;
       return Of(syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0));
     }},
    {"load a module", "kernel", kRights,
     [](W) { return Permitted(syscall(SYS_init_module, "none", 4, ""), ENOEXEC); }},
    {"swap to a file", "kernel", kRights,
     [](W) { return Permitted(swapon("/nowhere", 0), ENOENT); }},
    {"watch all files (fanotify)", "kernel", kRights,
     [](W) { return Of(syscall(SYS_fanotify_init, FAN_CLASS_CONTENT, O_RDONLY)); }},
    {"read the kernel's log", "kernel", kCalls,
     [](W) {
       std::array<char, 256> text = {};
       return Of(klogctl(3, text.data(), text.size()));
     }},
    {"change the machine's name", "kernel", kRights,
     [](W w) { return OfAny(sethostname(w.machine_name.data(), w.machine_name.size())); }},
    {"read the machine's name", "kernel", kNames,
     [](W w) {
       utsname name = {};
       return uname(&name) == 0 && w.machine_name == name.nodename ? Outcome::kEscaped
                                                                   : Outcome::kStopped;
     }},
    {"change how programs are run", "kernel", kCalls,
     [](W) { return OfAny(personality(ADDR_NO_RANDOMIZE)); }},
    {"listen to its own system calls", "kernel", kCalls,
     [](W) {
       return Permitted(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, nullptr), EFAULT);
     }},
    {"move a futex's sleepers", "kernel", kCalls,
     [](W) {
       static uint32_t from, to;
       return OfAny(syscall(SYS_futex, &from, FUTEX_CMP_REQUEUE, 0, 1, &to, 0));
     }},
    {"punch holes into shared memory", "kernel", kCalls,
     [](W) {
       void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
       return memory == MAP_FAILED ? Outcome::kStopped
                                   : OfAny(madvise(memory, 4096, MADV_REMOVE));
     }},
    {"seal shared memory", "kernel", kCalls,
     [](W) {
       const int memory = memfd_create("probe", MFD_ALLOW_SEALING);
       return OfAny(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE));
     }},

    // ---- What it is
    {"become root", "rights", kCalls | kUser, [](W) { return OfAny(setresuid(0, 0, 0)); }},
    {"take capabilities", "rights", kPrivileges | kUser,
     [](W) {
       __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
       const __user_cap_data_struct wanted[2] = {
           {.effective = 1u << CAP_SYS_ADMIN, .permitted = 1u << CAP_SYS_ADMIN, .inheritable = 0},
           {.effective = 0, .permitted = 0, .inheritable = 0}};
       return OfAny(syscall(SYS_capset, &header, wanted));
     }},
    {"be dumpable again", "rights", kCalls, [](W) { return OfAny(prctl(PR_SET_DUMPABLE, 1)); }},
    {"outlive its supervisor", "rights", kCalls,
     [](W) { return OfAny(prctl(PR_SET_PDEATHSIG, 0)); }},
    {"dump core", "rights", kPrivileges,
     [](W) {
       const rlimit more = {1 << 20, 1 << 20};
       return OfAny(setrlimit(RLIMIT_CORE, &more));
     }},

    // ---- What it takes
    {"open files without end", "resources", kLimits,
     [](W) {
       int copies = 0;
       while (copies < 700 && dup(STDERR_FILENO) >= 0) ++copies;
       return copies == 700 ? Outcome::kEscaped : Outcome::kStopped;
     }},
    {"start threads without end", "resources", kResources,
     [](W w) {
       pthread_attr_t small;
       if (pthread_attr_init(&small) != 0 || pthread_attr_setstacksize(&small, 65536) != 0) {
         return Outcome::kStopped;
       }
       const auto wait = [](void*) -> void* {
         for (;;) pause();
       };
       int started = 0;
       pthread_t thread;
       while (started < w.threads && pthread_create(&thread, &small, wait, nullptr) == 0) ++started;
       return started == w.threads ? Outcome::kEscaped : Outcome::kStopped;
     }},
    {"take shared memory without end", "resources", kResources,
     [](W w) {
       const int memory = memfd_create("probe", 0);
       const auto bytes = static_cast<size_t>(w.memory_bytes);
       if (memory < 0 || ftruncate(memory, static_cast<off_t>(bytes)) != 0) {
         return Outcome::kStopped;
       }
       void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
       if (start == MAP_FAILED) return Outcome::kStopped;
       for (size_t at = 0; at < bytes; at += 4096) static_cast<volatile char*>(start)[at] = 1;
       return Outcome::kEscaped;
     }},
    {"leave its control group", "resources", kChanges | kUser,
     [](W) {
       for (const char* door : {"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs",
                                "/sys/fs/cgroup/unified/cgroup.procs"}) {
         const int file = open(door, O_WRONLY | O_CLOEXEC);
         if (file >= 0 && write(file, "0", 1) == 1) return Outcome::kEscaped;
       }
       return Outcome::kStopped;
     }},
    {"read where its control group is", "resources", kGroups,
     [](W) {
       const std::string groups = ReadFile("/proc/self/cgroup");
       for (size_t at = 0; (at = groups.find(":/", at)) != groups.npos; at += 2) {
         if (at + 2 < groups.size() && groups[at + 2] != '\n') return Outcome::kEscaped;
       }
       return Outcome::kStopped;
     }},
};
static_assert(std::size(kProbes) >= 60);

}  // namespace

absl::Span<const Probe> Probes() { return kProbes; }

}  // namespace bulkhead
