// SPDX-License-Identifier: Apache-2.0
#include "host/cli/event_follower.h"

#include <algorithm>
#include <filesystem>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "host/service/event_fields.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kAnswersWithinNs = 3 * kNanosecondsPerSecond;

EventFields LostEvents(uint64_t lost) {
  return {.at_us = WallClockUs(),
          .kind = "EventsLost",
          .level = wire::LogLevel::Warning,
          .number = static_cast<uint32_t>(std::min<uint64_t>(lost, UINT32_MAX)),
          .line = absl::StrCat("bulkhead: ", lost, " events are no longer known")};
}

}  // namespace

EventFollower::Seen EventFollower::Look(const OnEvent& on_event) {
  Seen seen;
  for (const std::string& path : SocketsToAsk(pid_)) {
    const std::string instance = std::filesystem::path(path).stem().string();
    const absl::Status status = Read(path, instance, on_event);
    if (absl::IsNotFound(status)) {
      newest_.erase(path);  // a later process with this number is another
      continue;
    }
    ++seen.answered;
    if (status.ok() || std::exchange(told_[path], true)) continue;
    seen.silent.emplace_back(instance, status.message());
  }
  return seen;
}

absl::Status EventFollower::Read(const std::string& path, const std::string& instance,
                                 const OnEvent& on_event) {
  for (;;) {
    uint64_t& newest = newest_[path];
    absl::StatusOr<ControlMessage> answer =
        AskInstance(path, MakeGetEvents(newest), kAnswersWithinNs);
    if (!answer.ok()) return answer.status();
    const auto* message = answer->as<wire::Events>();
    if (const auto* done = answer->as<wire::Done>(); done != nullptr && done->refused()) {
      return absl::PermissionDeniedError(done->error() != nullptr ? done->error()->str() : "");
    }
    if (message == nullptr) {
      return absl::UnimplementedError("it keeps no events: is it of this release?");
    }
    const EventsFields some = ReadEvents(*message);
    told_[path] = false;
    if (some.lost != 0 && !on_event(instance, LostEvents(some.lost))) return absl::OkStatus();
    for (const EventFields& event : some.events) {
      newest = event.sequence;
      if (!on_event(instance, event)) return absl::OkStatus();
    }
    if (some.events.empty() || newest >= some.newest) return absl::OkStatus();
  }
}

}  // namespace bulkhead
