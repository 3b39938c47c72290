// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_TOP_SCREEN_H_
#define BULKHEAD_HOST_CLI_TOP_SCREEN_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ipc/abi/latency.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {

enum class TopStyle : uint8_t { kPlain, kHeading, kGood, kWarning, kBad };

struct TopLine {
  std::string text;
  TopStyle style = TopStyle::kPlain;

  friend bool operator==(const TopLine&, const TopLine&) = default;
};

// TopScreen: what `bulkhead top` shows, as lines. Rates are of what was added since the look
// before.
class TopScreen {
 public:
  // A look at all instances. `silent`: those that did not answer, with why.
  void Add(const std::vector<StatusFields>& instances,
           const std::vector<std::pair<std::string, std::string>>& silent, uint64_t now_ns);
  // The newest events, the oldest first.
  void Add(const EventFields& event);
  // At most `rows` lines of at most `columns` bytes: instances, drivers and guards, the least
  // protected first where not all fit, then the newest events.
  std::vector<TopLine> Lines(size_t rows, size_t columns) const;

 private:
  struct Counts {
    uint64_t calls = 0, denied = 0, by_policy = 0;
    std::array<uint64_t, BH_LATENCY_COUNT> took = {};
  };
  struct Rate {
    double calls = 0, denied = 0, by_policy = 0;
    uint32_t p99 = BH_LATENCY_COUNT;  // part of ipc/abi/latency.h
  };
  using Key = std::pair<uint32_t, std::string>;  // process and driver

  void AddInstance(const StatusFields& status, std::vector<TopLine>& lines) const;

  std::vector<StatusFields> instances_;
  std::vector<std::pair<std::string, std::string>> silent_;
  std::map<Key, Counts> counts_;
  std::map<Key, Rate> rates_;
  uint64_t looked_ns_ = 0;
  std::vector<EventFields> events_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_TOP_SCREEN_H_
