// SPDX-License-Identifier: Apache-2.0
//
// The page of bench-ipc: one HTML file with plots, tables, and what made them (command, machine,
// versions of the packages). It needs nothing from elsewhere, no script and no network.
#ifndef BULKHEAD_BENCH_IPC_PAGE_H_
#define BULKHEAD_BENCH_IPC_PAGE_H_

#include <string>

#include "bench/peers/comparison.h"
#include "host/report/report.h"

namespace bulkhead {

std::string IpcPage(const ComparisonResult& peers, const std::string& scaling_plots,
                    const Report& report, const std::string& command);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IPC_PAGE_H_
