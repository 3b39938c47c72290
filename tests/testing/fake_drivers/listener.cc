// SPDX-License-Identifier: Apache-2.0
//
// Logs a line for each notification. Crashes at a notification of /bin/crash.
#include <bulkhead/driver.hpp>

#include <cstdlib>
#include <optional>
#include <string>

namespace {

class Listener : public bulkhead::Driver {
  void start(const bulkhead::StartInfo& info) override { host_.emplace(info.host); }
  void notify(const bulkhead::Notification& told) override {
    if (told.text() == "/bin/crash") std::abort();
    host_->info("told " + std::to_string(told.number()) + " after " +
                std::to_string(told.missed()) + ": " + std::to_string(told.kind()) + " by " +
                std::to_string(told.pid()) + " " + std::string(told.text()) + "|" +
                std::string(told.text2()) + " inode " + std::to_string(told.inode()));
  }
  std::optional<bulkhead::Host> host_;
};

}  // namespace

BULKHEAD_DRIVER_WITH_NOTIFICATIONS(Listener, "listener", "1", BULKHEAD_ON_FILE_OPEN, 0,
                                   BULKHEAD_PROCESS_EXECUTED | BULKHEAD_FILE_RENAMED)
