// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/operator_protocol.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/control/fields.h"

namespace bulkhead {
namespace {

constexpr size_t kGuardsBytesMax = 28 << 10;  // the rest fits beside them into a message
constexpr size_t kReasonsMax = 3;
constexpr size_t kReasonBytesMax = 300;
constexpr size_t kLacksMax = 16;
constexpr size_t kLackBytesMax = 200;
constexpr size_t kDriversMax = 8;  // as many as one call can visit

using TextList = flatbuffers::Vector<Offset<flatbuffers::String>>;

Offset<TextList> BuildReasons(FlatBufferBuilder& builder, const ProtectionFields& protection) {
  std::vector<Offset<flatbuffers::String>> reasons;
  for (const std::string& reason : protection.reasons) {
    if (reasons.size() == kReasonsMax) break;
    reasons.push_back(Text(builder, reason, kReasonBytesMax));
  }
  return builder.CreateVector(reasons);
}

ProtectionFields ReadProtection(uint8_t level, const TextList* reasons) {
  ProtectionFields protection;
  // What this release does not know is not more than none.
  if (bh_protection_known(level) != 0) protection.level = static_cast<bh_protection>(level);
  if (reasons == nullptr) return protection;
  for (const flatbuffers::String* reason : *reasons) {
    protection.reasons.push_back(ReadText(reason));
  }
  return protection;
}

// What this release does not know is none that it may call enforced.
bh_mode ReadMode(uint8_t mode) { return mode == BH_MODE_ENFORCE ? BH_MODE_ENFORCE : BH_MODE_AUDIT; }

// Of more guards than fit into a message, those with the least protection; the last entry stands
// for the rest, with the least of theirs.
Offset<flatbuffers::Vector<Offset<wire::GuardStatus>>> BuildGuards(
    FlatBufferBuilder& builder, const std::vector<GuardStatusFields>& guards) {
  std::vector<const GuardStatusFields*> order;
  for (const GuardStatusFields& guard : guards) order.push_back(&guard);
  const size_t end = builder.GetSize() + kGuardsBytesMax;
  const bool fit =
      guards.size() * (kStatusTextBytesMax + kReasonsMax * kReasonBytesMax) < kGuardsBytesMax;
  if (!fit) {
    std::stable_sort(order.begin(), order.end(),
                     [](const GuardStatusFields* left, const GuardStatusFields* right) {
                       return left->protection.level < right->protection.level;
                     });
  }
  std::vector<Offset<wire::GuardStatus>> built;
  for (size_t i = 0; i < order.size(); ++i) {
    const bool rest = builder.GetSize() >= end;
    const GuardStatusFields& guard = *order[i];
    const auto folder =
        Text(builder, rest ? absl::StrCat("(", order.size() - i, " more guards)") : guard.folder,
             kStatusTextBytesMax);
    const auto reasons = BuildReasons(builder, guard.protection);
    built.push_back(wire::CreateGuardStatus(builder, folder,
                                            static_cast<uint8_t>(guard.protection.level), reasons,
                                            guard.losses, static_cast<uint8_t>(guard.mode)));
    if (rest) break;
  }
  return builder.CreateVector(built);
}

constexpr size_t kEventsBytesMax = 40 << 10;  // and one event more
constexpr size_t kEventTextBytesMax = 2000;

constexpr size_t kCountersMax = 32;
constexpr size_t kCounterNameBytesMax = 32;

Offset<flatbuffers::Vector<Offset<wire::Counter>>> BuildCounters(
    FlatBufferBuilder& builder, const std::vector<CounterFields>& counters) {
  std::vector<Offset<wire::Counter>> built;
  for (const CounterFields& counter : counters) {
    if (built.size() == kCountersMax) break;
    const auto name = Text(builder, counter.name, kCounterNameBytesMax);
    built.push_back(wire::CreateCounter(builder, name, counter.value));
  }
  return builder.CreateVector(built);
}

}  // namespace

ControlBuffer MakeGetStatus() {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateGetStatus(builder));
}

ControlBuffer MakeStatus(const StatusFields& fields) {
  FlatBufferBuilder builder;
  std::vector<Offset<wire::DriverStatus>> drivers;
  for (const DriverStatusFields& driver : fields.drivers) {
    if (drivers.size() == kDriversMax) break;
    const auto name = Text(builder, driver.name, kStatusTextBytesMax);
    const auto version = OptionalText(builder, driver.version, kStatusTextBytesMax);
    const auto state = Text(builder, driver.state, kStatusTextBytesMax);
    const auto content = OptionalText(builder, driver.content_path, kStatusTextBytesMax);
    const auto last_end = OptionalText(builder, driver.last_end, kStatusTextBytesMax);
    const auto statistics = BuildStatistics(builder, driver.statistics);
    const auto shim_error = OptionalText(builder, driver.shim_error, kStatusTextBytesMax);
    const auto reasons = BuildReasons(builder, driver.protection);
    std::vector<Offset<flatbuffers::String>> lacks;
    for (const std::string& lack : driver.sandbox_lacks) {
      if (lacks.size() == kLacksMax) break;
      lacks.push_back(Text(builder, lack, kLackBytesMax));
    }
    const auto sandbox_lacks = builder.CreateVector(lacks);
    drivers.push_back(wire::CreateDriverStatus(
        builder, name, version, state, driver.generation, driver.pid, driver.altitude,
        driver.content_version, content, driver.last_known_good, driver.restarts,
        driver.start_failures, last_end, driver.next_start_ms, statistics, driver.statistics_age_ms,
        driver.shim_silent_ms, shim_error, static_cast<uint8_t>(driver.protection.level), reasons,
        driver.content_loading, driver.sandbox_layers, sandbox_lacks, driver.sandbox_us,
        static_cast<uint8_t>(driver.mode)));
  }
  const auto driver_list = builder.CreateVector(drivers);
  const auto guard_list = BuildGuards(builder, fields.guards);
  const auto counter_list = BuildCounters(builder, fields.counters);
  const auto attachment = OptionalText(builder, fields.attachment, kStatusTextBytesMax);
  const auto config = OptionalText(builder, fields.config_path, kStatusTextBytesMax);
  return Finish(builder,
                wire::CreateStatus(builder, fields.pid, attachment, guard_list, fields.uptime_ms,
                                   fields.shim_pid, fields.shim_incarnation, driver_list,
                                   counter_list, config));
}

StatusFields ReadStatus(const wire::Status& status) {
  StatusFields fields;
  fields.pid = status.pid();
  fields.attachment = ReadText(status.attachment());
  if (status.guards() != nullptr) {
    for (const wire::GuardStatus* guard : *status.guards()) {
      fields.guards.push_back({ReadText(guard->folder()),
                               ReadProtection(guard->protection(), guard->reasons()),
                               guard->losses(), ReadMode(guard->mode())});
    }
  }
  fields.uptime_ms = status.uptime_ms();
  fields.shim_pid = status.shim_pid();
  fields.shim_incarnation = status.shim_incarnation();
  if (status.counters() != nullptr) {
    for (const wire::Counter* counter : *status.counters()) {
      fields.counters.push_back({ReadText(counter->name()), counter->value()});
    }
  }
  fields.config_path = ReadText(status.config());
  if (status.drivers() == nullptr) return fields;
  for (const wire::DriverStatus* sent : *status.drivers()) {
    DriverStatusFields driver;
    driver.name = ReadText(sent->name());
    driver.version = ReadText(sent->version());
    driver.state = ReadText(sent->state());
    driver.generation = sent->generation();
    driver.pid = sent->pid();
    driver.altitude = sent->altitude();
    driver.content_version = sent->content_version();
    driver.content_path = ReadText(sent->content_path());
    driver.last_known_good = sent->last_known_good();
    driver.restarts = sent->restarts();
    driver.start_failures = sent->start_failures();
    driver.last_end = ReadText(sent->last_end());
    driver.next_start_ms = sent->next_start_ms();
    if (sent->statistics() != nullptr) driver.statistics = ReadStatistics(*sent->statistics());
    driver.statistics_age_ms = sent->statistics_age_ms();
    driver.shim_silent_ms = sent->shim_silent_ms();
    driver.shim_error = ReadText(sent->shim_error());
    driver.protection = ReadProtection(sent->protection(), sent->reasons());
    driver.content_loading = sent->content_loading();
    driver.sandbox_layers = sent->sandbox_layers() & BH_LAYERS_ALL;
    driver.sandbox_us = sent->sandbox_us();
    driver.mode = ReadMode(sent->mode());
    if (sent->sandbox_lacks() != nullptr) {
      for (const flatbuffers::String* lack : *sent->sandbox_lacks()) {
        driver.sandbox_lacks.push_back(ReadText(lack));
      }
    }
    fields.drivers.push_back(std::move(driver));
  }
  return fields;
}

ControlBuffer MakeSetContent(std::string_view driver, std::string_view path) {
  FlatBufferBuilder builder;
  const auto name = Text(builder, driver);
  const auto folder = Text(builder, path);
  return Finish(builder, wire::CreateSetContent(builder, name, folder));
}

ControlBuffer MakeRelease(std::string_view driver) {
  FlatBufferBuilder builder;
  const auto name = Text(builder, driver);
  return Finish(builder, wire::CreateRelease(builder, name));
}

ControlBuffer MakeShutdown(HostsAtStop hosts) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateShutdown(builder, static_cast<uint8_t>(hosts)));
}

HostsAtStop ReadShutdown(const wire::Shutdown& shutdown) {
  return shutdown.hosts() <= static_cast<uint8_t>(HostsAtStop::kStay)
             ? static_cast<HostsAtStop>(shutdown.hosts())
             : HostsAtStop::kEnd;
}

ControlBuffer MakeReload() {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateReload(builder));
}

ControlBuffer MakeSignIn() {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateSignIn(builder));
}

ControlBuffer MakeSignInLink(std::string_view link) {
  FlatBufferBuilder builder;
  const auto text = Text(builder, link, kStatusTextBytesMax);
  return Finish(builder, wire::CreateSignInLink(builder, text));
}

ControlBuffer MakeGetEvents(uint64_t after) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateGetEvents(builder, after));
}

ControlBuffer MakeEvents(const EventsFields& fields) {
  FlatBufferBuilder builder;
  std::vector<Offset<wire::HappenedEvent>> built;
  for (const EventFields& event : fields.events) {
    if (builder.GetSize() >= kEventsBytesMax) break;
    const auto kind = Text(builder, event.kind, kStatusTextBytesMax);
    const auto driver = OptionalText(builder, event.driver, kStatusTextBytesMax);
    const auto text = OptionalText(builder, event.text, kEventTextBytesMax);
    const auto line = OptionalText(builder, event.line, kEventTextBytesMax);
    const auto rule = OptionalText(builder, event.rule, kStatusTextBytesMax);
    const auto path = OptionalText(builder, event.path, kStatusTextBytesMax);
    const auto comm = OptionalText(builder, event.comm, kStatusTextBytesMax);
    const auto exe = OptionalText(builder, event.exe, kStatusTextBytesMax);
    built.push_back(wire::CreateHappenedEvent(
        builder, event.sequence, event.at_us, kind, event.level, driver, event.generation,
        event.pid, event.end, event.content, event.good_content, event.call_id, event.number,
        event.owner, event.adopted_calls, text, line, event.callback, event.denied_by, event.reason,
        event.audited, event.error, event.device, event.inode, event.caller_pid, event.caller_uid,
        rule, path, comm, exe));
  }
  const auto list = builder.CreateVector(built);
  return Finish(builder, wire::CreateEvents(builder, list, fields.newest, fields.lost));
}

EventsFields ReadEvents(const wire::Events& events) {
  EventsFields fields = {.events = {}, .newest = events.newest(), .lost = events.lost()};
  if (events.events() == nullptr) return fields;
  for (const wire::HappenedEvent* sent : *events.events()) {
    fields.events.push_back({.sequence = sent->sequence(),
                             .at_us = sent->at_us(),
                             .kind = ReadText(sent->kind()),
                             .level = sent->level(),
                             .driver = ReadText(sent->driver()),
                             .generation = sent->generation(),
                             .pid = sent->pid(),
                             .end = sent->end(),
                             .content = sent->content(),
                             .good_content = sent->good_content(),
                             .call_id = sent->call_id(),
                             .number = sent->number(),
                             .owner = sent->owner(),
                             .adopted_calls = sent->adopted_calls(),
                             .text = ReadText(sent->text()),
                             .line = ReadText(sent->line()),
                             .callback = sent->callback(),
                             .denied_by = sent->denied_by(),
                             .reason = sent->reason(),
                             .audited = sent->audited(),
                             .error = sent->error(),
                             .device = sent->device(),
                             .inode = sent->inode(),
                             .caller_pid = sent->caller_pid(),
                             .caller_uid = sent->caller_uid(),
                             .rule = ReadText(sent->rule()),
                             .path = ReadText(sent->path()),
                             .comm = ReadText(sent->comm()),
                             .exe = ReadText(sent->exe())});
  }
  return fields;
}

ControlBuffer MakeDone(std::string_view error, uint64_t content_version) {
  FlatBufferBuilder builder;
  const auto text = OptionalText(builder, error);
  return Finish(builder, wire::CreateDone(builder, text, content_version));
}

ControlBuffer MakeRefused(std::string_view error) {
  FlatBufferBuilder builder;
  const auto text = OptionalText(builder, error);
  return Finish(builder, wire::CreateDone(builder, text, /*content_version=*/0, /*refused=*/true));
}

}  // namespace bulkhead
