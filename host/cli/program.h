// SPDX-License-Identifier: Apache-2.0
//
// What every command gets from main(): where the program's parts are, its clock and its chance, and
// whether it was asked to stop.
#ifndef BULKHEAD_HOST_CLI_PROGRAM_H_
#define BULKHEAD_HOST_CLI_PROGRAM_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/registry.h"
#include "host/report/report.h"

namespace bulkhead {

// Exit codes of every command but scan, which has those of scanners.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;   // it ran, and the answer is no
inline constexpr int kExitTrouble = 2;  // it could not run

struct Program {
  std::string folder;  // of the executable; bulkhead-host and the others stand beside it
  std::function<uint64_t()> now_ns;
  std::function<uint64_t()> chance;
  const std::atomic<bool>* interrupted = nullptr;  // Ctrl-C or SIGTERM came
  AttachmentRows attachments;
  std::string HostPath() const;
};

// For main(): the process's own folder and the real clock and random numbers. From here on the
// first SIGINT or SIGTERM sets `interrupted`, the second one ends the process, and SIGPIPE is
// ignored.
Program StartProgram();
// For a service, whose end is the end of a protection. SIGINT, SIGTERM and SIGQUIT are requests to
// end; each other signal that would end or stop the process is ignored (a closed terminal, job
// control, timers, limits), but those for a fault of the process itself. Programs that it executes
// inherit what is ignored.
void IgnoreStraySignals();
// Whether SIGHUP has come since the last call; after IgnoreStraySignals().
bool TakeHangup();
// From here on the second request to end is ignored, too: for a command that has something to put
// away, and ends within a bound.
void EndInOrder();

// "bulkhead: …" on standard error; returns kExitTrouble.
int Complain(const absl::Status& status);
// Prints the table, writes the JSON when `json` is not empty; the exit code of both.
int Conclude(const Report& report, const std::string& json);

// For --json: why no report could be written there, or nothing. Asked while the words are parsed: a
// report that fails after hours of work comes too late.
std::string ReportPathTrouble(const std::string& path);

// For a terminal: what a file's name or a driver's line holds of control characters becomes '?'.
std::string Printable(std::string_view text);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_PROGRAM_H_
