// SPDX-License-Identifier: Apache-2.0
//
// SteppedProcess: a child that runs one instruction at a time. It stops itself (StopHere()) where
// its parent takes control, and shares memory with its parent. Ended by the destructor, with
// SIGKILL. One thread.
#ifndef BULKHEAD_TESTS_FAULTS_STEPPED_PROCESS_H_
#define BULKHEAD_TESTS_FAULTS_STEPPED_PROCESS_H_

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace bulkhead {

// Tracer and tracee take turns: on one CPU a turn is a context switch without a wake-up on another
// CPU.
class OnOneCpu {
 public:
  OnOneCpu() {
    if (sched_getaffinity(0, sizeof(before_), &before_) != 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(sched_getcpu()), &one);
    (void)sched_setaffinity(0, sizeof(one), &one);
  }
  ~OnOneCpu() { (void)sched_setaffinity(0, sizeof(before_), &before_); }

 private:
  cpu_set_t before_ = {};
};

class SteppedProcess {
 public:
  // False where ptrace is filtered out, as in some containers.
  static bool Allowed() {
    const pid_t child = fork();
    if (child == 0) _exit(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status == 0;
  }

  // Runs `life`, which does not return, in the child, and waits for its first StopHere().
  template <typename Life>
  explicit SteppedProcess(const Life& life) : pid_(fork()) {
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      life();
      _exit(127);
    }
    alive_ = Await();
  }
  ~SteppedProcess() { Kill(); }
  SteppedProcess(const SteppedProcess&) = delete;
  SteppedProcess& operator=(const SteppedProcess&) = delete;

  static void StopHere() { raise(SIGSTOP); }

  // False: it has ended by itself, which is an error.
  bool alive() const { return alive_; }

  // Runs to its next StopHere().
  void Continue() {
    if (alive_) alive_ = ptrace(PTRACE_CONT, pid_, nullptr, nullptr) == 0 && Await();
  }

  // Runs `steps` instructions, or to its next StopHere(). Returns how many it ran.
  long Step(long steps) {
    for (long taken = 0; taken < steps; ++taken) {
      if (alive_) alive_ = ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) == 0 && Await();
      if (!alive_ || signal_ == SIGSTOP) return taken;
    }
    return steps;
  }

  // Writes a word of its memory, as a peer with a mapping of that memory can.
  void Poke(const void* address, uint64_t word) {
    (void)ptrace(PTRACE_POKEDATA, pid_, address, word);
  }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    while (Await()) {
    }
    pid_ = 0;
    alive_ = false;
  }

 private:
  bool Await() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0) {
      if (errno != EINTR) return false;
    }
    signal_ = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
    return WIFSTOPPED(status);
  }

  pid_t pid_;
  int signal_ = 0;
  bool alive_ = false;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_FAULTS_STEPPED_PROCESS_H_
