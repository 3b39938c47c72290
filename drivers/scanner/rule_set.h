// SPDX-License-Identifier: Apache-2.0
//
// RuleSet: the YARA rules of one content folder, ready to scan with. *.yar and *.yara are sources
// and are compiled here; *.yarc are compiled already (yarac, or bulkhead-rules). A compiled file
// loads faster, but must come from a trusted source: libyara 4.2 does not validate it.
//
// Threads: Scan() may be called from any number of threads at once. Load() scans a small built-in
// sample before it returns, so that rules that crash the engine do so during the start, where the
// supervisor can put the old ones back, and not at the first file.
#ifndef BULKHEAD_DRIVERS_SCANNER_RULE_SET_H_
#define BULKHEAD_DRIVERS_SCANNER_RULE_SET_H_

#include <yara.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace scanner {

enum class Found { kNothing, kMatch, kTimeout, kTrouble };

struct ScanResult {
  Found found = Found::kNothing;
  std::string rule;  // the first rule that matched
};

class RuleSet {
 public:
  // Every rule file of the folder and of those below it. On failure *error names the file, and the
  // line for sources.
  static std::unique_ptr<RuleSet> Load(const std::string& folder, std::string* error);
  // Stops after `timeout`, plus the time that libyara takes between two checks of its clock.
  ScanResult Scan(std::span<const std::byte> bytes, std::chrono::nanoseconds timeout) const;
  // Writes the rules that Load() compiled from sources, as a .yarc file.
  bool Save(const std::string& path, std::string* error) const;
  size_t files() const { return files_; }
  // What else is in the folder, by its name there: other files than *.yar, *.yara and *.yarc.
  const std::vector<std::string>& others() const { return others_; }

 private:
  // Initialises libyara; libyara counts its users itself.
  struct Library {
    Library() : ready(yr_initialize() == ERROR_SUCCESS) {}
    ~Library() {
      if (ready) yr_finalize();
    }
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;
    const bool ready;
  };
  struct Destroy {
    void operator()(YR_RULES* rules) const { yr_rules_destroy(rules); }
  };
  using Rules = std::unique_ptr<YR_RULES, Destroy>;

  RuleSet() = default;
  bool AddCompiled(const std::string& path, std::string* error);
  bool AddSources(const std::vector<std::string>& paths, std::string* error);

  Library library_;  // first in, last out
  std::vector<Rules> rules_;
  size_t files_ = 0;
  std::vector<std::string> others_;
};

}  // namespace scanner

#endif  // BULKHEAD_DRIVERS_SCANNER_RULE_SET_H_
