// SPDX-License-Identifier: Apache-2.0
#include "host/service/reload.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/service/config_file.h"
#include "ipc/abi/names.h"

namespace bulkhead {
namespace {

template <typename List, typename Matches>
const typename List::value_type* FindIn(const List& list, Matches matches) {
  const auto found = std::find_if(list.begin(), list.end(), matches);
  return found == list.end() ? nullptr : &*found;
}

// What can't be changed while the driver's channel is there.
void CompareDriver(const ServiceDriver& now, const ServiceDriver& next,
                   std::vector<std::string>& fixed) {
  const auto note = [&](const char* key, bool same) {
    if (!same) fixed.push_back(absl::StrCat(key, " of the driver ", now.driver));
  };
  note("cache", now.cache_entries == next.cache_entries);
  note("spin", now.spin_us == next.spin_us);
}

// "the guard of /a has changed (deadline, mark)": the names of the keys.
std::string ChangeOf(const GuardSpec& now, const GuardSpec& next) {
  std::vector<std::string> keys;
  const auto note = [&](const char* key, bool same) {
    if (!same) keys.emplace_back(key);
  };
  note("events", bh_set_within(&now.callbacks, &next.callbacks) != 0 &&
                     bh_set_within(&next.callbacks, &now.callbacks) != 0);
  note("mark", now.mark == next.mark);
  note("deadline", now.deadline_ns == next.deadline_ns);
  note("skip-under", now.filter.skip_under == next.filter.skip_under);
  note("only.opened-for", now.filter.mode == next.filter.mode);
  note("only.owner", now.filter.owner == next.filter.owner);
  note("only.extensions", now.filter.extensions == next.filter.extensions);
  std::string text;
  if (!keys.empty()) {
    text =
        absl::StrCat("the guard of ", now.folder, " has changed (", absl::StrJoin(keys, ", "), ")");
  }
  if (now.mode != next.mode) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "the mode of the guard of ", now.folder,
                    " is ", bh_mode_name(next.mode));
  }
  return text;
}

}  // namespace

absl::StatusOr<ReloadPlan> PlanReload(const ServiceConfig& now, const ServiceConfig& next) {
  ReloadPlan plan;
  plan.accepts = now.accepted != next.accepted;
  std::vector<std::string> fixed;
  if (now.attachment != next.attachment) fixed.emplace_back("attachment");
  if (now.limits.retry_ns != next.limits.retry_ns) fixed.emplace_back("quarantine-retry");
  if (now.sandbox_required != next.sandbox_required) fixed.emplace_back("require-sandbox");
  if (now.metrics != next.metrics) fixed.emplace_back("metrics");
  if (now.page != next.page) fixed.emplace_back("page");
  if (now.log != next.log) fixed.emplace_back("log");
  for (size_t i = 0; i < now.drivers.size(); ++i) {
    const ServiceDriver& before = now.drivers[i];
    const auto* after = FindIn(
        next.drivers, [&](const ServiceDriver& driver) { return driver.driver == before.driver; });
    if (after == nullptr) {
      fixed.push_back(absl::StrCat("the driver ", before.driver, " is gone"));
      continue;
    }
    CompareDriver(before, *after, fixed);
    plan.content.push_back(i);
    if (std::memcmp(&before.policy, &after->policy, sizeof(bh_policy)) != 0) {
      plan.policies.emplace_back(i, after->policy);
    }
  }
  for (const ServiceDriver& driver : next.drivers) {
    const auto* before = FindIn(
        now.drivers, [&](const ServiceDriver& other) { return other.driver == driver.driver; });
    if (before == nullptr) fixed.push_back(absl::StrCat("the driver ", driver.driver, " is new"));
  }
  for (const GuardSpec& guard : next.guards) {
    const auto* before =
        FindIn(now.guards, [&](const GuardSpec& other) { return other.folder == guard.folder; });
    if (before == nullptr) {
      plan.guards.push_back(absl::StrCat("guards ", guard.folder));
    } else if (*before != guard) {
      plan.guards.push_back(ChangeOf(*before, guard));
    }
  }
  for (const GuardSpec& guard : now.guards) {
    const auto* after =
        FindIn(next.guards, [&](const GuardSpec& other) { return other.folder == guard.folder; });
    if (after == nullptr) plan.guards.push_back(absl::StrCat("no longer guards ", guard.folder));
  }
  if (fixed.empty()) return plan;
  return absl::FailedPreconditionError(absl::StrCat(
      "what has changed takes a restart of the service: ", absl::StrJoin(fixed, ", ")));
}

absl::StatusOr<ServiceConfig> UsableConfig(const std::string& path, AttachmentRows rows) {
  constexpr size_t kToldMax = 20;
  const absl::StatusOr<ParsedConfig> parsed = ReadConfigFile(path, rows);
  if (!parsed.ok()) return parsed.status();
  const std::vector<FileMistake>& mistakes = parsed->mistakes;
  if (mistakes.empty()) return parsed->config;
  std::vector<std::string> lines;
  for (size_t i = 0; i < std::min(mistakes.size(), kToldMax); ++i) {
    lines.push_back(MistakeText(path, mistakes[i]));
  }
  if (mistakes.size() > kToldMax) {
    lines.push_back(absl::StrCat("and ", mistakes.size() - kToldMax, " more"));
  }
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace bulkhead
