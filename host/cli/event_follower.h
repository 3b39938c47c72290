// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_EVENT_FOLLOWER_H_
#define BULKHEAD_HOST_CLI_EVENT_FOLLOWER_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {

// EventFollower: reads the events of running instances, each once.
class EventFollower {
 public:
  // `instance`: its process id. False: no more are wanted.
  using OnEvent = std::function<bool(const std::string& instance, const EventFields& event)>;

  // Of that instance, or of all (0), those that came later too.
  explicit EventFollower(pid_t pid) : pid_(pid) {}

  struct Seen {
    size_t answered = 0;                                      // instances
    std::vector<std::pair<std::string, std::string>> silent;  // instance and error, once for each
  };
  // What is new. Events that an instance no longer knows are told as one of the kind EventsLost.
  Seen Look(const OnEvent& on_event);

 private:
  absl::Status Read(const std::string& path, const std::string& instance, const OnEvent& on_event);

  const pid_t pid_;
  std::map<std::string, uint64_t> newest_;  // by socket: that was read
  std::map<std::string, bool> told_;        // that it does not answer
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_EVENT_FOLLOWER_H_
