// SPDX-License-Identifier: Apache-2.0
//
// NotificationView: the host's mapping of the notification ring, and every access that the host
// makes to it. Unsafe: a copy is private, taken once, and not yet validated. The layout, and the
// writer of each field, is in ipc/abi/notification.h.
//
// SUBTLE: the shim may write over an entry while it is copied, if a previous host gave the entry
// back unread. Lengths are bounded in the copy; the torn entry reaches only the driver of
// that host.
#ifndef BULKHEAD_IPC_NOTIFICATION_VIEW_UNSAFE_H_
#define BULKHEAD_IPC_NOTIFICATION_VIEW_UNSAFE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "ipc/abi/atomics.h"
#include "ipc/abi/notification.h"
#include "ipc/shared_memory.h"

namespace bulkhead {

class NotificationView {
 public:
  // REQUIRES: the region has bh_notification_region_bytes(entries); `words` outlive the view.
  NotificationView(SharedMemory region, uint32_t entries, bh_notification_reader* words)
      : region_(std::move(region)), entries_(entries), words_(words) {}

  bh_notification_header CopyHeader() const {
    const auto* shared = reinterpret_cast<const bh_notification_header*>(region_.data());
    bh_notification_header copy = {};
    copy.magic = shared->magic;
    copy.version = shared->version;
    copy.entries = shared->entries;
    copy.entry_bytes = shared->entry_bytes;
    copy.bytes = shared->bytes;
    // In this order: the shim writes an entry before it accepts it as read, so `written` is not
    // below `accepted`.
    copy.accepted = bh_load_acquire(&shared->accepted);
    copy.written = bh_load_acquire(&shared->written);
    for (size_t i = 0; i < BH_LOST_MAX; ++i) copy.lost[i] = bh_load_relaxed(&shared->lost[i]);
    return copy;
  }

  // Acquire: the entry is whole.
  bool IsPublished(uint64_t position) const {
    return bh_load_acquire(&entry(position)->published) == position + 1;
  }
  // The shim has put a later entry in its place: a previous host gave the place back.
  bool IsWrittenOver(uint64_t position) const {
    const uint64_t ahead = bh_load_acquire(&entry(position)->published) - (position + 1);
    return ahead != 0 && ahead <= UINT64_MAX / 2;
  }
  // The position up to which the shim has accepted entries as read: entries from there on have not
  // been overwritten.
  uint64_t Accepted() const {
    return bh_load_acquire(
        &reinterpret_cast<const bh_notification_header*>(region_.data())->accepted);
  }
  // REQUIRES: published, and not given back. Copies the header and only as much text as there is.
  void CopyEntry(uint64_t position, bh_notification_entry* copy) const {
    constexpr size_t kHead = offsetof(bh_notification_entry, text);
    const bh_notification_entry* shared = entry(position);
    std::memcpy(copy, shared, kHead);
    const size_t text = size_t{copy->text_bytes} + copy->text2_bytes;
    std::memcpy(copy->text, shared->text, std::min(text, sizeof(copy->text)));
  }

  uint64_t Read() const { return bh_load_relaxed(&words_->read); }
  // Release: from here on the shim may overwrite the entries before `position`, which are copied.
  void StoreRead(uint64_t position) { bh_store_release(&words_->read, position); }
  uint64_t Told() const { return bh_load_relaxed(&words_->told); }
  // Release: stored before the driver gets the entry.
  void StoreTold(uint64_t position) { bh_store_release(&words_->told, position); }
  uint32_t* SleepWord() { return &words_->sleeping; }

 private:
  const bh_notification_entry* entry(uint64_t position) const {
    return reinterpret_cast<const bh_notification_entry*>(
        region_.data() + bh_notification_entry_offset(entries_, position));
  }

  SharedMemory region_;
  uint32_t entries_;
  bh_notification_reader* words_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_NOTIFICATION_VIEW_UNSAFE_H_
