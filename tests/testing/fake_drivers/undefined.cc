// SPDX-License-Identifier: Apache-2.0
//
// Calls two functions that no library has: one that was forgotten when it was linked.
#include <bulkhead/driver.hpp>

namespace forgotten {
bool Look(int descriptor);
}
extern "C" int forgotten_too(void);

namespace {

class Undefined : public bulkhead::Driver {
  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override {
    return forgotten::Look(file.descriptor()) && forgotten_too() != 0 ? bulkhead::allow()
                                                                      : bulkhead::deny();
  }
};

}  // namespace

BULKHEAD_DRIVER(Undefined, "module", "1", BULKHEAD_ON_FILE_OPEN, 0)
