// SPDX-License-Identifier: Apache-2.0
//
// Escape probes: what a hostile driver would try against its sandbox, one function each. A probe
// says which layers stop it; sandbox_probes.cc runs each against all layers together and against
// every one of those alone, and without any: a probe that nothing has to stop would prove nothing.
#ifndef BULKHEAD_TESTS_SANDBOX_PROBE_H_
#define BULKHEAD_TESTS_SANDBOX_PROBE_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "ipc/abi/sandbox.h"

namespace bulkhead {

// What probes try to reach: made by the program, outside every sandbox.
struct World {
  std::string folder;       // of root's, open to all: `file`, `secret` and `socket` are in it
  std::string file;         // open to all, for reading and writing
  std::string secret;       // its owner may read it
  std::string unix_socket;  // the program listens
  std::string abstract_socket;
  uint16_t tcp_port = 0;  // of 127.0.0.1; the program listens
  pid_t victim = -1;      // another process of root's, with a known word in its environment
  const char* victim_word = nullptr;  // at this address in its memory, too
  int victim_pidfd = -1;
  int folder_fd = -1;                                           // an open descriptor of `folder`
  int file_fd = -1;                                             // `file`, open for reading
  int network_fd = -1;                                          // of the network namespace outside
  int shared_memory = -1, message_queue = -1, semaphores = -1;  // System V
  std::string posix_queue;
  std::string machine_name;
  uint64_t memory_bytes = 0;  // more than a host may take
  int threads = 0;            // likewise
};

enum class Outcome : int {
  kStopped = 0,
  kEscaped = 1,
  kNothingThere = 2,  // this machine has nothing to try it on
};

struct Probe {
  const char* name;
  const char* group;
  uint32_t layers;  // each stops it alone
  Outcome (*run)(const World& world);
};

absl::Span<const Probe> Probes();

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_SANDBOX_PROBE_H_
