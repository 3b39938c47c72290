// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/fanotify_attachment.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/attachment/fanotify/link_record.h"
#include "host/attachment/place.h"
#include "ipc/abi/names.h"
#include "ipc/fanotify/journal.h"
#include "ipc/log_limit.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr int kStartAttempts = 5;  // before the guards are let go
constexpr uint64_t kStartAgainMs = 10, kStartAgainMsMax = 30'000;
constexpr uint64_t kStartsWithinNs = 5 * kNanosecondsPerSecond;
constexpr int kSetAgainMs = 1000;
constexpr uint64_t kStopNs = 4 * kNanosecondsPerSecond;
// A worker without a keeper ends by itself within half a second; one that does not is hung.
constexpr int kOrphanMs = 1000;
constexpr size_t kExclusionsBytes = 4096;
static_assert(sizeof(ExclusionTable) <= kExclusionsBytes);

constexpr uint32_t BitOf(uint32_t deadline) { return 1u << deadline; }
constexpr uint32_t kAllDeadlines = BitOf(kGuardDeadlines) - 1;

constexpr const char* kCounters[] = {"events",      "allowed",  "denied",      "late",
                                     "adopted",     "full",     "crowded",     "replayed",
                                     "let_through", "excluded", "read_errors", "shim_incarnations"};

constexpr AttachmentLimit kLimits[] = {
    kOverlaysLimit,
    kMountCopiesLimit,
    {.name = "new-folders",
     .text = "files in a folder that was made or moved there a moment ago may be opened unasked",
     .remedy = "guard with --mark filesystem, or with attachment module",
     .applies = [] { return true; },
     .of_marks = MarkKind::kDirectory}};

std::string ProgramBeside(const std::string& name) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0) return name;
  const std::string self(path, static_cast<size_t>(length));
  return absl::StrCat(self.substr(0, self.rfind('/') + 1), name);
}

constexpr const char* kShimProgram = "bulkhead-shim-fanotify";

// What is left for the next service. Descriptors: the groups, the journal, the exclusions, the
// keeper's pidfd.
constexpr char kItem[] = "fanotify";
constexpr size_t kKeptBesides = 3;
struct AttachmentRecord {
  pid_t supervisor_pid;
  pid_t keeper_pid;
};

absl::Status ProbeWithProgram() {
  if (absl::Status status = FanotifyAttachment::Probe(); !status.ok()) return status;
  const std::string program = ProgramBeside(kShimProgram);
  if (access(program.c_str(), X_OK) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("can't execute the fanotify shim ", program,
                                                    ": ", std::strerror(errno),
                                                    ": install it beside this program"));
}

void Respond(int group, int event, bool allow) {
  const fanotify_response response = {.fd = event,
                                      .response = allow ? uint32_t{FAN_ALLOW} : uint32_t{FAN_DENY}};
  // ENOENT: the process that waited is gone.
  [[maybe_unused]] const ssize_t written = write(group, &response, sizeof(response));
}

}  // namespace

constinit const AttachmentKind kFanotifyAttachment = {
    .name = "fanotify",
    .summary = "the permission events that each kernel has, for root",
    .remedy = "run as root (CAP_SYS_ADMIN), on a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
    .capabilities = kGuardsFolders | kAuditsGuards,
    .counters = kCounters,
    .limits = kLimits,
    .probe = ProbeWithProgram,
    .create = [](const AttachmentOptions& options) -> absl::StatusOr<std::unique_ptr<Attachment>> {
      // What was left shows that it works, and serves meanwhile.
      const bool left = options.store != nullptr && options.store->Get(kItem).has_value();
      if (absl::Status status = left ? absl::OkStatus() : ProbeWithProgram(); !status.ok()) {
        return status;
      }
      FanotifyAttachment::Options wanted;
      wanted.log = options.log;
      wanted.on_protection = options.on_protection;
      wanted.limits = kLimits;
      wanted.accepted = options.accepted;
      wanted.store = options.store;
      wanted.shim_group = options.shim_group;
      return FanotifyAttachment::Create(wanted);
    },
};

absl::Status FanotifyAttachment::Probe() {
  absl::StatusOr<FanotifyGroup> group = FanotifyGroup::Create();
  if (!group.ok()) return group.status();
  // A mark on a file that no other process can open.
  UniqueFd file(memfd_create("bulkhead-probe", MFD_CLOEXEC));
  if (!file.valid()) return absl::ErrnoToStatus(errno, "memfd_create");
  return group->Mark(file.get(), MarkKind::kDirectory, GuardSpec().callbacks,
                     "the probe's own file");
}

absl::StatusOr<std::unique_ptr<FanotifyAttachment>> FanotifyAttachment::Create(
    const Options& options) {
  std::unique_ptr<FanotifyAttachment> made(new FanotifyAttachment(options));
  FanotifyAttachment& attachment = *made;
  if (attachment.options_.shim_program.empty()) {
    attachment.options_.shim_program = ProgramBeside(kShimProgram);
  }
  const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  if (attachment.options_.readers == 0) {
    attachment.options_.readers = static_cast<uint32_t>(std::clamp(cpus, 2L, 8L));
  }

  attachment.wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!attachment.wake_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  std::optional<DescriptorStore::Item> left;
  if (options.store != nullptr) left = options.store->Get(kItem);
  absl::Status status = left ? attachment.GoOn(*std::move(left)) : attachment.Make();
  if (!status.ok()) return status;
  attachment.watcher_ = std::thread([&attachment] { attachment.Watch(); });
  return made;
}

absl::Status FanotifyAttachment::Make() {
  for (uint32_t i = 0; i < kGuardGroups; ++i) {
    absl::StatusOr<FanotifyGroup> group = FanotifyGroup::Create();
    if (!group.ok()) return group.status();
    groups_.push_back(*std::move(group));
  }

  absl::StatusOr<SharedMemory> memory = SharedMemory::Create("bulkhead-journal", kJournalBytes);
  if (!memory.ok()) return memory.status();
  journal_memory_ = *std::move(memory);
  absl::Status status = journal_memory_.SealAgainstResize();
  if (!status.ok()) return status;
  journal()->magic = kJournalMagic;  // all other fields are zero, which is valid

  absl::StatusOr<SharedMemory> exclusions =
      SharedMemory::Create("bulkhead-exclusions", kExclusionsBytes);
  if (!exclusions.ok()) return exclusions.status();
  exclusions_memory_ = *std::move(exclusions);
  status = exclusions_memory_.SealAgainstResize();
  if (!status.ok()) return status;
  auto* table = new (exclusions_memory_.data()) ExclusionTable();
  status = table->Add(getpid());
  if (!status.ok()) return status;
  link_ = NewLink(table);
  return StartKeeper();
}

// The kernel's side and the shim have gone on; only their supervisor is another.
absl::Status FanotifyAttachment::GoOn(DescriptorStore::Item left) {
  AttachmentRecord record;
  if (!FromBytes(left.bytes, &record) || left.descriptors.size() != kGuardGroups + kKeptBesides) {
    return absl::InvalidArgumentError("what was left of the fanotify shim can't be read");
  }
  for (uint32_t i = 0; i < kGuardGroups; ++i) {
    groups_.push_back(FanotifyGroup::Adopt(std::move(left.descriptors[i])));
  }
  absl::StatusOr<SharedMemory> memory =
      SharedMemory::MapChecked(std::move(left.descriptors[kGuardGroups]), kJournalBytes,
                               SharedMemory::Access::kReadWrite, F_SEAL_SHRINK | F_SEAL_GROW);
  if (!memory.ok()) return memory.status();
  journal_memory_ = *std::move(memory);
  if (journal()->magic != kJournalMagic) {
    return absl::InvalidArgumentError("the journal that was left is of another release");
  }
  // Of a change of the guards that was cut off.
  RemoveMarks(kAllDeadlines & ~journal()->deadlines_in_force.load());
  absl::StatusOr<SharedMemory> exclusions =
      SharedMemory::MapChecked(std::move(left.descriptors[kGuardGroups + 1]), kExclusionsBytes,
                               SharedMemory::Access::kReadWrite, F_SEAL_SHRINK | F_SEAL_GROW);
  if (!exclusions.ok()) return exclusions.status();
  exclusions_memory_ = *std::move(exclusions);
  auto* table = reinterpret_cast<ExclusionTable*>(exclusions_memory_.data());
  if (absl::Status status = table->Add(getpid()); !status.ok()) return status;
  table->Remove(record.supervisor_pid).IgnoreError();
  keeper_ = KeeperProcess::Adopt(record.keeper_pid, std::move(left.descriptors.back()));
  keeper_pid_.store(record.keeper_pid);
  link_ = NewLink(table);
  if (absl::Status status = link_->Adopt(); !status.ok()) return status;
  Keep();
  return absl::OkStatus();
}

std::unique_ptr<RemoteShimLink> FanotifyAttachment::NewLink(ExclusionTable* exclusions) {
  return std::make_unique<RemoteShimLink>(
      exclusions,
      RemoteShimLink::Limits{.readers = options_.readers, .in_flight_max = options_.in_flight_max},
      [this] {
        lost_.store(true);
        eventfd_write(wake_.get(), 1);
      },
      options_.store);
}

void FanotifyAttachment::Keep() const {
  if (options_.store == nullptr) return;
  std::vector<int> descriptors;
  for (const FanotifyGroup& group : groups_) descriptors.push_back(group.fd());
  descriptors.insert(descriptors.end(),
                     {journal_memory_.fd().get(), exclusions_memory_.fd().get(), keeper_.pidfd()});
  options_.store->Put(
      kItem, BytesOf(AttachmentRecord{.supervisor_pid = getpid(), .keeper_pid = keeper_.pid()}),
      descriptors);
  options_.store->Put(kShimItem, "", {keeper_.pidfd()});
}

FanotifyAttachment::~FanotifyAttachment() { Stop(); }

Journal* FanotifyAttachment::journal() const {
  return reinterpret_cast<Journal*>(journal_memory_.data());
}

void FanotifyAttachment::Log(const std::string& text) const {
  if (options_.log) options_.log(text);
}

void FanotifyAttachment::EnterGroup(pid_t pid) const {
  if (options_.shim_group.empty()) return;
  const UniqueFd file(open(options_.shim_group.c_str(), O_WRONLY | O_CLOEXEC));
  const std::string id = absl::StrCat(pid);
  if (file.valid() && write(file.get(), id.data(), id.size()) > 0) return;
  Log(absl::StrCat("the shim ends with the service: it can't enter ", options_.shim_group, ": ",
                   std::strerror(errno)));
}

absl::Status FanotifyAttachment::StartKeeper() {
  KeeperProcess::Descriptors given = {.journal = journal_memory_.fd().get(),
                                      .exclusions = exclusions_memory_.fd().get()};
  for (uint32_t i = 0; i < kGuardGroups; ++i) given.groups[i] = groups_[i].fd();
  absl::StatusOr<KeeperProcess> keeper =
      KeeperProcess::Start(options_.shim_program, given, [this](pid_t pid) {
        EnterGroup(pid);
        return link_->Exclude(pid);
      });
  if (!keeper.ok()) return keeper.status();
  keeper_ = *std::move(keeper);
  keeper_pid_.store(keeper_.pid());
  absl::Status status = link_->Connect(keeper_.TakeControl(), keeper_.TakeOrders());
  if (!status.ok()) {
    const pid_t pid = keeper_.pid();
    keeper_.Reap(0);
    keeper_pid_.store(0);
    link_->Include(pid).IgnoreError();
    return status;
  }
  Keep();
  return status;
}

bool FanotifyAttachment::AwaitLoss() {
  while (!stopping_.load()) {
    pollfd waited[2] = {{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                        {.fd = keeper_.pidfd(), .events = POLLIN, .revents = 0}};
    // A guard whose folder was missing when the shim came back.
    const bool unset = HasUnset();
    if (poll(waited, 2, unset ? kSetAgainMs : -1) == 0) SetAgain();
    if (stopping_.load()) return false;
    if (waited[1].revents != 0 || lost_.load()) recovers_.store(true);
    if (waited[1].revents != 0 && !lost_.load()) {
      // The worker ends its events and closes its end; a hung worker is killed.
      pollfd lost = {.fd = wake_.get(), .events = POLLIN, .revents = 0};
      poll(&lost, 1, kOrphanMs);
      const pid_t worker = link_->worker_pid();
      if (!lost_.load() && !stopping_.load() && worker > 0) kill(worker, SIGKILL);
      while (!lost_.load() && !stopping_.load()) poll(&lost, 1, kOrphanMs);
      if (stopping_.load()) return false;
    }
    eventfd_t ignored;
    eventfd_read(wake_.get(), &ignored);
    if (lost_.exchange(false)) return true;
  }
  return false;
}

void FanotifyAttachment::Watch() {
  while (AwaitLoss()) Recover();
}

absl::Status FanotifyAttachment::StartAgain(bool was_running) {
  absl::Status status = StartKeeper();
  if (!status.ok() || !was_running) return status;
  status = link_->EnsureRunning(MonotonicAfterNs(kStartsWithinNs));
  if (status.ok()) return status;
  // Its end is not a loss of its own.
  const pid_t pid = keeper_.pid();
  const pid_t worker = link_->worker_pid();
  link_->Disconnect();
  keeper_.Reap(0);
  if (worker > 0) kill(worker, SIGKILL);
  keeper_pid_.store(0);
  link_->Include(pid).IgnoreError();
  AnswerByPolicy();
  return status;
}

void FanotifyAttachment::Recover() {
  // No process waited for a shim that never ran a worker.
  const bool was_running = journal()->incarnation.load() > 0;
  const pid_t dead = keeper_.pid();
  keeper_.Reap(0);
  keeper_pid_.store(0);
  link_->Include(dead).IgnoreError();
  // Before any thread reads events: a new event's descriptor may get the number of an old one.
  AnswerByPolicy();
  uint64_t again_ms = kStartAgainMs;
  for (int attempt = 1; !stopping_.load(); ++attempt) {
    const absl::Status status = StartAgain(was_running);
    if (status.ok()) {
      Log("the fanotify shim died and has been started again");
      recovers_.store(false);
      if (attempt > kStartAttempts) SetAgain();
      link_->NotifyShimLost();
      return;
    }
    const std::string why = absl::StrCat("the fanotify shim can't be started: ", status.ToString());
    if (attempt == 1) Log(absl::StrCat(why, "; tries again"));
    if (attempt == kStartAttempts) {
      LetGo(why);
      link_->NotifyShimLost();
    }
    pollfd wake = {.fd = wake_.get(), .events = POLLIN, .revents = 0};
    poll(&wake, 1, static_cast<int>(again_ms));
    eventfd_t ignored;
    eventfd_read(wake_.get(), &ignored);
    lost_.store(false);
    again_ms = std::min(2 * again_ms, kStartAgainMsMax);
  }
}

void FanotifyAttachment::CountReplayed(bool allowed) {
  journal()->counters.replayed.fetch_add(1);
  if (allowed) journal()->counters.let_through.fetch_add(1);
}

// Answers the events that the dead shim had taken, by their descriptor numbers in the journal.
void FanotifyAttachment::AnswerByPolicy() {
  for (JournalRecord& record : journal()->records) {
    if (IsUnanswered(record)) {
      const bool allow =
          IsAudited(record.group) || link_->AllowsUnanswered(CallbackOf(record.metadata));
      for (uint32_t group = 0; group < kGuardGroups; ++group) {
        if (record.group != group && record.group != kUnknownGroup) continue;
        Respond(groups_[group].fd(), record.metadata.fd, allow);
      }
      CountReplayed(allow);
    }
    record.state.store(RecordState::kFree);
  }
}

void FanotifyAttachment::AnswerWaiting(GroupKind kind) {
  for (uint32_t deadline = 0; deadline < kGuardDeadlines; ++deadline) {
    const bool audited = IsAudited(GroupOf(deadline, kind));
    const int group = groups_[GroupOf(deadline, kind)].fd();
    fanotify_event_metadata event;
    while (read(group, &event, sizeof(event)) == sizeof(event)) {
      if (event.fd < 0) continue;
      const bool allow = audited || link_->AllowsUnanswered(CallbackOf(event));
      Respond(group, event.fd, allow);
      close(event.fd);
      CountReplayed(allow);
    }
  }
}

// No process waits for a shim that does not come.
void FanotifyAttachment::LetGo(const std::string& why) {
  std::vector<GuardProtection> lost;
  {
    const MutexLock lock(guards_mutex_);
    for (Guarded& guarded : guards_) {
      if (guarded.folder != nullptr) guarded.losses += guarded.folder->protection().losses + 1;
      guarded.folder.reset();  // first, or its thread would set marks again
      guarded.trouble = why;
      lost.push_back(ProtectionOf(guarded));
    }
  }
  for (FanotifyGroup& group : groups_) group.RemoveMarks();
  AnswerWaiting(GroupKind::kLocal);
  for (const GuardProtection& guard : lost) {
    if (options_.on_protection) options_.on_protection(guard);
  }
  Log(absl::StrCat("files are NOT guarded any more: ", why, "; tries on"));
  AnswerWaiting(GroupKind::kSlow);  // last: to read such an event may take any time
}

bool FanotifyAttachment::HasUnset() const {
  const MutexLock lock(guards_mutex_);
  return std::any_of(guards_.begin(), guards_.end(),
                     [](const Guarded& guarded) { return guarded.folder == nullptr; });
}

void FanotifyAttachment::SetAgain() {
  std::vector<GuardProtection> now;
  {
    const MutexLock lock(guards_mutex_);
    for (Guarded& guarded : guards_) {
      if (guarded.folder != nullptr) continue;
      absl::StatusOr<std::unique_ptr<PlaceGuard>> folder = Set(guarded);
      const GuardProtection before = ProtectionOf(guarded);
      guarded.trouble = folder.ok() ? "" : std::string(folder.status().message());
      if (folder.ok()) guarded.folder = *std::move(folder);
      if (GuardProtection after = ProtectionOf(guarded); after != before) {
        now.push_back(std::move(after));
      }
    }
  }
  for (const GuardProtection& guard : now) {
    if (options_.on_protection) options_.on_protection(guard);
  }
}

absl::StatusOr<std::unique_ptr<PlaceGuard>> FanotifyAttachment::Set(const Guarded& guarded) {
  return PlaceGuard::Create(
      guarded.groups, &places_, guarded.spec, [this](const std::string& text) { Log(text); },
      options_.on_protection);
}

GuardProtection FanotifyAttachment::ProtectionOf(const Guarded& guarded) const {
  GuardProtection protection;
  if (guarded.folder != nullptr) {
    protection = guarded.folder->protection();
  } else {
    protection.level = BH_PROTECTION_NONE;
    protection.reasons = {guarded.trouble};
  }
  protection.folder = guarded.spec.folder;
  protection.losses += guarded.losses;
  if (recovers_.load() && protection.level != BH_PROTECTION_NONE) {
    protection.level = BH_PROTECTION_DEGRADED;
    protection.reasons.emplace_back("the shim died and is being started: accesses wait for it");
  }
  if (let_through_seen_.calls != 0) {
    protection.level = std::min(protection.level, BH_PROTECTION_DEGRADED);
    protection.reasons.push_back(
        LetThroughWatch::Text(let_through_seen_, "accesses", "a driver's decision"));
  }
  if (guarded.folder != nullptr) limits_.Degrade(protection, guarded.folder->kind());
  return protection;
}

std::vector<GuardProtection> FanotifyAttachment::Protections() {
  limits_.LookAgain();
  std::vector<GuardProtection> protections, changed;
  uint64_t undelivered = 0;
  int why = 0;
  {
    const MutexLock lock(guards_mutex_);
    const JournalCounters& counted = journal()->counters;
    const uint64_t now_ns = MonotonicNowNs();
    let_through_seen_ = let_through_.Note(counted.let_through.load(), now_ns);
    for (Guarded& guarded : guards_) {
      protections.push_back(ProtectionOf(guarded));
      // The guard's own thread, which tells of every other change, may be the one that waits.
      const bool overdue = guarded.folder != nullptr && guarded.folder->overdue();
      if (overdue != guarded.told_overdue || let_through_seen_.to_tell != 0) {
        changed.push_back(protections.back());
      }
      guarded.told_overdue = overdue;
    }
    const uint64_t errors = counted.read_errors.load();
    // Any user can cause them without limit.
    if (errors != read_errors_told_ && now_ns >= read_errors_again_ns_) {
      undelivered = errors - std::exchange(read_errors_told_, errors);
      why = static_cast<int>(counted.read_errno.load());
      read_errors_again_ns_ = MonotonicAfterNs(LogLimit::kMinuteNs / LogLimit::kLinesMax);
    }
  }
  if (undelivered != 0) {
    Log(absl::StrCat("the kernel denied ", undelivered,
                     " opens: it could not open what was to be opened for the drivers, the last "
                     "time because of: ",
                     std::strerror(why)));
  }
  for (const GuardProtection& guard : changed) {
    if (options_.on_protection) options_.on_protection(guard);
  }
  return protections;
}

DeadlineGroups FanotifyAttachment::GroupsOf(uint32_t deadline) {
  return {.local = &groups_[GroupOf(deadline, GroupKind::kLocal)],
          .slow = &groups_[GroupOf(deadline, GroupKind::kSlow)]};
}

bool FanotifyAttachment::IsAudited(uint32_t group) const {
  return group < kGuardGroups && journal()->group_audited[group].load() != 0;
}

void FanotifyAttachment::SetAudited(uint32_t deadline, bool audited) {
  for (const GroupKind kind : {GroupKind::kLocal, GroupKind::kSlow}) {
    journal()->group_audited[GroupOf(deadline, kind)].store(audited ? 1 : 0);
  }
}

// Events that are there already still get the deadline and the mode that they came with.
void FanotifyAttachment::RemoveMarks(uint32_t deadlines) {
  for (uint32_t i = 0; i < kGuardDeadlines; ++i) {
    if ((deadlines & BitOf(i)) == 0) continue;
    const DeadlineGroups groups = GroupsOf(i);
    groups.local->RemoveMarks();
    groups.slow->RemoveMarks();
  }
}

void FanotifyAttachment::PutInForce(uint32_t deadlines) {
  journal()->deadlines_in_force.store(deadlines);
}

bool FanotifyAttachment::HasOthers(uint32_t deadline, const Guarded* but) const {
  return std::any_of(guards_.begin(), guards_.end(), [&](const Guarded& guarded) {
    return guarded.deadline == deadline && &guarded != but;
  });
}

std::optional<uint32_t> FanotifyAttachment::TakenFor(const GuardSpec& guard, uint32_t among) const {
  for (uint32_t i = 0; i < kGuardDeadlines; ++i) {
    const uint32_t group = GroupOf(i, GroupKind::kLocal);
    if ((among & BitOf(i)) != 0 &&
        journal()->group_deadline_ns[group].load() == guard.deadline_ns &&
        IsAudited(group) == (guard.mode == BH_MODE_AUDIT)) {
      return i;
    }
  }
  return std::nullopt;
}

bool FanotifyAttachment::IsIdle(uint32_t deadline) const {
  pollfd groups[2] = {
      {.fd = groups_[GroupOf(deadline, GroupKind::kLocal)].fd(), .events = POLLIN, .revents = 0},
      {.fd = groups_[GroupOf(deadline, GroupKind::kSlow)].fd(), .events = POLLIN, .revents = 0}};
  return poll(groups, 2, 0) == 0;
}

absl::StatusOr<uint32_t> FanotifyAttachment::DeadlineFor(const GuardSpec& guard, uint32_t& taken,
                                                         uint32_t in_force) {
  if (const std::optional<uint32_t> found = TakenFor(guard, taken)) return *found;
  Journal& shared = *journal();
  std::optional<uint32_t> vacant;
  for (uint32_t i = 0; i < kGuardDeadlines; ++i) {
    if (((taken | in_force) & BitOf(i)) != 0) continue;
    if (!vacant) vacant = i;
    if (!IsIdle(i)) continue;
    vacant = i;
    break;
  }
  const bool is_full = __builtin_popcount(taken) >= static_cast<int>(kDeadlinesInForceMax);
  if (is_full || !vacant) {
    const std::string what =
        absl::StrCat("can't guard ", guard.folder, " with a deadline of ",
                     guard.deadline_ns / 1'000'000, " ms and mode ", bh_mode_name(guard.mode));
    return absl::ResourceExhaustedError(
        is_full ? absl::StrCat(what, ": the guards have ", kDeadlinesInForceMax,
                               " others already; use a deadline and a mode of those")
                : absl::StrCat(what,
                               ": guards of too many deadlines and modes change at once; "
                               "change fewer of them at a time"));
  }
  shared.group_deadline_ns[GroupOf(*vacant, GroupKind::kLocal)].store(guard.deadline_ns);
  shared.group_deadline_ns[GroupOf(*vacant, GroupKind::kSlow)].store(guard.deadline_ns);
  SetAudited(*vacant, guard.mode == BH_MODE_AUDIT);
  shared.deadlines_used.store(std::max(shared.deadlines_used.load(), *vacant + 1));
  taken |= BitOf(*vacant);
  return *vacant;
}

absl::StatusOr<MarkKind> FanotifyAttachment::Guard(const GuardSpec& guard) {
  absl::StatusOr<UniqueFd> directory = OpenGuardedDirectory(guard.folder);
  if (!directory.ok()) return directory.status();
  Guarded guarded = {.spec = guard};
  {
    const MutexLock lock(guards_mutex_);
    const uint32_t in_force = journal()->deadlines_in_force.load();
    uint32_t taken = in_force;
    const absl::StatusOr<uint32_t> deadline = DeadlineFor(guard, taken, in_force);
    if (!deadline.ok()) return deadline.status();
    PutInForce(taken);
    guarded.deadline = *deadline;
    guarded.groups = GroupsOf(*deadline);
  }
  // From here on processes may wait for the shim, so it must run.
  absl::Status status = link_->EnsureRunning(MonotonicAfterNs(kStartsWithinNs));
  if (!status.ok()) return status;
  absl::StatusOr<std::unique_ptr<PlaceGuard>> folder = Set(guarded);
  if (!folder.ok()) return folder.status();
  const MarkKind kind = (*folder)->kind();
  guarded.folder = *std::move(folder);
  const MutexLock lock(guards_mutex_);
  guards_.push_back(std::move(guarded));
  return kind;
}

FanotifyAttachment::Guarded* FanotifyAttachment::Find(const std::string& folder) {
  const auto found = std::find_if(guards_.begin(), guards_.end(), [&](const Guarded& guarded) {
    return guarded.spec.folder == folder;
  });
  return found == guards_.end() ? nullptr : &*found;
}

bool FanotifyAttachment::ChangeModeInPlace(const std::vector<GuardSpec>& guards) {
  if (guards.size() != guards_.size()) return false;
  Guarded* changed = nullptr;
  GuardSpec wanted;
  for (const GuardSpec& spec : guards) {
    Guarded* const guarded = Find(spec.folder);
    if (guarded == nullptr) return false;
    if (guarded->spec == spec) continue;
    if (changed != nullptr || !guarded->spec.IsSamePlace(spec)) return false;
    changed = guarded;
    wanted = spec;
  }
  if (changed == nullptr || HasOthers(changed->deadline, changed)) return false;
  const uint32_t others = journal()->deadlines_in_force.load() & ~BitOf(changed->deadline);
  if (TakenFor(wanted, others)) return false;
  SetAudited(changed->deadline, wanted.mode == BH_MODE_AUDIT);
  changed->spec = wanted;
  return true;
}

absl::Status FanotifyAttachment::Reguard(const std::vector<GuardSpec>& guards) {
  if (!guards.empty()) {
    // From here on processes may wait for the shim, so it must run.
    absl::Status status = link_->EnsureRunning(MonotonicAfterNs(kStartsWithinNs));
    if (!status.ok()) return status;
  }
  const MutexLock lock(guards_mutex_);
  if (ChangeModeInPlace(guards)) return absl::OkStatus();
  absl::Status status = Change(guards);
  if (status.ok() || stale_ == 0) return status;
  std::vector<GuardSpec> before;
  for (const Guarded& guarded : guards_) before.push_back(guarded.spec);
  if (const absl::Status undone = Change(before); !undone.ok()) {
    Log(absl::StrCat("more is guarded than was asked for, until the guards change again: ",
                     std::string(undone.message())));
  }
  return status;
}

absl::Status FanotifyAttachment::Change(const std::vector<GuardSpec>& guards) {
  const uint32_t in_force = journal()->deadlines_in_force.load();
  // Of these no guard goes or changes. Those of a service before this one have no guards here.
  uint32_t kept = 0;
  for (const Guarded& guarded : guards_) kept |= BitOf(guarded.deadline);
  kept &= in_force & ~stale_;
  for (const Guarded& guarded : guards_) {
    if (std::find(guards.begin(), guards.end(), guarded.spec) == guards.end()) {
      kept &= ~BitOf(guarded.deadline);
    }
  }

  // All marks are in their new groups before the old ones go: an access that is asked about twice
  // meanwhile is denied where one of the two denies.
  uint32_t taken = kept;
  std::vector<Guarded> next;
  std::vector<Guarded*> before;  // of each; null: it is new
  uint32_t joined = 0;           // of those kept, they have new guards
  absl::Status status;
  for (const GuardSpec& spec : guards) {
    Guarded* const old = Find(spec.folder);
    const bool same = old != nullptr && old->spec == spec;
    const bool stays = same && (kept & BitOf(old->deadline)) != 0;
    absl::StatusOr<uint32_t> deadline = stays ? old->deadline : DeadlineFor(spec, taken, in_force);
    status = deadline.status();
    if (!status.ok()) break;
    Guarded guarded = {.spec = spec, .groups = GroupsOf(*deadline), .deadline = *deadline};
    // One that could not be set is tried again by itself.
    if (!stays && !(same && old->folder == nullptr)) {
      joined |= kept & BitOf(*deadline);
      absl::StatusOr<std::unique_ptr<PlaceGuard>> folder = Set(guarded);
      status = folder.status();
      if (!status.ok()) break;
      guarded.folder = *std::move(folder);
    }
    next.push_back(std::move(guarded));
    before.push_back(old);
  }
  if (!status.ok()) {
    next.clear();  // first, or their threads would set marks again
    RemoveMarks(taken & ~kept);
    stale_ |= joined;
    return status;
  }

  for (size_t i = 0; i < next.size(); ++i) {
    if (before[i] == nullptr) continue;
    Guarded& old = *before[i];
    next[i].losses = old.losses;
    if (next[i].folder == nullptr) {
      next[i].folder = std::move(old.folder);
      next[i].trouble = old.trouble;
      next[i].told_overdue = old.told_overdue;
    } else if (old.folder != nullptr) {
      next[i].losses += old.folder->protection().losses;
    }
  }
  PutInForce(taken);
  guards_ = std::move(next);  // before the marks go, or the old threads would set them again
  RemoveMarks(in_force & ~taken);
  stale_ &= kept;
  return absl::OkStatus();
}

// In groups that an earlier supervisor left are marks of its guards only.
absl::Status FanotifyAttachment::Settle() {
  const MutexLock lock(guards_mutex_);
  uint32_t used = 0;
  for (const Guarded& guarded : guards_) used |= BitOf(guarded.deadline);
  const uint32_t in_force = journal()->deadlines_in_force.load();
  PutInForce(in_force & used);
  RemoveMarks(in_force & ~used);
  return absl::OkStatus();
}

void FanotifyAttachment::RemoveGuards() {
  const MutexLock lock(guards_mutex_);
  guards_.clear();  // first, or their threads would set marks again
  PutInForce(0);
  RemoveMarks(kAllDeadlines);
}

uint64_t FanotifyAttachment::guarded_directories() const {
  const MutexLock lock(guards_mutex_);
  uint64_t directories = 0;
  for (const Guarded& guarded : guards_) {
    if (guarded.folder != nullptr) directories += guarded.folder->directories();
  }
  return directories;
}

void FanotifyAttachment::Stop() {
  if (groups_.empty() || stopping_.exchange(true)) return;
  RemoveGuards();
  if (wake_.valid()) eventfd_write(wake_.get(), 1);
  if (watcher_.joinable()) watcher_.join();
  if (link_ == nullptr) return;
  const pid_t worker = link_->worker_pid();
  link_->Disconnect();
  // If the keeper had to be killed, its worker may still run, without keeper and socket.
  if (!keeper_.Reap(MonotonicAfterNs(kStopNs)) && worker > 0) kill(worker, SIGKILL);
  keeper_pid_.store(0);
  AnswerByPolicy();
}

FanotifyAttachment::Counters FanotifyAttachment::counters() const {
  const JournalCounters& from = journal()->counters;
  Counters counters;
  counters.events = from.events.load();
  counters.excluded = from.excluded.load();
  counters.allowed = from.allowed.load();
  counters.denied = from.denied.load();
  counters.adopted = from.adopted.load();
  counters.full = from.full.load();
  counters.crowded = from.crowded.load();
  counters.replayed = from.replayed.load();
  counters.let_through = from.let_through.load();
  counters.late = from.late.load();
  counters.answer_ns_max = from.answer_ns_max.load();
  counters.read_errors = from.read_errors.load();
  counters.incarnation = journal()->incarnation.load();
  return counters;
}

// In the order of kCounters.
std::vector<uint64_t> FanotifyAttachment::CounterValues() {
  const Counters now = counters();
  return {now.events,      now.allowed,  now.denied,      now.late,
          now.adopted,     now.full,     now.crowded,     now.replayed,
          now.let_through, now.excluded, now.read_errors, now.incarnation};
}

Attachment::ShimProcess FanotifyAttachment::shim_process() {
  return {static_cast<uint32_t>(worker_pid()), journal()->incarnation.load()};
}

}  // namespace bulkhead
