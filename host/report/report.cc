// SPDX-License-Identifier: Apache-2.0
#include "host/report/report.h"

#include <absl/strings/str_format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/report/atomic_file.h"

namespace bulkhead {
namespace {

constexpr std::array<std::string_view, 3> kReservedKeys = {"schema", "command", "figures"};

// For mistakes of the caller, which are bugs in our code.
void Require(bool condition, const char* what) {
  if (condition) return;
  std::cerr << "Report: " << what << std::endl;
  std::abort();
}

const char* Symbol(Report::Relation relation) {
  return relation == Report::Relation::kAtMost ? "<=" : ">=";
}

// Whole numbers without decimals, others with the digits that are significant for a reader.
std::string FormatNumber(double value) {
  if (!std::isfinite(value)) return "not measured";
  if (value == std::floor(value) && std::fabs(value) < 1e15) return absl::StrFormat("%.0f", value);
  const double size = std::fabs(value);
  if (size >= 1000) return absl::StrFormat("%.0f", value);
  if (size >= 1) return absl::StrFormat("%.2f", value);
  return absl::StrFormat("%.4g", value);
}

nlohmann::ordered_json NumberOrNull(double value) {
  if (!std::isfinite(value)) return nullptr;
  // Counts read as counts: 0, not 0.0. Up to 2^53 a double holds them exactly.
  if (value == std::floor(value) && std::fabs(value) <= 9007199254740992.0) {
    return static_cast<int64_t>(value);
  }
  return value;
}

}  // namespace

bool Report::Figure::pass() const {
  if (!std::isfinite(value)) return false;
  if (!limit.has_value()) return true;
  return relation == Relation::kAtMost ? value <= *limit : value >= *limit;
}

Report::Report(std::string_view command)
    : command_(command),
      details_(std::make_unique<nlohmann::ordered_json>(nlohmann::ordered_json::object())) {}
Report::Report(Report&& other) noexcept = default;
Report::~Report() = default;

void Report::AddFigure(std::string_view name, double value, std::string_view unit, double limit,
                       Relation relation) {
  Require(std::isfinite(limit), "a figure's limit must be a finite number");
  figures_.push_back({std::string(name), value, std::string(unit), limit, relation});
}

void Report::AddInfo(std::string_view name, double value, std::string_view unit) {
  figures_.push_back({.name = std::string(name), .value = value, .unit = std::string(unit)});
}

void Report::SetDetail(std::string_view key, nlohmann::ordered_json value) {
  Require(std::find(kReservedKeys.begin(), kReservedKeys.end(), key) == kReservedKeys.end(),
          "a detail may not replace schema, command or figures");
  (*details_)[std::string(key)] = std::move(value);
}

bool Report::ok() const {
  return !figures_.empty() && std::all_of(figures_.begin(), figures_.end(),
                                          [](const Figure& figure) { return figure.pass(); });
}

nlohmann::ordered_json Report::ToJson() const {
  nlohmann::ordered_json figures = nlohmann::ordered_json::array();
  for (const Figure& figure : figures_) {
    nlohmann::ordered_json entry;
    entry["name"] = figure.name;
    entry["value"] = NumberOrNull(figure.value);
    entry["unit"] = figure.unit;
    entry["limit"] = nullptr;
    entry["relation"] = nullptr;
    if (figure.limit.has_value()) {
      entry["limit"] = NumberOrNull(*figure.limit);
      entry["relation"] = Symbol(figure.relation);
    }
    entry["pass"] = figure.pass();
    figures.push_back(std::move(entry));
  }
  nlohmann::ordered_json report;
  report["schema"] = 1;
  report["command"] = command_;
  report["figures"] = std::move(figures);
  report.update(*details_);
  return report;
}

void Report::PrintTable(std::ostream& out) const {
  using Row = std::array<std::string, 5>;
  std::vector<Row> rows = {{"figure", "value", "unit", "limit", ""}};
  for (const Figure& figure : figures_) {
    std::string limit;
    if (figure.limit.has_value()) {
      limit = absl::StrFormat("%s %s", Symbol(figure.relation), FormatNumber(*figure.limit));
    }
    const char* outcome = !figure.pass() ? "MISSED" : figure.limit.has_value() ? "ok" : "";
    rows.push_back({figure.name, FormatNumber(figure.value), figure.unit, limit, outcome});
  }
  std::array<size_t, 5> widths{};
  for (const Row& row : rows) {
    for (size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  const auto width = [&](size_t column) { return static_cast<int>(widths[column]); };
  for (const Row& row : rows) {
    std::string line = absl::StrFormat("%-*s  %*s  %-*s  %-*s  %s", width(0), row[0], width(1),
                                       row[1], width(2), row[2], width(3), row[3], row[4]);
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
  }
}

absl::Status Report::WriteJson(const std::string& path) const {
  // Names of files need not be UTF-8; a report must neither fail nor throw because of one.
  using nlohmann::ordered_json;
  const std::string text =
      ToJson().dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  if (path != kStandardOutput) return WriteFileAtomically(path, text);
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "can't write to standard output");
}

}  // namespace bulkhead
