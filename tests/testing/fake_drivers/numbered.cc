// SPDX-License-Identifier: Apache-2.0
//
// The driver "numbered-NUMBER", which allows everything: for tests with many drivers.
#include <bulkhead/driver.hpp>

class Numbered : public bulkhead::Driver {
  bulkhead::Verdict file_open(const bulkhead::FileEvent&) override { return bulkhead::allow(); }
};

#define BH_TEXT_OF(text) #text
#define BH_TEXT(text) BH_TEXT_OF(text)
BULKHEAD_DRIVER(Numbered, "numbered-" BH_TEXT(NUMBER), "1.0.0", BULKHEAD_ON_FILE_OPEN, 0)
