// SPDX-License-Identifier: Apache-2.0
//
// faulty: does on request what a driver must never do, so that tests and the demo can observe the
// reaction of the other processes. README.md lists the requests.
#include <bulkhead/driver.hpp>

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

namespace {

constexpr int kExitCode = 7;
constexpr int kScribbleRounds = 16;
constexpr int kFloodLines = 100'000;
constexpr std::chrono::seconds kSlowStart(3);
constexpr size_t kMemoryStepBytes = size_t{16} << 20;

void Crash() {
  volatile int* volatile nowhere = nullptr;
  *nowhere = 1;  // NOLINT(clang-analyzer-core.NullDereference): requested
}

[[noreturn]] void Hang() {
  for (;;) pause();
}

[[noreturn]] void Spin() {
  for (volatile unsigned turns = 0;;) turns = turns + 1;
}

// Called through a pointer that the compiler does not resolve, with a frame that is used after the
// call: the recursion can't be turned into a loop.
int Overflow(int depth);
int (*volatile overflow)(int) = &Overflow;

int Overflow(int depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  const int below = overflow(depth + 1);
  frame[1] = static_cast<char>(below);
  return frame[0] + frame[1];
}

// Writes to every page: memory that is only reserved costs nothing.
[[noreturn]] void AllocateWithoutEnd() {
  for (;;) {
    char* volatile step = static_cast<char*>(std::malloc(kMemoryStepBytes));
    if (step == nullptr) std::abort();
    std::memset(step, 1, kMemoryStepBytes);
  }
}

// Writes random bytes to all memory that this process shares with others and may write: the reply
// region of its channel, and its checkpoint.
void Scribble() {
  std::mt19937_64 random(std::random_device{}());
  for (int round = 0; round < kScribbleRounds; ++round) {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      unsigned long begin = 0, end = 0;
      std::array<char, 5> rights = {};
      if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights.data()) != 3) continue;
      if (std::string_view(rights.data()) != "rw-s") continue;
      for (unsigned long at = begin; at + sizeof(uint64_t) <= end; at += sizeof(uint64_t)) {
        *reinterpret_cast<volatile uint64_t*>(at) = random();
      }
    }
  }
}

// The SDK can't build such an answer; this builds its bytes.
bulkhead::Verdict Forged(uint32_t verdict, uint32_t cacheability) {
  bulkhead::Verdict answer = bulkhead::allow();
  const uint32_t bytes[3] = {verdict, cacheability, 0};  // the last: no errno
  static_assert(sizeof(bytes) <= sizeof(answer));
  std::memcpy(static_cast<void*>(&answer), bytes, sizeof(bytes));
  return answer;
}

// Acts on the first request that matches; the requests are in one place, as in README.md.
bulkhead::Verdict Act(std::string_view name, const bulkhead::Host& host) {
  const auto asked = [name](std::string_view prefix) { return name.starts_with(prefix); };
  if (asked("crash-")) Crash();
  if (asked("words-")) {
    host.error("last words");
    (void)!write(STDERR_FILENO, "last cry\n", sizeof("last cry\n") - 1);
    // In a host the kernel ends the process for the first: nothing of the host's own code runs any
    // more. Elsewhere it does nothing, and the second does the same; which the first process of a
    // namespace can't do to itself.
    (void)syscall(SYS_keyctl, -1, 0, 0, 0, 0);
    kill(getpid(), SIGKILL);
  }
  if (asked("abort-")) std::abort();
  if (asked("exit-")) _exit(kExitCode);
  if (asked("overflow-")) overflow(0);
  if (asked("hang-")) Hang();
  if (asked("spin-")) Spin();
  if (asked("deaf-")) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    Hang();
  }
  if (asked("fork-")) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    return child < 0 ? bulkhead::allow() : bulkhead::deny();
  }
  if (asked("stop-")) kill(getpid(), SIGSTOP);
  if (asked("memory-")) AllocateWithoutEnd();
  if (asked("throw-")) throw std::runtime_error("as asked");
  if (asked("garbage-")) return Forged(77, BULKHEAD_CACHE_NOT);
  if (asked("cacheability-")) return Forged(BULKHEAD_ALLOW, 77);
  if (asked("flood-")) {
    for (int line = 0; line < kFloodLines; ++line) host.info("flood " + std::to_string(line));
  }
  if (asked("scribble-")) Scribble();
  if (asked("slow-")) {
    const std::string span(name.substr(std::string_view("slow-").size()));
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(span.c_str())));
  }
  return asked("deny-") ? bulkhead::deny() : bulkhead::allow();
}

class Faulty : public bulkhead::Driver {
  void start(const bulkhead::StartInfo& info) override {
    host_ = std::make_unique<bulkhead::Host>(info.host);
    std::ifstream faults(info.content_path + "/faults");
    for (std::string word; !info.content_path.empty() && faults >> word;) {
      if (word == "crash-start") Crash();
      if (word == "abort-start") std::abort();
      if (word == "exit-start") _exit(kExitCode);
      if (word == "hang-start") Hang();
      if (word == "slow-start") std::this_thread::sleep_for(kSlowStart);
      if (word == "fail-start") throw std::runtime_error("its content asks it to fail in start");
    }
  }
  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override { return Answer(file); }
  bulkhead::Verdict file_exec(const bulkhead::FileEvent& file) override { return Answer(file); }

  bulkhead::Verdict Answer(const bulkhead::FileEvent& file) const {
    const std::string_view path = file.path();
    return Act(path.substr(path.rfind('/') + 1), *host_);  // without a '/': the whole path
  }

  std::unique_ptr<bulkhead::Host> host_;
};

}  // namespace

BULKHEAD_DRIVER(Faulty, "faulty", "1.0.0", BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC, 0)
