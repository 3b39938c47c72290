// SPDX-License-Identifier: Apache-2.0
//
// Choosing among rows: nothing here knows an attachment by name.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/attachment/registry.h"

namespace bulkhead {
namespace {

std::string Quoted(const std::vector<std::string>& names) {
  return absl::StrJoin(names, " or ", [](std::string* out, const std::string& name) {
    absl::StrAppend(out, "'", name, "'");
  });
}

const Need* FirstLacking(const AttachmentKind& kind, const std::vector<Need>& needs) {
  const auto found = std::find_if(needs.begin(), needs.end(),
                                  [&](const Need& need) { return !kind.can(need.capability); });
  return found == needs.end() ? nullptr : &*found;
}

absl::Status Lacks(AttachmentRows rows, const std::string& whose, const Need& need,
                   const std::string& why) {
  const std::vector<std::string> able = AttachmentNames(rows, need.capability);
  if (able.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        need.field, ": no attachment of this program can ", CapabilityVerb(need.capability)));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      need.field, " needs attachment ", Quoted(able), why.empty() ? "" : ": ", why, "; ", whose,
      " can't ", CapabilityVerb(need.capability), "; 'bulkhead doctor' says what works here"));
}

}  // namespace

const char* CapabilityVerb(Capability capability) {
  for (const CapabilityText& text : kCapabilities) {
    if (text.capability == capability) return text.verb;
  }
  return "do that";
}

std::vector<Need> NeedsOf(const GuardSpec& guard, const std::string& prefix) {
  std::vector<Need> needs = {{kGuardsFolders, absl::StrCat(prefix, "guard")}};
  const GuardFilter& filter = guard.filter;
  if (filter.mode != AccessMode::kAny) {
    needs.push_back({kFiltersByMode, absl::StrCat(prefix, "mode")});
  }
  if (filter.owner.has_value()) needs.push_back({kFiltersByOwner, absl::StrCat(prefix, "owner")});
  if (!filter.extensions.empty()) {
    needs.push_back({kFiltersByExtension, absl::StrCat(prefix, "extensions")});
  }
  if (!filter.skip_under.empty()) {
    needs.push_back({kFiltersByFolder, absl::StrCat(prefix, "skip-under")});
  }
  if (guard.mode == BH_MODE_AUDIT) {
    needs.push_back({kAuditsGuards, absl::StrCat(prefix, "guard with mode audit")});
  }
  return needs;
}

std::vector<std::string> AttachmentNames(AttachmentRows rows, uint32_t capabilities) {
  std::vector<std::string> names;
  for (const AttachmentKind* kind : rows) {
    if (kind->can(capabilities)) names.emplace_back(kind->name);
  }
  return names;
}

absl::Status CheckNeeds(AttachmentRows rows, const AttachmentKind& kind,
                        const std::vector<Need>& needs) {
  const Need* need = FirstLacking(kind, needs);
  return need == nullptr ? absl::OkStatus()
                         : Lacks(rows, absl::StrCat("'", kind.name, "'"), *need, "");
}

absl::StatusOr<ChosenAttachment> CreateAttachment(AttachmentRows rows, const std::string& name,
                                                  const std::vector<Need>& needs,
                                                  const AttachmentOptions& options) {
  const bool automatic = name == "auto";
  const Need* lacking = nullptr;  // of the last row that lacks something
  std::string lacked_by;
  std::string absent;  // rows that would do, and that this machine does not have
  for (const AttachmentKind* kind : rows) {
    if (!automatic && name != kind->name) continue;
    if (const Need* need = FirstLacking(*kind, needs)) {
      // Of several rows, the one that gets furthest says it best.
      if (lacking == nullptr || need > lacking) {
        lacking = need;
        lacked_by = absl::StrCat("'", kind->name, "'");
      }
      continue;
    }
    absl::StatusOr<std::unique_ptr<Attachment>> made = kind->create(options);
    if (made.ok()) return ChosenAttachment{kind, *std::move(made)};
    if (!automatic || !absl::IsNotFound(made.status())) return made.status();
    absl::StrAppend(&absent, absent.empty() ? "" : "; ", made.status().message());
  }
  if (lacking != nullptr) return Lacks(rows, lacked_by, *lacking, absent);
  if (!absent.empty()) return absl::NotFoundError(absent);
  return absl::NotFoundError(absl::StrCat("attachment '", name, "': there is none of that name (",
                                          absl::StrJoin(AttachmentNames(rows), ", "), ")"));
}

}  // namespace bulkhead
