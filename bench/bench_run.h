// SPDX-License-Identifier: Apache-2.0
//
// BenchRun: what a benchmark's main() has read from the command line, for everything that measures.
#ifndef BULKHEAD_BENCH_BENCH_RUN_H_
#define BULKHEAD_BENCH_BENCH_RUN_H_

#include <atomic>
#include <string>

#include "absl/status/status.h"

namespace bulkhead {

struct Program;

struct BenchRun {
  const Program* program = nullptr;  // outlives the run
  std::string command;               // as it was typed: "./dev bench ipc --only floor"
  int count = 1;                     // rounds or units
  bool short_form = false;           // for the test suite
  bool limited = true;               // false: no time is judged
  const std::atomic<bool>* interrupt = nullptr;

  // Ctrl-C or SIGTERM came. Asked before each unit, whose measurement then ends with Interrupted().
  bool interrupted() const { return interrupt->load(); }
};

inline absl::Status Interrupted() { return absl::CancelledError("interrupted"); }

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_BENCH_RUN_H_
