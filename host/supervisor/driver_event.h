// SPDX-License-Identifier: Apache-2.0
//
// DriverEvent: what happened to a driver, its host or its shim, to a guard or to the service, as
// data. The program that shows it makes the text (host/service/event_text.h). Words that come from
// elsewhere (a driver's log line, an exit status, a system's error) travel in `text`.
#ifndef BULKHEAD_HOST_SUPERVISOR_DRIVER_EVENT_H_
#define BULKHEAD_HOST_SUPERVISOR_DRIVER_EVENT_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "ipc/shim_link.h"

namespace bulkhead {

// X(name, level, fields that are set beside driver, generation and pid)
#define BULKHEAD_DRIVER_EVENTS(X)                                                                  \
  X(Serving, kInfo)              /* the shim has begun the generation */                           \
  X(Adopted, kInfo)              /* number: ms that it served without a supervisor */              \
  X(Ended, kWarning)             /* end, text: the exit status and the last line it wrote */       \
  X(SpawnFailed, kError)         /* text */                                                        \
  X(BeginFailed, kError)         /* text: the shim did not begin the generation */                 \
  X(Quarantined, kError)         /* text: why the last host failed */                              \
  X(UserQuarantined, kWarning)   /* number: opener, owner: as in bh_in_hand; kAnyOwner: all */     \
  X(Pardoned, kWarning)          /* number: a user, as in bh_in_hand, that explains it; text */    \
  X(ContentGood, kInfo)          /* content: it has stayed healthy for its probation */            \
  X(ContentStarts, kInfo)        /* content: its host starts beside the one that serves */         \
  X(RolledBack, kError)          /* content: it failed; good_content: is wanted again; text */     \
  X(ContentAcquitted, kWarning)  /* content: it is tried again; good_content fell over the call */ \
  X(HeartbeatMissed, kError)     /* the host does not answer the supervisor */                     \
  X(DeadlineMissed, kError)      /* call_id */                                                     \
  X(ProtocolBroken, kError)      /* number: enum bh_violation */                                   \
  X(BadMessage, kError)          /* text: what was wrong with the control message */               \
  X(CallQuarantined, kWarning)   /* call_id; 0: a file */                                          \
  X(LetThrough, kError)          /* number: calls, since the last such event */                    \
  X(Denied, kWarning)            /* denial; text: its rule */                                      \
  X(WouldDeny, kWarning)         /* the same, and audited: the access went on */                   \
  X(DenialsUnrecorded, kWarning) /* number: without such an event, since the last one of these */  \
  X(SandboxLacks, kWarning)      /* text: the level, and the missing layers, each with why */      \
  X(Log, kInfo)                  /* text: a line of the driver's log; its own level, time_ns */    \
  X(LogDropped, kWarning)        /* number: lines of its log that found no room, at this place */  \
  X(Wrote, kWarning)             /* text: a line that its host wrote to standard error */          \
  X(ExitWatcherMissing, kWarning) /* no thread could be started */                                 \
  X(LinkFailed, kError)           /* text: the shim refused a request */                           \
  X(ShimSilent, kError)           /* number: ms since which a request waits for its answer */      \
  X(ShimAnswers, kInfo)           /* again */                                                      \
  X(ShimReplaced, kWarning)       /* number: incarnation; adopted_calls */                         \
  X(ShimLost, kError)             /* every host starts again */                                    \
  X(Protection, kWarning)         /* number: enum bh_protection; text: which guard, and why */     \
  X(ServiceReady, kInfo)          /* text: what it guards */                                       \
  X(ServiceEnds, kInfo)           /* in order */                                                   \
  X(Reloaded, kInfo)              /* text: what has changed */                                     \
  X(ReloadRefused, kError)        /* text: why nothing was changed */                              \
  X(PageUsed, kInfo)              /* text: what a user that is signed in to the page did there */

enum class DriverEventKind : uint8_t {
#define X(name, level) k##name,
  BULKHEAD_DRIVER_EVENTS(X)
#undef X
      kCount,
};
inline constexpr int kDriverEventKindCount = static_cast<int>(DriverEventKind::kCount);
const char* DriverEventKindName(DriverEventKind kind);  // "Serving"
// Whether its text may quote a driver, the content that one was given, or names of files and
// processes: readers of the operator's socket do not get it.
bool QuotesDrivers(DriverEventKind kind);

struct DriverEvent {
  static constexpr uint32_t kAnyOwner = UINT32_MAX;
  enum class Level : uint8_t { kDebug, kInfo, kWarning, kError };

  // With the kind's own level.
  static DriverEvent Of(DriverEventKind kind);

  DriverEventKind kind = DriverEventKind::kLog;
  Level level = Level::kInfo;
  std::string driver;       // empty: of the shim, a guard or the service
  uint32_t generation = 0;  // that the event is about; 0: of none
  pid_t pid = -1;           // of that generation's host
  bh_end end = BH_END_STOPPED;
  uint64_t content = 0;
  uint64_t good_content = 0;
  uint64_t call_id = 0;
  uint32_t number = 0;
  uint32_t owner = 0;
  uint32_t adopted_calls = 0;
  std::shared_ptr<const bh_denial> denial;  // of Denied and WouldDeny
  uint64_t time_ns = 0;                     // CLOCK_REALTIME, when the driver said it; 0: not known
  std::string text;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_DRIVER_EVENT_H_
