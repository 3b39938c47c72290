// SPDX-License-Identifier: Apache-2.0
#include "host/service/program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <system_error>

#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

std::atomic<bool> interrupted{false};

std::atomic<bool> ends_in_order{false};
std::atomic<bool> hung_up{false};
std::atomic<uint64_t> interrupted_ns{0};

// `timeout` and a terminal's driver may send one request as two signals.
constexpr uint64_t kSameRequestNs = kNanosecondsPerSecond;

void OnSignal(int number) {
  const uint64_t now_ns = MonotonicNowNs();
  uint64_t first_ns = 0;
  interrupted.store(true);
  if (interrupted_ns.compare_exchange_strong(first_ns, now_ns) || ends_in_order.load()) return;
  if (now_ns - first_ns < kSameRequestNs) return;
  signal(number, SIG_DFL);
  raise(number);  // when this returns
}

void OnHangup(int) { hung_up.store(true); }

// Their default action ends the process for a reason of its own.
constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
// Their default action is none; SIGCHLD ignored would reap children.
constexpr int kHarmless[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH};

uint64_t Chance() {
  uint64_t number = 0;
  (void)!getrandom(&number, sizeof(number), 0);
  return number;
}

}  // namespace

Program StartProgram(AttachmentRows attachments) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  std::error_code error;
  return {.folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string(),
          .now_ns = MonotonicNowNs,
          .chance = Chance,
          .interrupted = &interrupted,
          .attachments = attachments};
}

void IgnoreStraySignals() {
  for (int number = 1; number < NSIG; ++number) {
    const auto is = [number](int other) { return number == other; };
    if (std::any_of(std::begin(kFaults), std::end(kFaults), is)) continue;
    if (std::any_of(std::begin(kHarmless), std::end(kHarmless), is)) continue;
    if (number == SIGINT || number == SIGTERM) continue;
    struct sigaction action = {};
    action.sa_handler = number == SIGQUIT ? OnSignal : number == SIGHUP ? OnHangup : SIG_IGN;
    sigaction(number, &action, nullptr);  // refused for SIGKILL, SIGSTOP and those of the C library
  }
}

bool TakeHangup() { return hung_up.exchange(false); }

void EndInOrder() { ends_in_order.store(true); }

std::string Program::HostPath() const { return folder + "/bulkhead-host"; }
std::string Program::StoreProgram() const { return folder + "/bulkhead-fdstore"; }

void ComeBeforeOthers() {
  constexpr int kNice = -10;
  errno = 0;
  if (getpriority(PRIO_PROCESS, 0) == 0 && errno == 0) {
    (void)setpriority(PRIO_PROCESS, 0, kNice);  // without the right to it, it stays as it is
  }
}

void TakeStandardDescriptors() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(number, F_GETFD) >= 0) continue;
    (void)open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY);  // takes the lowest
  }
}

}  // namespace bulkhead
