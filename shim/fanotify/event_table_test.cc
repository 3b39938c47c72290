// SPDX-License-Identifier: Apache-2.0
//
// The other end of a socket has the kernel's role: it writes events and reads responses.
#include "shim/fanotify/event_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5'000'000'000;

class EventTableTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    kernel_.reset(ends[0]);
    group_.reset(ends[1]);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    second_kernel_.reset(ends[0]);
    second_group_.reset(ends[1]);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    slow_kernel_.reset(ends[0]);
    slow_group_.reset(ends[1]);
    journal_ = std::make_unique<Journal>();
    journal_->deadlines_used.store(1);
    journal_->group_deadline_ns[0].store(kDeadlineNs);
    table_ = MakeTable();
  }

  // Its threads outlive a test.
  static Closer* ToCloseSlowFiles() {
    static Closer* const closer = new Closer;
    return closer;
  }

  std::unique_ptr<EventTable> MakeTable(uint32_t in_flight_max = kInFlightMax) {
    return std::make_unique<EventTable>(
        journal_.get(),
        GuardGroups{group_.get(), slow_group_.get(), second_group_.get(), -1, -1, -1, -1, -1},
        in_flight_max, ToCloseSlowFiles());
  }

  // An event for a file of its own; returns the descriptor.
  int Raise(uint64_t mask = FAN_OPEN_PERM) { return Raise(kernel_.get(), mask); }
  static int Raise(int kernel, uint64_t mask) {
    fanotify_event_metadata event = {};
    event.event_len = sizeof(event);
    event.vers = FANOTIFY_METADATA_VERSION;
    event.metadata_len = sizeof(event);
    event.mask = mask;
    event.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    event.pid = 1;
    EXPECT_EQ(write(kernel, &event, sizeof(event)), static_cast<ssize_t>(sizeof(event)));
    return event.fd;
  }

  // The next response; fd -1 when there is none.
  fanotify_response Response() { return Response(kernel_.get()); }
  static fanotify_response Response(int kernel) {
    fanotify_response response = {.fd = -1, .response = 0};
    [[maybe_unused]] const ssize_t bytes = read(kernel, &response, sizeof(response));
    return response;
  }

  static bool IsOpen(int descriptor) { return fcntl(descriptor, F_GETFD) >= 0; }

  UniqueFd kernel_;
  UniqueFd group_;
  UniqueFd slow_kernel_;
  UniqueFd slow_group_;
  UniqueFd second_kernel_;
  UniqueFd second_group_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<EventTable> table_;
};

TEST_F(EventTableTest, EachKindOfGroupIsReadByItself) {
  Event* event = table_->Acquire(/*reserve=*/true);
  const int slow = Raise(slow_kernel_.get(), FAN_OPEN_PERM);
  EXPECT_EQ(table_->Read(*event, GroupKind::kLocal), EventTable::ReadResult::kNothing);
  ASSERT_EQ(table_->Read(*event, GroupKind::kSlow), EventTable::ReadResult::kEvent);
  EXPECT_EQ(table_->metadata(*event).fd, slow);
  table_->Answer(*event, true);
  EXPECT_EQ(Response(slow_kernel_.get()).fd, slow);
}

TEST_F(EventTableTest, TakesAnEventAndAnswersItOnce) {
  Event* event = table_->Acquire(/*reserve=*/true);
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(table_->Read(*event, GroupKind::kLocal), EventTable::ReadResult::kNothing);
  const int descriptor = Raise();
  ASSERT_EQ(table_->Read(*event, GroupKind::kLocal), EventTable::ReadResult::kEvent);
  EXPECT_TRUE(IsUnanswered(journal_->records[event->index]));
  EXPECT_EQ(table_->metadata(*event).fd, descriptor);
  table_->Answer(*event, false);
  const fanotify_response response = Response();
  EXPECT_EQ(response.fd, descriptor);
  EXPECT_EQ(response.response, static_cast<uint32_t>(FAN_DENY));
  EXPECT_EQ(Response().fd, -1);
  EXPECT_FALSE(IsOpen(descriptor));
  EXPECT_FALSE(IsUnanswered(journal_->records[event->index]));
}

TEST_F(EventTableTest, ANewWorkerTakesOverTheEventsOfTheLastOne) {
  Event* first = table_->Acquire(true);
  const int taken = Raise(FAN_OPEN_EXEC_PERM);
  ASSERT_EQ(table_->Read(*first, GroupKind::kLocal), EventTable::ReadResult::kEvent);
  const uint64_t taken_ns = journal_->records[first->index].taken_ns;
  // Killed between the kernel's write and the first instruction after it.
  Event* second = table_->Acquire(true);
  const int reading = Raise();
  ASSERT_EQ(table_->Read(*second, GroupKind::kLocal), EventTable::ReadResult::kEvent);
  JournalRecord& record = journal_->records[second->index];
  record.state.store(RecordState::kReading);
  record.taken_ns = 0;
  // Killed while it waited for one.
  Event* third = table_->Acquire(true);
  ASSERT_EQ(table_->Read(*third, GroupKind::kLocal), EventTable::ReadResult::kNothing);

  table_ = MakeTable();
  const int unknown = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const std::vector<Event*> adopted = table_->Adopt({unknown});
  ASSERT_EQ(adopted.size(), 3u);
  EXPECT_EQ(table_->in_use(), 3u);
  EXPECT_EQ(table_->metadata(*adopted[0]).fd, taken);
  EXPECT_EQ(CallbackOf(table_->metadata(*adopted[0])),
            static_cast<uint32_t>(BH_CALLBACK_FILE_EXEC));
  EXPECT_EQ(adopted[0]->deadline_ns, taken_ns + kDeadlineNs) << "a takeover keeps the deadline";
  EXPECT_EQ(table_->metadata(*adopted[1]).fd, reading);
  EXPECT_GE(adopted[1]->deadline_ns, taken_ns + kDeadlineNs);
  EXPECT_EQ(table_->metadata(*adopted[2]).fd, unknown);
  for (Event* event : adopted) {
    table_->Answer(*event, true);
    table_->Release(*event);
  }
  EXPECT_EQ(Response().fd, taken);
  EXPECT_EQ(Response().fd, reading);
  EXPECT_EQ(Response().fd, unknown);
  EXPECT_EQ(table_->in_use(), 0u);
  EXPECT_EQ(journal_->counters.adopted.load(), 3u);
}

TEST_F(EventTableTest, AGroupSaysWhetherItsEventsAreAudited) {
  const auto take = [&](int group) {
    Event* event = table_->Acquire(true);
    Raise(group, FAN_OPEN_PERM);
    EXPECT_EQ(table_->Read(*event, GroupKind::kLocal), EventTable::ReadResult::kEvent);
    table_->Answer(*event, true);
    return event->audited;
  };
  journal_->group_deadline_ns[GroupOf(1, GroupKind::kLocal)].store(kDeadlineNs);
  journal_->deadlines_used.store(2);
  EXPECT_FALSE(take(second_kernel_.get()));
  journal_->group_audited[GroupOf(1, GroupKind::kLocal)].store(1);
  EXPECT_TRUE(take(second_kernel_.get()));
  EXPECT_FALSE(take(kernel_.get()));
  // One of an unknown group may be of a guard that is enforced.
  const auto adopted_is_audited = [&] {
    table_ = MakeTable();
    const std::vector<Event*> adopted = table_->Adopt({open("/dev/null", O_RDONLY | O_CLOEXEC)});
    EXPECT_EQ(adopted.size(), 1u);
    const bool audited = adopted.at(0)->audited;
    table_->Answer(*adopted.at(0), true);
    return audited;
  };
  EXPECT_FALSE(adopted_is_audited());
  for (auto& audited : journal_->group_audited) audited.store(1);
  EXPECT_TRUE(adopted_is_audited());
}

TEST_F(EventTableTest, AGroupGivesItsEventsTheirDeadlineAndGetsTheirAnswers) {
  constexpr uint64_t kSecondDeadlineNs = kDeadlineNs / 10;
  journal_->group_deadline_ns[GroupOf(1, GroupKind::kLocal)].store(kSecondDeadlineNs);
  journal_->deadlines_used.store(2);
  const int flood[] = {Raise(), Raise()};
  const int other = Raise(second_kernel_.get(), FAN_OPEN_PERM);
  Event* events[3];
  for (Event*& event : events) {
    event = table_->Acquire(true);
    ASSERT_EQ(table_->Read(*event, GroupKind::kLocal), EventTable::ReadResult::kEvent);
  }
  EXPECT_EQ(table_->metadata(*events[0]).fd, flood[0]);
  EXPECT_EQ(table_->metadata(*events[1]).fd, other) << "a flood in one group held up the other";
  EXPECT_EQ(table_->metadata(*events[2]).fd, flood[1]);
  table_ = MakeTable();
  const std::vector<Event*> adopted = table_->Adopt({});
  ASSERT_EQ(adopted.size(), 3u);
  for (Event* event : adopted) {
    const bool second = table_->metadata(*event).fd == other;
    EXPECT_EQ(event->deadline_ns, journal_->records[event->index].taken_ns +
                                      (second ? kSecondDeadlineNs : kDeadlineNs));
    table_->Answer(*event, true);
  }
  EXPECT_EQ(Response(second_kernel_.get()).fd, other);
  EXPECT_EQ(Response(second_kernel_.get()).fd, -1);
  EXPECT_NE(Response().fd, -1);
  EXPECT_NE(Response().fd, -1);
  EXPECT_EQ(Response().fd, -1);
}

TEST_F(EventTableTest, ARecordThatIsTakenOverIsNotHandedOut) {
  Event* first = table_->Acquire(true);
  Raise();
  ASSERT_EQ(table_->Read(*first, GroupKind::kLocal), EventTable::ReadResult::kEvent);
  const uint32_t index = first->index;
  table_ = MakeTable();
  ASSERT_EQ(table_->Adopt({}).size(), 1u);
  uint32_t acquired = 0;
  while (Event* event = table_->Acquire(true)) {
    EXPECT_NE(event->index, index);
    ASSERT_LE(++acquired, kJournalRecords);
  }
  EXPECT_EQ(acquired, kJournalRecords - 1);
}

TEST_F(EventTableTest, ParkingEndsAtItsLimitWhileReadersContinue) {
  table_ = MakeTable(/*in_flight_max=*/2);
  ASSERT_NE(table_->Acquire(true), nullptr);
  Event* one = table_->Acquire(false);
  ASSERT_NE(one, nullptr);
  ASSERT_NE(table_->Acquire(false), nullptr);
  EXPECT_EQ(table_->Acquire(false), nullptr);
  ASSERT_NE(table_->Acquire(true), nullptr);
  table_->Release(*one);
  EXPECT_NE(table_->Acquire(false), nullptr);
}

TEST_F(EventTableTest, OneOpenerLeavesRoomForOthers) {
  constexpr uint32_t kRoom = 64;
  constexpr uint32_t kGreedy = 1001, kOther = 1002;
  table_ = MakeTable(kRoom);
  const auto park = [&](uint32_t opener) {
    std::vector<Event*> parked;
    while (Event* event = table_->Acquire(false, opener)) {
      event->call.opener = opener;
      parked.push_back(event);
    }
    return parked;
  };
  const std::vector<Event*> greedy = park(kGreedy);
  EXPECT_EQ(greedy.size(), kRoom / 2);
  EXPECT_TRUE(table_->IsCrowded(kGreedy));
  EXPECT_FALSE(table_->IsCrowded(kOther));
  const std::vector<Event*> other = park(kOther);
  EXPECT_EQ(other.size(), kRoom / 4);
  EXPECT_EQ(park(BH_OPENER_ROOT).size(), kRoom / 8);
  EXPECT_FALSE(table_->IsCrowded(BH_OPENER_ROOT));
  EXPECT_EQ(park(0).size(), kRoom / 8) << "what is not known has no share";
  EXPECT_FALSE(table_->IsCrowded(0));
  EXPECT_FALSE(table_->IsCrowded(kOther + 1)) << "the room is used up, and not by this one";
  for (Event* event : greedy) table_->Release(*event);
  for (Event* event : other) table_->Release(*event);
  EXPECT_FALSE(table_->IsCrowded(kGreedy));
  EXPECT_EQ(park(kGreedy).size(), kRoom * 3 / 8);
  EXPECT_EQ(park(kOther + 2).size(), kRoom / 8 + 4);
  EXPECT_TRUE(table_->IsCrowded(kOther + 2));
  EXPECT_EQ(park(kOther + 3).size(), 6u);
  EXPECT_EQ(park(kOther + 4).size(), 3u);
  EXPECT_FALSE(table_->IsCrowded(kOther + 4)) << "so few do not fill the room";
}

// The next worker knows what each has.
TEST_F(EventTableTest, WhatIsAdoptedIsCharged) {
  Event* event = table_->Acquire(true);
  Raise();
  ASSERT_EQ(table_->Read(*event, GroupKind::kLocal), EventTable::ReadResult::kEvent);
  table_ = MakeTable(/*in_flight_max=*/2);
  const std::vector<Event*> adopted = table_->Adopt({});
  ASSERT_EQ(adopted.size(), 1u);
  adopted[0]->call.opener = 1001;
  table_->Charge(*adopted[0]);
  EXPECT_EQ(table_->Acquire(false, 1001), nullptr);
  EXPECT_NE(table_->Acquire(false, 1002), nullptr);
}

TEST_F(EventTableTest, ReportsAnEventThatTheKernelCanNotDeliver) {
  Event* event = table_->Acquire(true);
  kernel_.reset();
  EXPECT_EQ(table_->Read(*event, GroupKind::kLocal), EventTable::ReadResult::kFailed);
}

}  // namespace
}  // namespace bulkhead
