// SPDX-License-Identifier: Apache-2.0
//
// What bench-checks and the two programs that it starts say to each other, on the socket that is
// their standard input.
#ifndef BULKHEAD_BENCH_COUNTED_CALLS_H_
#define BULKHEAD_BENCH_COUNTED_CALLS_H_

#include <cstdint>

namespace bulkhead {

struct CountedCalls {
  uint32_t raw;  // not 0: round trips of the raw line, not calls
  uint32_t round_trips;
};
// The answer is a double: the mean nanoseconds of a round trip; negative when a call failed.

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_COUNTED_CALLS_H_
