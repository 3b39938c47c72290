// SPDX-License-Identifier: Apache-2.0
#include "ipc/fanotify/journal.h"

#include <gtest/gtest.h>

#include <memory>

namespace bulkhead {
namespace {

TEST(Journal, ZeroedMemoryIsAJournalWithoutEvents) {
  auto journal = std::make_unique<Journal>();
  for (const JournalRecord& record : journal->records) EXPECT_FALSE(IsUnanswered(record));
}

TEST(Journal, ARecordIsUnansweredFromTheKernelsWriteToTheAnswer) {
  auto record = std::make_unique<JournalRecord>();
  record->state.store(RecordState::kReading);
  EXPECT_FALSE(IsUnanswered(*record)) << "killed while it waited for an event";
  record->metadata.event_len = sizeof(record->metadata);
  record->metadata.fd = 9;
  EXPECT_TRUE(IsUnanswered(*record)) << "killed right after the kernel's write";
  record->state.store(RecordState::kTaken);
  EXPECT_TRUE(IsUnanswered(*record));
  record->state.store(RecordState::kAnswered);
  EXPECT_FALSE(IsUnanswered(*record));
  record->state.store(RecordState::kFree);
  EXPECT_FALSE(IsUnanswered(*record));
}

TEST(Journal, AnOverflowIsNotAnUnansweredEvent) {
  auto record = std::make_unique<JournalRecord>();
  record->state.store(RecordState::kReading);
  record->metadata.event_len = sizeof(record->metadata);
  record->metadata.fd = FAN_NOFD;
  EXPECT_FALSE(IsUnanswered(*record));
}

TEST(Journal, TheStateOfAChannelChangesAsAWhole) {
  auto pair = std::make_unique<ChannelStatePair>();
  ChannelState state = {};
  for (uint32_t generation = 1; generation <= 3; ++generation) {
    state.generation = generation;
    state.wanted.content_version = generation * 10;
    StoreChannelState(*pair, state);
    EXPECT_EQ(LoadChannelState(*pair).generation, generation);
    EXPECT_EQ(LoadChannelState(*pair).wanted.content_version, generation * 10);
  }
  // A writer killed in the middle of a write has changed only the copy that is not current.
  pair->copy[1 - pair->current.load()].generation = 99;
  EXPECT_EQ(LoadChannelState(*pair).generation, 3u);
}

TEST(Journal, WithoutAnAnswerThePolicysFallbackHolds) {
  bh_policy policy;
  bh_policy_default(&policy);
  EXPECT_TRUE(PolicyAllows(policy, BH_CALLBACK_FILE_OPEN, BH_REASON_CRASHED));
  EXPECT_FALSE(PolicyAllows(policy, BH_CALLBACK_FILE_OPEN, BH_REASON_POISON));
  policy.rule[BH_CLASS_FILE][BH_REASON_CRASHED] = {BH_ACTION_HOLD, BH_ACTION_DENY};
  EXPECT_FALSE(PolicyAllows(policy, BH_CALLBACK_FILE_OPEN, BH_REASON_CRASHED));
  policy.rule[BH_CLASS_FILE][BH_REASON_CRASHED] = {BH_ACTION_CACHED, BH_ACTION_ALLOW};
  EXPECT_TRUE(PolicyAllows(policy, BH_CALLBACK_FILE_EXEC, BH_REASON_CRASHED));
  policy.mode = BH_MODE_AUDIT;
  EXPECT_TRUE(PolicyAllows(policy, BH_CALLBACK_FILE_OPEN, BH_REASON_POISON)) << "nothing denies";
}

TEST(Journal, EveryPermissionEventIsACallback) {
  fanotify_event_metadata event = {};
  event.mask = FAN_OPEN_PERM;
  EXPECT_EQ(CallbackOf(event), static_cast<uint32_t>(BH_CALLBACK_FILE_OPEN));
  event.mask = FAN_OPEN_EXEC_PERM;
  EXPECT_EQ(CallbackOf(event), static_cast<uint32_t>(BH_CALLBACK_FILE_EXEC));
  event.mask = FAN_ACCESS_PERM;
  EXPECT_EQ(CallbackOf(event), static_cast<uint32_t>(BH_CALLBACK_FILE_ACCESS));
}

}  // namespace
}  // namespace bulkhead
