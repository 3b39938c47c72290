// SPDX-License-Identifier: Apache-2.0
//
// What every program gets from main(): where its parts are, its clock and its chance, and whether
// it was asked to stop.
#ifndef BULKHEAD_HOST_SERVICE_PROGRAM_H_
#define BULKHEAD_HOST_SERVICE_PROGRAM_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "host/attachment/registry.h"

namespace bulkhead {

struct Program {
  std::string folder;  // of the executable; bulkhead-host and the others stand beside it
  std::function<uint64_t()> now_ns;
  std::function<uint64_t()> chance;
  const std::atomic<bool>* interrupted = nullptr;  // Ctrl-C or SIGTERM came
  AttachmentRows attachments;                      // those that it knows
  std::string HostPath() const;
  std::string StoreProgram() const;  // bulkhead-fdstore
};

// For main(): the process's own folder and the real clock and random numbers. From here on the
// first SIGINT or SIGTERM sets `interrupted`, the second one ends the process, and SIGPIPE is
// ignored.
Program StartProgram(AttachmentRows attachments);
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
// For a service that follows one that was killed, on a machine which may be busy with what it
// guards; the same goes for each host that it replaces. What it starts does not keep that.
void ComeBeforeOthers();
// A program that was started without some of the descriptors 0, 1 and 2: the next files that it
// opens must not get their numbers, and with them what is printed. To read from them, or to write
// to them, still fails.
void TakeStandardDescriptors();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_PROGRAM_H_
