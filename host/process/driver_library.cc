// SPDX-License-Identifier: Apache-2.0
#include "host/process/driver_library.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

template <typename... Words>
absl::Status Wrong(const Words&... words) {
  return absl::FailedPreconditionError(absl::StrCat(words...));
}

// For a text file dlopen() reports an invalid header; this reports that the file is not a shared
// object.
absl::Status CheckElf(const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Wrong(path, ": ", std::strerror(errno));
  Elf64_Ehdr header = {};
  const ssize_t bytes = read(file.get(), &header, sizeof(header));
  if (bytes < 0) return Wrong(path, ": ", std::strerror(errno));
  if (bytes < static_cast<ssize_t>(sizeof(header)) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return Wrong(path, " is not an ELF file; a driver is a shared object (cc -shared)");
  }
  if (header.e_type != ET_DYN) {
    return Wrong(path, " is an ELF file, but no shared object; link it with -shared");
  }
  return absl::OkStatus();
}

// False: an id that can be none, or no end where every id was named already.
bool ReadIds(const uint32_t* ids, bh_callback_set* set) {
  if (ids == nullptr) return true;
  constexpr size_t kIdsMax = size_t{BH_CLASS_COUNT} * BH_IDS_PER_CLASS;
  for (size_t i = 0; i <= kIdsMax; ++i) {
    if (ids[i] == 0) return true;
    if (bh_set_bit(ids[i]) == 0) return false;
    bh_set_add(set, ids[i]);
  }
  return false;
}

}  // namespace

absl::StatusOr<DriverLibrary> DriverLibrary::Load(const std::string& path, const std::string& name,
                                                  const bh_callback_set& callbacks,
                                                  const bh_callback_set& notifications) {
  if (absl::Status status = CheckElf(path); !status.ok()) return status;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Wrong("cannot load the driver: ", dlerror());
  using Entry = const bulkhead_driver_description* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, BULKHEAD_DRIVER_ENTRY));
  if (entry == nullptr) {
    return Wrong(path, " has no entry point ", BULKHEAD_DRIVER_ENTRY,
                 "(); export it (BULKHEAD_DRIVER in driver.hpp does)");
  }
  const bulkhead_driver_description* given = entry();
  if (given == nullptr)
    return Wrong(path, ": ", BULKHEAD_DRIVER_ENTRY,
                 "() returned nothing: return a description of the driver");
  if (given->abi != BULKHEAD_DRIVER_ABI) {
    return Wrong(path, " is built for driver ABI ", given->abi, ", this host has ABI ",
                 BULKHEAD_DRIVER_ABI, "; build it against this version's <bulkhead/driver.h>");
  }
  constexpr uint32_t kFirstVersion = offsetof(bulkhead_driver_description, file_access) +
                                     sizeof(bulkhead_driver_description::file_access);
  if (given->size < kFirstVersion) {
    return Wrong(path, " describes itself in ", given->size, " bytes; ABI ", BULKHEAD_DRIVER_ABI,
                 " has at least ", kFirstVersion);
  }
  DriverLibrary loaded;
  std::memcpy(&loaded.description_, given,
              std::min<size_t>(given->size, sizeof(loaded.description_)));
  const bulkhead_driver_description& driver = loaded.description_;
  if (driver.name == nullptr || driver.version == nullptr || driver.start == nullptr) {
    return Wrong(path, " has no name, no version or no start(): give all three");
  }
  if (driver.name != name) {
    return Wrong(path, " calls itself '", driver.name, "', its manifest '", name, "'");
  }
  if (!ReadIds(driver.callbacks, &loaded.callbacks_) ||
      !ReadIds(driver.descriptors, &loaded.descriptors_) ||
      !ReadIds(driver.notifications, &loaded.notifications_)) {
    return Wrong(path, " registers for an id that can't be one, or its list of ids has no end (0)");
  }
  bh_set_and(&loaded.descriptors_, &loaded.callbacks_);
  if (bh_set_within(&loaded.callbacks_, &callbacks) == 0) {
    return Wrong(path, " registers for callbacks that its manifest does not name");
  }
  if (bh_set_within(&loaded.notifications_, &notifications) == 0) {
    return Wrong(path, " registers for notifications that its manifest does not name");
  }
  if (bh_set_empty(&loaded.notifications_) == 0 && driver.notify == nullptr) {
    return Wrong(path, " registers for notifications but has no function for them");
  }
#define BULKHEAD_ROW(NAME, name)                                                      \
  if (bh_set_has(&loaded.callbacks_, BULKHEAD_ON_##NAME) && driver.name == nullptr) { \
    return Wrong(path, " registers for " #name " but has no function for it");        \
  }
  BULKHEAD_FOR_EACH_FILE_CALLBACK(BULKHEAD_ROW)
#undef BULKHEAD_ROW
  return loaded;
}

}  // namespace bulkhead
