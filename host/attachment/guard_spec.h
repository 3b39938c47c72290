// SPDX-License-Identifier: Apache-2.0
//
// GuardSpec: one guard as an operator asks for it: a folder, and which accesses there become calls.
// What of it an attachment can do is in its row (attachment.h); what of it is wrong in itself,
// CheckGuard says.
#ifndef BULKHEAD_HOST_ATTACHMENT_GUARD_SPEC_H_
#define BULKHEAD_HOST_ATTACHMENT_GUARD_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "ipc/abi/callbacks.h"
#include "ipc/abi/policy.h"
#include "ipc/generation_spec.h"

namespace bulkhead {

// What is guarded for a folder; see docs/decisions/fanotify-marks.md.
enum class MarkKind {
  kAuto,        // the attachment chooses
  kMount,       // everything on the mount that the folder is on, through this mount
  kFilesystem,  // everything on the file system that the folder is on
  kDirectory,   // the files in the folder and in every folder below it
};
inline constexpr MarkKind kMarkKinds[] = {MarkKind::kAuto, MarkKind::kDirectory, MarkKind::kMount,
                                          MarkKind::kFilesystem};
const char* MarkKindName(MarkKind kind);

enum class AccessMode { kAny, kRead, kWrite };  // kRead: not opened for writing

// Which accesses to a guarded folder are calls; the others go on unasked. All conditions must hold.
struct GuardFilter {
  AccessMode mode = AccessMode::kAny;
  std::optional<uint32_t> owner;        // of the file
  std::vector<std::string> skip_under;  // folders
  std::vector<std::string> extensions;  // without a dot; empty: any name

  friend bool operator==(const GuardFilter&, const GuardFilter&) = default;
};

struct GuardSpec {
  static constexpr uint64_t kDefaultDeadlineNs = 5'000'000'000;
  static constexpr uint64_t kDeadlineNsMax = 3'600'000'000'000;

  std::string folder;
  MarkKind mark = MarkKind::kAuto;
  // Of file_open, file_exec, file_access.
  bh_callback_set callbacks = SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC});
  GuardFilter filter;
  uint64_t deadline_ns = kDefaultDeadlineNs;  // of each call, from when the shim took it
  // Of what is denied here. An object that an enforced guard covers, too, is enforced.
  bh_mode mode = BH_MODE_ENFORCE;

  // But for the mode.
  bool IsSamePlace(const GuardSpec& other) const {
    GuardSpec same = other;
    same.mode = mode;
    return *this == same;
  }

  friend bool operator==(const GuardSpec& a, const GuardSpec& b) {
    return a.folder == b.folder && a.mark == b.mark && a.filter == b.filter && a.mode == b.mode &&
           a.deadline_ns == b.deadline_ns && bh_set_within(&a.callbacks, &b.callbacks) != 0 &&
           bh_set_within(&b.callbacks, &a.callbacks) != 0;
  }
};

// One thing that is wrong with a configuration.
struct FieldMistake {
  std::string field;    // as options and keys are called: "deadline"
  absl::Status status;  // the message names the field and the value, and says what is expected
};

// InvalidArgument or NotFound names the field, after `prefix`, and the value. Resolves no links.
std::vector<FieldMistake> GuardMistakes(const GuardSpec& guard, const std::string& prefix = "");
// The first of them.
absl::Status CheckGuard(const GuardSpec& guard, const std::string& prefix = "");

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_GUARD_SPEC_H_
