// SPDX-License-Identifier: Apache-2.0
//
// Modules that a host must refuse, one that it accepts, and one that does not do its work: MODULE
// selects which.
#include <bulkhead/driver.h>

#include <cstddef>
#include <string_view>

namespace {

[[maybe_unused]] int Start(const bulkhead_host*, const bulkhead_start*, void**, char*, size_t) {
  return 0;
}
[[maybe_unused]] void Callback(void*, const bulkhead_call*, const bulkhead_file*,
                               bulkhead_answer* answer) {
  answer->verdict = BULKHEAD_ALLOW;
}
// Declines a file named "decline"; otherwise leaves the answer unchanged.
[[maybe_unused]] void AnswerNothing(void*, const bulkhead_call*, const bulkhead_file* file,
                                    bulkhead_answer* answer) {
  if (std::string_view(file->path, file->path_length) == "decline") {
    answer->verdict = BULKHEAD_DECLINE;
  }
}

constexpr uint32_t kOpen[] = {BULKHEAD_ON_FILE_OPEN, 0};
[[maybe_unused]] constexpr uint32_t kOpenAndExec[] = {BULKHEAD_ON_FILE_OPEN, BULKHEAD_ON_FILE_EXEC,
                                                      0};
[[maybe_unused]] constexpr uint32_t kWrong[] = {0x0100, 0};  // ids of a class count from 1
[[maybe_unused]] constexpr uint32_t kCreated[] = {BULKHEAD_FILE_CREATED, 0};

[[maybe_unused]] constexpr bulkhead_driver_description kGood = {
    .size = sizeof(bulkhead_driver_description),
    .abi = BULKHEAD_DRIVER_ABI,
    .name = "module",
    .version = "1",
    .callbacks = kOpen,
    .descriptors = nullptr,
    .start = &Start,
    .stop = nullptr,
    .file_open = &Callback,
    .file_exec = nullptr,
    .file_access = nullptr,
};

}  // namespace

#define MODULE_good 1
#define MODULE_no_entry 2
#define MODULE_nothing 3
#define MODULE_wrong_abi 4
#define MODULE_too_small 5
#define MODULE_newer 6
#define MODULE_no_start 7
#define MODULE_no_function 8
#define MODULE_silent 9
#define MODULE_older 10
#define MODULE_no_notify 11
#define MODULE_wrong_id 12
#define MODULE_NUMBER_OF(name) MODULE_##name
#define MODULE_NUMBER(name) MODULE_NUMBER_OF(name)
#define IS(name) (MODULE_NUMBER(MODULE) == MODULE_##name)

#if !IS(no_entry)
extern "C" const bulkhead_driver_description* bulkhead_driver(void) {
#if IS(nothing)
  return nullptr;
#elif IS(newer)
  // A later version of the ABI appended a field.
  struct Newer {
    bulkhead_driver_description known;
    void* appended;
  };
  static Newer newer = {kGood, nullptr};
  newer.known.size = sizeof(newer);
  return &newer.known;
#else
  static bulkhead_driver_description description = kGood;
  if (IS(wrong_abi)) description.abi = BULKHEAD_DRIVER_ABI + 1;
  if (IS(too_small)) description.size = offsetof(bulkhead_driver_description, file_open);
  if (IS(no_start)) description.start = nullptr;
  if (IS(no_function)) description.callbacks = kOpenAndExec;
  // Built before there were notifications: the bytes after its fields are not its own.
  if (IS(older)) {
    description.size = offsetof(bulkhead_driver_description, notifications);
    description.notifications = kCreated;
  }
  if (IS(wrong_id)) description.callbacks = kWrong;
  if (IS(no_notify)) description.notifications = kCreated;
  if (IS(silent)) description.file_open = &AnswerNothing;
  return &description;
#endif
}
#endif
