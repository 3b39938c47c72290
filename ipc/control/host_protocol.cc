// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/host_protocol.h"

#include "absl/strings/str_cat.h"
#include "ipc/control/fields.h"

namespace bulkhead {

ControlBuffer MakeHello(uint32_t abi_version, uint32_t driver_abi) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateHello(builder, abi_version, driver_abi));
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
  const auto reads = OptionalText(builder, fields.reads);
  const auto user_lacks = OptionalText(builder, fields.user_lacks);
  const auto writes = OptionalText(builder, fields.writes);
  const auto group = OptionalText(builder, fields.group);
  const auto group_lacks = OptionalText(builder, fields.group_lacks);
  const auto processes_lack = OptionalText(builder, fields.processes_lack);
  return Finish(
      builder, wire::CreateAttach(
                   builder, fields.generation, static_cast<uint8_t>(fields.reason), &geometry,
                   fields.workers, name, path, content, fields.content_version, options, callbacks,
                   fields.checkpoint_bytes, fields.spin_ns, fields.sandbox, notifications,
                   fields.pending_calls_max, reads, fields.standby, fields.user, user_lacks, writes,
                   fields.scratch_mib, static_cast<uint8_t>(fields.sandbox_required), group,
                   group_lacks, processes_lack));
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
  if (bh_sandbox_level_known(attach.sandbox_required()) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("Attach requires the unknown level of the sandbox ",
                     static_cast<int>(attach.sandbox_required())));
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
  fields.reads = ReadText(attach.reads());
  fields.standby = attach.standby();
  fields.user = attach.user();
  fields.user_lacks = ReadText(attach.user_lacks());
  fields.writes = ReadText(attach.writes());
  fields.scratch_mib = attach.scratch_mib();
  fields.sandbox_required = static_cast<bh_sandbox_level>(attach.sandbox_required());
  fields.group = ReadText(attach.group());
  fields.group_lacks = ReadText(attach.group_lacks());
  fields.processes_lack = ReadText(attach.processes_lack());
  return fields;
}

namespace {
constexpr size_t kLacksMax = 16;
}  // namespace

ControlBuffer MakeSandboxed(const SandboxFields& fields) {
  FlatBufferBuilder builder;
  std::vector<Offset<flatbuffers::String>> lacks;
  for (const std::string& lack : fields.lacks) {
    if (lacks.size() == kLacksMax) break;
    lacks.push_back(Text(builder, lack, kStatusTextBytesMax));
  }
  const auto list = builder.CreateVector(lacks);
  return Finish(builder, wire::CreateSandboxed(builder, fields.generation, fields.layers, list,
                                               fields.spent_us));
}

SandboxFields ReadSandboxed(const wire::Sandboxed& sandboxed) {
  SandboxFields fields;
  fields.generation = sandboxed.generation();
  fields.layers = sandboxed.layers() & BH_LAYERS_ALL;
  fields.spent_us = sandboxed.spent_us();
  if (sandboxed.lacks() == nullptr) return fields;
  for (const flatbuffers::String* lack : *sandboxed.lacks()) {
    if (fields.lacks.size() == kLacksMax) break;
    fields.lacks.push_back(ReadText(lack));
  }
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

ControlBuffer MakeReady(uint32_t generation) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateReady(builder, generation));
}

ControlBuffer MakeServe(uint32_t generation) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateServe(builder, generation));
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

ControlBuffer MakeLogLine(wire::LogLevel level, std::string_view text, uint64_t number,
                          uint64_t time_ns, uint64_t dropped) {
  FlatBufferBuilder builder;
  const auto line = Text(builder, text);
  return Finish(builder, wire::CreateLogLine(builder, level, line, number, time_ns, dropped));
}

}  // namespace bulkhead
