// SPDX-License-Identifier: Apache-2.0
//
// Attachment: where a shim gets callbacks from, as its supervisor holds it. Each kind is a folder
// here and a row in registry.cc:
//
//   probe     does this machine have it? Tries for real and leaves nothing
//   create    makes one: from here on its link accepts channels
//   Guard     accesses to a folder are calls from now on
//   Reguard   the folders that are guarded, and how, are others from now on
//   Settle    every folder is guarded: what an earlier supervisor had guarded besides is let go
//   Stop      ends it; callers that wait are answered. Again: nothing
//
// Code outside an attachment's folder asks the row what it can do (Capability), never what its name
// is. docs/adding-an-attachment.md walks through a new one.
#ifndef BULKHEAD_HOST_ATTACHMENT_ATTACHMENT_H_
#define BULKHEAD_HOST_ATTACHMENT_ATTACHMENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "host/attachment/guard_spec.h"
#include "host/attachment/limits.h"
#include "host/attachment/protection.h"
#include "host/store/descriptor_store.h"
#include "ipc/shim_link.h"

namespace bulkhead {

// Bits. kCapabilities has the text of each.
enum Capability : uint32_t {
  kGuardsFolders = 1u << 0,
  kFiltersByMode = 1u << 1,
  kFiltersByOwner = 1u << 2,
  kFiltersByExtension = 1u << 3,
  kFiltersByFolder = 1u << 4,
  kSendsNotifications = 1u << 5,
  kOutlivesSupervisor = 1u << 6,
  kAuditsGuards = 1u << 7,
};

struct CapabilityText {
  Capability capability;
  const char* verb;  // after "it can" and "it can't"
};
inline constexpr CapabilityText kCapabilities[] = {
    {kGuardsFolders, "guard folders"},
    {kFiltersByMode, "filter by mode"},
    {kFiltersByOwner, "filter by owner"},
    {kFiltersByExtension, "filter by extension"},
    {kFiltersByFolder, "skip folders"},
    {kSendsNotifications, "send notifications"},
    {kOutlivesSupervisor, "guard on when its supervisor dies"},
    {kAuditsGuards, "audit a guard by itself"},
};
const char* CapabilityVerb(Capability capability);

// A capability, and the option or key of a configuration that asks for it.
struct Need {
  Capability capability;
  std::string field;
};
// What a guard's fields ask for; `prefix` goes before each field's name.
std::vector<Need> NeedsOf(const GuardSpec& guard, const std::string& prefix = "");

struct AttachmentOptions {
  // What an operator should know (a shim that had to be started again …). Any thread.
  std::function<void(const std::string&)> log;
  // A guard's protection changed: a loss, or its end. Any thread; must not call back.
  std::function<void(const GuardProtection&)> on_protection;
  std::set<std::string> accepted;  // names of limits that the operator knows and accepts
  // For the supervisor after this one; with what one before has left, the attachment goes on: its
  // channels are there, and no access is missed. Null: it ends with its supervisor.
  std::shared_ptr<DescriptorStore> store;
  // The shim's process enters the control group with this file (cgroup.procs); empty: it stays.
  std::string shim_group;
};

class Attachment {
 public:
  // The shim's process; 0 where it has none.
  struct ShimProcess {
    uint32_t pid = 0;
    uint32_t incarnation = 0;
  };

  virtual ~Attachment() = default;

  virtual ShimLink* link() = 0;
  // Returns what kAuto became. Errors name the folder and say why. Unimplemented without
  // kGuardsFolders.
  virtual absl::StatusOr<MarkKind> Guard(const GuardSpec& guard) = 0;
  // These are all the guards from now on, for each access that begins after this returns: others
  // that were set, also by the service before, are gone. What is guarded before and after is
  // guarded at each moment between, too. After an error the guards are those from before. Each
  // folder once. Unimplemented without kGuardsFolders.
  virtual absl::Status Reguard(const std::vector<GuardSpec>&) {
    return absl::UnimplementedError("the guards of this attachment can't be changed");
  }
  // The limits that the operator accepts are these from now on.
  virtual void Accept(const std::set<std::string>&) {}
  virtual absl::Status Settle() { return absl::OkStatus(); }
  // One for each Guard() that succeeded, as compared with what is at its place, now or at most a
  // second ago. Called once a second while guards are in force. From any thread.
  virtual std::vector<GuardProtection> Protections() { return {}; }
  // In the order of the row's counters.
  virtual std::vector<uint64_t> CounterValues() = 0;
  virtual ShimProcess shim_process() { return {}; }
  // From here on no access waits for this attachment.
  virtual void RemoveGuards() = 0;
  virtual void Stop() = 0;
};

// Its link, which keeps it alive: a request that a shim never answers still uses both.
inline std::shared_ptr<ShimLink> SharedLink(const std::shared_ptr<Attachment>& attachment) {
  return {attachment, attachment->link()};
}

// The row.
struct AttachmentKind {
  const char* name;
  const char* summary;  // for help: one clause
  const char* remedy;   // for doctor: what helps where probe fails
  uint32_t capabilities;
  absl::Span<const char* const> counters;  // names, the first is of the accesses that became calls
  absl::Span<const AttachmentLimit> limits;
  // NotFound: this machine does not have it. Every error says what to do.
  absl::Status (*probe)();
  absl::StatusOr<std::unique_ptr<Attachment>> (*create)(const AttachmentOptions& options);

  bool can(uint32_t wanted) const { return (capabilities & wanted) == wanted; }
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_ATTACHMENT_H_
