// SPDX-License-Identifier: Apache-2.0
//
// What a supervisor leaves of a driver for the next one, and how that goes on with it.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "host/supervisor/driver.h"
#include "host/supervisor/host_record.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

using Kind = DriverEventKind;

constexpr uint64_t kLeftHostEndsWithinNs = 2 * kNanosecondsPerSecond;

std::string ItemOf(const std::string& driver) { return absl::StrCat("driver/", driver); }

}  // namespace

std::string Driver::PackageOf(const Manifest& manifest) {
  const absl::StatusOr<std::string> text = ManifestTextOf(manifest.folder);
  struct stat library = {};
  (void)stat(manifest.LibraryPath().c_str(), &library);
  return absl::StrCat(manifest.folder, "\n", text.ok() ? *text : "", "\n", library.st_dev, " ",
                      library.st_ino, " ", library.st_size, " ", library.st_mtim.tv_sec, ".",
                      library.st_mtim.tv_nsec);
}

std::string Driver::PackageWith(const std::string& options) const {
  return absl::StrCat(package_, "\n", options);
}

absl::StatusOr<std::optional<HostRecord>> Driver::Left(const DescriptorStore* store,
                                                       const std::string& name) {
  if (store == nullptr) return std::nullopt;
  const std::optional<DescriptorStore::Item> item = store->Get(ItemOf(name));
  if (!item) return std::nullopt;
  absl::StatusOr<HostRecord> record = ReadHostRecord(item->bytes);
  if (!record.ok()) {
    return absl::Status(record.status().code(),
                        absl::StrCat("what the service before has left of '", name,
                                     "' can't be used: ", record.status().message()));
  }
  return *std::move(record);
}

absl::Status Driver::GoOn(const HostRecord& left, ShimLink* link) {
  took_over_ = true;
  channel_ = left.channel;
  lane_ = around_.link->AddLane(channel_);
  const auto adopt = [&](const ReleaseRecord& release) {
    if (release.id == 0) return;
    releases_.Adopt({.id = release.id,
                     .driver = config_.manifest,
                     .content_folder = release.content_folder,
                     .content_source = release.content_source,
                     .options = release.options},
                    left.newest_release);
  };
  adopt(left.good);
  adopt(left.running);
  releases_.RemoveOthers();
  absl::Status adopted = left.generation == 0 ? absl::NotFoundError("no host served")
                         : left.package != PackageWith(OptionsWith(config_.options))
                             ? absl::FailedPreconditionError("its package or options are others")
                         : bh_sandbox_level_of(left.sandbox.layers) < around_.sandbox_required
                             ? absl::FailedPreconditionError("more sandbox is required now")
                             : AdoptHost(left);
  if (absl::Status status = EndLeftHosts(adopted.ok() ? left.pid : -1, link); !status.ok()) {
    return status;
  }
  if (adopted.ok()) return absl::OkStatus();
  if (const uint32_t generation = link->Serving(channel_); generation != 0) {
    // NotFound: the shim had not begun it, or has seen its end.
    (void)link->EndGeneration(channel_, generation, BH_END_KILLED);
  }
  ReleaseId release = 0;
  if (absl::Status status = AddFirstRelease(&release); !status.ok()) return status;
  if (!checkpoint_.fd().valid()) {
    if (absl::Status status = MakeCheckpoint(); !status.ok()) return status;
  }
  lifecycle_ = std::make_unique<Lifecycle>(Limits(), release, left.newest_generation);
  return absl::OkStatus();
}

absl::Status Driver::AdoptHost(const HostRecord& left) {
  std::optional<DescriptorStore::Item> item = around_.store->Get(ItemOf(name()));
  if (!item) return absl::InternalError("the store has lost it");
  if (releases_.Get(left.running.id) == nullptr) {
    return absl::InvalidArgumentError("its record does not say what it runs");
  }
  if (left.has_checkpoint) {
    if (item->descriptors.size() <= kHostCheckpoint) {
      return absl::InvalidArgumentError("its checkpoint is missing");
    }
    absl::StatusOr<SharedMemory> memory = SharedMemory::MapChecked(
        std::move(item->descriptors[kHostCheckpoint]), config_.manifest.checkpoint_bytes,
        SharedMemory::Access::kReadWrite, F_SEAL_SEAL);
    if (!memory.ok()) return memory.status();
    checkpoint_ = *std::move(memory);
  }
  absl::StatusOr<std::unique_ptr<HostSession>> session =
      HostSession::Adopt(around_.spawner, left, std::move(item->descriptors),
                         releases_.Get(left.running.id), around_.now_ns());
  if (!session.ok()) return session.status();
  SessionOf(Role::kActive) = *std::move(session);
  sandbox_ = left.sandbox;
  lacks_told_ = left.sandbox.lacks;
  asked_ = left.wanted.callbacks;
  in_force_ = left.running.id;
  lifecycle_ = std::make_unique<Lifecycle>(Limits(), left.good.id, left.newest_generation);
  adopted_ = lifecycle_->Adopt({.generation = left.generation,
                                .newest_generation = left.newest_generation,
                                .running = left.running.id,
                                .good = left.good.id,
                                .newest_release = left.newest_release,
                                .restarts = left.restarts,
                                .start_failures = left.start_failures},
                               around_.now_ns());
  left_ns_ = around_.store->left_ns();
  adopted_generation_ = left.generation;
  return absl::OkStatus();
}

// One that did not serve, or that is not gone on with. The shim must not take its id for a host's.
absl::Status Driver::EndLeftHosts(pid_t but, ShimLink* link) {
  const std::string prefix = HostItems(name());
  for (const std::string& item : around_.store->Names(prefix)) {
    int pid = 0;
    if (!absl::SimpleAtoi(item.substr(prefix.size()), &pid) || pid == but) continue;
    std::optional<DescriptorStore::Item> held = around_.store->Get(item);
    if (held && !held->descriptors.empty()) {
      ChildProcess child = OpenLeftChild(pid, std::move(held->descriptors.front()));
      child.group = around_.spawner->FindGroup(held->bytes);
      around_.spawner->Kill(child);
      if (!PollUntil(child.pidfd.get(), POLLIN, MonotonicAfterNs(kLeftHostEndsWithinNs))) {
        return absl::UnavailableError(absl::StrCat("host ", pid, " of '", name(),
                                                   "', which a service before has left, hangs in "
                                                   "the kernel and can't be ended yet"));
      }
      around_.spawner->Reap(child);
    }
    (void)link->Include(pid);
    around_.store->Remove(item);
  }
  return absl::OkStatus();
}

// The shim may have lost the channel since its record was written, or a step of the service before
// was only half done: what it says decides. A host of a generation that the shim
// does not know is never asked.
void Driver::TakeOverChannel() {
  Submit([this, inbox = around_.inbox, policy = policy_](ShimLink& link, ChannelId& channel) {
    absl::Status policy_set = link.SetPolicy(channel, policy);
    absl::Status state_set = link.SetState(channel, /*quarantined=*/false, /*draining=*/false);
    const uint32_t serving = link.Serving(channel);
    inbox->Post(
        [this, serving, policy_set = std::move(policy_set), state_set = std::move(state_set)] {
          OnChannelTaken(serving, policy_set, state_set);
        });
  });
}

void Driver::OnChannelTaken(uint32_t serving, const absl::Status& policy,
                            const absl::Status& state) {
  ReportLink(policy);
  ReportLink(state);
  const HostSession* session = SessionOf(Role::kActive).get();
  if (session == nullptr || lifecycle_->state() != State::kServing) return;
  if (left_ns_ == 0 || session->generation() != adopted_generation_) return;  // another since
  if (serving != session->generation()) OnShimLost();
}

void Driver::Begin() {
  if (took_over_) TakeOverChannel();
  if (left_ns_ == 0) {
    Step({.kind = EventKind::kStart});
    return;
  }
  HostSession& session = *SessionOf(Role::kActive);
  const bool watched =
      session.WatchExit([this, inbox = around_.inbox, generation = session.generation()] {
        inbox->Post([this, generation] { OnEnding(Role::kActive, generation); });
      });
  if (!watched) Report(Kind::kExitWatcherMissing, &session);
  DriverEvent event = DriverEvent::Of(Kind::kAdopted);
  event.generation = session.generation();
  event.pid = session.pid();
  event.number = static_cast<uint32_t>((around_.now_ns() - left_ns_) / kNanosecondsPerMillisecond);
  Report(std::move(event));
  changed_ = true;
  for (const ActionItem& action : std::exchange(adopted_, {})) Perform(action);
  Step({.kind = EventKind::kStart});
}

void Driver::Keep() {
  if (around_.store == nullptr) return;
  const auto record_of = [this](ReleaseId id) {
    const std::shared_ptr<const Release> release = releases_.Get(id);
    if (release == nullptr) return ReleaseRecord();
    return ReleaseRecord{.id = id,
                         .content_folder = release->content_folder,
                         .content_source = release->content_source,
                         .options = release->options};
  };
  HostRecord record = {.channel = channel_,
                       .newest_generation = lifecycle_->newest_generation(),
                       .user = user_.id,
                       .user_lacks = user_.lacks,
                       .newest_release = lifecycle_->newest_release(),
                       .good = record_of(lifecycle_->good_release()),
                       .restarts = lifecycle_->restarts(),
                       .start_failures = lifecycle_->start_failures()};
  const HostSession* session = SessionOf(Role::kActive).get();
  std::vector<int> descriptors;
  // One that has closed its control socket is not gone on with.
  if (session != nullptr && session->listens() && lifecycle_->state() == State::kServing) {
    session->FillRecord(record);
    record.running = record_of(lifecycle_->running_release());
    record.package = PackageWith(record.running.options);
    record.has_checkpoint = checkpoint_.fd().valid();
    descriptors = session->Descriptors();
    if (record.has_checkpoint) descriptors.push_back(checkpoint_.fd().get());
  }
  std::string text = WriteHostRecord(record);
  if (text == kept_) return;
  kept_ = text;
  around_.store->Put(ItemOf(name()), std::move(text), descriptors);
}

}  // namespace bulkhead
