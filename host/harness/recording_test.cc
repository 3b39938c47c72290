// SPDX-License-Identifier: Apache-2.0
#include "host/harness/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

std::string Refusal(const std::string& text) {
  const auto events = ParseRecording(text);
  EXPECT_TRUE(absl::IsInvalidArgument(events.status())) << text;
  return std::string(events.status().message());
}

TEST(Recording, ACallComesBackAsItWas) {
  const std::string path = std::string("/tmp/a\n\xff", 8);
  bulkhead_test_call call = {};
  call.size = sizeof(call);
  call.callback = BULKHEAD_ON_FILE_EXEC;
  call.path = path.data();
  call.path_length = path.size();
  call.descriptor = -1;
  call.no_file = 1;
  call.device = 1;
  call.inode = 2;
  call.change = UINT64_MAX;
  call.length = 4;
  call.pid = 5;
  call.uid = UINT32_MAX;
  call.gid = 0;
  call.open_flags = 7;
  call.deadline_ns = 8'000'000;
  const std::string text = CallText(call);
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  const auto events = ParseRecording(text);
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 1u);
  const auto& recorded = std::get<RecordedCall>((*events)[0].event);
  EXPECT_EQ(recorded.path, path);
  call.path = nullptr;
  call.path_length = 0;
  EXPECT_EQ(std::memcmp(&recorded.call, &call, sizeof(call)), 0) << text;
}

TEST(Recording, ANotificationComesBackAsItWas) {
  const std::string words("/bin/sh\0-c\0x", 12);
  bulkhead_notification told = {};
  told.size = sizeof(told);
  told.kind = BULKHEAD_PROCESS_EXECUTED;
  told.missed = 3;
  told.time_ns = 4;
  told.pid = 5;
  told.parent = 6;
  told.start_ns = 7;
  told.uid = 8;
  told.gid = UINT32_MAX;
  told.cgroup = 9;
  told.exit_code = 10;
  told.text = "/bin/sh";
  told.text_length = 7;
  told.text2 = words.data();
  told.text2_length = words.size();
  const std::string text = NotificationText(told);
  const auto events = ParseRecording("# a comment\n\n" + text + "\n");
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ((*events)[0].line, 3u);
  const auto& recorded = std::get<RecordedNotification>((*events)[0].event);
  EXPECT_EQ(recorded.text, "/bin/sh");
  EXPECT_EQ(recorded.text2, words);
  told.text = told.text2 = nullptr;
  told.text_length = told.text2_length = 0;
  EXPECT_EQ(std::memcmp(&recorded.notification, &told, sizeof(told)), 0) << text;
}

TEST(Recording, SaysWhatIsWrongWithALine) {
  EXPECT_THAT(Refusal("{}"), HasSubstr("line 1: has neither"));
  EXPECT_THAT(Refusal("\n{"), HasSubstr("line 2: is not a JSON object"));
  EXPECT_THAT(Refusal(R"({"call": "file_opened"})"), HasSubstr("'file_opened'"));
  EXPECT_THAT(Refusal(R"({"call": 7})"), HasSubstr("names no callback: '7'"));
  EXPECT_THAT(Refusal(R"({"notification": "file_open"})"), HasSubstr("names no kind"));
  EXPECT_THAT(Refusal(R"({"call": "file_open", "pid": -1})"), HasSubstr("\"pid\" must be"));
  EXPECT_THAT(Refusal(R"({"call": "file_open", "pid": 4294967296})"), HasSubstr("\"pid\" must be"));
  EXPECT_THAT(Refusal(R"({"call": "file_open", "path": 1})"), HasSubstr("must be a text"));
  EXPECT_THAT(Refusal(R"({"call": "file_open", "path_hex": "abc"})"), HasSubstr("hexadecimal"));
  EXPECT_THAT(Refusal(R"({"call": "file_open", "no_file": 1})"), HasSubstr("true or false"));
  EXPECT_THAT(Refusal(R"({"call": "file_open", "paht": ""})"), HasSubstr("\"paht\" is no field"));
}

}  // namespace
}  // namespace bulkhead
