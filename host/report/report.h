// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_REPORT_REPORT_H_
#define BULKHEAD_HOST_REPORT_REPORT_H_

#include <absl/status/status.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead {

// The only report format. Every command that shows a figure builds a Report, prints it as a table,
// writes it to the file of --json, and exits with its ExitCode():
//
//   {"schema": 1,
//    "command": "bench ipc",
//    "figures": [{"name": "rtt_p50", "value": 118.0, "unit": "ns",
//                 "limit": 150.0, "relation": "<=", "pass": true}, ...],
//    ...details}
//
// A figure without a limit is for information: its limit and relation are null, and it passes. A
// value that is not a finite number was not measured: it is written as null, and never passes.
//
// Not thread-safe: one thread builds and writes a report.
// For WriteJson(), and in place of a file's name on command lines.
inline constexpr char kStandardOutput[] = "-";

class Report {
 public:
  enum class Relation { kAtMost, kAtLeast };

  struct Figure {
    std::string name;
    double value = 0;
    std::string unit;
    std::optional<double> limit;
    Relation relation = Relation::kAtMost;

    bool pass() const;
  };

  explicit Report(std::string_view command);
  Report(Report&& other) noexcept;
  ~Report();

  // REQUIRES: `limit` is a finite number.
  void AddFigure(std::string_view name, double value, std::string_view unit, double limit,
                 Relation relation);
  void AddInfo(std::string_view name, double value, std::string_view unit);

  // Adds `value` beside the figures under `key`; a later value replaces an earlier one.
  // REQUIRES: `key` is not "schema", "command" or "figures".
  void SetDetail(std::string_view key, nlohmann::ordered_json value);

  const std::vector<Figure>& figures() const { return figures_; }

  // Every figure passed. A report without figures is not ok.
  bool ok() const;
  int ExitCode() const { return ok() ? 0 : 1; }

  nlohmann::ordered_json ToJson() const;
  void PrintTable(std::ostream& out) const;

  // "-": to standard output. Else replaces the file at `path` as a whole: on an error the old file
  // stays, and no temporary file is left. A path to something other than a regular file
  // (/dev/stdout, a pipe) is written in place.
  absl::Status WriteJson(const std::string& path) const;

 private:
  std::string command_;
  std::vector<Figure> figures_;
  // A pointer, so that a file that only adds figures does not compile the JSON library.
  std::unique_ptr<nlohmann::ordered_json> details_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_REPORT_REPORT_H_
