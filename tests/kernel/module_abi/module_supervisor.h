// SPDX-License-Identifier: Apache-2.0
//
// A supervisor of the kernel module, played by a test through the module's ABI.
#ifndef BULKHEAD_TESTS_KERNEL_MODULE_ABI_MODULE_SUPERVISOR_H_
#define BULKHEAD_TESTS_KERNEL_MODULE_ABI_MODULE_SUPERVISOR_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>

#include "ipc/abi/module.h"
#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {

inline constexpr bh_geometry kGeometry = {
    .lanes = 1, .slots_per_lane = 8, .call_chunks = 32, .reply_chunks = 0};

// Another process opens it, and ends: no excluded process opens this one's files.
inline UniqueFd OpenDevice() {
  const auto opener = static_cast<pid_t>(
      syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (opener == 0) _exit(open("/dev/bulkhead", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  int status = 0;
  EXPECT_EQ(waitpid(opener, &status, 0), opener);
  EXPECT_TRUE(WIFEXITED(status) && fcntl(WEXITSTATUS(status), F_GETFD) >= 0);
  return UniqueFd(WEXITSTATUS(status));
}

// A supervisor's life: it counts as dead when this has closed its descriptor.
class Supervisor {
 public:
  // No host: `absent`. A call that waits in vain, whatever for, is denied in the end.
  int AddChannel(const char* name = "left", uint8_t absent = BH_ACTION_DENY) {
    added_ = {};
    added_.abi = BH_MODULE_ABI;
    std::string_view(name).copy(added_.name, sizeof(added_.name) - 1);
    added_.spec.geometry = kGeometry;
    for (auto& of_class : added_.spec.policy.rule) {
      for (bh_rule& rule : of_class) rule = {BH_ACTION_DENY, BH_ACTION_DENY};
      of_class[BH_REASON_ABSENT].action = absent;
    }
    return ioctl(device_.get(), BH_CONTROL_ADD, &added_) == 0 ? 0 : errno;
  }
  // The host's descriptor, of a generation that has begun.
  UniqueFd BeginHost() {
    UniqueFd host = MakeHost();
    Begin();
    return host;
  }
  UniqueFd MakeHost() {
    bh_module_host wanted = {.channel = added_.channel, .reserved = 0};
    return UniqueFd(ioctl(device_.get(), BH_CONTROL_HOST, &wanted));
  }
  // The last host that was made.
  void Begin(const bh_callback_set& callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN)) {
    bh_module_begin begin = {};
    begin.channel = added_.channel;
    begin.spec = GenerationSpec(added_.generation + 1, callbacks, callbacks);
    EXPECT_EQ(ioctl(device_.get(), BH_CONTROL_BEGIN, &begin), 0) << strerror(errno);
  }
  int Guard(const std::string& folder, uint64_t deadline_ns = kNanosecondsPerSecond,
            uint32_t id = 0, bh_mode mode = BH_MODE_ENFORCE) {
    const UniqueFd place(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    bh_module_guard guard = {};
    guard.fd = place.get();
    guard.kind = BH_GUARD_TREE;
    guard.id = id;
    guard.mode = mode;
    guard.deadline_ns = deadline_ns;
    guard.callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
    guard.filter.owner = BH_MODULE_ANY_OWNER;
    return ioctl(device_.get(), BH_CONTROL_GUARD, &guard) == 0 ? 0 : errno;
  }
  int Leave() { return ioctl(device_.get(), BH_CONTROL_LEAVE) == 0 ? 0 : errno; }
  int Settle() { return ioctl(device_.get(), BH_CONTROL_SETTLE) == 0 ? 0 : errno; }
  int Drain() {
    bh_module_state state = {.channel = added_.channel, .quarantined = 0, .draining = 1};
    return ioctl(device_.get(), BH_CONTROL_STATE, &state) == 0 ? 0 : errno;
  }
  bh_module_statistics Statistics() {
    bh_module_statistics statistics = {.channel = added_.channel};
    EXPECT_EQ(ioctl(device_.get(), BH_CONTROL_STATISTICS, &statistics), 0) << strerror(errno);
    return statistics;
  }
  uint64_t InFlight() { return Statistics().counters.in_flight; }
  // The next event; `event` is 0 when there is none.
  bh_module_event ReadEvent() {
    bh_module_event event = {};
    const ssize_t bytes = read(device_.get(), &event, sizeof(event));
    EXPECT_TRUE(bytes == ssize_t{sizeof(event)} || (bytes < 0 && errno == EAGAIN));
    return event;
  }
  // Of what was added.
  int SetMode(uint32_t mode) {
    bh_module_set_policy wanted = {
        .channel = added_.channel, .reserved = 0, .policy = added_.spec.policy};
    wanted.policy.mode = static_cast<uint8_t>(mode);
    return ioctl(device_.get(), BH_CONTROL_POLICY, &wanted) == 0 ? 0 : errno;
  }
  // 0, or errno: there is none.
  int TakeDenial(bh_module_denial* denial) {
    return ioctl(device_.get(), BH_CONTROL_DENIAL, denial) == 0 ? 0 : errno;
  }
  bool HasDenials() {
    pollfd ready = {.fd = device_.get(), .events = POLLPRI, .revents = 0};
    return poll(&ready, 1, 0) == 1 && (ready.revents & POLLPRI) != 0;
  }
  int End(bh_end cause) {
    bh_module_end end = {.channel = added_.channel,
                         .generation = added_.generation + 1,
                         .cause = cause,
                         .reserved = 0};
    return ioctl(device_.get(), BH_CONTROL_END, &end) == 0 ? 0 : errno;
  }
  int EndInOrder() { return ioctl(device_.get(), BH_CONTROL_UNGUARD) == 0 ? 0 : errno; }
  const bh_module_add& added() const { return added_; }

 private:
  const UniqueFd device_ = OpenDevice();
  bh_module_add added_ = {};
};

inline void* MapCalls(const UniqueFd& host) {
  return mmap(nullptr, bh_call_region_bytes(&kGeometry), PROT_READ, MAP_SHARED, host.get(), 0);
}
inline void* MapReplies(const UniqueFd& host) {
  return mmap(nullptr, bh_reply_region_bytes(&kGeometry), PROT_READ | PROT_WRITE, MAP_SHARED,
              host.get(), BH_MODULE_REPLY_OFFSET);
}

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_KERNEL_MODULE_ABI_MODULE_SUPERVISOR_H_
