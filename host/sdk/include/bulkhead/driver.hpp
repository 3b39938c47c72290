// SPDX-License-Identifier: Apache-2.0
//
// bulkhead/driver.hpp: the C++20 face of <bulkhead/driver.h>. Header-only.
//
//   class NoScripts : public bulkhead::Driver {
//     bulkhead::Verdict file_exec(const bulkhead::FileEvent& file) override {
//       return file.path().ends_with(".sh") ? bulkhead::deny() : bulkhead::allow();
//     }
//   };
//   BULKHEAD_DRIVER(NoScripts, "no-scripts", "1.0", BULKHEAD_ON_FILE_EXEC, 0)
//
// Threads: the file callbacks are called from several threads at once; start() before all of them,
// stop() after. An exception that leaves a callback is logged and declines that call; one that
// leaves start() makes the start fail with its text. Memory errors, aborts and hangs end the
// generation: a new one is started, with reason crash_restart.
#ifndef BULKHEAD_DRIVER_HPP_
#define BULKHEAD_DRIVER_HPP_

#include <bulkhead/driver.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bulkhead {

enum class StartReason : uint32_t {
  cold = BULKHEAD_START_COLD,
  crash_restart = BULKHEAD_START_CRASH_RESTART,
  upgrade = BULKHEAD_START_UPGRADE,
};

// The answer to a file callback.
class Verdict {
 public:
  constexpr explicit Verdict(bulkhead_verdict verdict) : verdict_(verdict) {}
  // The answer holds until the object, the content or the driver changes. Not for decline(), nor
  // for a verdict by path(): an object may have several.
  constexpr Verdict cache() const {
    Verdict cached = *this;
    cached.cacheability_ = BULKHEAD_CACHE_OBJECT;
    return cached;
  }
  // A denial that its caller sees as this errno (see bulkhead_answer).
  constexpr Verdict with_error(int error) const {
    Verdict changed = *this;
    changed.error_ = static_cast<uint32_t>(error);
    return changed;
  }
  // Why: the name of a threat, of a rule. Cut beyond BULKHEAD_REASON_BYTES.
  constexpr Verdict because(std::string_view reason) const {
    Verdict explained = *this;
    explained.reason_length_ =
        static_cast<uint32_t>(reason.copy(explained.reason_.data(), BULKHEAD_REASON_BYTES));
    return explained;
  }
  constexpr bulkhead_verdict verdict() const { return verdict_; }
  constexpr uint32_t error() const { return error_; }
  constexpr bulkhead_cacheability cacheability() const { return cacheability_; }
  constexpr std::string_view reason() const { return {reason_.data(), reason_length_}; }
  // As much of it as has room in answer.size bytes: an older host has none for the reason.
  void fill(bulkhead_answer& answer) const {
    answer.cacheability = static_cast<uint32_t>(cacheability_);
    answer.error = error_;
    if (reason_length_ != 0 && answer.size >= sizeof(answer)) {
      answer.reason_length = reason_length_;
      std::memcpy(answer.reason, reason_.data(), reason_length_);
    }
    answer.verdict = static_cast<uint32_t>(verdict_);
  }

 private:
  bulkhead_verdict verdict_;
  bulkhead_cacheability cacheability_ = BULKHEAD_CACHE_NOT;
  uint32_t error_ = 0;
  uint32_t reason_length_ = 0;
  std::array<char, BULKHEAD_REASON_BYTES> reason_ = {};
};
constexpr Verdict allow() { return Verdict(BULKHEAD_ALLOW); }
constexpr Verdict deny() { return Verdict(BULKHEAD_DENY); }
// The caller gets this errno where the attachment can hand it on, else EPERM.
constexpr Verdict deny(int error) { return deny().with_error(error); }
// No opinion can be formed: the operator's policy for "absent" answers.
constexpr Verdict decline() { return Verdict(BULKHEAD_DECLINE); }
// The answer comes later, by a PendingCall.
constexpr Verdict pending() { return Verdict(BULKHEAD_PENDING); }

// What the host does for the driver. Valid from start() to stop(), from any thread.
class Host {
 public:
  explicit Host(const bulkhead_host* host) : host_(host) {}

  void debug(std::string_view text) const { log(BULKHEAD_LOG_DEBUG, text); }
  void info(std::string_view text) const { log(BULKHEAD_LOG_INFO, text); }
  void warning(std::string_view text) const { log(BULKHEAD_LOG_WARNING, text); }
  void error(std::string_view text) const { log(BULKHEAD_LOG_ERROR, text); }

  // Saves a record that the next generation can load: whole or not at all. False: it does not fit.
  bool checkpoint_save(std::span<const std::byte> record) const {
    return host_->checkpoint_save(host_->context, record.data(), record.size()) == 0;
  }
  // The last whole record; empty when there is none.
  std::vector<std::byte> checkpoint_load() const {
    std::vector<std::byte> record(host_->checkpoint_bytes);
    const long bytes = host_->checkpoint_load(host_->context, record.data(), record.size());
    record.resize(bytes > 0 ? static_cast<size_t>(bytes) : 0);
    return record;
  }
  const bulkhead_host* c() const { return host_; }

 private:
  void log(bulkhead_log_level level, std::string_view text) const {
    host_->log(host_->context, level, text.data(), text.size());
  }
  const bulkhead_host* host_;
};

struct StartInfo {
  Host host;
  StartReason reason;
  uint32_t generation;
  uint32_t workers;          // threads that will call back at the same time
  std::string content_path;  // empty: no content
  uint64_t content_version;
  std::string options;         // from the manifest
  uint32_t pending_calls_max;  // calls that may be pending at a time; 0: none may
};

// The file that a callback is about. Valid until the callback returns, or, with a PendingCall,
// until that is completed.
class FileEvent {
 public:
  FileEvent(const bulkhead_host* host, const bulkhead_call* call, const bulkhead_file* file)
      : host_(host), call_(call), file_(file) {}

  int descriptor() const { return file_->descriptor; }  // read-only; -1 when not asked for
  // A courtesy: it may already name another object. Empty when not known.
  std::string_view path() const { return {file_->path, file_->path_length}; }
  uint64_t device() const { return file_->device; }
  uint64_t inode() const { return file_->inode; }
  uint64_t change() const { return file_->change; }
  uint64_t length() const { return file_->length; }
  uint32_t pid() const { return file_->pid; }
  // None when the shim is not told: fanotify tells the process only.
  std::optional<uint32_t> uid() const { return known(file_->uid); }
  std::optional<uint32_t> gid() const { return known(file_->gid); }
  uint32_t open_flags() const { return file_->open_flags; }
  uint64_t call_id() const { return file_->call_id; }
  uint32_t attempt() const { return file_->attempt; }
  std::chrono::nanoseconds time_left() const {
    return std::chrono::nanoseconds(host_->time_left_ns(host_->context, call_));
  }
  // The file's bytes, straight from the page cache. None, with errno set, when they can't be
  // mapped.
  std::optional<std::span<const std::byte>> map() const {
    size_t length = 0;
    const void* bytes = host_->map_file(host_->context, call_, file_, &length);
    if (bytes == nullptr) return std::nullopt;
    return std::span(static_cast<const std::byte*>(bytes), length);
  }

 private:
  friend class PendingCall;
  static std::optional<uint32_t> known(uint32_t id) {
    return id == UINT32_MAX ? std::nullopt : std::optional<uint32_t>(id);
  }
  const bulkhead_host* host_;
  const bulkhead_call* call_;
  const bulkhead_file* file_;
};

// A call that is answered later, from any thread:
//
//   bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override {
//     queue_.push(bulkhead::PendingCall(file));
//     return bulkhead::pending();
//   }
//   ... and in a thread of the driver's:
//   bulkhead::PendingCall call = queue_.pop();
//   call.complete(judge(call.file()));
//
// One that ends without an answer declines. The manifest's pending_calls_max bounds how many a
// driver may keep: beyond it, a worker waits until one is completed.
class PendingCall {
 public:
  PendingCall() = default;
  explicit PendingCall(const FileEvent& file) : file_(file) {}
  PendingCall(PendingCall&& other) noexcept : file_(std::exchange(other.file_, std::nullopt)) {}
  PendingCall& operator=(PendingCall&& other) noexcept {
    if (this != &other) {
      if (file_) complete(decline());
      file_ = std::exchange(other.file_, std::nullopt);
    }
    return *this;
  }
  ~PendingCall() {
    if (file_) complete(decline());
  }

  explicit operator bool() const { return file_.has_value(); }
  // REQUIRES: it is not empty.
  const FileEvent& file() const { return *file_; }
  // Ends the call; the object is empty afterwards. False, with errno as bulkhead_host.complete
  // says, when it was not pending.
  bool complete(Verdict verdict) {
    if (!file_) {
      errno = ESTALE;
      return false;
    }
    const FileEvent file = *std::exchange(file_, std::nullopt);
    bulkhead_answer answer = {};
    answer.size = sizeof(answer);
    verdict.fill(answer);
    return bulkhead_complete(file.host_, file.call_, &answer) == 0;
  }

 private:
  std::optional<FileEvent> file_;
};

// Something that happened. Valid until the callback returns.
class Notification {
 public:
  explicit Notification(const bulkhead_notification* notification) : c_(notification) {}

  bulkhead_notification_kind kind() const {
    return static_cast<bulkhead_notification_kind>(c_->kind);
  }
  // Counts what happened; jumps by missed() where notifications were lost.
  uint64_t number() const { return c_->number; }
  uint64_t missed() const { return c_->missed; }
  uint32_t pid() const { return c_->pid; }
  uint32_t parent() const { return c_->parent; }
  // With pid() a name for good: pids come back.
  uint64_t start_ns() const { return c_->start_ns; }
  uint64_t device() const { return c_->device; }
  uint64_t inode() const { return c_->inode; }
  // The path, the program or the module; of a rename the old name. A courtesy.
  std::string_view text() const { return {c_->text, c_->text_length}; }
  // The new name, or the command line, its words ended by zero bytes.
  std::string_view text2() const { return {c_->text2, c_->text2_length}; }
  const bulkhead_notification* c() const { return c_; }

 private:
  const bulkhead_notification* c_;
};

class Driver {
 public:
  Driver() = default;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  virtual ~Driver() = default;

  // Gets ready to answer. Throws std::exception (what() is for the operator) when it can't serve.
  virtual void start(const StartInfo&) {}
  virtual void stop() {}
#define BULKHEAD_ROW(NAME, name) \
  virtual Verdict name(const FileEvent&) { return allow(); }
  BULKHEAD_FOR_EACH_FILE_CALLBACK(BULKHEAD_ROW)
#undef BULKHEAD_ROW
  // From one thread, beside the callbacks. See BULKHEAD_DRIVER_WITH_NOTIFICATIONS.
  virtual void notify(const Notification&) {}
};

namespace detail {

// Ids, ended by 0, as the description has them.
template <size_t N>
struct IdList {
  uint32_t ids[N + 1] = {};
};

constexpr IdList<0> list_of(int) { return {}; }
constexpr IdList<1> list_of(bulkhead_callback id) { return {{id, 0}}; }
constexpr IdList<1> list_of(bulkhead_notification_kind id) { return {{id, 0}}; }
template <size_t N>
constexpr IdList<N> list_of(const IdList<N>& list) {
  return list;
}
template <typename Id, size_t N>
constexpr IdList<N> list_of(const std::array<Id, N>& ids) {
  IdList<N> list;
  for (size_t i = 0; i < N; ++i) list.ids[i] = ids[i];
  return list;
}

template <size_t N>
constexpr IdList<N + 1> append(const IdList<N>& list, uint32_t id) {
  IdList<N + 1> longer;
  for (size_t i = 0; i < N; ++i) longer.ids[i] = list.ids[i];
  longer.ids[N] = id;
  return longer;
}
template <size_t N>
constexpr IdList<N + 1> operator|(const IdList<N>& list, bulkhead_callback id) {
  return append(list, id);
}
template <size_t N>
constexpr IdList<N + 1> operator|(const IdList<N>& list, bulkhead_notification_kind id) {
  return append(list, id);
}

struct Instance {
  const bulkhead_host* host;
  std::unique_ptr<Driver> driver;
};

template <typename Type>
int start(const bulkhead_host* host, const bulkhead_start* info, void** state, char* error,
          size_t error_bytes) {
  try {
    auto instance = std::make_unique<Instance>(Instance{host, std::make_unique<Type>()});
    instance->driver->start(StartInfo{Host(host), static_cast<StartReason>(info->reason),
                                      info->generation, info->workers, info->content_path,
                                      info->content_version, info->options,
                                      bulkhead_pending_calls_max(info)});
    *state = instance.release();
    return 0;
  } catch (const std::exception& trouble) {
    std::snprintf(error, error_bytes, "%s", trouble.what());
  } catch (...) {
    std::snprintf(error, error_bytes, "an exception that is no std::exception");
  }
  return -1;
}

inline void stop(void* state) {
  const std::unique_ptr<Instance> instance(static_cast<Instance*>(state));
  try {
    instance->driver->stop();
  } catch (...) {
    Host(instance->host).error("stop() threw");
  }
}

template <Verdict (Driver::*callback)(const FileEvent&)>
void call(void* state, const bulkhead_call* call, const bulkhead_file* file,
          bulkhead_answer* answer) {
  const auto* instance = static_cast<const Instance*>(state);
  answer->verdict = BULKHEAD_DECLINE;
  try {
    const Verdict verdict =
        (instance->driver.get()->*callback)(FileEvent(instance->host, call, file));
    verdict.fill(*answer);
  } catch (const std::exception& trouble) {
    // No allocation: a std::bad_alloc may be what is told of here, and nothing may leave this
    // function.
    char text[256];
    const int length = std::snprintf(text, sizeof(text), "a callback threw: %s", trouble.what());
    if (length > 0) {
      Host(instance->host).error({text, std::min(static_cast<size_t>(length), sizeof(text) - 1)});
    }
  } catch (...) {
    Host(instance->host).error("a callback threw an exception that is no std::exception");
  }
}

inline void notify(void* state, const bulkhead_notification* notification) {
  const auto* instance = static_cast<const Instance*>(state);
  try {
    instance->driver->notify(Notification(notification));
  } catch (...) {
    Host(instance->host).error("notify() threw");
  }
}

}  // namespace detail
}  // namespace bulkhead

constexpr auto operator|(bulkhead_callback a, bulkhead_callback b) {
  return ::bulkhead::detail::append(::bulkhead::detail::list_of(a), b);
}
constexpr auto operator|(bulkhead_notification_kind a, bulkhead_notification_kind b) {
  return ::bulkhead::detail::append(::bulkhead::detail::list_of(a), b);
}

// The description's field of each row of the SDK's callbacks; driver.h lists them by hand, so that
// new ones come at its end.
#define BULKHEAD_DETAIL_SET_FUNCTION(NAME, name) \
  made.name = &::bulkhead::detail::call<&::bulkhead::Driver::name>;

// Defines the driver's entry point. `callbacks` and `descriptors`: BULKHEAD_ON_* with | between
// them, or 0 for none.
#define BULKHEAD_DRIVER(Type, driver_name, driver_version, wanted_callbacks, wanted_descriptors) \
  BULKHEAD_DRIVER_WITH_NOTIFICATIONS(Type, driver_name, driver_version, wanted_callbacks,        \
                                     wanted_descriptors, 0)

// The same for a driver that gets notifications: `kinds` as above, or a list that is a constant of
// static storage: std::array of kinds.
#define BULKHEAD_DRIVER_WITH_NOTIFICATIONS(Type, driver_name, driver_version, wanted_callbacks, \
                                           wanted_descriptors, wanted_kinds)                    \
  extern "C" const bulkhead_driver_description* bulkhead_driver(void) {                         \
    static constexpr auto callbacks = ::bulkhead::detail::list_of(wanted_callbacks);            \
    static constexpr auto descriptors = ::bulkhead::detail::list_of(wanted_descriptors);        \
    static constexpr auto kinds = ::bulkhead::detail::list_of(wanted_kinds);                    \
    static const bulkhead_driver_description description = [] {                                 \
      bulkhead_driver_description made = {};                                                    \
      made.size = sizeof(made);                                                                 \
      made.abi = BULKHEAD_DRIVER_ABI;                                                           \
      made.name = driver_name;                                                                  \
      made.version = driver_version;                                                            \
      made.callbacks = callbacks.ids;                                                           \
      made.descriptors = descriptors.ids;                                                       \
      made.start = &::bulkhead::detail::start<Type>;                                            \
      made.stop = &::bulkhead::detail::stop;                                                    \
      BULKHEAD_FOR_EACH_FILE_CALLBACK(BULKHEAD_DETAIL_SET_FUNCTION)                             \
      made.notifications = kinds.ids;                                                           \
      made.notify = &::bulkhead::detail::notify;                                                \
      return made;                                                                              \
    }();                                                                                        \
    return &description;                                                                        \
  }

#endif  // BULKHEAD_DRIVER_HPP_
