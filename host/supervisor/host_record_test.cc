// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_record.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_replace.h"
#include "ipc/generation_spec.h"

namespace bulkhead {
namespace {

HostRecord Full() {
  HostRecord record = {
      .package = "line\n\xff line",
      .channel = 3,
      .newest_generation = 9,
      .user = 60'706,
      .user_lacks = "none",
      .newest_release = 4,
      .good = {.id = 2, .content_folder = "/a/2", .content_source = "/b", .options = "old"},
      .restarts = 5,
      .start_failures = 6,
      .generation = 8,
      .pid = 1234,
      .group = "group",
      .group_lacks = "some",
      .processes_lack = "others",
      .running = {.id = 4, .content_folder = "/a/4", .content_source = "/c", .options = "new"},
      .driver_version = "1.2",
      .sandbox = {.layers = 5, .lacks = {"one", "two"}, .spent_us = 77},
      .has_checkpoint = true};
  record.wanted.generation = 8;
  record.wanted.callbacks = SetOf({BH_CALLBACK_FILE_OPEN});
  return record;
}

TEST(HostRecord, IsReadAsItWasWritten) {
  const HostRecord from = Full();
  const absl::StatusOr<HostRecord> to = ReadHostRecord(WriteHostRecord(from));
  ASSERT_TRUE(to.ok()) << to.status();
  EXPECT_EQ(WriteHostRecord(*to), WriteHostRecord(from));
  EXPECT_EQ(to->channel, 3u);
  EXPECT_EQ(to->good.content_folder, "/a/2");
  EXPECT_EQ(to->running.content_source, "/c");
  EXPECT_EQ(to->good.options, "old");
  EXPECT_EQ(to->running.options, "new");
  EXPECT_EQ(to->pid, 1234);
  EXPECT_EQ(to->wanted.generation, 8u);
  EXPECT_NE(bh_set_has(&to->wanted.callbacks, BH_CALLBACK_FILE_OPEN), 0);
  EXPECT_EQ(to->sandbox.layers, 5u);
  EXPECT_EQ(to->sandbox.generation, 8u);
  EXPECT_EQ(to->sandbox.lacks.size(), 2u);
  EXPECT_TRUE(to->has_checkpoint);
}

TEST(HostRecord, WhatIsNoRecordIsRefused) {
  const std::string text = WriteHostRecord(Full());
  for (const std::string& other :
       {std::string(), std::string("[]"), text.substr(1), text.substr(0, text.size() / 2),
        absl::StrReplaceAll(text, {{"\"version\":2", "\"version\":1"}}),
        absl::StrReplaceAll(text, {{"\"abi\":", "\"abi\":1"}}),
        absl::StrReplaceAll(text, {{"\"pid\":1234", "\"pid\":\"1234\""}}),
        absl::StrReplaceAll(text, {{"\"wanted\":\"", "\"wanted\":\"00"}}),
        absl::StrReplaceAll(text, {{"\"good\":", "\"bad\":"}})}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ReadHostRecord(other).status())) << other;
  }
}

}  // namespace
}  // namespace bulkhead
