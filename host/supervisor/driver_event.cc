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

DriverEvent DriverEvent::Of(DriverEventKind kind) {
  DriverEvent event;
  event.kind = kind;
  event.level = RowOf(kind).level;
  return event;
}

}  // namespace bulkhead
