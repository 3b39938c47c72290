// SPDX-License-Identifier: Apache-2.0
#include "host/process/driver_library.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/process/elf_file.h"
#include "ipc/abi/callbacks.h"
#include "ipc/abi/notification.h"

namespace bulkhead {
namespace {

template <typename... Words>
absl::Status Wrong(const Words&... words) {
  return absl::FailedPreconditionError(absl::StrCat(words...));
}

constexpr size_t kSymbolsShownMax = 10;

std::string Demangled(const std::string& symbol) {
  int status = 0;
  char* text = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string demangled = status == 0 && text != nullptr ? text : symbol;
  std::free(text);
  return demangled;
}

// dlopen() names one symbol that is missing; this names all. The driver itself is not loaded for
// it, but what it needs is. Empty: nothing is missing, or it can't be known.
std::string MissingSymbols(const ElfFile& elf) {
  std::vector<void*> libraries;
  for (const std::string& name : elf.needed()) {
    void* library = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (library == nullptr) return "";  // it may be found by the driver's own search path
    libraries.push_back(library);
  }
  std::vector<std::string> missing;
  for (const std::string& symbol : elf.undefined()) {
    bool found = dlsym(RTLD_DEFAULT, symbol.c_str()) != nullptr;
    for (void* library : libraries) {
      found = found || dlsym(library, symbol.c_str()) != nullptr;
    }
    if (!found) missing.push_back(Demangled(symbol));
  }
  if (missing.empty()) return "";
  const size_t more = missing.size() - std::min(missing.size(), kSymbolsShownMax);
  missing.resize(missing.size() - more);
  return absl::StrCat("; in all it lacks ", absl::StrJoin(missing, ", "),
                      more == 0 ? "" : absl::StrCat(" and ", more, " more"),
                      ": link the libraries that define them");
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

struct Name {
  uint32_t id;
  const char* name;
};
constexpr Name kCallbackNames[] = {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
  {BH_CALLBACK_##NAME, #name},
#include "ipc/abi/callbacks.def"
};
constexpr Name kKindNames[] = {
#define BH_NOTIFICATION_ROW(klass, index, NAME, name, body, doc) {BH_NOTIFY_##NAME, #name},
#include "ipc/abi/notifications.def"
};

// What of `set` is not in `allowed`, by name; empty: nothing.
template <size_t kCount>
std::string NamesBeyond(const bh_callback_set& set, const bh_callback_set& allowed,
                        const Name (&names)[kCount]) {
  if (bh_set_within(&set, &allowed) != 0) return "";
  std::vector<const char*> beyond;
  for (const Name& one : names) {
    if (bh_set_has(&set, one.id) != 0 && bh_set_has(&allowed, one.id) == 0) {
      beyond.push_back(one.name);
    }
  }
  return beyond.empty() ? "ids without a name here" : absl::StrJoin(beyond, ", ");
}

}  // namespace

bool DriverLibrary::Unload() {
  if (library_ == nullptr) return false;
  dlclose(std::exchange(library_, nullptr));
  void* left = dlopen(path_.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (left != nullptr) dlclose(left);
  return left == nullptr;
}

absl::StatusOr<DriverLibrary> DriverLibrary::Load(const std::string& path, const std::string& name,
                                                  const bh_callback_set& callbacks,
                                                  const bh_callback_set& notifications) {
  // For a text file dlopen() reports an invalid header; this reports what the file is not.
  const absl::StatusOr<ElfFile> elf = ElfFile::Read(path);
  if (!elf.ok()) return elf.status();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const std::string error = dlerror();
    return Wrong("cannot load the driver: ", error,
                 error.find("undefined symbol") == error.npos ? "" : MissingSymbols(*elf));
  }
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
  if (!ReadIds(driver.callbacks, &loaded.callbacks_) ||
      !ReadIds(driver.descriptors, &loaded.descriptors_) ||
      !ReadIds(driver.notifications, &loaded.notifications_)) {
    return Wrong(path, " registers for an id that can't be one, or its list of ids has no end (0)");
  }
  bh_set_and(&loaded.descriptors_, &loaded.callbacks_);
  std::vector<std::string> wrong;
  if (!name.empty() && driver.name != name) {
    wrong.push_back(absl::StrCat("calls itself '", driver.name, "', its manifest '", name, "'"));
  }
  if (const std::string more = NamesBeyond(loaded.callbacks_, callbacks, kCallbackNames);
      !more.empty()) {
    wrong.push_back(absl::StrCat("registers for callbacks that its manifest does not name (", more,
                                 "): add them to \"callbacks\""));
  }
  if (const std::string more = NamesBeyond(loaded.notifications_, notifications, kKindNames);
      !more.empty()) {
    wrong.push_back(absl::StrCat("registers for notifications that its manifest does not name (",
                                 more, "): add them to \"notifications\""));
  }
  if (bh_set_empty(&loaded.notifications_) == 0 && driver.notify == nullptr) {
    wrong.push_back("registers for notifications but has no function for them");
  }
#define BULKHEAD_ROW(NAME, name)                                                      \
  if (bh_set_has(&loaded.callbacks_, BULKHEAD_ON_##NAME) && driver.name == nullptr) { \
    wrong.push_back("registers for " #name " but has no function for it");            \
  }
  BULKHEAD_FOR_EACH_FILE_CALLBACK(BULKHEAD_ROW)
#undef BULKHEAD_ROW
  if (!wrong.empty()) return Wrong(path, " ", absl::StrJoin(wrong, "; it "));
  loaded.path_ = path;
  loaded.library_ = library;
  return loaded;
}

}  // namespace bulkhead
