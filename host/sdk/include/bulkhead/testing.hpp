// SPDX-License-Identifier: Apache-2.0
//
// bulkhead/testing.hpp: the C++20 face of <bulkhead/testing.h>. Header-only.
//
//   bulkhead::testing::DriverTest driver({.folder = "build/no-scripts"});
//   driver.start();
//   assert(driver.call({.callback = BULKHEAD_ON_FILE_OPEN, .path = "run.sh"}).denied());
//
// Whatever can't be done throws bulkhead::testing::Error, with a sentence that says why. It needs
// no test framework, and works with each.
#ifndef BULKHEAD_TESTING_HPP_
#define BULKHEAD_TESTING_HPP_

#include <bulkhead/testing.h>
#include <bulkhead/driver.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bulkhead::testing {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using std::chrono::nanoseconds;

struct Setup {
  std::string folder = {};                         // with manifest.json; or
  std::string library = {};                        // a library alone
  std::string content = {};                        // empty: the manifest's default
  std::string options = {};                        // after the manifest's
  uint32_t workers = 0;                            // 0: the manifest's
  nanoseconds deadline = std::chrono::seconds(5);  // of a call without its own
  uint32_t pending_calls_max = 0;                  // these two: without a folder only
  uint32_t checkpoint_bytes = 0;
};

// As struct bulkhead_test_call.
struct Call {
  uint32_t callback = BULKHEAD_ON_FILE_OPEN;
  std::string path = {};  // is opened and described, but with a descriptor, or no_file
  int descriptor = -1;    // stays the caller's
  bool no_file = false;
  uint64_t device = 0;  // these four: with no_file
  uint64_t inode = 0;
  uint64_t change = 0;
  uint64_t length = 0;
  uint32_t pid = 0;  // 0: the test's process
  uint32_t uid = UINT32_MAX;
  uint32_t gid = UINT32_MAX;
  uint32_t open_flags = 0;
  nanoseconds deadline{0};  // 0: the setup's
};

// As struct bulkhead_notification.
struct Happened {
  uint32_t kind = 0;
  uint64_t missed = 0;  // so many are lost right before it
  uint32_t pid = 0;
  uint32_t parent = 0;
  uint64_t start_ns = 0;
  uint32_t uid = UINT32_MAX;
  uint32_t gid = UINT32_MAX;
  uint64_t cgroup = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t change = 0;
  uint64_t length = 0;
  uint32_t mode = 0;
  uint32_t exit_code = 0;
  std::string text = {};
  std::string text2 = {};
};

struct Result {
  bulkhead_test_outcome outcome = BULKHEAD_TEST_PENDING;
  bool allow = false;  // the driver's verdict, or what the default policy makes of the outcome
  int error = 0;       // of a denial
  bool cacheable = false;
  std::string reason;
  nanoseconds took{0};

  bool answered() const { return outcome == BULKHEAD_TEST_ANSWERED; }
  // By the driver itself.
  bool allowed() const { return answered() && allow; }
  bool denied() const { return answered() && !allow; }
  bool declined() const { return outcome == BULKHEAD_TEST_DECLINED; }
  bool overdue() const { return outcome == BULKHEAD_TEST_OVERDUE; }
  bool violation() const { return outcome == BULKHEAD_TEST_VIOLATION; }
};

struct LogLine {
  bulkhead_log_level level;
  uint64_t time_ns;  // CLOCK_REALTIME, when the driver said it
  std::string text = {};
};

// How a driver in a process of its own ended.
struct End {
  int signal = 0;
  int exit_code = -1;
  bool hung = false;
  std::string text = {};     // "signal 11 (Segmentation fault)"
  std::string last_lines;    // of its log: "error: text", a line each
  std::string error_output;  // the last 64 KiB
};

namespace detail {

// Keeps what a C setup points to.
struct CSetup {
  explicit CSetup(const Setup& from) {
    c.size = sizeof(c);
    c.workers = from.workers;
    c.folder = or_null(from.folder);
    c.library = or_null(from.library);
    c.content = or_null(from.content);
    c.options = or_null(from.options);
    c.deadline_ns = static_cast<uint64_t>(from.deadline.count());
    c.pending_calls_max = from.pending_calls_max;
    c.checkpoint_bytes = from.checkpoint_bytes;
  }
  static const char* or_null(const std::string& text) {
    return text.empty() ? nullptr : text.c_str();
  }
  bulkhead_test_setup c = {};
};

inline bulkhead_test_call c_of(const Call& from) {
  bulkhead_test_call c = {};
  c.size = sizeof(c);
  c.callback = from.callback;
  c.path = from.path.data();
  c.path_length = from.path.size();
  c.descriptor = from.descriptor;
  c.no_file = from.no_file ? 1 : 0;
  c.device = from.device;
  c.inode = from.inode;
  c.change = from.change;
  c.length = from.length;
  c.pid = from.pid;
  c.uid = from.uid;
  c.gid = from.gid;
  c.open_flags = from.open_flags;
  c.deadline_ns = static_cast<uint64_t>(from.deadline.count());
  return c;
}

inline bulkhead_notification c_of(const Happened& from) {
  bulkhead_notification c = {};
  c.size = sizeof(c);
  c.kind = from.kind;
  c.missed = from.missed;
  c.pid = from.pid;
  c.parent = from.parent;
  c.start_ns = from.start_ns;
  c.uid = from.uid;
  c.gid = from.gid;
  c.cgroup = from.cgroup;
  c.device = from.device;
  c.inode = from.inode;
  c.change = from.change;
  c.length = from.length;
  c.mode = from.mode;
  c.exit_code = from.exit_code;
  c.text = from.text.data();
  c.text_length = from.text.size();
  c.text2 = from.text2.data();
  c.text2_length = from.text2.size();
  return c;
}

inline Result result_of(const bulkhead_test_result& c) {
  return {.outcome = static_cast<bulkhead_test_outcome>(c.outcome),
          .allow = c.verdict == BULKHEAD_ALLOW,
          .error = c.error,
          .cacheable = c.cacheability == BULKHEAD_CACHE_OBJECT,
          .reason = std::string(c.reason, c.reason_length),
          .took = nanoseconds(static_cast<int64_t>(c.took_ns))};
}

// For a function that fills an error text.
class Failure {
 public:
  char* text() { return text_.data(); }
  size_t bytes() const { return text_.size(); }
  template <typename Value>
  Value throw_if(bool failed, Value value) {
    if (failed) throw Error(text_.data());
    return value;
  }

 private:
  std::array<char, 4096> text_ = {};
};

}  // namespace detail

class DriverTest {
 public:
  // Loads and checks the library.
  explicit DriverTest(const Setup& setup) : owned_(true) {
    detail::Failure failure;
    const detail::CSetup c(setup);
    test_ = bulkhead_test_load(&c.c, failure.text(), failure.bytes());
    failure.throw_if(test_ == nullptr, 0);
  }
  // One that in_child() has made, and frees.
  static DriverTest borrow(bulkhead_test* test) { return DriverTest(test, false); }
  DriverTest(const DriverTest&) = delete;
  DriverTest& operator=(const DriverTest&) = delete;
  ~DriverTest() {
    if (owned_) bulkhead_test_free(test_);
  }

  // Throws what the driver's start() said when it fails.
  void start(StartReason reason = StartReason::cold) {
    detail::Failure failure;
    failure.throw_if(bulkhead_test_start(test_, static_cast<uint32_t>(reason), failure.text(),
                                         failure.bytes()) != 0,
                     0);
  }
  // False: the library could not be unloaded; its static data stays as it is.
  bool stop() {
    detail::Failure failure;
    const int unloaded = bulkhead_test_stop(test_, failure.text(), failure.bytes());
    return failure.throw_if(unloaded < 0, unloaded == 1);
  }
  // The next generation, with the checkpoint of this one. As stop().
  bool restart(StartReason reason = StartReason::crash_restart) {
    const bool unloaded = stop();
    start(reason);
    return unloaded;
  }

  Result call(const Call& call) {
    detail::Failure failure;
    const bulkhead_test_call c = detail::c_of(call);
    bulkhead_test_result result = {};
    result.size = sizeof(result);
    failure.throw_if(
        bulkhead_test_make_call(test_, &c, &result, failure.text(), failure.bytes()) != 0, 0);
    return detail::result_of(result);
  }
  // A call that is answered later; its number is for wait().
  uint64_t begin(const Call& call) {
    detail::Failure failure;
    const bulkhead_test_call c = detail::c_of(call);
    uint64_t id = 0;
    failure.throw_if(bulkhead_test_begin(test_, &c, &id, failure.text(), failure.bytes()) != 0, 0);
    return id;
  }
  // None: it has not ended within that time.
  std::optional<Result> wait(uint64_t id, nanoseconds within) {
    bulkhead_test_result result = {};
    result.size = sizeof(result);
    const int ended = bulkhead_test_wait(test_, id, static_cast<uint64_t>(within.count()), &result);
    if (ended < 0) throw Error("no call has this number: it was waited for before");
    if (ended == 0) return std::nullopt;
    return detail::result_of(result);
  }
  // Waits for its end; at its deadline it has one.
  Result wait(uint64_t id) { return *wait(id, nanoseconds(INT64_MAX)); }

  void notify(const Happened& happened) {
    detail::Failure failure;
    const bulkhead_notification c = detail::c_of(happened);
    failure.throw_if(bulkhead_test_notify(test_, &c, failure.text(), failure.bytes()) != 0, 0);
  }
  // Until the driver's notify() has returned for all.
  void settle(nanoseconds within = std::chrono::seconds(10)) {
    detail::Failure failure;
    failure.throw_if(bulkhead_test_settle(test_, static_cast<uint64_t>(within.count()),
                                          failure.text(), failure.bytes()) != 0,
                     0);
  }

  std::vector<LogLine> log() {
    std::vector<LogLine> lines;
    const size_t count = bulkhead_test_log(test_);
    for (size_t i = 0; i < count; ++i) {
      bulkhead_test_line line = {};
      line.size = sizeof(line);
      if (bulkhead_test_log_line(test_, i, &line) != 0) break;
      lines.push_back({.level = static_cast<bulkhead_log_level>(line.level),
                       .time_ns = line.time_ns,
                       .text = std::string(line.text, line.length)});
    }
    return lines;
  }
  // Whether a line of the log contains `part`.
  bool logged(std::string_view part) {
    for (const LogLine& line : log()) {
      if (line.text.find(part) != std::string::npos) return true;
    }
    return false;
  }
  void clear_log() { bulkhead_test_clear_log(test_); }
  uint64_t log_dropped() { return bulkhead_test_log_dropped(test_); }

  // All events of a recording, in order; the results of the calls.
  std::vector<Result> replay(const std::string& path) {
    detail::Failure failure;
    std::vector<Result> results;
    const long replayed = bulkhead_test_replay(
        test_, path.c_str(),
        [](void* context, const bulkhead_test_call*, const bulkhead_test_result* result) {
          if (result != nullptr) {
            static_cast<std::vector<Result>*>(context)->push_back(detail::result_of(*result));
          }
          return 0;
        },
        &results, failure.text(), failure.bytes());
    failure.throw_if(replayed < 0, 0);
    return results;
  }

  bulkhead_test* c() const { return test_; }

 private:
  DriverTest(bulkhead_test* test, bool owned) : test_(test), owned_(owned) {}

  bulkhead_test* test_ = nullptr;
  bool owned_ = false;
};

// Appends to a recording.
inline void record(const std::string& path, const Call& call) {
  detail::Failure failure;
  const bulkhead_test_call c = detail::c_of(call);
  failure.throw_if(
      bulkhead_test_record_call(path.c_str(), &c, failure.text(), failure.bytes()) != 0, 0);
}
inline void record(const std::string& path, const Happened& happened) {
  detail::Failure failure;
  const bulkhead_notification c = detail::c_of(happened);
  failure.throw_if(
      bulkhead_test_record_notification(path.c_str(), &c, failure.text(), failure.bytes()) != 0, 0);
}

// For a driver that is to crash, exit or hang: it is loaded and started in a child process, in
// which `body` runs.
//
//   const End end = in_child({.folder = FOLDER}, [](DriverTest& driver) {
//     driver.call({.path = "a-file-that-crashes-it"});
//   });
//   assert(end.signal == SIGSEGV);
//
// An error that leaves `body` ends the child with exit code 3, and stands in its error output.
inline End in_child(const Setup& setup, const std::function<void(DriverTest&)>& body,
                    nanoseconds within = std::chrono::seconds(30)) {
  detail::Failure failure;
  bulkhead_test_end c = {};
  c.size = sizeof(c);
  const detail::CSetup c_setup(setup);
  const int made = bulkhead_test_in_child(
      &c_setup.c,
      [](bulkhead_test* test, void* context) {
        try {
          DriverTest driver = DriverTest::borrow(test);
          (*static_cast<const std::function<void(DriverTest&)>*>(context))(driver);
          return 0;
        } catch (const std::exception& trouble) {
          std::fprintf(stderr, "%s\n", trouble.what());
        } catch (...) {
          std::fputs("an exception that is no std::exception\n", stderr);
        }
        return 3;
      },
      const_cast<std::function<void(DriverTest&)>*>(&body), static_cast<uint64_t>(within.count()),
      &c, failure.text(), failure.bytes());
  failure.throw_if(made != 0, 0);
  End end = {.signal = c.signal,
             .exit_code = c.exit_code,
             .hung = c.hung != 0,
             .text = c.text,
             .last_lines = c.last_lines,
             .error_output = c.error_output};
  bulkhead_test_end_free(&c);
  return end;
}

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTING_HPP_
