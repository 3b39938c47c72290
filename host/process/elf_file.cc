// SPDX-License-Identifier: Apache-2.0
#include "host/process/elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "which machine is this?"
#endif

constexpr uint64_t kFileBytesMax = uint64_t{256} << 20;  // a larger one's tables are not read

template <typename... Words>
absl::Status Wrong(const Words&... words) {
  return absl::FailedPreconditionError(absl::StrCat(words...));
}

// A struct at an offset, when the file has all of it.
template <typename Struct>
std::optional<Struct> At(const std::string& bytes, uint64_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(Struct)) return std::nullopt;
  Struct value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

std::string_view Part(const std::string& bytes, uint64_t offset, uint64_t size) {
  if (offset > bytes.size() || bytes.size() - offset < size) return {};
  return std::string_view(bytes).substr(offset, size);
}

// A name in a table of names; empty when it is not in it.
std::string Name(std::string_view names, uint64_t offset) {
  if (offset >= names.size()) return "";
  const std::string_view rest = names.substr(offset);
  const size_t end = rest.find('\0');
  return end == rest.npos ? "" : std::string(rest.substr(0, end));
}

absl::Status CheckHeader(const std::string& path, const std::string& bytes) {
  const std::optional<Elf64_Ehdr> header = At<Elf64_Ehdr>(bytes, 0);
  // A 32-bit header is shorter, and says the same up to e_machine.
  if (bytes.size() < sizeof(Elf32_Ehdr) || std::memcmp(bytes.data(), ELFMAG, SELFMAG) != 0) {
    return Wrong(path, " is not an ELF file; a driver is a shared object (cc -shared)");
  }
  const uint16_t machine = At<uint16_t>(bytes, offsetof(Elf64_Ehdr, e_machine)).value_or(0);
  if (bytes[EI_CLASS] != ELFCLASS64 || bytes[EI_DATA] != ELFDATA2LSB || machine != kMachine ||
      !header) {
    return Wrong(path, " is built for ", ElfMachineName(machine),
                 bytes[EI_CLASS] == ELFCLASS32 ? ", 32 bits" : "", ", and this machine is ",
                 ElfMachineName(kMachine), ": build it for that");
  }
  if (header->e_type != ET_DYN) {
    return Wrong(path, " is an ELF file, but no shared object; link it with -shared");
  }
  return absl::OkStatus();
}

}  // namespace

std::string ElfMachineName(uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86-64";
    case EM_AARCH64:
      return "arm64";
    case EM_386:
      return "x86";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "risc-v";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390";
    default:
      return absl::StrCat("machine ", machine);
  }
}

absl::StatusOr<ElfFile> ElfFile::Read(const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file.valid()) return Wrong(path, ": ", std::strerror(errno));
  struct stat status = {};
  if (fstat(file.get(), &status) != 0) return Wrong(path, ": ", std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return Wrong(path, ": ", std::strerror(EISDIR));
  if (!S_ISREG(status.st_mode)) return Wrong(path, " is not a regular file");
  const auto size = static_cast<uint64_t>(status.st_size);
  std::string bytes(std::min(size, kFileBytesMax), '\0');
  size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t count = read(file.get(), bytes.data() + got, bytes.size() - got);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Wrong(path, ": ", std::strerror(errno));
    if (count == 0) break;
    got += static_cast<size_t>(count);
  }
  bytes.resize(got);
  if (absl::Status wrong = CheckHeader(path, bytes); !wrong.ok()) return wrong;
  ElfFile elf;
  if (size <= kFileBytesMax) elf.ReadSections(bytes);
  return elf;
}

void ElfFile::ReadSections(const std::string& bytes) {
  const Elf64_Ehdr header = *At<Elf64_Ehdr>(bytes, 0);
  if (header.e_shentsize != sizeof(Elf64_Shdr)) return;
  const auto section_at = [&](uint64_t index) {
    return index < header.e_shnum
               ? At<Elf64_Shdr>(bytes, header.e_shoff + index * sizeof(Elf64_Shdr))
               : std::nullopt;
  };
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    const std::optional<Elf64_Shdr> section = section_at(i);
    if (!section || (section->sh_type != SHT_DYNSYM && section->sh_type != SHT_DYNAMIC)) continue;
    const std::optional<Elf64_Shdr> strings = section_at(section->sh_link);
    const std::string_view table = Part(bytes, section->sh_offset, section->sh_size);
    if (!strings || table.empty()) continue;
    const std::string_view names = Part(bytes, strings->sh_offset, strings->sh_size);
    if (section->sh_type == SHT_DYNAMIC) {
      for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= table.size(); at += sizeof(Elf64_Dyn)) {
        const auto entry = *At<Elf64_Dyn>(bytes, section->sh_offset + at);
        if (entry.d_tag == DT_NEEDED) needed_.push_back(Name(names, entry.d_un.d_val));
      }
      continue;
    }
    has_symbols_ = true;
    for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table.size(); at += sizeof(Elf64_Sym)) {
      const auto symbol = *At<Elf64_Sym>(bytes, section->sh_offset + at);
      std::string name = Name(names, symbol.st_name);
      if (name.empty()) continue;
      if (symbol.st_shndx != SHN_UNDEF) {
        defined_.push_back(std::move(name));
      } else if (ELF64_ST_BIND(symbol.st_info) != STB_WEAK) {
        undefined_.push_back(std::move(name));
      }
    }
  }
  std::sort(defined_.begin(), defined_.end());
}

bool ElfFile::Defines(const std::string& symbol) const {
  return std::binary_search(defined_.begin(), defined_.end(), symbol);
}

}  // namespace bulkhead
