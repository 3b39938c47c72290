// SPDX-License-Identifier: Apache-2.0
#include "ipc/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

// Newer than Debian 12's headers; older kernels refuse it with EINVAL.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace bulkhead {
namespace {

struct SealName {
  int seal;
  const char* name;
};
constexpr SealName kSealNames[] = {
    {F_SEAL_SEAL, "F_SEAL_SEAL"},
    {F_SEAL_SHRINK, "F_SEAL_SHRINK"},
    {F_SEAL_GROW, "F_SEAL_GROW"},
    {F_SEAL_WRITE, "F_SEAL_WRITE"},
    {F_SEAL_FUTURE_WRITE, "F_SEAL_FUTURE_WRITE"},
};

std::string SealNames(int seals) {
  std::string names;
  for (const SealName& entry : kSealNames) {
    if ((seals & entry.seal) != 0) absl::StrAppend(&names, names.empty() ? "" : "|", entry.name);
  }
  return names;
}

absl::Status CheckSeals(int fd, int required_seals) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return absl::InvalidArgumentError(
        "the descriptor is not a memfd: shared memory must come from memfd_create");
  }
  const int missing = required_seals & ~seals;
  if (missing != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("shared memory lacks ", SealNames(missing), ": its creator must seal it"));
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> FileBytes(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return absl::ErrnoToStatus(errno, "cannot stat shared memory");
  return static_cast<size_t>(status.st_size);
}

}  // namespace

SharedMemory::SharedMemory(UniqueFd fd, std::byte* data, size_t bytes)
    : fd_(std::move(fd)), data_(data), bytes_(bytes) {}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      locked_(std::exchange(other.locked_, false)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  if (this == &other) return *this;
  Unmap();
  fd_ = std::move(other.fd_);
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  locked_ = std::exchange(other.locked_, false);
  return *this;
}

SharedMemory::~SharedMemory() { Unmap(); }

void SharedMemory::Unmap() {
  if (data_ != nullptr) munmap(data_, bytes_);
  data_ = nullptr;
}

absl::StatusOr<SharedMemory> SharedMemory::Create(const std::string& name, size_t bytes) {
  if (bytes == 0 || bytes % 4096 != 0 || bytes > kSharedMemoryBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("shared memory of ", bytes,
                     " bytes: must be a multiple of 4096, from 4096 to ", kSharedMemoryBytesMax));
  }
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
  if (!fd.valid() && errno == EINVAL) {
    fd.reset(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("memfd_create ", name));
  // Reserves the pages: a later access can't fail with SIGBUS because memory has run out.
  const int error = posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  if (error != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", bytes, " bytes of shared memory (", name,
                     "): choose a smaller channel or free some memory"));
  }
  return Map(std::move(fd), 0, bytes, Access::kReadWrite);
}

absl::StatusOr<SharedMemory> SharedMemory::MapChecked(UniqueFd fd, size_t bytes, Access access,
                                                      int required_seals) {
  if (!fd.valid())
    return absl::InvalidArgumentError("the message has no descriptor for the shared memory");
  // Seals before size: memory without seals can change its size after the check.
  if (auto status = CheckSeals(fd.get(), required_seals | F_SEAL_SHRINK | F_SEAL_GROW);
      !status.ok()) {
    return status;
  }
  auto file_bytes = FileBytes(fd.get());
  if (!file_bytes.ok()) return file_bytes.status();
  if (bytes == 0 || *file_bytes != bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("shared memory has ", *file_bytes, " bytes where ", bytes, " belong"));
  }
  return Map(std::move(fd), 0, bytes, access);
}

absl::StatusOr<SharedMemory> SharedMemory::MapDevice(UniqueFd fd, uint64_t offset, size_t bytes,
                                                     Access access) {
  if (!fd.valid())
    return absl::InvalidArgumentError("the message has no descriptor for the shared memory");
  return Map(std::move(fd), offset, bytes, access);
}

absl::StatusOr<SharedMemory> SharedMemory::Map(UniqueFd fd, uint64_t offset, size_t bytes,
                                               Access access) {
  const int protection = access == Access::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  void* data = mmap(nullptr, bytes, protection, MAP_SHARED | MAP_POPULATE, fd.get(),
                    static_cast<off_t>(offset));
  if (data == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map shared memory");
  SharedMemory memory(std::move(fd), static_cast<std::byte*>(data), bytes);
  memory.locked_ = mlock(data, bytes) == 0;
  return memory;
}

absl::Status SharedMemory::AddSeals(int seals) {
  if (fcntl(fd_.get(), F_ADD_SEALS, seals) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot add ", SealNames(seals)));
  }
  return absl::OkStatus();
}

absl::Status SharedMemory::SealAgainstResize() { return AddSeals(F_SEAL_SHRINK | F_SEAL_GROW); }

absl::Status SharedMemory::SealAgainstNewWriters() { return AddSeals(F_SEAL_FUTURE_WRITE); }

absl::Status SharedMemory::SealForGood() { return AddSeals(F_SEAL_SEAL); }

absl::StatusOr<size_t> SealedMemoryBytes(int fd) {
  if (auto status = CheckSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW); !status.ok()) return status;
  return FileBytes(fd);
}

}  // namespace bulkhead
