// SPDX-License-Identifier: Apache-2.0
#include <bulkhead/driver.hpp>

class NoScripts : public bulkhead::Driver {
  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override {
    return file.path().ends_with(".sh") ? bulkhead::deny() : bulkhead::allow();
  }
};
BULKHEAD_DRIVER(NoScripts, "no-scripts", "1.0", BULKHEAD_ON_FILE_OPEN, 0)
