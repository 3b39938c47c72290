// SPDX-License-Identifier: Apache-2.0
#include "host/process/dispatcher.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/abi/events.h"
#include "ipc/abi/names.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

// callbacks.h is made from the same rows; a test compares the texts.
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
  static_assert(uint32_t{BULKHEAD_ON_##NAME} == uint32_t{BH_CALLBACK_##NAME});
#include "ipc/abi/callbacks.def"
#define BH_NOTIFICATION_ROW(klass, index, NAME, name, body, doc) \
  static_assert(uint32_t{BULKHEAD_##NAME} == uint32_t{BH_NOTIFY_##NAME});
#include "ipc/abi/notifications.def"
#define BH_ROW(id, NAME, name, doc) \
  static_assert(uint32_t{BULKHEAD_START_##NAME} == uint32_t{BH_START_##NAME});
BH_FOR_EACH_START(BH_ROW)
#undef BH_ROW
static_assert(uint32_t{BULKHEAD_ALLOW} == uint32_t{BH_VERDICT_ALLOW});
static_assert(uint32_t{BULKHEAD_DENY} == uint32_t{BH_VERDICT_DENY});
static_assert(uint32_t{BULKHEAD_CACHE_OBJECT} == uint32_t{BH_CACHE_OBJECT});

static_assert(uint32_t{BULKHEAD_TEXT2_CUT} == uint32_t{BH_NOTIFICATION_TEXT2_CUT});

constexpr int kNotificationNice = 10;
constexpr size_t kNotificationBatch = 64;

using FileCallback = void (*)(void*, const bulkhead_call*, const bulkhead_file*, bulkhead_answer*);

FileCallback CallbackOf(const bulkhead_driver_description& driver, uint32_t callback) {
  switch (callback) {
#define BULKHEAD_ROW(NAME, name) \
  case BULKHEAD_ON_##NAME:       \
    return driver.name;
    BULKHEAD_FOR_EACH_FILE_CALLBACK(BULKHEAD_ROW)
#undef BULKHEAD_ROW
    default:
      return nullptr;
  }
}

bulkhead_notification ForDriver(const Notification& from) {
  const bh_notification_entry& entry = from.entry;
  bulkhead_notification to = {};
  to.size = sizeof(to);
  to.kind = entry.kind;
  to.number = entry.number;
  to.missed = entry.missed;
  to.time_ns = entry.time_ns;
  to.pid = entry.pid;
  to.parent = entry.parent;
  to.start_ns = entry.start_ns;
  to.uid = entry.uid;
  to.gid = entry.gid;
  to.cgroup = entry.cgroup;
  to.text = from.text().data();
  to.text_length = from.text().size();
  to.text2 = from.text2().data();
  to.text2_length = from.text2().size();
  to.cut = entry.flags & (BH_NOTIFICATION_TEXT_CUT | BH_NOTIFICATION_TEXT2_CUT);
  if (entry.kind >> 8 == BH_CLASS_FILE) {
    bh_notify_file file;
    std::memcpy(&file, entry.body, sizeof(file));
    to.device = file.device;
    to.inode = file.inode;
    to.change = file.change;
    to.length = file.size;
    to.inode_generation = file.generation;
    to.mode = file.mode;
  } else if (entry.kind >> 8 == BH_CLASS_PROCESS) {
    bh_notify_process process;
    std::memcpy(&process, entry.body, sizeof(process));
    to.device = process.device;
    to.inode = process.inode;
    to.change = process.change;
    to.exit_code = process.exit_code;
  }
  return to;
}

}  // namespace

Dispatcher::Dispatcher(const DriverLibrary& library, LogQueue* log, Checkpoint* checkpoint,
                       std::span<std::byte> checkpoint_memory)
    : library_(library), driver_(library.description()), log_(log), checkpoint_(checkpoint) {
  host_.size = sizeof(host_);
  host_.abi = BULKHEAD_DRIVER_ABI;
  host_.context = this;
  host_.log = &Log;
  host_.time_left_ns = &TimeLeft;
  host_.map_file = &MapFile;
  host_.complete = &Complete;
  host_.checkpoint = checkpoint_memory.data();
  host_.checkpoint_bytes = checkpoint_memory.size();
  host_.checkpoint_save = &Save;
  host_.checkpoint_load = &Load;
}

void Dispatcher::Log(void* context, uint32_t level, const char* text, size_t length) {
  static_cast<Dispatcher*>(context)->log_->Post(level, {text, length});
}

uint64_t Dispatcher::TimeLeft(void* context, const bulkhead_call* call) {
  const uint64_t deadline_ns = static_cast<Dispatcher*>(context)->calls_in_hand_->Deadline(call);
  const uint64_t now_ns = MonotonicNowNs();
  return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

const void* Dispatcher::MapFile(void* context, const bulkhead_call* call, const bulkhead_file*,
                                size_t* length) {
  return static_cast<Dispatcher*>(context)->calls_in_hand_->Map(call, length);
}

int Dispatcher::Complete(void* context, const bulkhead_call* call, const bulkhead_answer* answer) {
  auto* self = static_cast<Dispatcher*>(context);
  const auto send = [self](TakenCall& taken, const bulkhead_answer& its_answer) {
    self->Send(taken, its_answer);
  };
  switch (self->calls_in_hand_->Complete(call, *answer, send)) {
    case CallTable::Completion::kSent:
      return 0;
    case CallTable::Completion::kNotKept:
      self->Report(kNotPending, 0);
      errno = ESTALE;
      return -1;
    case CallTable::Completion::kNoneIsKept:
      self->Report(kMayKeepNone, 0);
      errno = ENOTSUP;
      return -1;
    case CallTable::Completion::kNotAnAnswer:
      self->Report(kNoAnswer, 0);
      errno = EINVAL;
      return -1;
  }
  return -1;
}

int Dispatcher::Save(void* context, const void* record, size_t bytes) {
  Checkpoint* checkpoint = static_cast<Dispatcher*>(context)->checkpoint_;
  if (checkpoint != nullptr && checkpoint->Save({static_cast<const std::byte*>(record), bytes})) {
    return 0;
  }
  errno = ENOSPC;
  return -1;
}

long Dispatcher::Load(void* context, void* record, size_t capacity) {
  Checkpoint* checkpoint = static_cast<Dispatcher*>(context)->checkpoint_;
  return checkpoint == nullptr ? 0 : checkpoint->Load({static_cast<std::byte*>(record), capacity});
}

absl::Status Dispatcher::StartDriver(const AttachFields& attach) {
  // More can't be in flight than there are slots.
  calls_in_hand_ = std::make_unique<CallTable>(
      attach.workers, std::min(attach.pending_calls_max, bh_slot_count(&attach.geometry)));
  const bulkhead_start start = {.size = sizeof(bulkhead_start),
                                .reason = static_cast<uint32_t>(attach.reason),
                                .generation = attach.generation,
                                .workers = attach.workers,
                                .content_path = attach.content_path.c_str(),
                                .content_version = attach.content_version,
                                .options = attach.options.c_str(),
                                .pending_calls_max = calls_in_hand_->kept_max(),
                                .reserved = 0};
  std::array<char, 1024> error = {};
  if (driver_.start(&host_, &start, &state_, error.data(), error.size()) != 0) {
    error.back() = '\0';
    return absl::FailedPreconditionError(
        error[0] != '\0' ? std::string(error.data())
                         : absl::StrCat(driver_.name, " does not start, and does not say why"));
  }
  started_ = true;
  return absl::OkStatus();
}

absl::Status Dispatcher::Serve(std::unique_ptr<HostPort> port, uint32_t workers,
                               LifeLine* life_line,
                               std::unique_ptr<NotificationReader> notifications) {
  port_ = std::move(port);
  notifications_ = std::move(notifications);
  if (notifications_) Run(workers, life_line, [this] { Tell(); });
  for (uint32_t worker = 0; worker < workers; ++worker) {
    Run(worker, life_line, [this, worker] { Work(worker); });
  }
  std::unique_lock<std::mutex> lock(held_mutex_);
  held_changed_.wait(lock, [this] { return held_ == threads_.size(); });
  return held_status_;
}

void Dispatcher::Run(uint32_t line, LifeLine* life_line, std::function<void()> serve) {
  threads_.emplace_back([this, line, life_line, serve = std::move(serve)] {
    const absl::Status held = life_line->Hold(line);
    {
      const std::lock_guard<std::mutex> lock(held_mutex_);
      ++held_;
      held_status_.Update(held);
    }
    held_changed_.notify_one();
    if (held.ok()) serve();
  });
}

void Dispatcher::Finish() {
  if (port_) port_->StopTaking();
  if (notifications_) notifications_->Stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (calls_in_hand_) calls_in_hand_->WaitUntilNoneIsKept();
  if (started_ && driver_.stop != nullptr) driver_.stop(state_);
  started_ = false;
}

void Dispatcher::Work(uint32_t worker) {
  (void)port_->Bind(worker);
  CallTable::Entry* entry = calls_in_hand_->OfWorker(worker);
  while (std::optional<TakenCall> call = port_->Take(worker, kForeverNs)) Answer(*call, &entry);
}

void Dispatcher::Answer(TakenCall& taken, CallTable::Entry** mine) {
  const FileCallback callback = bh_set_has(&library_.callbacks(), taken.callback) != 0
                                    ? CallbackOf(driver_, taken.callback)
                                    : nullptr;
  const absl::StatusOr<CallDetails> details = port_->Details(taken);
  if (callback == nullptr || taken.args_bytes != sizeof(bh_file_args) || !details.ok()) {
    port_->Decline(taken);
    return;
  }
  bh_file_args args;
  std::memcpy(&args, taken.args, sizeof(args));
  CallTable::Entry& entry = **mine;
  if (bh_set_has(&library_.descriptors(), taken.callback) != 0) {
    absl::StatusOr<UniqueFd> received = port_->ReceiveDescriptor(taken);
    if (received.ok()) entry.descriptor = *std::move(received);
  }
  entry.file = {.size = sizeof(entry.file),
                .descriptor = entry.descriptor.get(),
                .device = args.device,
                .inode = args.inode,
                .change = args.change,
                .length = args.size,
                .pid = args.pid,
                .uid = args.uid,
                .gid = args.gid,
                .open_flags = args.open_flags,
                .path = details->payload_text().data(),
                .path_length = details->payload_text().size(),
                .call_id = details->call_id,
                .attempt = details->attempt,
                .reserved = 0};
  bulkhead_answer answer = {};
  answer.size = sizeof(answer);
  const bulkhead_call* call = calls_in_hand_->Open(entry, details->deadline_ns);
  port_->BeginDriver(taken);
  callback(state_, call, &entry.file, &answer);
  bool recorded = false;
  if (answer.verdict == BULKHEAD_PENDING && calls_in_hand_->kept_max() != 0) {
    entry.taken = taken;
    if (calls_in_hand_->Keep(mine)) return;
    answer = entry.answer;
    recorded = true;
  }
  Send(taken, answer);
  if (!calls_in_hand_->Close(entry) && !recorded) Report(kAnsweredTwice, taken.callback);
}

// From any thread: by a worker, or where the driver completes a pending call.
void Dispatcher::Send(TakenCall& taken, const bulkhead_answer& answer) {
  switch (answer.verdict) {
    case 0:
      port_->Decline(taken);
      Report(kEmptyAnswer, taken.callback);
      return;
    case BULKHEAD_PENDING:
      port_->Decline(taken);
      Report(kMayKeepNone, taken.callback);
      return;
    case BULKHEAD_DECLINE:
      port_->Decline(taken);
      return;
    default:
      break;
  }
  // The driver's answer is its own word: the shim judges it, as it does all that comes from a host.
  // What its field has no room for stays wrong there.
  const auto narrow = [](uint32_t value) {
    return static_cast<uint16_t>(std::min<uint32_t>(value, UINT16_MAX));
  };
  struct {
    bh_verdict_reply verdict;
    char reason[BH_VERDICT_REASON_BYTES];
  } reply;
  static_assert(sizeof(reply) == BH_INLINE_BYTES);
  static_assert(BH_VERDICT_REASON_BYTES == BULKHEAD_REASON_BYTES);
  reply.verdict = {.verdict = answer.verdict,
                   .cacheability = narrow(answer.cacheability),
                   .error = narrow(answer.error)};
  const size_t reason = std::min<size_t>(answer.reason_length, BULKHEAD_REASON_BYTES);
  if (reason != 0) std::memcpy(reply.reason, answer.reason, reason);
  port_->Reply(taken, BH_REPLY_DONE,
               {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply.verdict) + reason});
}

// Behind the workers: where CPUs are scarce, a verdict goes first.
void Dispatcher::Tell() {
  (void)setpriority(PRIO_PROCESS, 0, kNotificationNice);
  std::vector<Notification> batch(kNotificationBatch);
  while (const size_t count = notifications_->Read(absl::MakeSpan(batch), kForeverNs)) {
    for (size_t i = 0; i < count; ++i) {
      const Notification& one = batch[i];
      notifications_->Release(one);
      if (bh_set_has(&library_.notifications(), one.entry.kind) == 0) continue;
      const bulkhead_notification notification = ForDriver(one);
      Deliver(notification);
    }
  }
}

// SUBTLE: once, by the exchange alone: it orders nothing.
void Dispatcher::Report(Mistake mistake, uint32_t callback) {
  if (reported_[mistake].exchange(true, std::memory_order_relaxed)) return;
  char text[192];
  int length = 0;
  switch (mistake) {
    case kEmptyAnswer:
      length = std::snprintf(text, sizeof(text),
                             "the driver answered nothing to %s: the policy for declined applies",
                             bh_callback_name(callback));
      break;
    case kMayKeepNone:
      length = std::snprintf(text, sizeof(text),
                             "the driver answers later, but its manifest has no pending_calls_max: "
                             "the policy for declined applies");
      break;
    case kAnsweredTwice:
      length = std::snprintf(text, sizeof(text),
                             "the driver completed a call and answered it in its callback, too "
                             "(%s): the callback's answer was sent",
                             bh_callback_name(callback));
      break;
    case kNotPending:
      length =
          std::snprintf(text, sizeof(text),
                        "the driver completed a call that is not pending: it had ended before");
      break;
    case kNoAnswer:
      length = std::snprintf(text, sizeof(text),
                             "the driver completed a call without a verdict: it stays pending");
      break;
    case kMistakes:
      break;
  }
  log_->Post(BULKHEAD_LOG_WARNING, {text, static_cast<size_t>(length)});
}

}  // namespace bulkhead
