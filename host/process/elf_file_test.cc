// SPDX-License-Identifier: Apache-2.0
#include "host/process/elf_file.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

namespace bulkhead {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

std::string Module(const std::string& name) {
  const char* folder = std::getenv("BULKHEAD_TEST_MODULES");
  return std::string(folder != nullptr ? folder : ".") + "/" + name + ".so";
}

std::string Bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class ElfFileTest : public ::testing::Test {
 protected:
  void TearDown() override { unlink(path_.c_str()); }
  absl::StatusOr<ElfFile> ReadBytes(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary) << bytes;
    return ElfFile::Read(path_);
  }
  std::string Refusal(const std::string& bytes) const {
    return std::string(ReadBytes(bytes).status().message());
  }
  const std::string path_ = testing::TempDir() + "/elf-" + std::to_string(getpid());
};

TEST_F(ElfFileTest, ReadsWhatASharedObjectDefinesAndNeeds) {
  const auto elf = ElfFile::Read(Module("survivor"));
  ASSERT_TRUE(elf.ok()) << elf.status();
  EXPECT_TRUE(elf->has_symbols());
  EXPECT_TRUE(elf->Defines("bulkhead_driver"));
  EXPECT_FALSE(elf->Defines("bulkhead"));
  EXPECT_THAT(elf->needed(), Contains("libc.so.6"));
  EXPECT_THAT(elf->undefined(), Contains("_Znwm"));
  EXPECT_FALSE(ElfFile::Read(Module("no_entry"))->Defines("bulkhead_driver"));
}

TEST_F(ElfFileTest, SaysWhyAFileCannotBeLoaded) {
  EXPECT_THAT(std::string(ElfFile::Read("/nowhere").status().message()), HasSubstr("No such file"));
  EXPECT_THAT(std::string(ElfFile::Read("/tmp").status().message()), HasSubstr("directory"));
  EXPECT_THAT(std::string(ElfFile::Read("/dev/null").status().message()),
              HasSubstr("not a regular file"));
  EXPECT_THAT(Refusal(""), HasSubstr("not an ELF file"));
  EXPECT_THAT(Refusal("#!/bin/sh\n"), HasSubstr("not an ELF file"));
  std::string bytes = Bytes(Module("good"));
  const uint16_t other =
      static_cast<unsigned char>(bytes[offsetof(Elf64_Ehdr, e_machine)]) == EM_AARCH64 ? EM_X86_64
                                                                                       : EM_AARCH64;
  bytes[offsetof(Elf64_Ehdr, e_machine)] = static_cast<char>(other);
  EXPECT_THAT(Refusal(bytes), HasSubstr("is built for " + ElfMachineName(other)));
  bytes = Bytes(Module("good"));
  bytes[EI_CLASS] = ELFCLASS32;
  EXPECT_THAT(Refusal(bytes), HasSubstr("32 bits"));
  bytes = Bytes(Module("good"));
  bytes[offsetof(Elf64_Ehdr, e_type)] = ET_REL;
  EXPECT_THAT(Refusal(bytes), HasSubstr("link it with -shared"));
}

// Cut anywhere, or with any bytes changed: an answer, and no access beyond the file.
TEST_F(ElfFileTest, BelievesNothing) {
  const std::string whole = Bytes(Module("good"));
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    std::string bytes = whole.substr(0, round % 3 == 0 ? random() % whole.size() : whole.size());
    const size_t changes = 1 + random() % 64;
    for (size_t i = 0; i < changes && bytes.size() > EI_NIDENT; ++i) {
      // Mostly in the header, and in the table of sections at the end.
      const size_t at = random() % 2 == 0 ? random() % std::min<size_t>(bytes.size(), 64)
                                          : bytes.size() - 1 - random() % (bytes.size() / 3 + 1);
      if (at >= EI_NIDENT + 4) bytes[at] = static_cast<char>(random());
    }
    const auto elf = ReadBytes(bytes);
    if (elf.ok()) (void)elf->Defines("bulkhead_driver");
  }
}

}  // namespace
}  // namespace bulkhead
