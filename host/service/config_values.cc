// SPDX-License-Identifier: Apache-2.0
#include "host/service/config_values.h"

#include <algorithm>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ipc/abi/names.h"

namespace bulkhead {
namespace {

constexpr bh_action kActions[] = {
#define BH_ROW(id, NAME, name, doc) BH_ACTION_##NAME,
    BH_FOR_EACH_ACTION(BH_ROW)
#undef BH_ROW
};

constexpr bh_sandbox_level kSandboxLevels[] = {
#define BH_ROW(id, NAME, name, doc) BH_SANDBOX_##NAME,
    BH_FOR_EACH_SANDBOX_LEVEL(BH_ROW)
#undef BH_ROW
};

// 0: there is no such action.
uint32_t ActionNamed(const std::string& name) {
  for (const bh_action action : kActions) {
    if (name == bh_action_name(action)) return action;
  }
  return 0;
}

struct Unit {
  const char* name;
  double ns;
};
constexpr double kHourNs = 3600e9;
// The longest that fits comes first.
constexpr Unit kUnits[] = {{"h", kHourNs}, {"m", 60e9}, {"s", 1e9}, {"ms", 1e6}};

}  // namespace

absl::StatusOr<uint64_t> ParseDuration(const std::string& text) {
  const absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is no time up to an hour: 500ms, 5s, 2m"));
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view unit = std::string_view(text).substr(digits);
  double value = 0;
  if (!absl::SimpleAtod(absl::string_view(text.data(), digits), &value)) return wrong;
  const auto* known = std::find_if(std::begin(kUnits), std::end(kUnits),
                                   [&](const Unit& row) { return row.name == unit; });
  if (known == std::end(kUnits) && !unit.empty()) return wrong;
  const double ns = value * (unit.empty() ? 1e9 : known->ns);
  if (!(ns >= 1 && ns <= kHourNs)) return wrong;
  return static_cast<uint64_t>(ns);
}

std::string DurationText(uint64_t ns) {
  for (const Unit& unit : kUnits) {
    const auto unit_ns = static_cast<uint64_t>(unit.ns);
    if (ns >= unit_ns && ns % unit_ns == 0) return absl::StrCat(ns / unit_ns, unit.name);
  }
  return absl::StrCat(static_cast<double>(ns) / 1e6, "ms");
}

std::string ActionList() {
  return absl::StrJoin(kActions, ", ", [](std::string* out, bh_action action) {
    out->append(bh_action_name(action));
  });
}

absl::StatusOr<bh_rule> ParseRule(const std::string& text) {
  const size_t comma = text.find(',');
  const std::string action = text.substr(0, comma);
  bh_rule rule = {};
  rule.action = static_cast<uint8_t>(ActionNamed(action));
  if (rule.action == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", action, "' is not an action (", ActionList(), ")"));
  }
  rule.fallback = rule.action == BH_ACTION_DENY ? BH_ACTION_DENY : BH_ACTION_ALLOW;
  if (comma == std::string::npos) return rule;
  const std::string fallback(absl::StripAsciiWhitespace(text.substr(comma + 1)));
  rule.fallback = static_cast<uint8_t>(ActionNamed(fallback));
  if (bh_rule_valid(&rule) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("after the comma comes allow or deny, not '", fallback, "'"));
  }
  return rule;
}

std::string RuleText(const bh_rule& rule) {
  std::string action = bh_action_name(rule.action);
  if (rule.action == BH_ACTION_ALLOW || rule.action == BH_ACTION_DENY) return action;
  return absl::StrCat(action, ",", bh_action_name(rule.fallback));
}

std::string SandboxLevelList() {
  return absl::StrJoin(kSandboxLevels, ", ", [](std::string* out, bh_sandbox_level level) {
    out->append(bh_sandbox_level_name(level));
  });
}

absl::StatusOr<bh_sandbox_level> ParseSandboxLevel(const std::string& text) {
  for (const bh_sandbox_level level : kSandboxLevels) {
    if (text == bh_sandbox_level_name(level)) return level;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not a level of the sandbox (", SandboxLevelList(), ")"));
}

const std::vector<EventName>& EventNames() {
  static const auto& kNames = *new std::vector<EventName>([] {
    constexpr std::pair<std::string_view, uint32_t> kRows[] = {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
  {#name, BH_CALLBACK_##NAME},
#include "ipc/abi/callbacks.def"
    };
    constexpr std::string_view kPrefix = "file_";
    std::vector<EventName> names;
    for (const auto& [name, callback] : kRows) {
      if (name.substr(0, kPrefix.size()) != kPrefix) continue;
      names.push_back({std::string(name.substr(kPrefix.size())), callback});
    }
    return names;
  }());
  return kNames;
}

std::string EventList(const bh_callback_set& callbacks, const char* separator) {
  std::string list;
  for (const EventName& event : EventNames()) {
    if (bh_set_has(&callbacks, event.callback) == 0) continue;
    absl::StrAppend(&list, list.empty() ? "" : separator, event.name);
  }
  return list;
}

}  // namespace bulkhead
