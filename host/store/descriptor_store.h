// SPDX-License-Identifier: Apache-2.0
//
// DescriptorStore: what a service leaves for the one after it. Items, each with a name, some bytes
// and descriptors, are held by a process of its own, bulkhead-fdstore, which does nothing else.
// While it holds the descriptors of a host or a shim these serve on, whatever becomes of the
// service. The next service of the same configuration finds the items and goes on with them.
//
//   service dies    the store holds what it has, for as long as it takes until the next comes
//   store dies      nothing is lost: the service starts another and gives it everything again
//   shim dies, too  accesses wait for the next service, for ten seconds; then the store ends
//   both die        the last descriptors are closed: hosts and shim end, as they would without
//   Forget()        the same, in order
//
// The store is reached through a socket of this user's (StorePath) and serves one service at a
// time. docs/decisions/survival.md has the reasons.
//
// Threads: every function from any thread.
#ifndef BULKHEAD_HOST_STORE_DESCRIPTOR_STORE_H_
#define BULKHEAD_HOST_STORE_DESCRIPTOR_STORE_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/mutex.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// The item with the path of the service's configuration file.
inline constexpr char kConfigItem[] = "config";
// The item with the pidfd of the process that answers the kernel, where there is one.
inline constexpr char kShimItem[] = "shim";

class DescriptorStore {
 public:
  struct Item {
    std::string bytes;
    std::vector<UniqueFd> descriptors;
  };
  struct Options {
    std::string path;     // of its socket
    std::string program;  // bulkhead-fdstore
    // A store that died, an item that can't be held. May be empty; must not call back.
    std::function<void(const std::string&)> log;
  };

  // Connects to the store that listens there, or starts one. AlreadyExists: another service is
  // connected, and still is after a second.
  static absl::StatusOr<std::unique_ptr<DescriptorStore>> Open(Options options);
  ~DescriptorStore();  // the store holds on

  // The store's process.
  absl::StatusOr<pid_t> Process() const;
  // A store that is started from now on enters the control group with this file (cgroup.procs).
  void SetGroup(std::string members);
  // Since when no service was there before this one (CLOCK_MONOTONIC); 0: there was none.
  uint64_t left_ns() const { return left_ns_; }
  // A copy of what is held under this name now.
  std::optional<Item> Get(const std::string& name) const;
  // The names that begin so.
  std::vector<std::string> Names(const std::string& prefix) const;

  // Takes the place of what was held under this name. The descriptors are duplicated.
  void Put(const std::string& name, std::string bytes, absl::Span<const int> descriptors);
  void Remove(const std::string& name);
  // Starts the store again if it died. To be called about once a second.
  void Check();
  // Nothing is held from here on, and the store ends. What is put afterwards is ignored.
  void Forget();
  // Whether a store has everything now. Looks after it, as Check() does.
  bool Holds();
  bool forgotten() const {
    const MutexLock lock(mutex_);
    return forgotten_;
  }

 private:
  explicit DescriptorStore(Options options) : options_(std::move(options)) {}
  absl::Status Connect(std::map<std::string, Item>& items) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Take(std::map<std::string, Item>& items) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Launch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Send(const std::string& name, const Item& item)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Holds() starts another: Put() does not wait for that.
  void Drop(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Repair() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Log(const std::string& text) const;

  const Options options_;
  uint64_t left_ns_ = 0;
  mutable Mutex mutex_;
  UniqueFd socket_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Item> items_ ABSL_GUARDED_BY(mutex_);  // what the store should have
  bool forgotten_ ABSL_GUARDED_BY(mutex_) = false;
  std::string why_ ABSL_GUARDED_BY(mutex_);  // it was dropped
  std::string group_ ABSL_GUARDED_BY(mutex_);
};

// The stores in this folder that no service is connected to: what they hold serves on by itself.
struct LeftStore {
  std::string config_path;
  uint64_t left_ns = 0;  // since when; CLOCK_MONOTONIC
};
std::vector<LeftStore> LeftStores(const std::string& run_folder);
// Ends the hosts and the shim that `store` holds, and then the store. `shim_too`: waits for the end
// of the shim as well. Unavailable: one of them hangs in the kernel.
absl::Status EndLeft(DescriptorStore& store, bool shim_too);

// The store's socket for the service with this configuration file, in `run_folder`.
std::string StorePath(const std::string& run_folder, const std::string& config_path);

// The program: holds items until Forget(), or until it has none and no service is connected.
// `service`: the one that has started it; none: it waits for one. Its exit code.
int RunStore(const std::string& path, UniqueFd service);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_STORE_DESCRIPTOR_STORE_H_
