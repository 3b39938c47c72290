// SPDX-License-Identifier: Apache-2.0
#include "host/process/end_signals.h"

#include <signal.h>
#include <unistd.h>

#include "ipc/abi/end.h"
#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

bool IsFault(int signal) {
  return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE;
}

// The kernel raises a fault again when its instruction runs again, and then ends the process: it
// forces signals on a first process, too, when their action is the default. Signals that a process
// sends have codes up to 0.
void End(int number, siginfo_t* info, void*) {
  if (IsFault(number) && info->si_code > 0) {
    signal(number, SIG_DFL);
    return;
  }
  _exit(BH_EXIT_OF_SIGNAL + number);
}

}  // namespace

void EndOnSignals() {
  if (getpid() != 1 || kSanitized) return;
  struct sigaction action = {};
  action.sa_sigaction = &End;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int number = 1; number <= SIGTERM; ++number) {
    if (number != SIGKILL) sigaction(number, &action, nullptr);
  }
}

}  // namespace bulkhead
