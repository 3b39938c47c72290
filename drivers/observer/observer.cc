// SPDX-License-Identifier: Apache-2.0
//
// observer: gets notifications, counts them, and allows every open. README.md has its options.
#include <bulkhead/driver.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

namespace {

struct Kind {
  bulkhead_notification_kind kind;
  std::string_view name;
};
constexpr std::array<Kind, 9> kKinds = {{{BULKHEAD_FILE_CREATED, "file_created"},
                                         {BULKHEAD_FILE_MODIFIED, "file_modified"},
                                         {BULKHEAD_FILE_WRITTEN, "file_written"},
                                         {BULKHEAD_FILE_RENAMED, "file_renamed"},
                                         {BULKHEAD_FILE_DELETED, "file_deleted"},
                                         {BULKHEAD_PROCESS_CREATED, "process_created"},
                                         {BULKHEAD_PROCESS_EXECUTED, "process_executed"},
                                         {BULKHEAD_PROCESS_EXITED, "process_exited"},
                                         {BULKHEAD_MODULE_LOADED, "module_loaded"}}};

constexpr std::array<bulkhead_notification_kind, kKinds.size()> Everything() {
  std::array<bulkhead_notification_kind, kKinds.size()> kinds = {};
  for (size_t i = 0; i < kKinds.size(); ++i) kinds[i] = kKinds[i].kind;
  return kinds;
}

class Observer : public bulkhead::Driver {
  void start(const bulkhead::StartInfo& info) override {
    host_.emplace(info.host);
    log_ = info.options.find("log") != std::string::npos;
    held_ = info.options.find("hold") != std::string::npos;
    const size_t slow = info.options.find("slow-");
    if (slow != std::string::npos) slow_us_ = std::atoi(info.options.c_str() + slow + 5);
  }

  bulkhead::Verdict file_open(const bulkhead::FileEvent&) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      held_ = false;
    }
    released_.notify_one();
    return bulkhead::allow();
  }

  void notify(const bulkhead::Notification& told) override {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      released_.wait(lock, [this] { return !held_; });
    }
    ++told_;
    missed_ += told.missed();
    number_ = told.number();
    const auto* kind = std::find_if(kKinds.begin(), kKinds.end(),
                                    [&](const Kind& known) { return known.kind == told.kind(); });
    if (kind == kKinds.end()) return;
    ++counts_[static_cast<size_t>(kind - kKinds.begin())];
    if (log_) Log(kind->name, told);
    if (slow_us_ != 0) std::this_thread::sleep_for(std::chrono::microseconds(slow_us_));
  }

  // No notification is delivered any more.
  void stop() override {
    std::string line = "told " + std::to_string(told_) + ", missed " + std::to_string(missed_) +
                       ", last number " + std::to_string(number_);
    for (size_t i = 0; i < kKinds.size(); ++i) {
      line += ", " + std::string(kKinds[i].name) + " " + std::to_string(counts_[i]);
    }
    host_->info(line);
  }

  void Log(std::string_view name, const bulkhead::Notification& told) const {
    std::string line = std::to_string(told.number()) + " " + std::string(name) + " pid " +
                       std::to_string(told.pid()) + " parent " + std::to_string(told.parent());
    for (std::string_view text : {told.text(), told.text2()}) {
      if (text.empty()) continue;
      line += " ";
      line += text;
    }
    std::replace(line.begin(), line.end(), '\0', ' ');  // between the words of a command line
    host_->info(line);
  }

  std::optional<bulkhead::Host> host_;
  std::mutex mutex_;
  std::condition_variable released_;
  bool held_ = false;  // by mutex_
  bool log_ = false;
  int slow_us_ = 0;
  uint64_t told_ = 0, missed_ = 0, number_ = 0;
  std::array<uint64_t, kKinds.size()> counts_ = {};
};

}  // namespace

BULKHEAD_DRIVER_WITH_NOTIFICATIONS(Observer, "observer", "1.0.0", BULKHEAD_ON_FILE_OPEN, 0,
                                   Everything())
