// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/module/module_link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/attachment/module/module_transport.h"
#include "ipc/abi/events.h"
#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr const char* kDevice = "/dev/bulkhead";

// What is left for the next service, with the descriptor.
constexpr char kItem[] = "module";
struct LinkRecord {
  pid_t supervisor_pid;
  std::array<uint32_t, BH_MODULE_CHANNELS_MAX> serving;  // generations
};
// They get SIGKILL when their supervisor dies.
constexpr uint64_t kHostsEndWithinNs = kNanosecondsPerSecond;

bh_module_guard_kind GuardKindOf(MarkKind kind) {
  switch (kind) {
    case MarkKind::kMount:
      return BH_GUARD_MOUNT;
    case MarkKind::kFilesystem:
      return BH_GUARD_FILESYSTEM;
    case MarkKind::kAuto:
    case MarkKind::kDirectory:
      break;
  }
  return BH_GUARD_TREE;
}

// `skipped` keeps the folders open until the kernel was told.
absl::StatusOr<bh_module_filter> FillFilter(const GuardFilter& filter,
                                            std::vector<UniqueFd>* skipped) {
  bh_module_filter to = {};
  if (filter.skip_under.size() > BH_MODULE_SKIPS) {
    return absl::InvalidArgumentError(
        absl::StrCat("the kernel module skips ", BH_MODULE_SKIPS, " folders at most"));
  }
  if (filter.extensions.size() > BH_MODULE_EXTENSIONS) {
    return absl::InvalidArgumentError(
        absl::StrCat("the kernel module takes ", BH_MODULE_EXTENSIONS, " extensions at most"));
  }
  switch (filter.mode) {
    case AccessMode::kAny:
      break;
    case AccessMode::kRead:
      to.modes = BH_MODE_READ;
      break;
    case AccessMode::kWrite:
      to.modes = BH_MODE_WRITE;
      break;
  }
  to.owner = filter.owner.value_or(BH_MODULE_ANY_OWNER);
  for (const std::string& folder : filter.skip_under) {
    UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("can't skip ", folder));
    to.skip[to.skips++] = fd.get();
    skipped->push_back(std::move(fd));
  }
  for (const std::string& extension : filter.extensions) {
    if (extension.empty() || extension.size() >= BH_MODULE_EXTENSION_BYTES ||
        extension.find_first_of(std::string_view("/\0", 2)) != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("'", extension, "' is no extension of 1 to ",
                                                     BH_MODULE_EXTENSION_BYTES - 1,
                                                     " bytes, as exe is"));
    }
    extension.copy(to.extension[to.extensions++], BH_MODULE_EXTENSION_BYTES - 1);
  }
  return to;
}

// A process that was killed closes its descriptors one after another, and its hosts after it: tries
// again for so long while the kernel says that a process still has what is asked for. 0 or the
// errno.
int UnlessBusy(uint64_t wait_ns, const std::function<int()>& attempt) {
  constexpr timespec kPause = {.tv_sec = 0, .tv_nsec = 5'000'000};
  const uint64_t until_ns = MonotonicAfterNs(wait_ns);
  for (;;) {
    const int error = attempt();
    if (error != EBUSY || MonotonicNowNs() >= until_ns) return error;
    nanosleep(&kPause, nullptr);
  }
}

absl::Status Refused(int error) {
  switch (error) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
      return absl::NotFoundError(
          "the kernel module is not loaded: insmod the bulkhead.ko of the build, or modprobe "
          "bulkhead where dkms has installed it (docs/kernel-module.md)");
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError("the kernel module serves root only (CAP_SYS_ADMIN)");
    case EBUSY:
      return absl::AlreadyExistsError("another supervisor has the kernel module; end that first");
    default:
      return absl::ErrnoToStatus(error, kDevice);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModuleLink>> ModuleLink::Open(uint64_t wait_ns) {
  UniqueFd device;
  if (const int error = UnlessBusy(wait_ns,
                                   [&device] {
                                     device.reset(open(kDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK));
                                     return device.valid() ? 0 : errno;
                                   });
      error != 0) {
    return Refused(error);
  }
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return absl::ErrnoToStatus(errno, "an eventfd");
  std::unique_ptr<ModuleLink> link(new ModuleLink(std::move(device), std::move(stop)));
  for (ChannelId channel = 0; channel < BH_MODULE_CHANNELS_MAX; ++channel) {
    if (link->Statistics(channel).ok()) link->found_left_ = true;
  }
  return link;
}

absl::StatusOr<std::unique_ptr<ModuleLink>> ModuleLink::Adopt(
    std::shared_ptr<DescriptorStore> store) {
  std::optional<DescriptorStore::Item> left = store->Get(kItem);
  if (!left) return absl::NotFoundError("no descriptor of the kernel module was left");
  LinkRecord record;
  if (left->bytes.size() != sizeof(record) || left->descriptors.size() != 1) {
    return absl::InvalidArgumentError("the kernel module's descriptor that was left can't be read");
  }
  std::memcpy(&record, left->bytes.data(), sizeof(record));
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return absl::ErrnoToStatus(errno, "an eventfd");
  std::unique_ptr<ModuleLink> link(
      new ModuleLink(std::move(left->descriptors.front()), std::move(stop)));
  if (absl::Status status = link->Exclude(getpid()); !status.ok()) return status;
  (void)link->Include(record.supervisor_pid);
  // Its guards have numbers that are given again here.
  if (absl::Status status = link->Leave(); !status.ok()) return status;
  link->added_.store(true);
  {
    const MutexLock lock(link->kept_mutex_);
    link->serving_ = record.serving;
  }
  link->KeepIn(std::move(store));
  return link;
}

void ModuleLink::KeepIn(std::shared_ptr<DescriptorStore> store) {
  const MutexLock lock(kept_mutex_);
  store_ = std::move(store);
  Keep();
}

void ModuleLink::Keep() {
  if (store_ == nullptr) return;
  const LinkRecord record = {.supervisor_pid = getpid(), .serving = serving_};
  store_->Put(kItem, std::string(reinterpret_cast<const char*>(&record), sizeof(record)),
              {device_.get()});
}

uint32_t ModuleLink::Serving(ChannelId channel) {
  const MutexLock lock(kept_mutex_);
  return channel < serving_.size() ? serving_[channel] : 0;
}

ModuleLink::ModuleLink(UniqueFd device, UniqueFd stop)
    : device_(std::move(device)), stop_(std::move(stop)), reader_([this] { ReadEvents(); }) {}

ModuleLink::~ModuleLink() {
  BULKHEAD_CHECK(eventfd_write(stop_.get(), 1) == 0);
  reader_.join();
}

absl::Status ModuleLink::Say(unsigned long command, void* argument, const char* what) {
  int result;
  do {
    result = ioctl(device_.get(), command, argument);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return absl::ErrnoToStatus(errno, absl::StrCat("the kernel module: ", what));
  return absl::OkStatus();
}

void ModuleLink::ReadEvents() {
  std::array<pollfd, 2> watched = {
      {{device_.get(), POLLIN | POLLPRI, 0}, {stop_.get(), POLLIN, 0}}};
  for (;;) {
    if (poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) return;
    if ((watched[1].revents & POLLIN) != 0) return;
    bh_module_denial denial;
    while (ioctl(device_.get(), BH_CONTROL_DENIAL, &denial) == 0) {
      const MutexLock lock(observer_mutex_);
      if (observer_ != nullptr) observer_->OnDenial(denial.channel, denial.denial);
    }
    bh_module_event event;
    while (read(device_.get(), &event, sizeof(event)) == ssize_t{sizeof(event)}) Deliver(event);
  }
}

void ModuleLink::Deliver(const bh_module_event& event) {
  const MutexLock lock(observer_mutex_);
  if (observer_ == nullptr) return;
  switch (event.event) {
    case BH_EVENT_HUNG:
      return observer_->OnHung(event.channel, event.generation, event.call_id, event.detail);
    case BH_EVENT_VIOLATION:
      return observer_->OnViolation(event.channel, event.generation, event.detail);
    case BH_EVENT_POISON:
      return observer_->OnPoison(event.channel, event.generation, event.call_id);
    default:
      return;
  }
}

void ModuleLink::SetObserver(Observer* observer) {
  const MutexLock lock(observer_mutex_);
  observer_ = observer;
}

absl::Status ModuleLink::Guard(const GuardSpec& guard, uint32_t id) {
  const UniqueFd place(open(guard.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!place.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't guard ", guard.folder));
  }
  if (guard.deadline_ns > BH_MODULE_DEADLINE_MAX_NS) {
    return absl::InvalidArgumentError(absl::StrCat(
        "can't guard ", guard.folder, " with a deadline of ",
        guard.deadline_ns / kNanosecondsPerSecond, " s: the kernel module takes up to ",
        BH_MODULE_DEADLINE_MAX_NS / kNanosecondsPerSecond, " s"));
  }
  std::vector<UniqueFd> skipped;
  const absl::StatusOr<bh_module_filter> filled = FillFilter(guard.filter, &skipped);
  if (!filled.ok()) return filled.status();
  bh_module_guard wanted = {.fd = place.get(),
                            .kind = static_cast<uint32_t>(GuardKindOf(guard.mark)),
                            .id = id,
                            .mode = static_cast<uint32_t>(guard.mode),
                            .deadline_ns = guard.deadline_ns,
                            .callbacks = guard.callbacks,
                            .filter = *filled};
  return Say(BH_CONTROL_GUARD, &wanted, guard.folder.c_str());
}

absl::StatusOr<ChannelId> ModuleLink::AddChannel(const ChannelSpec& spec) {
  bh_module_add add = {};
  add.abi = BH_MODULE_ABI;
  spec.driver.copy(add.name, sizeof(add.name) - 1);
  add.spec = spec;
  const int error = UnlessBusy(kHostsEndWithinNs, [this, &add] {
    return ioctl(device_.get(), BH_CONTROL_ADD, &add) == 0 ? 0 : errno;
  });
  if (error == EBUSY) {
    return absl::UnavailableError(absl::StrCat("a host of a supervisor that died still serves '",
                                               spec.driver, "': end it, or run 'bulkhead eject'"));
  }
  if (error != 0) return absl::ErrnoToStatus(error, "the kernel module: a channel");
  added_.store(true);
  BULKHEAD_CHECK(add.channel < last_generation_.size());
  last_generation_[add.channel] = add.generation;
  return add.channel;
}

uint32_t ModuleLink::LastGeneration(ChannelId channel) {
  return channel < last_generation_.size() ? last_generation_[channel].load() : 0;
}

absl::StatusOr<ChannelDescriptors> ModuleLink::Descriptors(ChannelId channel) {
  bh_module_host wanted = {.channel = channel, .reserved = 0};
  UniqueFd host(ioctl(device_.get(), BH_CONTROL_HOST, &wanted));
  if (!host.valid()) return absl::ErrnoToStatus(errno, "the kernel module: a host's descriptor");
  UniqueFd copy(fcntl(host.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return absl::ErrnoToStatus(errno, "a copy of a host's descriptor");
  if (ModuleRingEntries(host.get()) == 0) {
    return ChannelDescriptors{std::move(host), std::move(copy), UniqueFd()};
  }
  UniqueFd ring(fcntl(host.get(), F_DUPFD_CLOEXEC, 3));
  if (!ring.valid()) return absl::ErrnoToStatus(errno, "a copy of a host's descriptor");
  return ChannelDescriptors{std::move(host), std::move(copy), std::move(ring)};
}

absl::Status ModuleLink::BeginGeneration(ChannelId channel, const bh_generation_spec& spec,
                                         UniqueFd) {
  if (channel < BH_MODULE_CHANNELS_MAX) {
    const MutexLock lock(kept_mutex_);
    serving_[channel] = spec.generation;  // before the kernel knows
    Keep();
  }
  bh_module_begin begin = {.channel = channel, .reserved = 0, .spec = spec};
  return Say(BH_CONTROL_BEGIN, &begin, "the begin of a generation");
}

absl::StatusOr<bh_in_hand> ModuleLink::EndGeneration(ChannelId channel, uint32_t generation,
                                                     bh_end cause) {
  bh_module_end end = {.channel = channel,
                       .generation = generation,
                       .cause = static_cast<uint32_t>(cause),
                       .reserved = 0,
                       .in_hand = {}};
  absl::Status status = Say(BH_CONTROL_END, &end, "the end of a generation");
  if (channel < BH_MODULE_CHANNELS_MAX) {
    const MutexLock lock(kept_mutex_);
    if (serving_[channel] == generation) serving_[channel] = 0;
    Keep();
  }
  if (!status.ok()) return status;
  return end.in_hand;
}

absl::Status ModuleLink::SetState(ChannelId channel, bool quarantined, bool draining) {
  bh_module_state state = {.channel = channel,
                           .quarantined = static_cast<uint8_t>(quarantined),
                           .draining = static_cast<uint8_t>(draining),
                           .reserved = {}};
  return Say(BH_CONTROL_STATE, &state, "a channel's state");
}

absl::Status ModuleLink::SetPolicy(ChannelId channel, const bh_policy& policy) {
  bh_module_set_policy wanted = {.channel = channel, .reserved = 0, .policy = policy};
  return Say(BH_CONTROL_POLICY, &wanted, "a policy");
}

absl::StatusOr<bh_statistics> ModuleLink::Statistics(ChannelId channel) {
  bh_module_statistics in = {};
  in.channel = channel;
  if (absl::Status status = Say(BH_CONTROL_STATISTICS, &in, "counters"); !status.ok()) {
    return status;
  }
  return in.counters;
}

bool ModuleLink::IsEjected() {
  if (!added_.load()) return false;
  for (ChannelId channel = 0; channel < BH_MODULE_CHANNELS_MAX; ++channel) {
    if (Statistics(channel).ok()) return false;
  }
  return true;
}

uint64_t ModuleLink::Filtered() {
  bh_module_statistics in = {};
  return Say(BH_CONTROL_STATISTICS, &in, "counters").ok() ? in.filtered : 0;
}

absl::Status ModuleLink::Exclude(pid_t pid) {
  bh_module_pid wanted = {.pid = pid, .reserved = 0};
  return Say(BH_CONTROL_EXCLUDE, &wanted, "an exclusion");
}

absl::Status ModuleLink::Include(pid_t pid) {
  bh_module_pid wanted = {.pid = pid, .reserved = 0};
  absl::Status status = Say(BH_CONTROL_INCLUDE, &wanted, "the end of an exclusion");
  // It was reaped: the kernel can't find it by its number any more, and no other process can be
  // meant.
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace bulkhead
