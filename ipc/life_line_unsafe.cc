// SPDX-License-Identifier: Apache-2.0
#include "ipc/life_line_unsafe.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>

#include <cstddef>
#include <new>
#include <utility>

#include "ipc/abi/atomics.h"
#include "ipc/check.h"
#include "ipc/futex.h"

namespace bulkhead {
namespace {

constexpr size_t kBytes = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr int kWakesMax = 1000;  // for one line, without its end: the host sends spurious wakes

static_assert(LifeLine::kLines * BH_CACHE_LINE <= kBytes);
static_assert(sizeof(pthread_mutex_t) <= BH_CACHE_LINE);
// The futex word that the kernel marks: robust lists keep it at a fixed distance from their links.
static_assert(offsetof(pthread_mutex_t, __data.__lock) == 0);

}  // namespace

absl::StatusOr<LifeLine> LifeLine::Create() {
  absl::StatusOr<SharedMemory> memory = SharedMemory::Create("bulkhead-life", kBytes);
  if (!memory.ok()) return memory.status();
  if (absl::Status status = memory->SealAgainstResize(); !status.ok()) return status;
  return LifeLine(*std::move(memory));
}

absl::StatusOr<LifeLine> LifeLine::Attach(UniqueFd fd) {
  absl::StatusOr<SharedMemory> memory =
      SharedMemory::MapChecked(std::move(fd), kBytes, SharedMemory::Access::kReadWrite, kSeals);
  if (!memory.ok()) return memory.status();
  return LifeLine(*std::move(memory));
}

absl::Status LifeLine::Hold(uint32_t line) {
  BULKHEAD_CHECK(line < kLines);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  auto* mutex = new (Line(line)) pthread_mutex_t;
  int code = pthread_mutex_init(mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  if (code == 0) code = pthread_mutex_lock(mutex);
  return code == 0 ? absl::OkStatus() : absl::ErrnoToStatus(code, "a robust mutex");
}

// SUBTLE: the mutex belongs to the host; only its first word is accessed here, as the kernel does.
// Its owner never unlocks it, so while it is held only the kernel changes it.
bool LifeLine::WaitForEnd(uint32_t* word) {
  for (int wakes = 0; wakes < kWakesMax && bh_load_acquire(&cut_) == 0; ++wakes) {
    uint32_t value = bh_load_acquire(word);
    if ((value & FUTEX_OWNER_DIED) != 0) return true;
    if (value == 0) return false;
    const uint32_t waited_for = value | FUTEX_WAITERS;
    if (value != waited_for && !bh_compare_exchange(word, &value, waited_for)) continue;
    if (!FutexWaitEither(word, waited_for, &cut_)) return false;
  }
  return false;
}

bool LifeLine::WaitForEnds() {
  if (!WaitForEnd(Word(0))) return false;
  for (uint32_t line = 1; line < kLines; ++line) {
    if (bh_load_acquire(Word(line)) != 0 && !WaitForEnd(Word(line))) return false;
  }
  return true;
}

void LifeLine::Cut() {
  bh_store_release(&cut_, 1u);
  FutexWake(&cut_, FutexScope::kPrivate, kFutexWakeAll);
}

}  // namespace bulkhead
