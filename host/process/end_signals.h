// SPDX-License-Identifier: Apache-2.0
//
// The first process of a process id namespace, which a host is where the machine can do it, is not
// ended by signals with their default action: abort() would go on to a fault, and `kill -TERM`
// would do nothing. Handlers end it instead, with an exit code that stands for the signal
// (bh_signal_of_exit() in ipc/abi/end.h).
#ifndef BULKHEAD_HOST_PROCESS_END_SIGNALS_H_
#define BULKHEAD_HOST_PROCESS_END_SIGNALS_H_

namespace bulkhead {

// Nothing where signals end this process as they end any. A fault of an instruction still ends it
// with the signal itself. For the first thread, before the driver runs; a driver may put handlers
// of its own in their place.
void EndOnSignals();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_END_SIGNALS_H_
