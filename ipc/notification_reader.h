// SPDX-License-Identifier: Apache-2.0
//
// NotificationReader: a host's end of the notification ring.
//
//   Read      copies the entries that are there, up to a batch; sleeps while there are none
//   Release   records that the entries up to this one have been given to the driver. Called before
//             the driver gets the entry: if the driver crashes over it, the next host does not
//             deliver it again. Room is given back for kGivenBackAtOnce entries at a time, and
//             with the last entry of a batch: a shim without room polls that line, and each store
//             to it costs a cache miss
//
// The ring outlives hosts. A reader continues at the position that the previous host recorded, if
// that position is possible, else at the position that the shim last accepted. Gaps in the numbers
// show which entries are missing.
//
// Threads: Read and Release by one thread at a time; Stop by any.
//
// Trust: as HostPort. The shim is trusted, but each entry is copied once, and the lengths in it are
// limited to the entry.
#ifndef BULKHEAD_IPC_NOTIFICATION_READER_H_
#define BULKHEAD_IPC_NOTIFICATION_READER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/abi/notification.h"
#include "ipc/host_transport.h"
#include "ipc/notification_view_unsafe.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// A private copy; its texts lie inside it.
struct Notification {
  bh_notification_entry entry;

  uint64_t position() const { return entry.published - 1; }
  std::string_view text() const { return {Chars(), entry.text_bytes}; }
  std::string_view text2() const { return {Chars() + entry.text_bytes, entry.text2_bytes}; }

 private:
  const char* Chars() const { return reinterpret_cast<const char*>(entry.text); }
};

class NotificationReader {
 public:
  // `region` is mapped by `transport`. `words` (in the reply region) and `transport` are owned by
  // the port and outlive the reader. InvalidArgument says what is wrong with the region.
  static absl::StatusOr<std::unique_ptr<NotificationReader>> Attach(UniqueFd region,
                                                                    bh_notification_reader* words,
                                                                    HostTransport* transport);
  NotificationReader(const NotificationReader&) = delete;
  NotificationReader& operator=(const NotificationReader&) = delete;

  // Returns the number of entries copied; 0 when there was none until until_ns (0: never sleeps),
  // or after Stop.
  size_t Read(absl::Span<Notification> batch, uint64_t until_ns);
  void Release(const Notification& last) {
    const uint64_t told = last.position() + 1;
    view_.StoreTold(told);
    if (told == next_ || told - given_back_ >= kGivenBackAtOnce) GiveBack(told);
  }
  void Stop();

  // By cause, as counted by the shim since the ring was made.
  uint64_t lost(bh_notification_loss cause) const { return view_.CopyHeader().lost[cause]; }

 private:
  NotificationReader(NotificationView view, HostTransport* transport, uint64_t position)
      : view_(std::move(view)), transport_(transport) {
    GoOnAt(position);
  }
  static constexpr uint64_t kGivenBackAtOnce = 16;

  size_t Copy(absl::Span<Notification> batch);
  bool IsLeftBehind() const;
  void GoOnAt(uint64_t position);
  void GiveBack(uint64_t position) {
    given_back_ = position;
    view_.StoreRead(position);
  }

  NotificationView view_;
  HostTransport* const transport_;
  uint64_t next_ = 0;  // positions
  uint64_t given_back_ = 0;
  std::atomic<bool> stop_{false};
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_NOTIFICATION_READER_H_
