// SPDX-License-Identifier: Apache-2.0
//
// hostile_module_host --folder DIR --seconds N --life-ms N --seed S: a host of the kernel module
// that does with its descriptor, and with the memory behind it, everything that a process can do,
// while other processes open files in DIR. Each open must end in time, with a verdict. Run it in a
// guest only: a kernel bug that it finds would crash the machine.
//
//   openers      this process: not a descendant of an excluded process
//     supervisor a child: has /dev/bulkhead; starts one host after another, and kills it
//       host     four threads of random misuse
//
// Exit codes: 0 held; 1 it did not, the last line gives the reason; 2 it could not run.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "host/attachment/module/module_link.h"
#include "ipc/abi/atomics.h"
#include "ipc/abi/callbacks.h"
#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 200 * kNanosecondsPerMillisecond;
// The misuse uses all CPUs, and they may be emulated.
constexpr uint64_t kSlackNs = 3 * kNanosecondsPerSecond;
constexpr unsigned kThreads = 4;
constexpr uint32_t kNotifyEntries = 256;
constexpr int kHostHeld = 0;
constexpr int kHostGotTooFar = 9;

struct Options {
  std::string folder;
  uint64_t seconds = 10;
  uint64_t life_ms = 500;
  uint64_t seed = 1;
};

bh_geometry Geometry() {
  return {.lanes = 2, .slots_per_lane = 8, .call_chunks = 32, .reply_chunks = 0};
}

// One thread's misuse.
class Misuse {
 public:
  // A host without violations is accepted, and lives longer.
  Misuse(int host, uint8_t* calls, uint8_t* replies, uint64_t seed, bool lies)
      : host_(host), calls_(calls), replies_(replies), lies_(lies), random_(seed) {}

  void Once() {
    switch (Below(12)) {
      case 0:
      case 1:
      case 2:
        return AnswerSomething();
      case 3:
        return lies_ ? WriteAnywhere() : AnswerSomething();
      case 4:
        return Ioctl();
      case 5:
        return Wait();
      case 6:
        return Fetch();
      case 7:
        return Map();
      case 8:
        return Remap();
      case 9:
        return Fork();
      case 10:
        return Reach();
      default:
        return Duplicate();
    }
  }

 private:
  uint64_t Below(uint64_t end) { return random_() % end; }
  bool Sometimes() { return Below(8) == 0; }
  bool Lies() { return lies_ && Sometimes(); }
  static void GotTooFar(const char* what) {
    std::fprintf(stderr, "the host could %s\n", what);
    _exit(kHostGotTooFar);
  }
  uint64_t Ticket(uint32_t slot) const {
    uint64_t ticket;
    std::memcpy(&ticket, calls_ + bh_call_slot_offset(slot), sizeof(ticket));
    return ticket;
  }

  // A valid answer, or an almost valid one.
  void AnswerSomething() {
    const uint32_t slot = static_cast<uint32_t>(Below(bh_slot_count(&geometry_)));
    auto* reply = reinterpret_cast<bh_reply_slot*>(replies_ + bh_reply_slot_offset(slot));
    bh_verdict_reply verdict = {.verdict = BH_VERDICT_ALLOW, .cacheability = 0};
    if (Lies()) verdict.verdict = static_cast<uint32_t>(Below(4));
    if (Lies()) verdict.cacheability = static_cast<uint16_t>(Below(6));
    reply->status = Lies() ? static_cast<uint32_t>(Below(5)) : uint32_t{BH_REPLY_DONE};
    reply->reply_bytes = Lies() ? static_cast<uint16_t>(random_()) : uint16_t{sizeof(verdict)};
    if (Lies()) reply->payload_bytes = random_();
    std::memcpy(reply->reply, &verdict, sizeof(verdict));
    bh_store_release(&reply->ticket, Ticket(slot) + (Lies() ? Below(3) : 0));
    bh_add_fetch(&reply->bell, 1u);
    ioctl(host_, BH_HOST_RING, slot);
  }
  void WriteAnywhere() {
    const size_t words = bh_reply_region_bytes(&geometry_) / sizeof(uint64_t);
    for (uint64_t i = Below(64); i > 0; --i) {
      bh_store_relaxed(reinterpret_cast<uint64_t*>(replies_) + Below(words),
                       Sometimes() ? random_() : Below(4));
    }
  }
  void Ioctl() {
    std::array<uint64_t, 32> memory;
    for (uint64_t& word : memory) word = Sometimes() ? random_() : Below(40);
    const uint64_t numbers[] = {BH_HOST_INFO,     BH_HOST_WAKE,
                                BH_HOST_RING,     BH_HOST_FETCH,
                                BH_CONTROL_BEGIN, BH_CONTROL_SETTLE,
                                BH_CONTROL_LEAVE, _IOWR(BH_MODULE_IOC, Below(64), uint64_t),
                                random_()};
    const uint64_t arguments[] = {reinterpret_cast<uint64_t>(memory.data()),
                                  reinterpret_cast<uint64_t>(calls_),
                                  reinterpret_cast<uint64_t>(replies_),
                                  Below(70),
                                  0,
                                  UINT64_MAX - Below(64),
                                  random_()};
    const int made =
        ioctl(host_, numbers[Below(std::size(numbers))], arguments[Below(std::size(arguments))]);
    if (made > 2 && made != host_) close(made);
  }
  void Wait() {
    bh_module_wait wait = {.worker = static_cast<uint32_t>(Below(BH_WORKERS_MAX + 2)),
                           .reserved = Sometimes() ? 1u : 0u,
                           .until_ns = MonotonicAfterNs(Below(2 * kNanosecondsPerMillisecond))};
    auto* sleeping = &reinterpret_cast<bh_host_line*>(replies_)->sleeping[Below(BH_WORKERS_MAX)];
    bh_store_relaxed(sleeping, 1u);
    ioctl(host_, BH_HOST_WAIT, &wait);
    ioctl(host_, BH_HOST_WAKE, Below(BH_WORKERS_MAX + 1));
  }
  void Fetch() {
    const uint32_t slot = static_cast<uint32_t>(Below(bh_slot_count(&geometry_) + 1));
    bh_module_fetch wanted = {
        .ticket = Sometimes() ? random_() : Ticket(slot % bh_slot_count(&geometry_)),
        .slot = slot,
        .reserved = 0};
    const int file = ioctl(host_, BH_HOST_FETCH, &wanted);
    if (file < 0) return;
    char byte;
    if (write(file, "x", 1) == 1) GotTooFar("write to a caller's file");
    (void)!pread(file, &byte, 1, 0);
    close(file);
  }
  void Map() {
    const size_t page = 4096;
    const size_t bytes[] = {bh_call_region_bytes(&geometry_), bh_reply_region_bytes(&geometry_),
                            bh_notification_region_bytes(kNotifyEntries), page * (1 + Below(64))};
    const off_t offsets[] = {0, static_cast<off_t>(BH_MODULE_REPLY_OFFSET),
                             static_cast<off_t>(BH_MODULE_NOTIFY_OFFSET),
                             static_cast<off_t>(random_() & ~0xfffull)};
    const int protection = static_cast<int>(Below(8));
    const size_t length = bytes[Below(std::size(bytes))];
    const off_t offset = offsets[Below(std::size(offsets))];
    void* place =
        mmap(nullptr, length, protection, Sometimes() ? MAP_PRIVATE : MAP_SHARED, host_, offset);
    if (place == MAP_FAILED) return;
    if ((protection & PROT_EXEC) != 0) GotTooFar("map memory to execute");
    const bool kernels = offset != static_cast<off_t>(BH_MODULE_REPLY_OFFSET);
    if (kernels && (protection & PROT_WRITE) != 0) GotTooFar("map the kernel's words to write");
    if (mprotect(place, length, PROT_READ | PROT_EXEC) == 0) GotTooFar("execute what it mapped");
    if (kernels && mprotect(place, length, PROT_READ | PROT_WRITE) == 0) {
      GotTooFar("write to the kernel's words");
    }
    if (Sometimes()) munmap(static_cast<char*>(place) + length / 2 / page * page, page);
    if (Sometimes()) madvise(place, length, static_cast<int>(Below(24)));
    if (Sometimes()) mlock(place, length);
    munmap(place, length);
  }
  void Remap() {
    const size_t length = bh_reply_region_bytes(&geometry_);
    void* place =
        mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, host_, BH_MODULE_REPLY_OFFSET);
    if (place == MAP_FAILED) return;
    const size_t wanted = Sometimes() ? length : 4096 * (1 + Below(2 * length / 4096));
    void* moved = mremap(place, length, wanted, static_cast<int>(Below(2)) * MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) {
      munmap(place, length);
      return;
    }
    if (wanted > length) GotTooFar("grow a mapping");
    static_cast<volatile char*>(moved)[Below(wanted)] = 1;
    int pipe_ends[2];
    if (pipe(pipe_ends) == 0) {  // pages in a pipe outlive their mapping
      iovec piece = {moved, 4096};
      (void)!vmsplice(pipe_ends[1], &piece, 1, SPLICE_F_NONBLOCK);
      munmap(moved, wanted);
      close(pipe_ends[0]);
      close(pipe_ends[1]);
    } else {
      munmap(moved, wanted);
    }
  }
  void Fork() {
    if (!Sometimes()) return;
    if (Sometimes()) madvise(replies_, 4096, MADV_DOFORK);
    const pid_t child = fork();
    if (child == 0) {
      uint32_t slot = static_cast<uint32_t>(Below(16));
      ioctl(host_, BH_HOST_RING, slot);
      if (Sometimes()) {
        fcntl(host_, F_SETFD, 0);
        execl("/bin/busybox", "true", nullptr);
      }
      _exit(0);
    }
    if (child > 0) waitpid(child, nullptr, 0);
  }
  // Past the protection of its own mapping.
  void Reach() {
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (memory < 0) return;
    const uint64_t garbage = random_();
    const auto at = static_cast<off_t>(reinterpret_cast<uintptr_t>(calls_) +
                                       Below(bh_call_region_bytes(&geometry_) - 8));
    if (pwrite(memory, &garbage, sizeof(garbage), at) > 0) GotTooFar("write to calls by /proc");
    close(memory);
  }
  void Duplicate() {
    const int copy = dup(host_);
    if (copy < 0) return;
    struct stat status;
    char byte;
    fstat(copy, &status);
    (void)!read(copy, &byte, 1);
    (void)!write(copy, &byte, 1);
    (void)!lseek(copy, static_cast<off_t>(random_()), SEEK_SET);
    (void)!ftruncate(copy, 0);
    fcntl(copy, F_SETFL, static_cast<int>(random_()) & (O_APPEND | O_NONBLOCK | O_ASYNC));
    pollfd polled = {copy, POLLIN | POLLOUT, 0};
    poll(&polled, 1, 0);
    close(copy);
  }

  const bh_geometry geometry_ = Geometry();
  const int host_;
  uint8_t* const calls_;
  uint8_t* const replies_;
  const bool lies_;
  std::mt19937_64 random_;
};

[[noreturn]] void BeHostile(int host, uint64_t seed) {
  const bh_geometry geometry = Geometry();
  void* calls = mmap(nullptr, bh_call_region_bytes(&geometry), PROT_READ, MAP_SHARED, host, 0);
  void* replies = mmap(nullptr, bh_reply_region_bytes(&geometry), PROT_READ | PROT_WRITE,
                       MAP_SHARED, host, BH_MODULE_REPLY_OFFSET);
  if (calls == MAP_FAILED || replies == MAP_FAILED) _exit(2);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      Misuse misuse(host, static_cast<uint8_t*>(calls), static_cast<uint8_t*>(replies), seed + i,
                    /*lies=*/seed % 2 == 0);
      // Some close it during their calls, and continue with the memory.
      const uint64_t closes_after = seed % 3 == 0 ? 500 : UINT64_MAX;
      for (uint64_t round = 0;; ++round) {
        misuse.Once();
        if (i == 0 && round == closes_after) close(host);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  _exit(kHostHeld);
}

// Until its end is requested: one hostile host after another.
int Supervise(const Options& options, int ready, int stop) {
  absl::StatusOr<std::unique_ptr<ModuleLink>> link = ModuleLink::Open();
  if (!link.ok()) {
    std::fprintf(stderr, "%s\n", std::string(link.status().message()).c_str());
    return 2;
  }
  const bh_callback_set callbacks =
      SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS});
  ChannelSpec spec;
  spec.driver = "hostile";
  spec.geometry = Geometry();
  spec.notify_entries = kNotifyEntries;
  spec.cache_entries = 0;  // every call reaches the host
  const absl::StatusOr<ChannelId> channel = (*link)->AddChannel(spec);
  if (!channel.ok()) return 2;
  std::mt19937_64 random(options.seed);
  bool guarded = false, shown = false;
  for (uint32_t generation = 1;; ++generation) {
    absl::StatusOr<ChannelDescriptors> descriptors = (*link)->Descriptors(*channel);
    if (!descriptors.ok()) return 2;
    const uint64_t seed = random();
    const int host = descriptors->call_region.get();
    descriptors->reply_region.reset();
    const pid_t child = fork();
    if (child < 0) return 2;
    if (child == 0) {
      // It has nothing but its descriptor: /dev/bulkhead is for supervisors.
      const int own = dup2(host, 100);
      close_range(3, 99, 0);
      close_range(101, ~0u, 0);
      rlimit files = {256, 256};
      setrlimit(RLIMIT_NOFILE, &files);
      BeHostile(own, seed);
    }
    descriptors->call_region.reset();
    (void)(*link)->BeginGeneration(*channel, GenerationSpec(generation, callbacks, callbacks, 1),
                                   UniqueFd());
    if (!guarded) {
      if (!(*link)
               ->Guard({.folder = options.folder,
                        .mark = MarkKind::kDirectory,
                        .callbacks = callbacks,
                        .deadline_ns = kDeadlineNs},
                       /*id=*/1)
               .ok())
        return 2;
      guarded = true;
      (void)!write(ready, "\n", 1);
    }
    pollfd ended = {stop, POLLIN, 0};
    const bool over = poll(&ended, 1, static_cast<int>(random() % options.life_ms)) != 0;
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    // Its children may still have the descriptor: the kernel must handle that.
    (void)(*link)->EndGeneration(*channel, generation, BH_END_KILLED);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kHostGotTooFar) return 1;
    if (over) break;
    const absl::StatusOr<bh_statistics> so_far = (*link)->Statistics(*channel);
    // A peer that was never accepted, or never convicted, would test nothing.
    if (!shown && so_far.ok() && so_far->answered > 0 && so_far->violations > 0) {
      shown = true;
      (void)!write(ready, "\n", 1);
    }
  }
  const absl::StatusOr<bh_statistics> counted = (*link)->Statistics(*channel);
  (void)(*link)->RemoveGuards();
  if (!counted.ok()) return 2;
  std::printf(
      "%lu hosts, %lu calls: %lu answered, %lu violations, %lu late, %lu overdue\n",
      static_cast<unsigned long>(counted->generations), static_cast<unsigned long>(counted->calls),
      static_cast<unsigned long>(counted->answered),
      static_cast<unsigned long>(counted->violations), static_cast<unsigned long>(counted->late),
      static_cast<unsigned long>(counted->overdue));
  return shown ? 0 : 1;
}

int Run(const Options& options) {
  const std::string path = options.folder + "/opened";
  if (!UniqueFd(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644)).valid()) return 2;
  int ready[2], stop[2];
  if (pipe(ready) != 0 || pipe(stop) != 0) return 2;
  const pid_t supervisor = fork();
  if (supervisor < 0) return 2;
  if (supervisor == 0) {
    close(stop[1]);
    const int code = Supervise(options, ready[1], stop[0]);
    std::fflush(stdout);
    _exit(code);
  }
  close(ready[1]);
  close(stop[0]);
  char line;
  (void)!read(ready[0], &line, 1);
  std::atomic<bool> shown{false};
  std::atomic<uint64_t> opens{0}, bad{0}, late{0}, longest_ns{0};
  const uint64_t until_ns = MonotonicAfterNs(options.seconds * kNanosecondsPerSecond);
  std::vector<std::thread> openers;
  for (unsigned i = 0; i < kThreads; ++i) {
    openers.emplace_back([&] {
      while (MonotonicNowNs() < until_ns || !shown.load()) {
        const uint64_t started_ns = MonotonicNowNs();
        const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
        const int error = file.valid() ? 0 : errno;
        const uint64_t took_ns = MonotonicNowNs() - started_ns;
        opens.fetch_add(1);
        if (error != 0 && error != EPERM) bad.fetch_add(1);
        if (took_ns > kDeadlineNs + kSlackNs) late.fetch_add(1);
        uint64_t longest = longest_ns.load();
        while (took_ns > longest && !longest_ns.compare_exchange_weak(longest, took_ns)) {
        }
      }
    });
  }
  (void)!read(ready[0], &line, 1);  // also when the supervisor has ended
  shown.store(true);
  for (std::thread& opener : openers) opener.join();
  close(stop[1]);
  int status = 0;
  waitpid(supervisor, &status, 0);
  std::printf("%lu opens: %lu without a verdict, %lu late, the longest %.0f ms\n",
              static_cast<unsigned long>(opens.load()), static_cast<unsigned long>(bad.load()),
              static_cast<unsigned long>(late.load()),
              static_cast<double>(longest_ns.load()) / 1e6);
  if (!WIFEXITED(status) || WEXITSTATUS(status) == 2) return 2;
  return WEXITSTATUS(status) == 0 && opens.load() > 0 && bad.load() == 0 && late.load() == 0 ? 0
                                                                                             : 1;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  bulkhead::Options options;
  CLI::App app("A host of the kernel module that misuses all it has, for guests only");
  app.add_option("--folder", options.folder, "Where files are opened")->required();
  app.add_option("--seconds", options.seconds,
                 "How long at least: until hosts were accepted and convicted");
  app.add_option("--life-ms", options.life_ms, "How long a host lives at most")
      ->check(CLI::Range(1, 600'000));
  app.add_option("--seed", options.seed, "Of its random numbers");
  CLI11_PARSE(app, argc, argv);
  return bulkhead::Run(options);
}
