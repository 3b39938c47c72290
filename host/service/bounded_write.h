// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SERVICE_BOUNDED_WRITE_H_
#define BULKHEAD_HOST_SERVICE_BOUNDED_WRITE_H_

#include <cstdint>
#include <string_view>

namespace bulkhead {

enum class WriteResult { kDone, kNotYet, kBroken };

// Writes to what somebody may have stopped reading. `text` becomes what was not written. kNotYet:
// no room came for it until then (CLOCK_MONOTONIC); kBroken: nobody will read it. On pipes, sockets
// and files it waits no longer than that; a terminal whose output is stopped may hold it.
WriteResult WriteUntil(int fd, std::string_view& text, uint64_t until_ns);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_BOUNDED_WRITE_H_
