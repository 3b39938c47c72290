// SPDX-License-Identifier: Apache-2.0
//
// Starts only where memory comes from mimalloc, through C and through C++.
#include <bulkhead/driver.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace {

int Start(const bulkhead_host*, const bulkhead_start*, void**, char* error, size_t error_bytes) {
  using Ask = bool (*)(const void*);
  const auto owns = reinterpret_cast<Ask>(dlsym(RTLD_DEFAULT, "mi_is_in_heap_region"));
  void* c = std::malloc(100);
  const auto cc = std::make_unique<char[]>(100);
  const char* trouble = nullptr;
  if (owns == nullptr) {
    trouble = "there is no mimalloc in this process";
  } else if (!owns(c)) {
    trouble = "malloc() is not mimalloc's";
  } else if (!owns(cc.get())) {
    trouble = "operator new is not mimalloc's";
  }
  std::free(c);
  if (trouble == nullptr) return 0;
  std::snprintf(error, error_bytes, "%s", trouble);
  return -1;
}

}  // namespace

extern "C" const bulkhead_driver_description* bulkhead_driver(void) {
  static const bulkhead_driver_description description = {
      .size = sizeof(bulkhead_driver_description),
      .abi = BULKHEAD_DRIVER_ABI,
      .name = "allocator",
      .version = "1",
      .callbacks = nullptr,
      .descriptors = nullptr,
      .start = &Start,
      .stop = nullptr,
      .file_open = nullptr,
      .file_exec = nullptr,
      .file_access = nullptr,
  };
  return &description;
}
