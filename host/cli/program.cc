// SPDX-License-Identifier: Apache-2.0
#include "host/cli/program.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "host/cli/bounded_write.h"
#include "host/report/atomic_file.h"
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

// Who does not read standard error does not keep a process from ending.
constexpr uint64_t kComplainWithinNs = kNanosecondsPerSecond;

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

Program StartProgram() {
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
          .attachments = Attachments()};
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

std::string Printable(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for (const char letter : text) {
    const auto byte = static_cast<unsigned char>(letter);
    // 0xC2 begins the two bytes of a C1 control character in UTF-8.
    const bool second_of_c1 =
        byte >= 0x80 && byte < 0xa0 && !shown.empty() && shown.back() == '\xc2';
    if (second_of_c1) shown.pop_back();
    shown.push_back(byte < 0x20 || byte == 0x7f || second_of_c1 ? '?' : letter);
  }
  return shown;
}

int Complain(const absl::Status& status) {
  // It may quote a driver, a manifest or a file's name.
  const std::string line =
      absl::StrCat("bulkhead: ", Printable(std::string(status.message())), "\n");
  std::string_view rest = line;
  (void)WriteUntil(STDERR_FILENO, rest, MonotonicAfterNs(kComplainWithinNs));
  return kExitTrouble;
}

int Conclude(const Report& report, const std::string& json) {
  report.PrintTable(std::cout);
  std::cout.flush();
  if (!json.empty()) {
    if (absl::Status status = report.WriteJson(json); !status.ok()) return Complain(status);
  }
  return report.ExitCode();
}

std::string ReportPathTrouble(const std::string& path) {
  namespace fs = std::filesystem;
  if (std::string trap = TrapAt(path); !trap.empty()) return trap;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) return absl::StrCat(path, " is a folder; name a file in it");
  if (!fs::exists(status) && fs::is_symlink(fs::symlink_status(path, error))) {
    return absl::StrCat(path, " is a symbolic link to nothing; name another file");
  }
  fs::path target = fs::canonical(path, error);  // a symbolic link is followed
  if (error) target = path;
  fs::path folder = target.parent_path();
  if (folder.empty()) folder = ".";
  if (!fs::is_directory(folder, error)) {
    return absl::StrCat("there is no folder ", folder.string(), "; make it, or name another file");
  }
  // Else it is replaced by one made beside it.
  const bool in_place = IsWrittenInPlace(path);
  const std::string written = in_place ? path : folder.string();
  if (access(written.c_str(), in_place ? W_OK : W_OK | X_OK) != 0) {
    return absl::StrCat("can't write to ", written, " (", std::strerror(errno),
                        "); name another file");
  }
  return "";
}

}  // namespace bulkhead
