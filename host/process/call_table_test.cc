// SPDX-License-Identifier: Apache-2.0
#include "host/process/call_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

namespace bulkhead {
namespace {

using Completion = CallTable::Completion;

bulkhead_answer Answer(uint32_t verdict) {
  return {.size = sizeof(bulkhead_answer),
          .verdict = verdict,
          .cacheability = 0,
          .error = 0,
          .reason_length = 0,
          .reason = {}};
}

class CallTableTest : public ::testing::Test {
 protected:
  Completion Complete(const bulkhead_call* call, uint32_t verdict = BULKHEAD_ALLOW) {
    return table_.Complete(call, Answer(verdict), [this](TakenCall& taken, const bulkhead_answer&) {
      sent_.push_back(taken.ticket);
    });
  }
  const bulkhead_call* KeepOne(uint64_t ticket) {
    const bulkhead_call* call = table_.Open(*mine_, ~uint64_t{0});
    mine_->taken.ticket = ticket;
    EXPECT_TRUE(table_.Keep(&mine_));
    return call;
  }
  CallTable table_{1, 3};
  CallTable::Entry* mine_ = table_.OfWorker(0);
  std::vector<uint64_t> sent_;
};

TEST_F(CallTableTest, KeptCallsAreCompletedInAnyOrderOnce) {
  const bulkhead_call* first = KeepOne(1);
  const bulkhead_call* second = KeepOne(2);
  EXPECT_EQ(table_.kept(), 2u);
  EXPECT_EQ(table_.Deadline(first), ~uint64_t{0});
  EXPECT_EQ(Complete(second), Completion::kSent);
  EXPECT_EQ(Complete(second), Completion::kNotKept);
  EXPECT_EQ(table_.Deadline(second), 0u);
  EXPECT_EQ(Complete(first), Completion::kSent);
  EXPECT_EQ(sent_, (std::vector<uint64_t>{2, 1}));
  EXPECT_EQ(table_.kept(), 0u);
  table_.WaitUntilNoneIsKept();
}

// The entry has another call by then.
TEST_F(CallTableTest, AnOldHandleReachesNothing) {
  std::vector<const bulkhead_call*> old;
  for (uint64_t i = 0; i < 20; ++i) {
    old.push_back(KeepOne(i));
    EXPECT_EQ(Complete(old.back()), Completion::kSent);
  }
  const bulkhead_call* now = KeepOne(99);
  for (const bulkhead_call* call : old) {
    EXPECT_EQ(Complete(call), Completion::kNotKept);
    EXPECT_EQ(table_.Deadline(call), 0u);
    size_t length = 0;
    errno = 0;
    EXPECT_EQ(table_.Map(call, &length), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
  EXPECT_EQ(Complete(nullptr), Completion::kNotKept);
  EXPECT_EQ(Complete(reinterpret_cast<const bulkhead_call*>(~uintptr_t{0})), Completion::kNotKept);
  EXPECT_EQ(Complete(now), Completion::kSent);
}

TEST_F(CallTableTest, AnOlderDriversAnswerHasNoReason) {
  bulkhead_answer old = Answer(BULKHEAD_DENY);
  old.size = offsetof(bulkhead_answer, reason_length);
  old.reason_length = 99;
  const bulkhead_call* call = KeepOne(7);
  uint32_t length = 1;
  const auto send = [&](TakenCall&, const bulkhead_answer& sent) { length = sent.reason_length; };
  EXPECT_EQ(table_.Complete(call, old, send), Completion::kSent);
  EXPECT_EQ(length, 0u);
  old.size -= 4;
  EXPECT_EQ(table_.Complete(KeepOne(8), old, send), Completion::kNotAnAnswer) << "cut off";
  EXPECT_EQ(Complete(table_.Open(*mine_, 1)), Completion::kSent);
}

TEST_F(CallTableTest, ACompletionDuringTheCallbackIsRecorded) {
  const bulkhead_call* call = table_.Open(*mine_, 1);
  EXPECT_EQ(Complete(call, BULKHEAD_DENY), Completion::kSent);
  EXPECT_EQ(Complete(call), Completion::kNotKept);
  EXPECT_TRUE(sent_.empty());  // that is the worker's to do
  EXPECT_FALSE(table_.Keep(&mine_));
  EXPECT_EQ(mine_->answer.verdict, uint32_t{BULKHEAD_DENY});
  EXPECT_FALSE(table_.Close(*mine_));
  EXPECT_EQ(table_.kept(), 0u);

  call = table_.Open(*mine_, 1);
  EXPECT_TRUE(table_.Close(*mine_));  // answered by the callback
  EXPECT_EQ(Complete(call), Completion::kNotKept);
}

TEST_F(CallTableTest, WhatIsNoAnswerEndsNothing) {
  const bulkhead_call* call = KeepOne(1);
  EXPECT_EQ(Complete(call, 0), Completion::kNotAnAnswer);
  EXPECT_EQ(Complete(call, BULKHEAD_PENDING), Completion::kNotAnAnswer);
  EXPECT_EQ(Complete(call), Completion::kSent);
  CallTable none(1, 0);
  call = none.Open(*none.OfWorker(0), 1);
  EXPECT_EQ(none.Complete(call, Answer(BULKHEAD_ALLOW), nullptr), Completion::kNoneIsKept);
  EXPECT_TRUE(none.Close(*none.OfWorker(0)));
}

// Workers keep, others complete, each call twice: one of the two counts. The bound holds.
TEST(CallTable, EachCallIsCompletedOnceWhoeverComesFirst) {
  constexpr uint32_t kWorkers = 2, kKeptMax = 4, kCallsEach = 1000;
  CallTable table(kWorkers, kKeptMax);
  std::vector<std::atomic<uint32_t>> sent(kWorkers * kCallsEach);
  std::vector<std::atomic<const bulkhead_call*>> handles(kWorkers * kCallsEach);
  const auto send = [&](TakenCall& taken, const bulkhead_answer&) {
    sent[taken.ticket].fetch_add(1);
  };
  std::atomic<uint64_t> accepted{0};
  std::vector<std::thread> threads;
  for (uint32_t w = 0; w < kWorkers; ++w) {
    threads.emplace_back([&, w] {
      CallTable::Entry* mine = table.OfWorker(w);
      for (uint32_t i = 0; i < kCallsEach; ++i) {
        const uint64_t ticket = w * kCallsEach + i;
        CallTable::Entry* entry = mine;
        entry->taken.ticket = ticket;
        handles[ticket].store(table.Open(*entry, 1));
        if (table.Keep(&mine)) continue;
        send(entry->taken, entry->answer);
        table.Close(*entry);
      }
    });
  }
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      for (uint64_t done = 0, i = 0; done < handles.size(); ++i) {
        done = 0;
        for (std::atomic<const bulkhead_call*>& handle : handles) {
          const bulkhead_call* call = handle.load();
          if (call == nullptr) continue;
          ++done;
          if (table.Complete(call, Answer(BULKHEAD_ALLOW), send) == Completion::kSent) {
            accepted.fetch_add(1);
          }
        }
        EXPECT_LE(table.kept(), kKeptMax);
        std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(accepted.load(), sent.size());
  for (const std::atomic<uint32_t>& count : sent) ASSERT_EQ(count.load(), 1u);
}

}  // namespace
}  // namespace bulkhead
