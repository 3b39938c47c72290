// SPDX-License-Identifier: Apache-2.0
//
// Starts only where memory comes from mimalloc, through C and through C++, and where C++ says so by
// an exception when there is none.
#include <bulkhead/driver.h>
#include <dlfcn.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

namespace {

const volatile std::size_t kTooMuch = std::size_t{1} << 62;  // the compiler must not know

template <typename Allocate>
bool Throws(Allocate allocate) {
  try {
    allocate();
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

// The answer to a want of memory is an exception, or null where that was asked for.
bool SaysSoWithoutMemory() {
  constexpr auto kAligned = std::align_val_t{256};
  return Throws([] { operator delete(operator new(kTooMuch)); }) &&
         Throws([] { operator delete[](operator new[](kTooMuch)); }) &&
         Throws([] { operator delete(operator new(kTooMuch, kAligned), kAligned); }) &&
         operator new(kTooMuch, std::nothrow) ==
             nullptr&& operator new(kTooMuch, kAligned, std::nothrow) == nullptr;
}

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
  } else if (!SaysSoWithoutMemory()) {
    trouble = "without memory, operator new does not throw std::bad_alloc";
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
