// SPDX-License-Identifier: Apache-2.0
//
// ModuleLink: a supervisor's way to the shim in the kernel, /dev/bulkhead. The kernel serves one
// supervisor at a time. When its link is gone after RemoveGuards(), nothing is left of it. When it
// died, the kernel holds on to what it was told: guards stay in force, callers get what the
// policies say, and the next link finds its channels by name and goes on with them.
//
// Threads: as ShimLink. A thread of the link's reads what the kernel raises.
#ifndef BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_LINK_H_
#define BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_LINK_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/guard_spec.h"
#include "host/store/descriptor_store.h"
#include "ipc/abi/module.h"
#include "ipc/mutex.h"
#include "ipc/shim_link.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class ModuleLink final : public ShimLink {
 public:
  // NotFound: the module is not loaded. PermissionDenied: not root. AlreadyExists: another
  // supervisor has it, and still has it when `wait_ns` are over. Each says what to do.
  static absl::StatusOr<std::unique_ptr<ModuleLink>> Open(uint64_t wait_ns = 0);
  // Goes on with the descriptor and the channels that a link before this one has left in the store:
  // for the kernel nothing has happened. NotFound: there is none; InvalidArgument.
  static absl::StatusOr<std::unique_ptr<ModuleLink>> Adopt(std::shared_ptr<DescriptorStore> store);
  // From here on what a link after this one goes on with is in the store.
  void KeepIn(std::shared_ptr<DescriptorStore> store);
  ~ModuleLink() override;  // removes no guards

  // Accesses to regular files in and below the folder are calls from now on; those in and below
  // what was guarded with the same id before, which is not 0, no longer. Not kAuto.
  absl::Status Guard(const GuardSpec& guard, uint32_t id);

  // Takes all guards away. Waiting callers are still answered.
  absl::Status RemoveGuards() { return Say(BH_CONTROL_UNGUARD, nullptr, "the guards' end"); }

  // All channels and guards are there: what is left of a supervisor that died, and was not named
  // again, goes. Callers that wait there go on by policy.
  absl::Status Settle() { return Say(BH_CONTROL_SETTLE, nullptr, "the end of a take-over"); }
  // All guards count as those of a supervisor that died, until they are set again: they stay in
  // force, and Settle() drops the rest.
  absl::Status Leave() { return Say(BH_CONTROL_LEAVE, nullptr, "the begin of other guards"); }
  bool found_left() const { return found_left_; }  // channels of one that died

  void SetObserver(Observer* observer) override;
  // Unavailable: a host of a supervisor that died is still there.
  absl::StatusOr<ChannelId> AddChannel(const ChannelSpec& spec) override;
  uint32_t LastGeneration(ChannelId channel) override;
  uint32_t Serving(ChannelId channel) override;
  // All are the descriptor of the next generation's host, which ends when its last copy is
  // closed.
  absl::StatusOr<ChannelDescriptors> Descriptors(ChannelId channel) override;
  // Hosts fetch files from the kernel: the socket is closed.
  absl::Status BeginGeneration(ChannelId channel, const bh_generation_spec& spec,
                               UniqueFd descriptor_socket) override;
  absl::Status CanNotify(const bh_callback_set&) const override { return absl::OkStatus(); }
  absl::StatusOr<bh_in_hand> EndGeneration(ChannelId channel, uint32_t generation,
                                           bh_end cause) override;
  absl::Status SetState(ChannelId channel, bool quarantined, bool draining) override;
  absl::Status SetPolicy(ChannelId channel, const bh_policy& policy) override;
  absl::StatusOr<bh_statistics> Statistics(ChannelId channel) override;
  // The module has none of the channels that were added: the operator has ejected it.
  bool IsEjected();
  // Accesses that filters kept from all channels; 0 while there is none.
  uint64_t Filtered();
  absl::Status Exclude(pid_t pid) override;
  absl::Status Include(pid_t pid) override;

 private:
  ModuleLink(UniqueFd device, UniqueFd stop);
  absl::Status Say(unsigned long command, void* argument, const char* what);
  void ReadEvents();
  void Keep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(kept_mutex_);
  void Deliver(const bh_module_event& event);

  const UniqueFd device_;
  const UniqueFd stop_;  // readable: the thread is to end
  std::array<std::atomic<uint32_t>, BH_MODULE_CHANNELS_MAX> last_generation_ = {};
  bool found_left_ = false;  // not changed after Open()
  Mutex kept_mutex_;
  std::shared_ptr<DescriptorStore> store_ ABSL_GUARDED_BY(kept_mutex_);
  std::array<uint32_t, BH_MODULE_CHANNELS_MAX> serving_ ABSL_GUARDED_BY(kept_mutex_) = {};
  std::atomic<bool> added_{false};
  Mutex observer_mutex_;  // held through a delivery, so that SetObserver(nullptr) is final
  Observer* observer_ ABSL_GUARDED_BY(observer_mutex_) = nullptr;
  std::thread reader_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_LINK_H_
