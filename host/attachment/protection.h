// SPDX-License-Identifier: Apache-2.0
//
// What a guard is worth right now: a guard is a promise about a place, and is compared with the
// kernel's own state as long as it is in force.
#ifndef BULKHEAD_HOST_ATTACHMENT_PROTECTION_H_
#define BULKHEAD_HOST_ATTACHMENT_PROTECTION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ipc/abi/protection.h"

namespace bulkhead {

struct GuardProtection {
  std::string folder;
  bh_protection level = BH_PROTECTION_FULL;
  std::vector<std::string> reasons;  // why it is not full; each is a sentence for the operator
  uint64_t losses = 0;               // how often it was found to be gone

  friend bool operator==(const GuardProtection&, const GuardProtection&) = default;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_PROTECTION_H_
