// SPDX-License-Identifier: Apache-2.0
//
// FakeHost: one generation of a host, simulated by threads of the test. It uses HostPort as a real
// host does, over the same memory; only its death is simulated: Die() makes its threads drop their
// calls.
#ifndef BULKHEAD_TESTS_TESTING_FAKE_HOST_H_
#define BULKHEAD_TESTS_TESTING_FAKE_HOST_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/shim_link.h"

namespace bulkhead {

inline bh_callback_set AllCallbacks() {
  return SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS});
}

struct FakeHostCall {
  uint32_t callback = 0;
  bh_file_args file = {};
  std::string path;
  uint32_t attempt = 0;
  std::string content;  // first bytes of the descriptor, when one came
  bool has_descriptor = false;
};

enum class TestAnswer {
  kAllow,
  kDeny,
  kAllowCacheable,
  kDecline,
  kDropped,  // no reply, ever; the worker continues (from outside it looks like a hang)
};

using TestDriver = std::function<TestAnswer(const FakeHostCall&)>;

class FakeHost {
 public:
  // Begins `generation` on `channel` with `workers` threads that run `driver`.
  static absl::StatusOr<std::unique_ptr<FakeHost>> Start(
      ShimLink& link, ChannelId channel, uint32_t generation, TestDriver driver,
      uint32_t workers = 1, const bh_callback_set& callbacks = AllCallbacks(),
      uint64_t content_version = 1);
  ~FakeHost();  // Die(kStopped), unless it died already

  // Ends the threads, drops their calls, and reports the end to the shim.
  absl::Status Die(bh_end cause);

  uint64_t calls() const { return calls_.load(); }
  HostPort::Counters counters() const { return port_->counters(); }

 private:
  FakeHost(ShimLink& link, ChannelId channel, uint32_t generation, TestDriver driver);
  void Work(uint32_t worker);

  ShimLink& link_;
  const ChannelId channel_;
  const uint32_t generation_;
  const TestDriver driver_;
  std::unique_ptr<HostPort> port_;
  std::vector<std::thread> threads_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<bool> dying_{false};
  bool dead_ = false;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_FAKE_HOST_H_
