// SPDX-License-Identifier: Apache-2.0
#include "host/process/system_call_filter.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

// The needs of a driver that computes, reads files that it was given and waits, and of the C and
// C++ runtimes below it.
constexpr int kAllowed[] = {
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(mincore),
    SCMP_SYS(msync),
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(preadv),
    SCMP_SYS(lseek),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fstat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getdents64),
    SCMP_SYS(getcwd),
    SCMP_SYS(fadvise64),
    SCMP_SYS(futex_waitv),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(get_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getcpu),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(pause),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_gettime),
    SCMP_SYS(pipe2),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(getsockopt),
    SCMP_SYS(getrandom),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(membarrier),
    SCMP_SYS(memfd_create),
    SCMP_SYS(ftruncate),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

// Without F_SETOWN and F_SETSIG, which make the kernel send any signal to any process of this user;
// without F_ADD_SEALS, which would keep the next generation from mapping memory that it must write.
constexpr int kAllowedFcntl[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD,    F_SETFD,
                                 F_GETFL, F_SETFL,         F_GET_SEALS};

// Without the requeues: they move threads that sleep on a shared word (callers, the supervisor) to
// a word where their wake-ups do not reach them. The host does not need them, nor FUTEX_WAKE_OP.
constexpr int kAllowedFutex[] = {FUTEX_WAIT,        FUTEX_WAKE,     FUTEX_WAIT_BITSET,
                                 FUTEX_WAKE_BITSET, FUTEX_LOCK_PI,  FUTEX_LOCK_PI2,
                                 FUTEX_TRYLOCK_PI,  FUTEX_UNLOCK_PI};

// The advice that allocators use. Without MADV_REMOVE, which makes holes in memory that the shim
// must be able to write without waiting; without MADV_PAGEOUT and the like, for the same reason.
constexpr int kAllowedMadvise[] = {MADV_NORMAL,   MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
                                   MADV_DONTNEED, MADV_FREE,   MADV_HUGEPAGE,   MADV_NOHUGEPAGE,
                                   MADV_DONTDUMP, MADV_DODUMP, MADV_DONTFORK};

// What writing files needs beside opening them: which files is for Landlock and the mounts to say.
// Without links, modes, owners, attributes and device nodes.
constexpr int kWriting[] = {
    SCMP_SYS(pwrite64), SCMP_SYS(pwritev),   SCMP_SYS(fsync),     SCMP_SYS(fdatasync),
    SCMP_SYS(unlink),   SCMP_SYS(unlinkat),  SCMP_SYS(rmdir),     SCMP_SYS(rename),
    SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(fallocate),
};
// Set-user-id, set-group-id and sticky: others could execute what has them.
constexpr scmp_datum_t kSpecialModes = 07000;

// The kernel takes these arguments as int and ignores the upper half.
constexpr scmp_datum_t kInt = 0xffffffff;

// Names of threads and mappings. Without the options that make the process traceable again, or let
// it outlive its supervisor.
constexpr int kAllowedPrctl[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_VMA};

// Calls that no driver makes by mistake: a process that makes one is treated as hostile.
constexpr int kFatal[] = {
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(bpf),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(io_uring_setup),
};

// Sanitizer runtimes read their own maps, switch off address randomisation, and check for leaks.
constexpr int kSanitizersNeed[] = {
    SCMP_SYS(personality),
    SCMP_SYS(execve),
    SCMP_SYS(tgkill),
    SCMP_SYS(sched_setscheduler),
    SCMP_SYS(setrlimit),
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(wait4),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(prctl),
    SCMP_SYS(sched_setaffinity),
};

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {}
  ~Filter() {
    if (context_ != nullptr) seccomp_release(context_);
  }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  template <typename... Conditions>
  void Add(uint32_t action, int system_call, Conditions... conditions) {
    if (error_ != 0) return;
    // A call that this architecture lacks needs no rule.
    const int code =
        seccomp_rule_add(context_, action, system_call, sizeof...(conditions), conditions...);
    if (code != 0 && code != -EDOM) error_ = -code;
  }
  absl::Status Load() {
    if (context_ == nullptr) return absl::ResourceExhaustedError("sandbox: no memory for a filter");
    if (error_ == 0) error_ = -seccomp_load(context_);
    if (error_ == 0) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("sandbox: system call filter: ", std::strerror(error_)));
  }

 private:
  scmp_filter_ctx context_;
  int error_ = 0;
};

}  // namespace

absl::Status FilterSystemCalls(absl::Span<const unsigned long> ioctls, bool writes) {
  Filter filter;
  for (const int call : kAllowed) filter.Add(SCMP_ACT_ALLOW, call);
  for (const int call : kFatal) filter.Add(SCMP_ACT_KILL_PROCESS, call);
  // A thread's own priority, which can only be lowered without privileges.
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(setpriority), SCMP_A0(SCMP_CMP_EQ, PRIO_PROCESS),
             SCMP_A1(SCMP_CMP_EQ, 0));
  const auto self = static_cast<scmp_datum_t>(getpid());
  for (const int advice : kAllowedMadvise) {
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(madvise),
               SCMP_A2(SCMP_CMP_MASKED_EQ, kInt, static_cast<scmp_datum_t>(advice)));
  }
  constexpr scmp_datum_t kFutexCommand =
      kInt & ~scmp_datum_t{FUTEX_PRIVATE_FLAG} & ~scmp_datum_t{FUTEX_CLOCK_REALTIME};
  for (const int command : kAllowedFutex) {
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(futex),
               SCMP_A1(SCMP_CMP_MASKED_EQ, kFutexCommand, static_cast<scmp_datum_t>(command)));
  }
  for (const unsigned long command : ioctls) {
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, command));
  }
  for (const int command : kAllowedFcntl) {
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(fcntl),
               SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(command)));
  }
  // Its own limits only: to change those of its supervisor a process needs no capability, only the
  // same user.
  for (const scmp_datum_t pid : {scmp_datum_t{0}, self}) {
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), SCMP_A0(SCMP_CMP_EQ, pid));
  }
  if (kSanitized) {
    for (const int call : kSanitizersNeed) filter.Add(SCMP_ACT_ALLOW, call);
  } else {
    constexpr uint64_t kWrites = O_ACCMODE | O_CREAT | O_TRUNC;
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(open), SCMP_A1(SCMP_CMP_MASKED_EQ, kWrites, O_RDONLY));
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(openat), SCMP_A2(SCMP_CMP_MASKED_EQ, kWrites, O_RDONLY));
    // abort() signals its own thread.
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, self));
    // The calling thread only: another thread id may belong to another process.
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(sched_setaffinity), SCMP_A0(SCMP_CMP_EQ, 0));
    for (const int option : kAllowedPrctl) {
      filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(prctl),
                 SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(option)));
    }
  }
  if (writes) {
    for (const int call : kWriting) filter.Add(SCMP_ACT_ALLOW, call);
    const auto plain = [](unsigned argument) {
      return scmp_arg_cmp{argument, SCMP_CMP_MASKED_EQ, kSpecialModes, 0};
    };
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(mkdir), plain(1));
    filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(mkdirat), plain(2));
    if (!kSanitized) {
      filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(open), plain(2));
      filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(openat), plain(3));
    }
  }
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(kill), SCMP_A0(SCMP_CMP_EQ, self));
  // Threads, but no processes. clone3's flags are behind a pointer that a filter can't follow, so
  // clone3 fails with ENOSYS, and libc falls back to clone.
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(clone),
             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  filter.Add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  return filter.Load();
}

}  // namespace bulkhead
