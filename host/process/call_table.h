// SPDX-License-Identifier: Apache-2.0
//
// CallTable: the calls that the driver has in hand. One entry for each worker, and one for each
// call that the driver may keep (BULKHEAD_PENDING). The driver gets a handle, which names an entry
// and the entry's tag; a tag is used once. So a handle of a call that has ended reaches nothing,
// whatever the entry is used for since.
//
//              Open                 Keep                Complete
//      idle ---------> in callback ------> kept ------------------> idle
//       ^                 |    |                                      ^
//       |     Close       |    | Complete, from another thread        |
//       +-----------------+    +--> completing --> recorded ----------+
//                                                      Keep or Close
//
// A completion that comes while the callback still runs is recorded, and its worker sends it when
// the callback has returned BULKHEAD_PENDING.
//
// Threads: an entry in a callback belongs to its worker, a kept one to the thread whose Complete
// comes first. All else is for any thread.
#ifndef BULKHEAD_HOST_PROCESS_CALL_TABLE_H_
#define BULKHEAD_HOST_PROCESS_CALL_TABLE_H_

#include <bulkhead/driver.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "ipc/host_port.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class CallTable {
 public:
  struct alignas(BH_CACHE_LINE) Entry {
    // Valid while the entry is not idle.
    bulkhead_file file = {};
    UniqueFd descriptor;
    TakenCall taken;              // of a kept call
    bulkhead_answer answer = {};  // recorded

   private:
    friend class CallTable;
    std::atomic<uint64_t> word{0};  // tag << kPhaseBits | phase
    std::atomic<uint64_t> deadline_ns{0};
    std::mutex mutex;  // the mapping
    void* mapped = nullptr;
    size_t mapped_bytes = 0;
    uint32_t index = 0;
  };

  // `kept_max` 0: the driver may keep none.
  CallTable(uint32_t workers, uint32_t kept_max);
  ~CallTable();
  CallTable(const CallTable&) = delete;
  CallTable& operator=(const CallTable&) = delete;

  uint32_t kept_max() const { return kept_max_; }
  Entry* OfWorker(uint32_t worker) { return &entries_[worker]; }

  // A callback begins; returns the handle for it.
  const bulkhead_call* Open(Entry& entry, uint64_t deadline_ns);
  // It has returned an answer of its own. False: another thread had completed the call meanwhile,
  // which does not count. The entry is idle; its file and mapping are gone.
  bool Close(Entry& entry);
  // It has returned BULKHEAD_PENDING. True: the call is kept, and *mine is another, idle entry. As
  // long as the driver keeps kept_max() calls, this waits. False: the call was completed meanwhile,
  // the answer is entry.answer; the entry is to be closed. REQUIRES: kept_max() != 0.
  bool Keep(Entry** mine);

  enum class Completion {
    kSent,         // or recorded
    kNotKept,      // the call has ended, or never was
    kNoneIsKept,   // the manifest allows the driver to keep none
    kNotAnAnswer,  // the call is kept on
  };
  // Ends a kept call; `send` sends the answer, before the entry's file and mapping go.
  Completion Complete(const bulkhead_call* call, const bulkhead_answer& given,
                      const std::function<void(TakenCall&, const bulkhead_answer&)>& send);

  // 0 when the handle is of no call in hand.
  uint64_t Deadline(const bulkhead_call* call) const;
  // As bulkhead_host.map_file.
  const void* Map(const bulkhead_call* call, size_t* length);

  // Until the driver keeps none. REQUIRES: no worker runs any more.
  void WaitUntilNoneIsKept();
  uint32_t kept();

 private:
  Entry* Find(const bulkhead_call* call, uint64_t* tag);
  void Release(Entry& entry);

  const uint32_t kept_max_;
  std::vector<Entry> entries_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t kept_ = 0;
  std::vector<uint32_t> spare_;  // entries that no worker has, and no kept call
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_CALL_TABLE_H_
