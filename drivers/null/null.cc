// SPDX-License-Identifier: Apache-2.0
//
// null: answers at once. It measures the cost of everything around a driver, and lets a test
// predict every answer. Options (words in the manifest's "options"): "cache" makes answers
// cacheable, "deny-odd" denies files with an odd inode number.
#include <bulkhead/driver.hpp>

class Null : public bulkhead::Driver {
  void start(const bulkhead::StartInfo& info) override {
    deny_odd_ = info.options.find("deny-odd") != std::string::npos;
    cache_ = info.options.find("cache") != std::string::npos;
  }
  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override { return answer(file); }
  bulkhead::Verdict file_exec(const bulkhead::FileEvent& file) override { return answer(file); }
  bulkhead::Verdict file_access(const bulkhead::FileEvent& file) override { return answer(file); }

  bulkhead::Verdict answer(const bulkhead::FileEvent& file) const {
    const bulkhead::Verdict verdict =
        deny_odd_ && (file.inode() & 1) != 0 ? bulkhead::deny() : bulkhead::allow();
    return cache_ ? verdict.cache() : verdict;
  }

  bool deny_odd_ = false;
  bool cache_ = false;
};

BULKHEAD_DRIVER(Null, "null", "1.0.0",
                BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC | BULKHEAD_ON_FILE_ACCESS, 0)
