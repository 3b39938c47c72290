// SPDX-License-Identifier: Apache-2.0
//
// NotificationView: the notification ring as the host sees it, and every access that the host makes
// to it. SUBTLE: an entry may be written over while it is copied, where a host before this one gave
// it back unread: lengths are bounded in the copy, and what is torn is told wrongly to the driver
// whose host lied, and to nobody else. Unsafe: a copy is private, taken once, and not yet
// validated. The layout, and who writes which field, stands in ipc/abi/notification.h.
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
    // In this order: what was accepted was written before.
    copy.accepted = bh_load_acquire(&shared->accepted);
    copy.written = bh_load_acquire(&shared->written);
    for (size_t i = 0; i < BH_LOST_MAX; ++i) copy.lost[i] = bh_load_relaxed(&shared->lost[i]);
    return copy;
  }

  // Acquire: the entry is whole.
  bool IsPublished(uint64_t position) const {
    return bh_load_acquire(&entry(position)->published) == position + 1;
  }
  // The shim has put a later entry in its place, which was given back by somebody before us.
  bool IsWrittenOver(uint64_t position) const {
    const uint64_t ahead = bh_load_acquire(&entry(position)->published) - (position + 1);
    return ahead != 0 && ahead <= UINT64_MAX / 2;
  }
  // How far the shim believes that was read: what is there was not written over.
  uint64_t Accepted() const {
    return bh_load_acquire(
        &reinterpret_cast<const bh_notification_header*>(region_.data())->accepted);
  }
  // REQUIRES: published, and not given back. All but the text that there is not.
  void CopyEntry(uint64_t position, bh_notification_entry* copy) const {
    constexpr size_t kHead = offsetof(bh_notification_entry, text);
    const bh_notification_entry* shared = entry(position);
    std::memcpy(copy, shared, kHead);
    const size_t text = size_t{copy->text_bytes} + copy->text2_bytes;
    std::memcpy(copy->text, shared->text, std::min(text, sizeof(copy->text)));
  }

  uint64_t Read() const { return bh_load_relaxed(&words_->read); }
  // Release: the shim may write over what was copied before.
  void StoreRead(uint64_t position) { bh_store_release(&words_->read, position); }
  uint64_t Told() const { return bh_load_relaxed(&words_->told); }
  // Release: it is there before the driver is.
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
