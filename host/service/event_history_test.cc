// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_history.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "host/service/event_fields.h"

namespace bulkhead {
namespace {

DriverEvent Numbered(uint32_t number) {
  DriverEvent event = DriverEvent::Of(DriverEventKind::kLetThrough);
  event.driver = "scanner";
  event.number = number;
  return event;
}

TEST(EventHistory, AnEventArrivesWithItsFieldsAndItsLine) {
  EventHistory history;
  DriverEvent event = DriverEvent::Of(DriverEventKind::kEnded);
  event.driver = "scanner";
  event.generation = 3;
  event.pid = 42;
  event.end = BH_END_KILLED;
  event.text = "signal 9";
  history.Add(event, 1'700'000'000'000'000);
  const EventsFields after = history.After(0);
  ASSERT_EQ(after.events.size(), 1u);
  const EventFields& fields = after.events[0];
  EXPECT_EQ(fields.sequence, 1u);
  EXPECT_EQ(fields.at_us, 1'700'000'000'000'000u);
  EXPECT_EQ(fields.kind, "Ended");
  EXPECT_EQ(fields.level, wire::LogLevel::Warning);
  EXPECT_EQ(fields.generation, 3u);
  EXPECT_EQ(fields.pid, 42u);
  EXPECT_EQ(fields.end, BH_END_KILLED);
  EXPECT_EQ(fields.line, "scanner g3 (pid 42): killed: signal 9");
  EXPECT_TRUE(history.After(1).events.empty());
  EXPECT_TRUE(history.After(99).events.empty()) << "a number of an earlier service";
}

TEST(EventHistory, WhatIsNoLongerKnownIsCounted) {
  EventHistory history;
  constexpr uint64_t kEvents = EventHistory::kEventsMax + 5;
  for (uint32_t i = 1; i <= kEvents; ++i) history.Add(Numbered(i), i);
  uint64_t seen = 0, lost = 0, last = 0;
  for (EventsFields some = history.After(0); !some.events.empty(); some = history.After(last)) {
    EXPECT_LE(some.events.size(), EventHistory::kAnsweredMax);
    lost += some.lost;
    for (const EventFields& event : some.events) {
      EXPECT_EQ(event.number, event.sequence);
      EXPECT_GT(event.sequence, last);
      last = event.sequence;
      ++seen;
    }
  }
  EXPECT_EQ(last, kEvents);
  EXPECT_EQ(lost, 5u);
  EXPECT_EQ(seen + lost, kEvents);
  EXPECT_EQ(history.Counts().at("LetThrough"), kEvents);
}

TEST(EventHistory, WhatADriverWroteIsNotForReaders) {
  EventHistory history;
  for (int kind = 0; kind < kDriverEventKindCount; ++kind) {
    DriverEvent event = DriverEvent::Of(static_cast<DriverEventKind>(kind));
    event.driver = "scanner";
    event.end = BH_END_CRASHED;
    event.text = "/home/user/secret";
    history.Add(event, 1);
  }
  const EventsFields all = history.After(0), plain = history.After(0, /*words=*/false);
  ASSERT_EQ(plain.events.size(), all.events.size());
  for (size_t i = 0; i < all.events.size(); ++i) {
    const EventFields& event = plain.events[i];
    EXPECT_EQ(event.sequence, all.events[i].sequence);
    EXPECT_EQ(event.kind, all.events[i].kind);
    const bool quotes = event.kind == "Ended" || event.kind == "Quarantined" ||
                        event.kind == "Pardoned" || event.kind == "RolledBack" ||
                        event.kind == "BadMessage" || event.kind == "ReloadRefused" ||
                        event.kind == "Denied" || event.kind == "WouldDeny";
    EXPECT_EQ(event.text.empty(), quotes) << event.kind;
    EXPECT_EQ(event.line.find("secret") == std::string::npos,
              quotes || all.events[i].line.find("secret") == std::string::npos)
        << event.line;
    EXPECT_EQ(all.events[i].text, "/home/user/secret");
  }
}

TEST(EventHistory, ADriversLogDoesNotPushEventsOut) {
  EventHistory history;
  history.Add(Numbered(1), 1);
  for (size_t i = 0; i < 2 * EventHistory::kEventsMax; ++i) {
    history.Add(DriverEvent::Of(DriverEventKind::kLog), i);
  }
  EXPECT_EQ(history.After(0).events.size(), 1u);
}

// The longest texts, as many as there may be: what does not fit is asked for again.
TEST(EventHistory, AnAnswerFitsIntoAMessage) {
  EventHistory history;
  DriverEvent event = DriverEvent::Of(DriverEventKind::kQuarantined);
  event.driver = std::string(300, 'd');
  event.text = std::string(10'000, 'x');
  for (int i = 0; i < 100; ++i) history.Add(event, 1);
  uint64_t last = 0;
  int messages = 0;
  while (last < 100) {
    const ControlBuffer buffer = MakeEvents(history.After(last));
    const auto* message = wire::GetEnvelope(buffer.data())->message_as_Events();
    ASSERT_NE(message, nullptr);
    const EventsFields fields = ReadEvents(*message);
    ASSERT_FALSE(fields.events.empty());
    ASSERT_EQ(fields.events.front().sequence, last + 1);
    last = fields.events.back().sequence;
    ++messages;
  }
  EXPECT_GT(messages, 1);
}

// A reader verifies a message before it reads: so many short events must not be too many.
TEST(EventHistory, AnAnswerOfManyShortEventsIsRead) {
  EventHistory history;
  for (uint32_t i = 1; i <= 2 * EventHistory::kAnsweredMax; ++i) history.Add(Numbered(i), i);
  const ControlBuffer buffer = MakeEvents(history.After(0));
  ASSERT_TRUE(VerifyEnvelope(absl::MakeConstSpan(buffer.data(), buffer.size())).ok());
  EXPECT_GT(wire::GetEnvelope(buffer.data())->message_as_Events()->events()->size(), 64u);
}

bh_denial DenialOf(uint64_t inode) {
  bh_denial denial = {};
  denial.inode = inode;
  denial.device = 2049;
  denial.callback = BH_CALLBACK_FILE_EXEC;
  denial.by = BH_DENIED_BY_POLICY;
  denial.reason = BH_REASON_OVERDUE;
  denial.error = 13;
  denial.audited = BH_AUDITED_DRIVER | BH_AUDITED_GUARD;
  denial.pid = 7;
  denial.uid = 1000;
  std::memcpy(denial.why, "EICAR", 5);
  std::memcpy(denial.comm, "fifteen letters!", sizeof(denial.comm));  // to the last byte
  std::memcpy(denial.exe, "/bin/cat", 8);
  std::memcpy(denial.path, "/srv/a", 6);
  return denial;
}

DriverEvent Denied(uint64_t inode) {
  DriverEvent event = DriverEvent::Of(DriverEventKind::kWouldDeny);
  event.driver = "scanner";
  event.denial = std::make_shared<const bh_denial>(DenialOf(inode));
  return event;
}

TEST(EventHistory, ADenialArrivesWithItsFields) {
  EventHistory history;
  history.Add(Denied(12), 1);
  const ControlBuffer buffer = MakeEvents(history.After(0));
  const EventsFields after = ReadEvents(*wire::GetEnvelope(buffer.data())->message_as_Events());
  ASSERT_EQ(after.events.size(), 1u);
  const EventFields& fields = after.events[0];
  EXPECT_EQ(fields.kind, "WouldDeny");
  EXPECT_EQ(fields.callback, BH_CALLBACK_FILE_EXEC);
  EXPECT_EQ(fields.denied_by, BH_DENIED_BY_POLICY);
  EXPECT_EQ(fields.reason, BH_REASON_OVERDUE);
  EXPECT_EQ(fields.audited, BH_AUDITED_DRIVER | BH_AUDITED_GUARD);
  EXPECT_EQ(fields.error, 13u);
  EXPECT_EQ(fields.device, 2049u);
  EXPECT_EQ(fields.inode, 12u);
  EXPECT_EQ(fields.caller_pid, 7u);
  EXPECT_EQ(fields.caller_uid, 1000u);
  EXPECT_EQ(fields.rule, "EICAR");
  EXPECT_EQ(fields.path, "/srv/a");
  EXPECT_EQ(fields.comm, "fifteen letters!");
  EXPECT_EQ(fields.exe, "/bin/cat");
  EXPECT_EQ(fields.line,
            "scanner: audit: would have denied file_exec of /srv/a (device 2049, inode 12) by "
            "fifteen letters! (pid 7, user 1000, /bin/cat); by policy: overdue: EICAR");
}

// They name users' files, processes and what the content says of them.
TEST(EventHistory, WithoutWordsADenialNamesNoFileAndNoProcess) {
  EventHistory history;
  history.Add(Denied(12), 1);
  const ControlBuffer buffer = MakeEvents(history.After(0, /*words=*/false));
  const EventsFields after = ReadEvents(*wire::GetEnvelope(buffer.data())->message_as_Events());
  ASSERT_EQ(after.events.size(), 1u);
  const EventFields& fields = after.events[0];
  EXPECT_EQ(fields.line,
            "scanner: audit: would have denied file_exec of a file; by policy: overdue");
  EXPECT_EQ(fields.denied_by, BH_DENIED_BY_POLICY);
  EXPECT_EQ(EventJson(fields).find("object"), std::string::npos);
  EXPECT_EQ(EventJson(fields).find("caller"), std::string::npos);
  for (const std::string& words :
       {fields.rule, fields.path, fields.comm, fields.exe, fields.text}) {
    EXPECT_EQ(words, "");
  }
}

// Any user can cause denials.
TEST(EventHistory, DenialsDoNotPushOtherEventsOut) {
  EventHistory history;
  history.Add(Numbered(1), 1);
  constexpr uint64_t kDenials = EventHistory::kDenialsMax + 500;
  for (uint64_t i = 0; i < kDenials; ++i) {
    history.Add(Denied(i), 1);
    if (i == kDenials / 2) history.Add(Numbered(2), 1);
  }
  uint64_t seen = 0, others = 0, lost = 0, last = 0;
  for (EventsFields some = history.After(0); !some.events.empty(); some = history.After(last)) {
    EXPECT_EQ(some.events.front().sequence, last + 1 + some.lost);
    lost += some.lost;
    for (const EventFields& event : some.events) {
      EXPECT_GT(event.sequence, last);
      last = event.sequence;
      ++seen;
      others += event.denied_by == 0 ? 1 : 0;
    }
  }
  EXPECT_EQ(others, 2u);
  EXPECT_EQ(last, kDenials + 2);
  EXPECT_EQ(seen, EventHistory::kDenialsMax + 2);
  EXPECT_EQ(seen + lost, last) << "each that is no longer known is counted once";
  EXPECT_EQ(history.Counts().at("WouldDeny"), kDenials);
}

}  // namespace
}  // namespace bulkhead
