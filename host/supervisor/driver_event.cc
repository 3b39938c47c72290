// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/driver_event.h"

namespace bulkhead {
namespace {

using Level = DriverEvent::Level;

struct Row {
  const char* name;
  Level level;
};

constexpr Row kRows[] = {
#define X(name, level) {#name, Level::level},
    BULKHEAD_DRIVER_EVENTS(X)
#undef X
};

const Row& RowOf(DriverEventKind kind) { return kRows[static_cast<int>(kind)]; }

}  // namespace

const char* DriverEventKindName(DriverEventKind kind) { return RowOf(kind).name; }

bool QuotesDrivers(DriverEventKind kind) {
  switch (kind) {
    case DriverEventKind::kEnded:
    case DriverEventKind::kQuarantined:
    case DriverEventKind::kPardoned:
    case DriverEventKind::kRolledBack:
    case DriverEventKind::kBadMessage:
    case DriverEventKind::kDenied:
    case DriverEventKind::kWouldDeny:
    case DriverEventKind::kLog:
    case DriverEventKind::kWrote:
    case DriverEventKind::kReloadRefused:  // content that does not load
      return true;
    default:
      return false;
  }
}

DriverEvent DriverEvent::Of(DriverEventKind kind) {
  DriverEvent event;
  event.kind = kind;
  event.level = RowOf(kind).level;
  return event;
}

}  // namespace bulkhead
