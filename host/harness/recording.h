// SPDX-License-Identifier: Apache-2.0
//
// Recordings: calls and notifications as text, one JSON object a line, to be replayed in a driver's
// test. Lines that are empty, or begin with #, are passed over.
//
//   {"call": "file_open", "path": "samples/a.bin", "pid": 12, "uid": 0, "gid": 0, "open_flags": 0}
//   {"call": "file_exec", "path": "/gone", "no_file": true, "device": 1, "inode": 2, "change": 3,
//    "length": 4, "deadline_ms": 100}
//   {"notification": "file_renamed", "text": "/a", "text2": "/b", "missed": 2, "pid": 7, ...}
//
// Only the first field of a line is required. A text that is not UTF-8 stands as hexadecimal digits
// in path_hex, text_hex, text2_hex. docs/writing-a-driver.md has the table of the fields.
#ifndef BULKHEAD_HOST_HARNESS_RECORDING_H_
#define BULKHEAD_HOST_HARNESS_RECORDING_H_

#include <bulkhead/testing.h>

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bulkhead {

struct RecordedCall {
  bulkhead_test_call call = {};  // its path is not set
  std::string path;
};
struct RecordedNotification {
  bulkhead_notification notification = {};  // its texts are not set
  std::string text;
  std::string text2;
};
struct RecordedEvent {
  size_t line = 0;
  std::variant<RecordedCall, RecordedNotification> event;
};

std::string CallText(const bulkhead_test_call& call);
std::string NotificationText(const bulkhead_notification& notification);
// Appends one line. The file is made where there is none.
absl::Status AppendToRecording(const std::string& path, const std::string& text);

// InvalidArgument names the line and the field.
absl::StatusOr<std::vector<RecordedEvent>> ParseRecording(std::string_view text);
// Reads the file; relative paths of calls become paths below its folder.
absl::StatusOr<std::vector<RecordedEvent>> ReadRecording(const std::string& path);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_HARNESS_RECORDING_H_
