// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/guard_spec.h"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/generation_spec.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

absl::Status CheckFolder(const std::string& folder, const char* verb, const std::string& field) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (fs::is_directory(status)) return absl::OkStatus();
  const std::string cant = absl::StrCat("can't ", verb, " ", folder, ": ");
  if (error || !fs::exists(status)) {
    if (!error) error = std::make_error_code(std::errc::no_such_file_or_directory);
    return absl::NotFoundError(
        absl::StrCat(cant, error.message(), "; ", field, " takes a folder that exists"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(cant, "it is not a folder; ", verb, " the one that it is in"));
}

}  // namespace

const char* MarkKindName(MarkKind kind) {
  switch (kind) {
    case MarkKind::kAuto:
      return "auto";
    case MarkKind::kMount:
      return "mount";
    case MarkKind::kFilesystem:
      return "filesystem";
    case MarkKind::kDirectory:
      return "directory";
  }
  return "unknown";
}

std::vector<FieldMistake> GuardMistakes(const GuardSpec& guard, const std::string& prefix) {
  std::vector<FieldMistake> mistakes;
  const auto check = [&mistakes](const char* field, absl::Status status) {
    if (!status.ok()) mistakes.push_back({field, std::move(status)});
  };
  const auto wrong = [&](const char* field, const auto&... text) {
    check(field, absl::InvalidArgumentError(absl::StrCat(prefix, field, ": ", text...)));
  };
  const bh_callback_set known =
      SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS});
  check("guard", CheckFolder(guard.folder, "guard", absl::StrCat(prefix, "guard")));
  if (bh_set_empty(&guard.callbacks) != 0 || bh_set_within(&guard.callbacks, &known) == 0) {
    wrong("events", "name at least one of open, exec, access");
  }
  if (guard.deadline_ns == 0 || guard.deadline_ns > GuardSpec::kDeadlineNsMax) {
    wrong("deadline", guard.deadline_ns, " ns is not between 1 ns and an hour");
  }
  for (const std::string& folder : guard.filter.skip_under) {
    check("skip-under", CheckFolder(folder, "skip", absl::StrCat(prefix, "skip-under")));
  }
  for (const std::string& extension : guard.filter.extensions) {
    if (extension.empty() || extension.front() == '.' ||
        extension.find_first_of(std::string_view("/\0", 2)) != std::string::npos) {
      wrong("extensions", "'", extension, "' is not the end of a name; write exe, not .exe");
    }
  }
  return mistakes;
}

absl::Status CheckGuard(const GuardSpec& guard, const std::string& prefix) {
  const std::vector<FieldMistake> mistakes = GuardMistakes(guard, prefix);
  return mistakes.empty() ? absl::OkStatus() : mistakes.front().status;
}

}  // namespace bulkhead
