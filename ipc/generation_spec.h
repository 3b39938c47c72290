// SPDX-License-Identifier: Apache-2.0
//
// Sets of callbacks and of notification kinds, and struct bh_generation_spec, as C++ builds them.
#ifndef BULKHEAD_IPC_GENERATION_SPEC_H_
#define BULKHEAD_IPC_GENERATION_SPEC_H_

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <iterator>

#include "ipc/abi/generation.h"
#include "ipc/abi/sets.h"

inline bool operator==(const bh_callback_set& a, const bh_callback_set& b) {
  return std::equal(std::begin(a.bits), std::end(a.bits), std::begin(b.bits));
}

namespace bulkhead {

inline bh_callback_set SetOf(std::initializer_list<uint32_t> ids) {
  bh_callback_set set = bh_set_none();
  for (const uint32_t id : ids) bh_set_add(&set, id);
  return set;
}

inline bh_generation_spec GenerationSpec(uint32_t generation, const bh_callback_set& callbacks,
                                         const bh_callback_set& descriptor_callbacks = {},
                                         uint64_t content_version = 1,
                                         const bh_callback_set& notifications = {}) {
  return {.generation = generation,
          .reserved = 0,
          .callbacks = callbacks,
          .descriptor_callbacks = descriptor_callbacks,
          .notifications = notifications,
          .content_version = content_version};
}

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_GENERATION_SPEC_H_
