// SPDX-License-Identifier: Apache-2.0
#include "ipc/notification_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"
#include "ipc/shared_memory.h"

namespace bulkhead {
namespace {

// 0: no ring has this size.
uint32_t EntriesOf(size_t bytes) {
  const size_t entries = (std::max<size_t>(bytes, 4096) - 4096) / BH_NOTIFICATION_ENTRY_BYTES;
  const auto count = static_cast<uint32_t>(std::min<size_t>(entries, UINT32_MAX));
  const bool valid = bh_notification_entries_valid(count) != 0;
  return valid && bh_notification_region_bytes(count) == bytes ? count : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NotificationReader>> NotificationReader::Attach(
    UniqueFd region, bh_notification_reader* words, HostTransport* transport) {
  absl::StatusOr<SharedMemory> memory = transport->MapNotifications(std::move(region));
  if (!memory.ok()) {
    return absl::Status(memory.status().code(),
                        absl::StrCat("notification region: ", memory.status().message()));
  }
  const size_t bytes = memory->bytes();
  const uint32_t entries = EntriesOf(bytes);
  if (entries == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("notification region: ", bytes, " bytes is not the size of a ring"));
  }
  NotificationView view(*std::move(memory), entries, words);
  const bh_notification_header header = view.CopyHeader();
  if (header.magic != BH_NOTIFICATION_MAGIC || header.version != BH_NOTIFICATION_VERSION) {
    return absl::InvalidArgumentError(
        "notification region: not a ring of this version: install shim and host of one release");
  }
  if (header.entries != entries || header.entry_bytes != BH_NOTIFICATION_ENTRY_BYTES ||
      header.bytes != bytes) {
    return absl::InvalidArgumentError("notification region: its header contradicts its size");
  }
  // The previous host left the words with any value; a host of a version without `told` left an old
  // value there.
  uint64_t position = view.Read();
  if (position - header.accepted > header.written - header.accepted) position = header.accepted;
  if (view.Told() - position <= header.written - position) position = view.Told();
  bh_store_relaxed(view.SleepWord(), 0u);
  return std::unique_ptr<NotificationReader>(
      new NotificationReader(std::move(view), transport, position));
}

void NotificationReader::GoOnAt(uint64_t position) {
  next_ = position;
  view_.StoreTold(position);
  GiveBack(position);
}

size_t NotificationReader::Copy(absl::Span<Notification> batch) {
  size_t count = 0;
  for (; count < batch.size() && view_.IsPublished(next_); ++count, ++next_) {
    bh_notification_entry& entry = batch[count].entry;
    view_.CopyEntry(next_, &entry);
    const size_t room = sizeof(entry.text);
    entry.text_bytes = static_cast<uint16_t>(std::min<size_t>(entry.text_bytes, room));
    entry.text2_bytes =
        static_cast<uint16_t>(std::min<size_t>(entry.text2_bytes, room - entry.text_bytes));
  }
  return count;
}

// A previous host may have recorded a wrong position, which the shim accepted. If the ring then
// holds a later entry at the very position that the shim has accepted, the ring contradicts itself:
// there is no position to continue at, and Read waits until until_ns.
bool NotificationReader::IsLeftBehind() const {
  return view_.IsWrittenOver(next_) && view_.Accepted() != next_;
}

size_t NotificationReader::Read(absl::Span<Notification> batch, uint64_t until_ns) {
  uint32_t* word = view_.SleepWord();
  // SUBTLE: stop_ is checked twice, with the fence between: the first check may miss Stop().
  for (;;) {
    if (stop_.load(std::memory_order_relaxed)) return 0;
    if (IsLeftBehind()) GoOnAt(view_.Accepted());
    if (const size_t count = Copy(batch); count != 0 || until_ns == 0) return count;
    // Announce, fence, check again. The shim publishes, fences, and checks for the announcement:
    // either the shim sees the announcement, or this thread sees the entry. Stop does the same with
    // its flag.
    bh_store_relaxed(word, 1u);
    bh_fence();
    FutexResult woken = FutexResult::kLookAgain;
    if (!view_.IsPublished(next_) && !IsLeftBehind() && !stop_.load(std::memory_order_relaxed)) {
      woken = transport_->WaitForCall(BH_WORKER_NOTIFICATIONS, word, BH_SLEEPS, until_ns);
    }
    bh_store_relaxed(word, 0u);
    if (woken == FutexResult::kTimedOut) until_ns = 0;  // one more check
  }
}

void NotificationReader::Stop() {
  stop_.store(true, std::memory_order_relaxed);
  bh_fence();
  // Whatever the word says: a shim that died may have taken the announcement without waking.
  uint32_t* word = view_.SleepWord();
  bh_exchange(word, 0u);
  transport_->WakeWorker(BH_WORKER_NOTIFICATIONS, word);
}

}  // namespace bulkhead
