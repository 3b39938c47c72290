// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_text.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "host/service/printable.h"
#include "ipc/abi/names.h"
#include "ipc/check.h"

namespace bulkhead {
namespace {

// As in bh_in_hand.
std::string UserText(uint32_t user) {
  if (user == 0) return "an unknown user";
  if (user == BH_USER_BEYOND) return absl::StrCat("users from ", user - 1, " on");
  return absl::StrCat("user ", user - 1);
}

const char* LevelName(DriverEvent::Level level) {
  switch (level) {
    case DriverEvent::Level::kDebug:
      return "debug";
    case DriverEvent::Level::kInfo:
      return "info";
    case DriverEvent::Level::kWarning:
      return "warning";
    case DriverEvent::Level::kError:
      return "error";
  }
  return "";
}

// " (2026-11-30T17:02:14.123Z, warning)". The driver's own clock reading, not when the line came.
std::string SaidWhen(const DriverEvent& event) {
  if (event.time_ns == 0) return "";
  const absl::Time time =
      absl::FromUnixNanos(static_cast<int64_t>(std::min<uint64_t>(event.time_ns, INT64_MAX)));
  return absl::StrCat(" (", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()),
                      ", ", LevelName(event.level), ")");
}

// "file_exec of /srv/a (device 2049, inode 12) by cat (pid 7, user 1000, /usr/bin/cat): the driver:
// EICAR"
std::string TextOfDenial(const bh_denial& denial) {
  const std::string path = DenialText(denial.path);
  const std::string comm = DenialText(denial.comm);
  const std::string exe = DenialText(denial.exe);
  const std::string why = DenialText(denial.why);
  std::string text =
      absl::StrCat(bh_callback_name(denial.callback), " of ", path.empty() ? "a file" : path);
  if (denial.inode != 0) {
    absl::StrAppend(&text, " (device ", denial.device, ", inode ", denial.inode, ")");
  }
  if (denial.pid != 0) {
    absl::StrAppend(&text, " by ", comm.empty() ? "a process" : comm, " (pid ", denial.pid);
    if (denial.uid != UINT32_MAX) absl::StrAppend(&text, ", user ", denial.uid);
    if (!exe.empty()) absl::StrAppend(&text, ", ", exe);
    absl::StrAppend(&text, ")");
  }
  absl::StrAppend(&text, "; by ", bh_denied_by_name(denial.by));
  if (denial.by == BH_DENIED_BY_POLICY) {
    absl::StrAppend(&text, ": ", bh_reason_name(denial.reason));
  }
  if (!why.empty()) absl::StrAppend(&text, ": ", why);
  return text;
}

std::string Text(const DriverEvent& event) {
  using Kind = DriverEventKind;
  switch (event.kind) {
    case Kind::kServing:
      return "serves";
    case Kind::kAdopted:
      return absl::StrCat("goes on with it; it served ", event.number, " ms without a service");
    case Kind::kEnded:
      return absl::StrCat(bh_end_name(event.end), ": ", event.text);
    case Kind::kSpawnFailed:
      return absl::StrCat("can't start a host: ", event.text);
    case Kind::kBeginFailed:
      return absl::StrCat("the shim did not let it serve: ", event.text);
    case Kind::kQuarantined:
      return absl::StrCat("quarantined: it failed too often; last: ", event.text);
    case Kind::kUserQuarantined:
      return absl::StrCat(
          "what ", UserText(event.number), " opens ",
          event.owner == DriverEvent::kAnyOwner
              ? std::string("is")
              : absl::StrCat("of the files of ", UserText(event.owner), " is"),
          " quarantined for a minute: too many of these files ended its hosts; new content or "
          "'bulkhead release' lifts it");
    case Kind::kPardoned:
      return absl::StrCat(
          "used up its restart budget, each time over calls of ", UserText(event.number),
          " or one more: it is started again, at most once a second; last: ", event.text);
    case Kind::kContentGood:
      return absl::StrCat("content ", event.content, " is known to be good");
    case Kind::kContentStarts:
      return absl::StrCat("starts with content ", event.content, " and serves when it can");
    case Kind::kRolledBack:
      return absl::StrCat("content ", event.content, " failed (", event.text, "): back to content ",
                          event.good_content);
    case Kind::kContentAcquitted:
      return absl::StrCat("content ", event.content, " is tried again: content ",
                          event.good_content, " fell over the same call");
    case Kind::kHeartbeatMissed:
      return "does not answer its supervisor";
    case Kind::kDeadlineMissed:
      return absl::StrCat("hangs: it has not answered for as long as a call may take (call ",
                          event.call_id, ")");
    case Kind::kProtocolBroken:
      return absl::StrCat("broke the protocol (violation '",
                          bh_violation_name(static_cast<uint32_t>(event.number)), "')");
    case Kind::kBadMessage:
      return absl::StrCat("sent a control message that is not valid: ", event.text);
    case Kind::kCallQuarantined:
      if (event.call_id == 0) {
        return "a file is quarantined: its hosts ended while they had nothing else in hand; new "
               "content or 'bulkhead release' lifts it";
      }
      return absl::StrCat("call ", event.call_id, " is quarantined: it ended too many hosts");
    case Kind::kLetThrough:
      return absl::StrCat(event.number, event.number == 1 ? " call was" : " calls were",
                          " let through without its decision: the rules --on-... say so, and "
                          "'bulkhead status' has the counts of each reason");
    case Kind::kDenied:
    case Kind::kWouldDeny: {
      const bh_denial none = {};
      const bh_denial& denial = event.denial != nullptr ? *event.denial : none;
      return absl::StrCat(event.kind == Kind::kDenied ? "denied " : "audit: would have denied ",
                          TextOfDenial(denial));
    }
    case Kind::kDenialsUnrecorded:
      return absl::StrCat(event.number, event.number == 1 ? " denial has" : " denials have",
                          " no event: there were too many at a time; 'bulkhead status' has all "
                          "counts");
    case Kind::kSandboxLacks:
      return absl::StrCat("its sandbox is not full: ", event.text);
    case Kind::kLog:
      return absl::StrCat("says", SaidWhen(event), ": ", event.text);
    case Kind::kLogDropped:
      return absl::StrCat(event.number, event.number == 1 ? " line" : " lines",
                          " of its log were dropped here: it logs faster than they are taken");
    case Kind::kWrote:
      return absl::StrCat("wrote to standard error: ", event.text);
    case Kind::kExitWatcherMissing:
      return "no thread is left to watch its exit: a death will be known some ms later";
    case Kind::kLinkFailed:
      return absl::StrCat("the shim refused a request: ", event.text);
    case Kind::kShimSilent:
      return absl::StrCat("the shim does not answer since ", event.number, " ms");
    case Kind::kShimAnswers:
      return "the shim answers again";
    case Kind::kShimReplaced:
      return absl::StrCat("shim incarnation ", event.number, " took over ", event.adopted_calls,
                          " calls");
    case Kind::kShimLost:
      return "the shim is gone; its hosts start again";
    case Kind::kProtection:
    case Kind::kReloaded:
      return event.text;
    case Kind::kServiceReady:
      return absl::StrCat("ready: ", event.text);
    case Kind::kServiceEnds:
      if (!event.text.empty()) return absl::StrCat("ends: ", event.text);
      return "ends: opens pass unasked from here on";
    case Kind::kPageUsed:
      return absl::StrCat("the page: ", event.text);
    case Kind::kReloadRefused:
      return absl::StrCat("reload: nothing was changed: ", event.text);
    case Kind::kCount:
      break;
  }
  BULKHEAD_CHECK(false);
  return "";
}

}  // namespace

std::string DenialText(const char* field, size_t bytes) {
  return std::string(field, strnlen(field, bytes));
}

std::string EventText(const DriverEvent& event) { return Printable(Text(event)); }

std::string EventLine(const DriverEvent& event) {
  std::string line = event.driver.empty() ? "bulkhead" : event.driver;
  if (event.generation != 0) absl::StrAppend(&line, " g", event.generation);
  if (event.pid > 0) absl::StrAppend(&line, " (pid ", event.pid, ")");
  return absl::StrCat(line, ": ", EventText(event));
}

}  // namespace bulkhead
