// SPDX-License-Identifier: Apache-2.0
#include "bench/bench_main.h"

int main(int argc, char** argv) {
  const std::unique_ptr<bulkhead::Benchmark> benchmark = bulkhead::MakeBenchmark();
  return bulkhead::BenchMain(*benchmark, argc, argv);
}
