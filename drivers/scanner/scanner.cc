// SPDX-License-Identifier: Apache-2.0
//
// scanner: denies files that match a YARA rule, while they are opened and while they are executed.
// Its content is a folder of rules (see rule_set.h).
#include <bulkhead/driver.hpp>

#include <memory>
#include <stdexcept>
#include <string>

#include "rule_set.h"

namespace scanner {

class Scanner : public bulkhead::Driver {
  void start(const bulkhead::StartInfo& info) override {
    host_ = std::make_unique<bulkhead::Host>(info.host);
    std::string error;
    rules_ = RuleSet::Load(info.content_path, &error);
    if (!rules_) throw std::runtime_error(error);
    const std::vector<std::string>& others = rules_->others();
    host_->info("rules of " + std::to_string(rules_->files()) +
                (rules_->files() == 1 ? " file in force" : " files in force"));
    if (!others.empty()) {
      host_->warning(
          "not read as rules, by its name: " + others.front() +
          (others.size() == 1 ? "" : " and " + std::to_string(others.size() - 1) + " more"));
    }
  }

  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override { return scan(file); }
  bulkhead::Verdict file_exec(const bulkhead::FileEvent& file) override { return scan(file); }

  bulkhead::Verdict scan(const bulkhead::FileEvent& file) const {
    const auto bytes = file.map();
    if (!bytes) return bulkhead::decline();  // the operator's policy decides about unreadable files
    if (bytes->empty()) return bulkhead::allow().cache();
    // An answer after the deadline has no reader: stop before.
    const ScanResult result = rules_->Scan(*bytes, file.time_left() * 9 / 10);
    switch (result.found) {
      case Found::kMatch:
        host_->warning("denied " + std::string(file.path()) + ": " + result.rule);
        return bulkhead::deny().cache().because(result.rule);
      case Found::kNothing:
        return bulkhead::allow().cache();
      case Found::kTimeout:
      case Found::kTrouble:
        break;
    }
    host_->error("no verdict on " + std::string(file.path()));
    return bulkhead::decline();
  }

  std::unique_ptr<bulkhead::Host> host_;
  std::unique_ptr<RuleSet> rules_;
};

}  // namespace scanner

BULKHEAD_DRIVER(scanner::Scanner, "scanner", "1.0.0", BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC,
                BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC)
