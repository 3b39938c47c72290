// SPDX-License-Identifier: Apache-2.0
//
// The ways in which a host ends, and what each of them counts as. One table for both sides: the
// kernel module (host_end_check.cc, in a guest) and the supervisor of a user-mode shim
// (host_end_test.cc).
#ifndef BULKHEAD_TESTS_KERNEL_MODULE_ABI_HOST_ENDS_H_
#define BULKHEAD_TESTS_KERNEL_MODULE_ABI_HOST_ENDS_H_

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <functional>
#include <ostream>

#include "ipc/abi/end.h"

namespace bulkhead {

enum class Afterwards {
  kGone,   // the process has ended
  kLives,  // it goes on without its channel, and tells by a byte on standard output
};

struct HostEnd {
  const char* name;
  // In the host's process. `give_back` closes the channel's descriptor and takes away its mappings.
  void (*act)(const std::function<void()>& give_back);
  bool asked;  // its supervisor drains it
  Afterwards afterwards;
  bh_end end;
};
inline void PrintTo(const HostEnd& row, std::ostream* out) { *out << row.name; }

// Ends by a signal with its default action, without a core file.
template <int kSignal>
void DieBy(const std::function<void()>&) {
  prctl(PR_SET_DUMPABLE, 0);
  signal(kSignal, SIG_DFL);
  sigset_t all;
  sigemptyset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  kill(getpid(), kSignal);
  for (;;) pause();
}

template <int kCode>
void Exit(const std::function<void()>&) {
  _exit(kCode);
}

// Leaves a child that has all its descriptors, until the test's end of the pipe on standard input
// is closed.
inline void LeaveAChild() {
  if (fork() != 0) return;
  char byte;
  (void)!read(STDIN_FILENO, &byte, 1);
  _exit(0);
}

inline const HostEnd kHostEnds[] = {
    {"ExitAsAsked", Exit<0>, true, Afterwards::kGone, BH_END_STOPPED},
    {"ExitUnasked", Exit<0>, false, Afterwards::kGone, BH_END_CRASHED},
    {"ExitWithAnError", Exit<3>, false, Afterwards::kGone, BH_END_CRASHED},
    {"ExitWithAnErrorWhenAsked", Exit<3>, true, Afterwards::kGone, BH_END_CRASHED},
    {"ExitOfAThreadAfterMain",
     [](const std::function<void()>&) {
       pthread_t thread;
       pthread_create(
           &thread, nullptr, [](void*) -> void* { _exit(3); }, nullptr);
       pthread_exit(nullptr);
     },
     true, Afterwards::kGone, BH_END_CRASHED},
    {"Segv", DieBy<SIGSEGV>, false, Afterwards::kGone, BH_END_CRASHED},
    {"SegvWhenAsked", DieBy<SIGSEGV>, true, Afterwards::kGone, BH_END_CRASHED},
    {"Abort", DieBy<SIGABRT>, false, Afterwards::kGone, BH_END_CRASHED},
    {"Bus", DieBy<SIGBUS>, false, Afterwards::kGone, BH_END_CRASHED},
    {"SeccompOrBadSystemCall", DieBy<SIGSYS>, false, Afterwards::kGone, BH_END_CRASHED},
    {"Kill", DieBy<SIGKILL>, false, Afterwards::kGone, BH_END_KILLED},
    {"KillWhenAsked", DieBy<SIGKILL>, true, Afterwards::kGone, BH_END_KILLED},
    {"Term", DieBy<SIGTERM>, false, Afterwards::kGone, BH_END_KILLED},
    {"Interrupt", DieBy<SIGINT>, false, Afterwards::kGone, BH_END_KILLED},
    {"HangUp", DieBy<SIGHUP>, false, Afterwards::kGone, BH_END_KILLED},
    {"Quit", DieBy<SIGQUIT>, false, Afterwards::kGone, BH_END_KILLED},
    {"SegvWithAChildThatKeepsTheDescriptor",
     [](const std::function<void()>& give_back) {
       LeaveAChild();
       DieBy<SIGSEGV>(give_back);
     },
     false, Afterwards::kGone, BH_END_CRASHED},
    {"KillWithAChildThatKeepsTheDescriptor",
     [](const std::function<void()>& give_back) {
       LeaveAChild();
       DieBy<SIGKILL>(give_back);
     },
     false, Afterwards::kGone, BH_END_KILLED},
    {"ExitAsAskedWithAChildThatKeepsTheDescriptor",
     [](const std::function<void()>&) {
       LeaveAChild();
       _exit(0);
     },
     true, Afterwards::kGone, BH_END_STOPPED},
    {"GivesItsChannelBack",
     [](const std::function<void()>& give_back) {
       give_back();
       (void)!write(STDOUT_FILENO, "\n", 1);
       for (;;) pause();
     },
     false, Afterwards::kLives, BH_END_HUNG},
    {"GivesItsChannelBackBeforeItExitsAsAsked",
     [](const std::function<void()>& give_back) {
       give_back();
       _exit(0);
     },
     true, Afterwards::kGone, BH_END_STOPPED},
    {"Exec",
     [](const std::function<void()>&) {
       execl("/bin/sh", "sh", "-c", "echo; read line", nullptr);
       _exit(1);
     },
     false, Afterwards::kLives, BH_END_HUNG},
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_KERNEL_MODULE_ABI_HOST_ENDS_H_
