// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/transports.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "host/attachment/module/module_transport.h"
#include "ipc/futex_transport.h"

namespace bulkhead {
namespace {

constexpr const HostTransportKind* kTransports[] = {
    &kFutexTransport,
    &kModuleTransport,
};

}  // namespace

absl::Span<const HostTransportKind* const> HostTransports() { return kTransports; }

absl::StatusOr<const HostTransportKind*> TransportOf(int call_region) {
  std::string known;
  for (const HostTransportKind* kind : kTransports) {
    if (kind->recognizes(call_region)) return kind;
    absl::StrAppend(&known, known.empty() ? "" : ", ", kind->name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the call region's descriptor belongs to no transport of this program (", known,
                   "): install supervisor and host of one release"));
}

}  // namespace bulkhead
