// SPDX-License-Identifier: Apache-2.0
#include "host/harness/harness.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/process/dispatcher.h"
#include "ipc/abi/names.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;
constexpr std::chrono::seconds kStopsWithin(10);
// How soon a violation, which another thread reports, is seen by a thread that waits for a call.
constexpr uint64_t kLookNs = 5 * kNanosecondsPerMillisecond;
constexpr int kLogLookMs = 20;
constexpr uint32_t kNotifyEntries = 2048;  // as a service has them
constexpr int kExitHung = 70;
constexpr uint64_t kLongestWaitNs = 3600 * kNanosecondsPerSecond;

absl::Status NotRunning() {
  return absl::FailedPreconditionError("the driver does not run: start() it first");
}

bool IsFileCallback(uint32_t id) {
  switch (id) {
#define BULKHEAD_ROW(NAME, name) case BULKHEAD_ON_##NAME:
    BULKHEAD_FOR_EACH_FILE_CALLBACK(BULKHEAD_ROW)
#undef BULKHEAD_ROW
    return true;
    default:
      return false;
  }
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  return std::filesystem::absolute(path, error).lexically_normal().string();
}

}  // namespace

// What was put into the ring, and what of it the driver has been told, over all generations.
struct Harness::Telling {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<uint64_t> missed;  // before each that was put in
  size_t told = 0;
  uint64_t lost = 0;

  bool Settle(uint64_t until_ns) {
    std::unique_lock<std::mutex> lock(mutex);
    const uint64_t now_ns = MonotonicNowNs();
    const uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    return changed.wait_for(lock, std::chrono::nanoseconds(std::min(left_ns, kLongestWaitNs)),
                            [this] { return told == missed.size(); });
  }
};

// Adds the losses that the test wants, and counts.
class Harness::WatchedDispatcher final : public Dispatcher {
 public:
  WatchedDispatcher(const DriverLibrary& library, LogQueue* log, Checkpoint* checkpoint,
                    std::span<std::byte> checkpoint_memory, std::shared_ptr<Telling> telling)
      : Dispatcher(library, log, checkpoint, checkpoint_memory), telling_(std::move(telling)) {}

 private:
  void Deliver(const bulkhead_notification& notification) override {
    bulkhead_notification told = notification;
    {
      const std::lock_guard<std::mutex> lock(telling_->mutex);
      const uint64_t missed = telling_->missed[telling_->told];
      telling_->lost += missed;
      told.missed += missed;
      told.number += telling_->lost;
    }
    Dispatcher::Deliver(told);
    {
      const std::lock_guard<std::mutex> lock(telling_->mutex);
      ++telling_->told;
    }
    telling_->changed.notify_all();
  }

  const std::shared_ptr<Telling> telling_;
};

// Everything that the driver's threads reach: where it does not stop, it stays until the process
// ends.
struct Harness::Life {
  std::shared_ptr<LogQueue> log;
  std::shared_ptr<std::vector<std::byte>> checkpoint_memory;
  std::shared_ptr<Checkpoint> checkpoint;
  std::shared_ptr<DriverLibrary> library;
  std::optional<LifeLine> life_line;
  std::unique_ptr<WatchedDispatcher> dispatcher;
};

// ---- Load

Harness::Harness(const HarnessSetup& setup)
    : setup_(setup), telling_(std::make_shared<Telling>()) {}

absl::StatusOr<std::unique_ptr<Harness>> Harness::Load(const HarnessSetup& setup) {
  if (setup.folder.empty() == setup.library.empty()) {
    return absl::InvalidArgumentError("name either a driver's folder or a library");
  }
  if (setup.workers > BH_WORKERS_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("workers is ", setup.workers, "; a driver has 1 to ", BH_WORKERS_MAX));
  }
  std::unique_ptr<Harness> harness(new Harness(setup));
  Manifest& manifest = harness->manifest_;
  if (setup.folder.empty()) {
    manifest.library = setup.library;
    manifest.callbacks = bh_set_everything();
    manifest.notifications = bh_set_everything();
    manifest.pending_calls_max = setup.pending_calls_max;
    manifest.checkpoint_bytes = setup.checkpoint_bytes;
    manifest.workers = 1;
  } else {
    absl::StatusOr<Manifest> read = LoadManifest(setup.folder);
    if (!read.ok()) return read.status();
    manifest = *std::move(read);
  }
  harness->workers_ = setup.workers != 0 ? setup.workers : manifest.workers;
  harness->options_ = manifest.options;
  if (!setup.options.empty()) {
    harness->options_ += (harness->options_.empty() ? "" : " ") + setup.options;
  }
  if (!setup.content.empty()) {
    harness->content_ = Absolute(setup.content);
  } else if (!manifest.content_default.empty()) {
    harness->content_ = manifest.folder + "/" + manifest.content_default;
  }
  std::error_code error;
  if (!harness->content_.empty() && !std::filesystem::is_directory(harness->content_, error)) {
    return absl::NotFoundError(absl::StrCat(harness->content_, ": no such folder of content"));
  }
  if (harness->content_.empty() && manifest.content_required) {
    return absl::InvalidArgumentError(
        absl::StrCat("driver '", manifest.name, "' needs content: name its folder"));
  }
  harness->log_ = setup.log_memory.empty() ? std::make_shared<LogQueue>()
                                           : std::make_shared<LogQueue>(setup.log_memory);
  if (manifest.checkpoint_bytes != 0) {
    harness->checkpoint_memory_ =
        std::make_shared<std::vector<std::byte>>(manifest.checkpoint_bytes);
    harness->checkpoint_ = std::make_shared<Checkpoint>(std::span(*harness->checkpoint_memory_));
  }
  if (absl::Status status = harness->LoadLibrary(); !status.ok()) return status;
  if (absl::Status status = harness->OpenChannel(); !status.ok()) return status;
  harness->log_taker_ = std::thread([self = harness.get()] { self->KeepTakingLog(); });
  return harness;
}

absl::Status Harness::LoadLibrary() {
  const std::string path =
      setup_.folder.empty() ? Absolute(manifest_.library) : manifest_.LibraryPath();
  absl::StatusOr<DriverLibrary> library =
      DriverLibrary::Load(path, manifest_.name, manifest_.callbacks, manifest_.notifications);
  if (!library.ok()) return library.status();
  library_ = std::make_shared<DriverLibrary>(*std::move(library));
  return absl::OkStatus();
}

absl::Status Harness::OpenChannel() {
  absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create(
      {.deadline_ns = setup_.deadline_ns != 0 ? setup_.deadline_ns : kDeadlineNs});
  if (!shim.ok()) return shim.status();
  shim_ = *std::move(shim);
  shim_->SetObserver(this);
  const uint32_t lanes =
      std::min(std::max(1u, std::thread::hardware_concurrency()), uint32_t{BH_LANES_MAX});
  geometry_ = {.lanes = lanes, .slots_per_lane = 32, .call_chunks = 32 * lanes, .reply_chunks = 0};
  ChannelSpec spec(manifest_.name);
  spec.geometry = geometry_;
  spec.flags = manifest_.channel_flags;
  spec.spin_ns = 0;        // a test waits for more than a wake
  spec.cache_entries = 0;  // each call is to reach the driver
  spec.notify_entries = bh_set_empty(&library_->notifications()) == 0 ? kNotifyEntries : 0;
  absl::StatusOr<ChannelId> channel = shim_->AddChannel(spec);
  if (!channel.ok()) return channel.status();
  channel_ = *channel;
  return absl::OkStatus();
}

Harness::~Harness() {
  const absl::StatusOr<bool> stopped = life_ ? Stop() : absl::StatusOr<bool>(true);
  if (!stopped.ok()) {
    std::fprintf(stderr, "bulkhead-testing: %s: ending this process\n",
                 std::string(stopped.status().message()).c_str());
    std::fflush(nullptr);
    _exit(kExitHung);
  }
  for (auto& [id, call] : calls_) {
    if (!call.ended) (void)shim_->Cancel(*call.pending);
  }
  if (library_) (void)library_->Unload();
  if (shim_) shim_->SetObserver(nullptr);
  ends_.store(true);
  if (log_taker_.joinable()) log_taker_.join();
}

// ---- Generations

absl::Status Harness::Start(bh_start reason) {
  if (life_) return absl::FailedPreconditionError("the driver runs already: stop() it first");
  if (bh_start_known(static_cast<uint32_t>(reason)) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("no reason to start is ", static_cast<int>(reason)));
  }
  if (!library_) {
    if (absl::Status status = LoadLibrary(); !status.ok()) return status;
  }
  AttachFields attach;
  attach.generation = ++generation_;
  attach.reason = reason;
  attach.geometry = geometry_;
  attach.workers = workers_;
  attach.pending_calls_max = manifest_.pending_calls_max;
  attach.driver_name = library_->description().name;
  attach.content_path = content_;
  attach.content_version = content_.empty() ? 0 : 1;
  attach.options = options_;
  attach.checkpoint_bytes = manifest_.checkpoint_bytes;
  violation_.store(0);
  const absl::Status status = Serve(attach);
  if (!status.ok()) {
    life_->dispatcher->Finish();
    life_.reset();
  }
  return status;
}

absl::Status Harness::Serve(const AttachFields& attach) {
  life_ = std::make_shared<Life>();
  life_->log = log_;
  life_->checkpoint_memory = checkpoint_memory_;
  life_->checkpoint = checkpoint_;
  life_->library = library_;
  life_->dispatcher = std::make_unique<WatchedDispatcher>(
      *library_, log_.get(), checkpoint_.get(),
      checkpoint_memory_ ? std::span(*checkpoint_memory_) : std::span<std::byte>(), telling_);
  if (absl::Status status = life_->dispatcher->StartDriver(attach); !status.ok()) return status;
  absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(channel_);
  if (!regions.ok()) return regions.status();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  UniqueFd shim_files(ends[0]), host_files(ends[1]);
  absl::StatusOr<std::unique_ptr<HostPort>> port = HostPort::Attach(
      std::move(regions->call_region), std::move(regions->reply_region), std::move(host_files),
      {.generation = attach.generation, .workers = attach.workers, .spin_ns = 0});
  if (!port.ok()) return port.status();
  std::unique_ptr<NotificationReader> notifications;
  if (regions->notification_region.valid()) {
    absl::StatusOr<std::unique_ptr<NotificationReader>> opened =
        (*port)->OpenNotifications(std::move(regions->notification_region));
    if (!opened.ok()) return opened.status();
    notifications = *std::move(opened);
  }
  absl::StatusOr<LifeLine> life_line = LifeLine::Create();
  if (!life_line.ok()) return life_line.status();
  life_->life_line.emplace(*std::move(life_line));
  if (absl::Status status = life_->dispatcher->Serve(*std::move(port), attach.workers,
                                                     &*life_->life_line, std::move(notifications));
      !status.ok()) {
    return status;
  }
  return shim_->BeginGeneration(
      channel_,
      GenerationSpec(attach.generation, library_->callbacks(), library_->descriptors(),
                     attach.content_version, library_->notifications()),
      std::move(shim_files));
}

absl::StatusOr<bool> Harness::Stop() {
  if (!life_) return NotRunning();
  // As a supervisor does: the shim gives it no more calls. Those that it had none of wait for the
  // next generation, until their deadlines.
  (void)shim_->SetState(channel_, /*quarantined=*/false, /*draining=*/true);
  std::promise<void> done;
  std::future<void> finished = done.get_future();
  std::thread finisher([life = life_, promise = std::move(done)]() mutable {
    life->dispatcher->Finish();
    promise.set_value();
  });
  if (finished.wait_for(kStopsWithin) != std::future_status::ready) {
    finisher.detach();
    life_.reset();  // what its threads reach stays with the finisher
    library_.reset();
    return absl::DeadlineExceededError(absl::StrCat(
        "the driver '", manifest_.name,
        "' does not stop: a callback, a pending call or stop() has not ended within 10 s"));
  }
  finisher.join();
  (void)shim_->EndGeneration(channel_, generation_, BH_END_STOPPED);
  (void)shim_->SetState(channel_, /*quarantined=*/false, /*draining=*/false);
  life_.reset();
  return std::exchange(library_, nullptr)->Unload();
}

void Harness::OnViolation(ChannelId, uint32_t, uint32_t violation) { violation_.store(violation); }

// ---- Calls

absl::StatusOr<uint64_t> Harness::Begin(const bulkhead_test_call& wanted) {
  if (!life_) return NotRunning();
  if (violation_.load() != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the driver broke the protocol (violation '", bh_violation_name(violation_.load()),
        "'): a host is killed for it, and the next one is asked; stop() and start()"));
  }
  if (!IsFileCallback(wanted.callback)) {
    return absl::InvalidArgumentError(
        absl::StrCat("no callback of a driver has the number ", wanted.callback));
  }
  FileRequest request;
  const std::string path = wanted.path == nullptr    ? std::string()
                           : wanted.path_length != 0 ? std::string(wanted.path, wanted.path_length)
                                                     : std::string(wanted.path);
  request.path = path;
  request.callback = wanted.callback;
  Call call;
  if (wanted.no_file != 0) {
    request.device = wanted.device;
    request.inode = wanted.inode;
    request.change = wanted.change;
    request.size = wanted.length;
  } else if (wanted.descriptor >= 0) {
    if (absl::Status status = DescribeObject(wanted.descriptor, request); !status.ok()) {
      return status;
    }
  } else if (path.empty()) {
    return absl::InvalidArgumentError(
        "a call is about a file: give its path or a descriptor, or set no_file");
  } else {
    absl::StatusOr<UniqueFd> opened = OpenAndDescribe(request);
    if (!opened.ok()) return opened.status();
    call.file = *std::move(opened);
  }
  request.pid = wanted.pid != 0 ? wanted.pid : static_cast<uint32_t>(getpid());
  request.uid = wanted.uid;
  request.gid = wanted.gid;
  request.open_flags = wanted.open_flags;
  call.began_ns = MonotonicNowNs();
  const uint64_t may_take_ns = wanted.deadline_ns != 0   ? wanted.deadline_ns
                               : setup_.deadline_ns != 0 ? setup_.deadline_ns
                                                         : kDeadlineNs;
  request.deadline_ns = SaturatingAddNs(call.began_ns, may_take_ns);
  call.pending = shim_->Start(request);
  const uint64_t id = next_call_++;
  calls_.emplace(id, std::move(call));
  Advance();
  return id;
}

// A call goes on when its caller looks after it; here one thread has all of them.
void Harness::Advance() {
  for (auto& [id, call] : calls_) {
    Completion completion;
    if (!call.ended && shim_->Poll(*call.pending, &completion)) {
      call.ended = ResultOf(completion, call.began_ns);
    }
  }
}

absl::StatusOr<bool> Harness::Wait(uint64_t id, uint64_t until_ns, bulkhead_test_result* result) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return absl::NotFoundError("no such call");
  Call& call = found->second;
  while (!call.ended) {
    Completion completion;
    const uint64_t look_ns = std::min(until_ns, MonotonicAfterNs(kLookNs));
    if (shim_->WaitUntil(*call.pending, look_ns, &completion)) {
      call.ended = ResultOf(completion, call.began_ns);
    } else if (violation_.load() != 0) {
      call.ended = ResultOf(shim_->Cancel(*call.pending), call.began_ns);
    } else if (look_ns == until_ns) {
      return false;
    }
    Advance();
  }
  *result = *call.ended;
  calls_.erase(found);
  return true;
}

bulkhead_test_result Harness::ResultOf(const Completion& completion, uint64_t began_ns) const {
  bulkhead_test_result result = {};
  result.size = sizeof(result);
  result.took_ns = MonotonicNowNs() - began_ns;
  std::string why = completion.why;
  switch (completion.outcome) {
    case BH_OUTCOME_ANSWERED:
      result.outcome = BULKHEAD_TEST_ANSWERED;
      break;
    case BH_OUTCOME_UNASKED:
      result.outcome = BULKHEAD_TEST_UNASKED;
      break;
    case BH_OUTCOME_POLICY:
      result.outcome =
          completion.reason == BH_REASON_DECLINED ? BULKHEAD_TEST_DECLINED : BULKHEAD_TEST_OVERDUE;
      break;
    default:
      result.outcome = BULKHEAD_TEST_CANCELLED;
      if (const uint32_t violation = violation_.load(); violation != 0) {
        result.outcome = BULKHEAD_TEST_VIOLATION;
        why = bh_violation_name(violation);
      }
      break;
  }
  const bool allowed = completion.allowed() && result.outcome != BULKHEAD_TEST_VIOLATION;
  result.verdict = allowed ? BULKHEAD_ALLOW : BULKHEAD_DENY;
  result.error = allowed ? 0 : completion.error;
  result.cacheability = completion.cacheable ? BULKHEAD_CACHE_OBJECT : BULKHEAD_CACHE_NOT;
  result.reason_length = static_cast<uint32_t>(why.copy(result.reason, BULKHEAD_REASON_BYTES));
  return result;
}

const char* TestOutcomeName(uint32_t outcome) {
  switch (outcome) {
    case BULKHEAD_TEST_PENDING:
      return "pending";
    case BULKHEAD_TEST_ANSWERED:
      return "answered";
    case BULKHEAD_TEST_DECLINED:
      return "declined";
    case BULKHEAD_TEST_OVERDUE:
      return "overdue";
    case BULKHEAD_TEST_VIOLATION:
      return "violation";
    case BULKHEAD_TEST_UNASKED:
      return "unasked";
    case BULKHEAD_TEST_CANCELLED:
      return "cancelled";
    default:
      return "no outcome";
  }
}

// ---- Notifications

absl::Status Harness::Notify(const bulkhead_notification& from) {
  if (!life_) return NotRunning();
  if (bh_set_has(&library_->notifications(), from.kind) == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the driver did not register for notifications of kind ", from.kind,
        bh_set_bit(from.kind) == 0 ? "" : absl::StrCat(" (", bh_notification_name(from.kind), ")"),
        ": a shim tells it none"));
  }
  bh_notification told = {};
  told.kind = static_cast<uint16_t>(from.kind);
  told.time_ns = from.time_ns != 0 ? from.time_ns : MonotonicNowNs();
  told.pid = from.pid;
  told.parent = from.parent;
  told.start_ns = from.start_ns;
  told.uid = from.uid;
  told.gid = from.gid;
  told.cgroup = from.cgroup;
  if (from.kind >> 8 == BH_CLASS_FILE) {
    told.body.file.device = from.device;
    told.body.file.inode = from.inode;
    told.body.file.change = from.change;
    told.body.file.size = from.length;
    told.body.file.generation = from.inode_generation;
    told.body.file.mode = from.mode;
  } else if (from.kind >> 8 == BH_CLASS_PROCESS) {
    told.body.process.device = from.device;
    told.body.process.inode = from.inode;
    told.body.process.change = from.change;
    told.body.process.exit_code = from.exit_code;
  }
  told.text = from.text;
  told.text_bytes = from.text_length;
  told.text2 = from.text2;
  told.text2_bytes = from.text2_length;
  // A ring that is full would lose it: the test says itself what is lost.
  if (shim_->Statistics(channel_)->unread >= kNotifyEntries - 1 &&
      !telling_->Settle(MonotonicAfterNs(kDeadlineNs))) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kNotifyEntries - 1,
                     " notifications wait and the driver takes none: notify() has not returned"));
  }
  {
    const std::lock_guard<std::mutex> lock(telling_->mutex);
    telling_->missed.push_back(from.missed);
  }
  shim_->Notify(told);
  return absl::OkStatus();
}

absl::Status Harness::Settle(uint64_t until_ns) {
  if (!life_) return NotRunning();
  if (telling_->Settle(until_ns)) return absl::OkStatus();
  return absl::DeadlineExceededError("the driver's notify() has not returned");
}

// ---- The log

// Until the harness ends: a driver that logs while no test looks finds the room that it has in a
// host.
void Harness::KeepTakingLog() {
  while (!ends_.load()) {
    pollfd ready = {log_->fd(), POLLIN, 0};
    if (poll(&ready, 1, kLogLookMs) == 1) TakeLog();
  }
}

void Harness::TakeLog() {
  const std::lock_guard<std::mutex> lock(lines_mutex_);
  LogQueue::Line line;
  while (log_->Front(&line)) {
    new_lines_.push_back(line);
    log_->Pop();
  }
}

const std::deque<LogQueue::Line>& Harness::Log() {
  TakeLog();
  const std::lock_guard<std::mutex> lock(lines_mutex_);
  std::move(new_lines_.begin(), new_lines_.end(), std::back_inserter(lines_));
  new_lines_.clear();
  return lines_;
}

void Harness::ClearLog() {
  (void)Log();
  lines_.clear();
}

}  // namespace bulkhead
