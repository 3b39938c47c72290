// SPDX-License-Identifier: Apache-2.0
#include "ipc/control.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/check.h"
#include "ipc/statistics.h"

namespace bulkhead {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

constexpr size_t kGuardedMax = 16;
constexpr size_t kDriversMax = 8;  // as many as one call can visit
constexpr size_t kStatusTextBytesMax = 1024;
constexpr size_t kRuleCount = static_cast<size_t>(BH_CLASS_COUNT) * BH_REASON_COUNT;
// A message has a root, one message in it and at most lists of tables in that.
constexpr flatbuffers::uoffset_t kDepthMax = 8;
constexpr flatbuffers::uoffset_t kTablesMax = 64;

Offset<flatbuffers::String> Text(FlatBufferBuilder& builder, std::string_view text,
                                 size_t bytes_max = kControlTextBytesMax) {
  return builder.CreateString(text.data(), std::min(text.size(), bytes_max));
}

// An empty text is left out of the message.
Offset<flatbuffers::String> OptionalText(FlatBufferBuilder& builder, std::string_view text,
                                         size_t bytes_max = kControlTextBytesMax) {
  return text.empty() ? Offset<flatbuffers::String>() : Text(builder, text, bytes_max);
}

std::string ReadText(const flatbuffers::String* text) {
  return text == nullptr ? std::string() : std::string(text->c_str(), text->size());
}

template <typename T>
ControlBuffer Finish(FlatBufferBuilder& builder, Offset<T> message) {
  wire::FinishEnvelopeBuffer(
      builder, wire::CreateEnvelope(builder, kControlVersion, wire::MessageTraits<T>::enum_value,
                                    message.Union()));
  BULKHEAD_CHECK(builder.GetSize() <= kControlBytesMax);
  return builder.Release();
}

Offset<flatbuffers::Vector<uint64_t>> BuildStatistics(FlatBufferBuilder& builder,
                                                      const bh_statistics& statistics) {
  const absl::Span<const uint64_t> words = WordsOf(statistics);
  return builder.CreateVector(words.data(), words.size());
}

// As many as both have.
void ReadNumbers(const flatbuffers::Vector<uint64_t>& sent, absl::Span<uint64_t> numbers) {
  const size_t count = std::min<size_t>(sent.size(), numbers.size());
  // The verifier of FlatBuffers 2.0 does not look at the alignment of a vector's elements.
  for (size_t i = 0; i < count; ++i) {
    uint64_t element;
    std::memcpy(&element, sent.Data() + i * sizeof(element), sizeof(element));
    numbers[i] = flatbuffers::EndianScalar(element);
  }
}

Offset<flatbuffers::Vector<uint64_t>> BuildSet(FlatBufferBuilder& builder,
                                               const bh_callback_set& set) {
  return builder.CreateVector(&set.bits[0], size_t{BH_CLASS_COUNT});
}

// The first error is kept.
void ReadSet(const char* message, const flatbuffers::Vector<uint64_t>& sent, bh_callback_set* set,
             absl::Status* status) {
  if (sent.size() != BH_CLASS_COUNT) {
    status->Update(absl::InvalidArgumentError(absl::StrCat(message, " has a set of ", sent.size(),
                                                           " classes where ", int{BH_CLASS_COUNT},
                                                           " belong")));
    return;
  }
  ReadNumbers(sent, absl::MakeSpan(set->bits));
}

}  // namespace

absl::Status VerifyEnvelope(absl::Span<const uint8_t> bytes) {
  if (bytes.size() > kControlBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of ", bytes.size(), " bytes: more than ", kControlBytesMax));
  }
  // The identifier stands behind the root offset; a shorter buffer has none.
  if (bytes.size() < sizeof(flatbuffers::uoffset_t) + flatbuffers::kFileIdentifierLength) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of ", bytes.size(), " bytes: too short to be one"));
  }
  if (!wire::EnvelopeBufferHasIdentifier(bytes.data())) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a control message: its identifier is not ", wire::EnvelopeIdentifier()));
  }
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kDepthMax, kTablesMax);
  if (!wire::VerifyEnvelopeBuffer(verifier)) {
    return absl::InvalidArgumentError("control message is truncated or corrupt");
  }
  const wire::Envelope* envelope = wire::GetEnvelope(bytes.data());
  if (envelope->version() != kControlVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of version ", envelope->version(), ", this release speaks ",
                     kControlVersion, ": install all parts of one release"));
  }
  // The verifier lets types pass that it does not know.
  const auto type = envelope->message_type();
  if (type == wire::Message::NONE || type > wire::Message::MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of unknown type ", static_cast<int>(type)));
  }
  return absl::OkStatus();
}

ControlBuffer MakeHello(uint32_t abi_version, uint32_t driver_abi, uint32_t pid) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateHello(builder, abi_version, driver_abi, pid));
}

ControlBuffer MakeAttach(const AttachFields& fields) {
  FlatBufferBuilder builder;
  const wire::Geometry geometry(fields.geometry.lanes, fields.geometry.slots_per_lane,
                                fields.geometry.call_chunks, fields.geometry.reply_chunks);
  const auto name = Text(builder, fields.driver_name);
  const auto path = Text(builder, fields.driver_path);
  const auto content = OptionalText(builder, fields.content_path);
  const auto options = OptionalText(builder, fields.options);
  const auto callbacks = BuildSet(builder, fields.callbacks);
  const auto notifications = BuildSet(builder, fields.notifications);
  return Finish(builder, wire::CreateAttach(
                             builder, fields.generation, static_cast<uint8_t>(fields.reason),
                             &geometry, fields.workers, name, path, content, fields.content_version,
                             options, callbacks, fields.checkpoint_bytes, fields.spin_ns,
                             fields.sandbox, notifications, fields.pending_calls_max));
}

absl::StatusOr<AttachFields> ReadAttach(const wire::Attach& attach) {
  AttachFields fields;
  if (attach.geometry() == nullptr) {
    return absl::InvalidArgumentError("Attach has no geometry");
  }
  fields.geometry = {attach.geometry()->lanes(), attach.geometry()->slots_per_lane(),
                     attach.geometry()->call_chunks(), attach.geometry()->reply_chunks()};
  if (!bh_geometry_valid(&fields.geometry)) {
    return absl::InvalidArgumentError("Attach has an impossible geometry");
  }
  if (attach.generation() == 0) return absl::InvalidArgumentError("Attach has generation 0");
  if (attach.workers() < 1 || attach.workers() > BH_WORKERS_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("Attach asks for ", attach.workers(), " workers: 1 to ", BH_WORKERS_MAX));
  }
  if (bh_start_known(attach.reason()) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("Attach has the unknown reason ", static_cast<int>(attach.reason())));
  }
  fields.generation = attach.generation();
  fields.reason = static_cast<bh_start>(attach.reason());
  fields.workers = attach.workers();
  fields.driver_name = ReadText(attach.driver_name());
  fields.driver_path = ReadText(attach.driver_path());
  fields.content_path = ReadText(attach.content_path());
  fields.content_version = attach.content_version();
  fields.options = ReadText(attach.options());
  absl::Status sets;
  ReadSet("Attach", *attach.callbacks(), &fields.callbacks, &sets);
  ReadSet("Attach", *attach.notifications(), &fields.notifications, &sets);
  if (!sets.ok()) return sets;
  fields.checkpoint_bytes = attach.checkpoint_bytes();
  fields.spin_ns = attach.spin_ns();
  fields.sandbox = attach.sandbox();
  fields.pending_calls_max = attach.pending_calls_max();
  return fields;
}

ControlBuffer MakeStarted(const StartedFields& fields) {
  FlatBufferBuilder builder;
  const auto callbacks = BuildSet(builder, fields.callbacks);
  const auto descriptors = BuildSet(builder, fields.descriptors);
  const auto notifications = BuildSet(builder, fields.notifications);
  const auto version = OptionalText(builder, fields.driver_version, kStatusTextBytesMax);
  return Finish(builder, wire::CreateStarted(builder, fields.generation, callbacks, descriptors,
                                             notifications, version));
}

absl::StatusOr<StartedFields> ReadStarted(const wire::Started& started) {
  StartedFields fields;
  absl::Status sets;
  ReadSet("Started", *started.callbacks(), &fields.callbacks, &sets);
  ReadSet("Started", *started.descriptors(), &fields.descriptors, &sets);
  ReadSet("Started", *started.notifications(), &fields.notifications, &sets);
  if (!sets.ok()) return sets;
  fields.generation = started.generation();
  fields.driver_version = ReadText(started.driver_version());
  return fields;
}

ControlBuffer MakeStartFailed(uint32_t generation, std::string_view reason) {
  FlatBufferBuilder builder;
  const auto text = Text(builder, reason);
  return Finish(builder, wire::CreateStartFailed(builder, generation, text));
}

ControlBuffer MakePing(uint64_t number) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreatePing(builder, number));
}

ControlBuffer MakePong(uint64_t number, uint64_t calls, uint64_t log_dropped) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreatePong(builder, number, calls, log_dropped));
}

ControlBuffer MakeDrain(uint32_t generation) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateDrain(builder, generation));
}

ControlBuffer MakeLogLine(wire::LogLevel level, std::string_view text) {
  FlatBufferBuilder builder;
  const auto line = Text(builder, text);
  return Finish(builder, wire::CreateLogLine(builder, level, line));
}

ControlBuffer MakeShimHello(uint32_t pid, uint32_t incarnation, uint32_t adopted) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateShimHello(builder, pid, incarnation, adopted));
}

ControlBuffer MakeBeginGeneration(uint64_t request, ChannelId channel,
                                  const bh_generation_spec& spec) {
  FlatBufferBuilder builder;
  const auto callbacks = BuildSet(builder, spec.callbacks);
  const auto descriptors = BuildSet(builder, spec.descriptor_callbacks);
  const auto notifications = BuildSet(builder, spec.notifications);
  return Finish(builder,
                wire::CreateBeginGeneration(builder, request, channel, spec.generation, callbacks,
                                            descriptors, notifications, spec.content_version));
}

absl::StatusOr<bh_generation_spec> ReadBeginGeneration(const wire::BeginGeneration& message) {
  bh_generation_spec spec = {};
  absl::Status sets;
  ReadSet("BeginGeneration", *message.callbacks(), &spec.callbacks, &sets);
  ReadSet("BeginGeneration", *message.descriptors(), &spec.descriptor_callbacks, &sets);
  ReadSet("BeginGeneration", *message.notifications(), &spec.notifications, &sets);
  if (!sets.ok()) return sets;
  spec.generation = message.generation();
  spec.content_version = message.content_version();
  return spec;
}

ControlBuffer MakeEndGeneration(uint64_t request, ChannelId channel, uint32_t generation,
                                bh_end cause) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateEndGeneration(builder, request, channel, generation,
                                                   static_cast<uint8_t>(cause)));
}

ControlBuffer MakeSetState(uint64_t request, ChannelId channel, bool quarantined, bool draining) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateSetState(builder, request, channel, quarantined, draining));
}

ControlBuffer MakeSetPolicy(uint64_t request, ChannelId channel, const bh_policy& policy) {
  FlatBufferBuilder builder;
  std::vector<wire::Rule> rules;
  rules.reserve(kRuleCount);
  for (const auto& by_reason : policy.rule) {
    for (const bh_rule& rule : by_reason) {
      rules.emplace_back(rule.action, rule.fallback);
    }
  }
  const auto list = builder.CreateVectorOfStructs(rules);
  return Finish(builder, wire::CreateSetPolicy(builder, request, channel, list));
}

absl::StatusOr<bh_policy> ReadPolicy(const wire::SetPolicy& message) {
  if (message.rules()->size() != kRuleCount) {
    return absl::InvalidArgumentError(absl::StrCat("SetPolicy has ", message.rules()->size(),
                                                   " rules where ", kRuleCount, " belong"));
  }
  bh_policy policy = {};
  flatbuffers::uoffset_t index = 0;
  for (auto& by_reason : policy.rule) {
    for (bh_rule& rule : by_reason) {
      const wire::Rule* sent = message.rules()->Get(index++);
      rule = {sent->action(), sent->fallback()};
      if (bh_rule_valid(&rule) == 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("SetPolicy: rule ", index - 1, " has an unknown action or fallback"));
      }
    }
  }
  return policy;
}

ControlBuffer MakeGetStatistics(uint64_t request, ChannelId channel) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateGetStatistics(builder, request, channel));
}

ControlBuffer MakeResult(uint64_t request, std::string_view error,
                         const bh_statistics* statistics) {
  FlatBufferBuilder builder;
  const auto text = OptionalText(builder, error);
  const auto numbers = statistics == nullptr ? Offset<flatbuffers::Vector<uint64_t>>()
                                             : BuildStatistics(builder, *statistics);
  return Finish(builder, wire::CreateResult(builder, request, text, numbers));
}

bh_statistics ReadStatistics(const flatbuffers::Vector<uint64_t>& words) {
  bh_statistics statistics = {};
  ReadNumbers(words, WordsOf(statistics));
  return statistics;
}

ControlBuffer MakeShimEvent(ChannelId channel, uint32_t event, uint32_t detail, uint32_t generation,
                            uint64_t call_id) {
  FlatBufferBuilder builder;
  return Finish(builder,
                wire::CreateShimEvent(builder, channel, event, detail, generation, call_id));
}

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
    drivers.push_back(wire::CreateDriverStatus(
        builder, name, version, state, driver.generation, driver.pid, driver.altitude,
        driver.content_version, content, driver.last_known_good, driver.restarts,
        driver.start_failures, last_end, driver.next_start_ms, statistics, driver.statistics_age_ms,
        driver.shim_silent_ms, shim_error));
  }
  std::vector<Offset<flatbuffers::String>> guarded;
  for (const std::string& path : fields.guarded) {
    if (guarded.size() == kGuardedMax) break;
    guarded.push_back(Text(builder, path, kStatusTextBytesMax));
  }
  const auto driver_list = builder.CreateVector(drivers);
  const auto guarded_list = builder.CreateVector(guarded);
  const auto attachment = OptionalText(builder, fields.attachment, kStatusTextBytesMax);
  return Finish(builder, wire::CreateStatus(builder, fields.pid, attachment, guarded_list,
                                            fields.uptime_ms, fields.shim_pid,
                                            fields.shim_incarnation, driver_list, fields.filtered));
}

StatusFields ReadStatus(const wire::Status& status) {
  StatusFields fields;
  fields.pid = status.pid();
  fields.attachment = ReadText(status.attachment());
  if (status.guarded() != nullptr) {
    for (const flatbuffers::String* path : *status.guarded()) {
      fields.guarded.push_back(ReadText(path));
    }
  }
  fields.uptime_ms = status.uptime_ms();
  fields.shim_pid = status.shim_pid();
  fields.shim_incarnation = status.shim_incarnation();
  fields.filtered = status.filtered();
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

ControlBuffer MakeShutdown() {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateShutdown(builder));
}

ControlBuffer MakeDone(std::string_view error, uint64_t content_version) {
  FlatBufferBuilder builder;
  const auto text = OptionalText(builder, error);
  return Finish(builder, wire::CreateDone(builder, text, content_version));
}

}  // namespace bulkhead
