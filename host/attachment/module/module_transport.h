// SPDX-License-Identifier: Apache-2.0
//
// The transport of a host whose shim is the kernel module: one descriptor, made by BH_CONTROL_HOST,
// that maps the regions, waits, wakes and fetches the files of calls (ipc/abi/module.h).
#ifndef BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_TRANSPORT_H_
#define BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_TRANSPORT_H_

#include <cstdint>

#include "ipc/host_transport.h"

namespace bulkhead {

extern const HostTransportKind kModuleTransport;

// How many entries the notification ring of a host descriptor's channel has; 0 when it has none.
uint32_t ModuleRingEntries(int host);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_TRANSPORT_H_
