// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/shim_protocol.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ipc/control/fields.h"

namespace bulkhead {
namespace {

constexpr size_t kInHandWords = sizeof(bh_in_hand) / sizeof(uint32_t);
constexpr size_t kRuleCount = static_cast<size_t>(BH_CLASS_COUNT) * BH_REASON_COUNT;

}  // namespace

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
  return Finish(builder, wire::CreateSetPolicy(builder, request, channel, list, policy.mode));
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
  policy.mode = message.mode();
  if (bh_mode_known(policy.mode) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("SetPolicy has the unknown mode ", static_cast<int>(message.mode())));
  }
  return policy;
}

ControlBuffer MakeGetStatistics(uint64_t request, ChannelId channel) {
  FlatBufferBuilder builder;
  return Finish(builder, wire::CreateGetStatistics(builder, request, channel));
}

ControlBuffer MakeResult(uint64_t request, std::string_view error, const bh_statistics* statistics,
                         const bh_in_hand* in_hand) {
  FlatBufferBuilder builder;
  const auto text = OptionalText(builder, error);
  const auto numbers = statistics == nullptr ? Offset<flatbuffers::Vector<uint64_t>>()
                                             : BuildStatistics(builder, *statistics);
  Offset<flatbuffers::Vector<uint32_t>> users;
  if (in_hand != nullptr) {
    std::array<uint32_t, kInHandWords> words;
    std::memcpy(words.data(), in_hand, sizeof(*in_hand));
    users = builder.CreateVector(words.data(), words.size());
  }
  return Finish(builder, wire::CreateResult(builder, request, text, numbers, users));
}

bh_in_hand ReadInHand(const wire::Result& result) {
  bh_in_hand in_hand = {};
  const auto* words = result.in_hand();
  if (words == nullptr || words->size() != kInHandWords) return in_hand;
  std::array<uint32_t, kInHandWords> copy;
  std::copy(words->begin(), words->end(), copy.begin());
  std::memcpy(&in_hand, copy.data(), sizeof(in_hand));
  return in_hand;
}

ControlBuffer MakeShimEvent(ChannelId channel, uint32_t event, uint32_t detail, uint32_t generation,
                            uint64_t call_id) {
  FlatBufferBuilder builder;
  return Finish(builder,
                wire::CreateShimEvent(builder, channel, event, detail, generation, call_id));
}

ControlBuffer MakeShimDenial(ChannelId channel, const bh_denial& denial) {
  FlatBufferBuilder builder;
  std::array<uint8_t, sizeof(bh_denial)> bytes;
  std::memcpy(bytes.data(), &denial, sizeof(denial));
  const auto record = builder.CreateVector(bytes.data(), bytes.size());
  return Finish(builder, wire::CreateShimDenial(builder, channel, record));
}

absl::StatusOr<bh_denial> ReadShimDenial(const wire::ShimDenial& message) {
  bh_denial denial = {};
  if (message.denial()->size() != sizeof(denial)) {
    return absl::InvalidArgumentError(absl::StrCat("ShimDenial has ", message.denial()->size(),
                                                   " bytes where ", sizeof(denial), " belong"));
  }
  std::memcpy(&denial, message.denial()->data(), sizeof(denial));
  return denial;
}

}  // namespace bulkhead
