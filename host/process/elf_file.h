// SPDX-License-Identifier: Apache-2.0
//
// ElfFile: what a shared object says of itself, read from its bytes without loading it. The file
// may come from a stranger: nothing in it is believed beyond its own length.
#ifndef BULKHEAD_HOST_PROCESS_ELF_FILE_H_
#define BULKHEAD_HOST_PROCESS_ELF_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace bulkhead {

class ElfFile {
 public:
  // FailedPrecondition says why a process of this machine can't load it as a shared object: it is
  // not there, is no ELF file, is built for another machine, is a program.
  static absl::StatusOr<ElfFile> Read(const std::string& path);

  // These are empty where the file has no table of its dynamic symbols, or one that can't be.
  bool has_symbols() const { return has_symbols_; }
  bool Defines(const std::string& symbol) const;
  // What others must define.
  const std::vector<std::string>& undefined() const { return undefined_; }
  // The libraries that it needs, by name.
  const std::vector<std::string>& needed() const { return needed_; }

 private:
  void ReadSections(const std::string& bytes);

  bool has_symbols_ = false;
  std::vector<std::string> defined_;  // sorted
  std::vector<std::string> undefined_;
  std::vector<std::string> needed_;
};

// "x86-64", "arm64", or the number.
std::string ElfMachineName(uint16_t machine);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_ELF_FILE_H_
