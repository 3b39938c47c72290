// SPDX-License-Identifier: Apache-2.0
//
// Counts across its own deaths: saves one record after another, and each generation continues from
// the last whole one. A record is a number, repeated; the number of repetitions depends on the
// number.
//
// file_open (without a descriptor) and file_exec (with one) allow only a file that arrives as the
// test sent it.
#include <bulkhead/driver.hpp>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

namespace {

std::vector<uint64_t> Record(uint64_t number) {
  return std::vector<uint64_t>(1 + number % 200, number);
}

class Survivor : public bulkhead::Driver {
  void start(const bulkhead::StartInfo& info) override {
    const uint64_t last = Last(info.host.checkpoint_load());
    if ((last == 0) != (info.reason == bulkhead::StartReason::cold)) {
      throw std::runtime_error("the reason of this start does not fit its checkpoint");
    }
    Save(info.host, last + 1);
    saver_ = std::jthread([this, host = info.host, last](const std::stop_token& stop) {
      for (uint64_t number = last + 2; !stop.stop_requested(); ++number) Save(host, number);
    });
  }
  void stop() override { saver_ = {}; }

  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override {
    errno = 0;
    const bool no_file = file.descriptor() == -1 && !file.map() && errno == EBADF;
    return Judge(no_file && AsSent(file));
  }
  bulkhead::Verdict file_exec(const bulkhead::FileEvent& file) override {
    const auto bytes = file.map();
    const std::string_view content = file.path().substr(file.path().rfind('/') + 1);
    const bool whole = bytes && bytes->size() == content.size() &&
                       std::memcmp(bytes->data(), content.data(), content.size()) == 0;
    return Judge(whole && file.descriptor() >= 0 && AsSent(file));
  }

  static bool AsSent(const bulkhead::FileEvent& file) {
    return file.pid() == 77 && file.uid() == 88u && !file.gid() &&
           file.time_left() > std::chrono::seconds(0) &&
           file.time_left() <= std::chrono::seconds(60) && file.attempt() == 0;
  }
  static bulkhead::Verdict Judge(bool right) {
    return right ? bulkhead::allow() : bulkhead::deny();
  }
  static uint64_t Last(const std::vector<std::byte>& bytes) {
    if (bytes.empty()) return 0;
    std::vector<uint64_t> record(bytes.size() / sizeof(uint64_t));
    std::memcpy(record.data(), bytes.data(), record.size() * sizeof(uint64_t));
    if (record.empty() || record != Record(record[0])) throw std::runtime_error("a torn record");
    return record[0];
  }
  static void Save(const bulkhead::Host& host, uint64_t number) {
    const std::vector<uint64_t> record = Record(number);
    if (!host.checkpoint_save(std::as_bytes(std::span(record)))) {
      throw std::runtime_error("a record that does not fit");
    }
  }

  std::jthread saver_;
};

}  // namespace

BULKHEAD_DRIVER(Survivor, "survivor", "1", BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC,
                BULKHEAD_ON_FILE_EXEC)
