// SPDX-License-Identifier: Apache-2.0
//
// SizedPayload: the payload of the size sweep, and the work on it, which is the same for Bulkhead's
// call and for raw shared memory: the server adds up all words.
#ifndef BULKHEAD_BENCH_PEERS_SIZED_PAYLOAD_H_
#define BULKHEAD_BENCH_PEERS_SIZED_PAYLOAD_H_

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace bulkhead {

class SizedPayload {
 public:
  explicit SizedPayload(size_t bytes) : words_(bytes / sizeof(uint64_t)) {
    std::iota(words_.begin(), words_.end(), uint64_t{1});
    sum_ = Sum(words_.data());
  }

  bool empty() const { return words_.empty(); }
  size_t bytes() const { return words_.size() * sizeof(uint64_t); }
  const uint64_t* data() const { return words_.data(); }
  // Whether these words are complete; reads each. REQUIRES: bytes() of them.
  bool IsWhole(const uint64_t* words) const { return Sum(words) == sum_; }

 private:
  uint64_t Sum(const uint64_t* words) const {
    return std::accumulate(words, words + words_.size(), uint64_t{0});
  }

  std::vector<uint64_t> words_;
  uint64_t sum_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_SIZED_PAYLOAD_H_
