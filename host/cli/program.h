// SPDX-License-Identifier: Apache-2.0
//
// What commands share: exit codes, complaints and the end of a report.
#ifndef BULKHEAD_HOST_CLI_PROGRAM_H_
#define BULKHEAD_HOST_CLI_PROGRAM_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/report/report.h"
#include "host/service/printable.h"
#include "host/service/program.h"

namespace bulkhead {

// Exit codes of every command but scan, which has those of scanners.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;   // it ran, and the answer is no
inline constexpr int kExitTrouble = 2;  // it could not run

// "bulkhead: …" on standard error; returns kExitTrouble.
int Complain(const absl::Status& status);
// Prints the table, writes the JSON when `json` is not empty; the exit code of both.
int Conclude(const Report& report, const std::string& json);

// For --json: why no report could be written there, or nothing. Asked while the words are parsed: a
// report that fails after hours of work comes too late.
std::string ReportPathTrouble(const std::string& path);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_PROGRAM_H_
