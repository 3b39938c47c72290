// SPDX-License-Identifier: Apache-2.0
//
// The main() of all benchmark programs. A benchmark says what it measures; the options that all of
// them have, the report, Ctrl-C and the exit code are here.
//
//   0    every figure with a limit holds
//   1    one is missed
//   2    wrong usage, or nothing was measured: an error, or a wait that ran into its bound
//   77   this machine can't run it; the line "SKIP: …" says why
//   130  interrupted. The first SIGINT or SIGTERM ends the program behind the present unit, the
//        second one at once; its processes end with it.
#ifndef BULKHEAD_BENCH_BENCH_MAIN_H_
#define BULKHEAD_BENCH_BENCH_MAIN_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace CLI {
class App;
}

namespace bulkhead {

inline constexpr int kExitSkipped = 77;
inline constexpr int kExitInterrupted = 130;

// How often something is measured, the one number of each benchmark's form.
struct BenchCount {
  const char* option;  // "--rounds"
  const char* about;
  int usual;
  int short_form;
  int max;
};

class Benchmark {
 public:
  virtual ~Benchmark() = default;
  virtual std::string name() const = 0;  // as in ./dev bench NAME
  virtual std::string about() const = 0;
  virtual BenchCount count() const = 0;
  // Options beside --short, --unlimited, --json and count()'s.
  virtual void AddOptions(CLI::App&) {}
  // Takes out of the words what a library reads by itself.
  virtual void TakeFlags(int*, char**) {}
  // An error: this machine can't run it.
  virtual absl::Status Probe() { return absl::OkStatus(); }
  // PermissionDenied: it can't, either.
  virtual absl::Status Measure(const BenchRun& run, Report& report) = 0;
};

int BenchMain(Benchmark& benchmark, int argc, char** argv);

// A program of bulkhead_bench_main defines it.
std::unique_ptr<Benchmark> MakeBenchmark();

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_BENCH_MAIN_H_
