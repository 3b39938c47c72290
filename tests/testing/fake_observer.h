// SPDX-License-Identifier: Apache-2.0
//
// FakeObserver: records the events of a shim, and lets a test wait for them (bounded).
#ifndef BULKHEAD_TESTS_TESTING_FAKE_OBSERVER_H_
#define BULKHEAD_TESTS_TESTING_FAKE_OBSERVER_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "ipc/shim_link.h"

namespace bulkhead {

class FakeObserver final : public ShimLink::Observer {
 public:
  struct News {
    enum Kind { kHung, kViolation, kPoison, kTakeover, kShimLost } kind;
    ChannelId channel = 0;
    uint32_t generation = 0;
    uint64_t detail = 0;  // call id, violation, or incarnation
    uint32_t adopted = 0;
  };

  void OnHung(ChannelId channel, uint32_t generation, uint64_t call_id, uint32_t) override {
    Add({News::kHung, channel, generation, call_id, 0});
  }
  void OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) override {
    Add({News::kViolation, channel, generation, violation, 0});
  }
  void OnPoison(ChannelId channel, uint32_t generation, uint64_t call_id) override {
    Add({News::kPoison, channel, generation, call_id, 0});
  }
  // Apart from the others: a test's driver denies as it must.
  void OnDenial(ChannelId, const bh_denial& denial) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      denials_.push_back(denial);
    }
    changed_.notify_all();
  }
  void OnTakeover(uint32_t incarnation, uint32_t adopted) override {
    Add({News::kTakeover, 0, 0, incarnation, adopted});
  }
  void OnShimLost() override { Add({News::kShimLost, 0, 0, 0, 0}); }

  std::vector<News> all() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return news_;
  }

  // The number of events of a kind, after waiting until there are at least `count`.
  size_t WaitFor(News::Kind kind, size_t count,
                 std::chrono::seconds limit = std::chrono::seconds(20)) {
    std::unique_lock<std::mutex> lock(mutex_);
    size_t found = 0;
    changed_.wait_for(lock, limit, [&] {
      found = 0;
      for (const News& news : news_) found += news.kind == kind ? 1 : 0;
      return found >= count;
    });
    return found;
  }

  // All of them, after waiting until there are at least `count`.
  std::vector<bh_denial> Denials(size_t count,
                                 std::chrono::seconds limit = std::chrono::seconds(20)) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, limit, [&] { return denials_.size() >= count; });
    return denials_;
  }

 private:
  void Add(const News& news) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      news_.push_back(news);
    }
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<News> news_;
  std::vector<bh_denial> denials_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_FAKE_OBSERVER_H_
