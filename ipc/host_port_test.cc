// SPDX-License-Identifier: Apache-2.0
#include "ipc/host_port.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ipc/sanitizer.h"
#include "tests/testing/fake_shim_unsafe.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kGeneration = 3;
constexpr bh_geometry kGeometry = {2, 4, 4, 4};

constexpr uint64_t kStressCalls = kSanitized ? 20'000 : 1'000'000;

uint64_t Soon() { return MonotonicAfterNs(20 * kNanosecondsPerSecond); }

std::array<uint8_t, BH_INLINE_BYTES> Args(uint64_t number) {
  std::array<uint8_t, BH_INLINE_BYTES> args;
  for (size_t i = 0; i < args.size(); i += 8) {
    const uint64_t word = number + i;
    std::memcpy(&args[i], &word, 8);
  }
  return args;
}

uint64_t Word(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return word;
}

class HostPortTest : public ::testing::Test {
 protected:
  void Open(const HostPortOptions& options, const bh_geometry& geometry = kGeometry) {
    auto memory = ChannelMemory::Create(geometry);
    ASSERT_TRUE(memory.ok()) << memory.status();
    shim_.emplace(*std::move(memory), options.generation);
    auto port = Attach(options);
    ASSERT_TRUE(port.ok()) << port.status();
    port_ = *std::move(port);
  }

  absl::StatusOr<std::unique_ptr<HostPort>> Attach(const HostPortOptions& options) {
    auto descriptors = shim_->memory().Descriptors();
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    shim_socket_.reset(ends[0]);
    return HostPort::Attach(std::move(descriptors->call_region),
                            std::move(descriptors->reply_region), UniqueFd(ends[1]), options);
  }

  // Workers that answer each call with its arguments, until StopTaking.
  void StartEcho(uint32_t workers) {
    for (uint32_t w = 0; w < workers; ++w) {
      threads_.emplace_back([this, w] {
        while (auto call = port_->Take(w, kForeverNs)) {
          port_->BeginDriver(*call);
          port_->Reply(*call, BH_REPLY_DONE, {call->args, call->args_bytes});
        }
      });
    }
  }

  void SendFile(uint32_t slot, uint64_t ticket, int fd, size_t copies = 1) {
    bh_descriptor_note note = {ticket, slot, 0};
    iovec data = {&note, sizeof(note)};
    std::vector<char> control(CMSG_SPACE(copies * sizeof(int)));
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (copies != 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* part = CMSG_FIRSTHDR(&message);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(copies * sizeof(int));
      for (size_t i = 0; i < copies; ++i) {
        std::memcpy(CMSG_DATA(part) + i * sizeof(int), &fd, sizeof(int));
      }
    }
    ASSERT_EQ(sendmsg(shim_socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT),
              static_cast<ssize_t>(sizeof(note)));
  }

  void TearDown() override {
    if (port_ != nullptr) port_->StopTaking();
    for (std::thread& thread : threads_) thread.join();
  }

  std::optional<FakeShim> shim_;
  UniqueFd shim_socket_;
  std::unique_ptr<HostPort> port_;
  std::vector<std::thread> threads_;
};

UniqueFd PipeOfItsOwn(ino_t* inode) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  close(ends[1]);
  struct stat status;
  EXPECT_EQ(fstat(ends[0], &status), 0);
  *inode = status.st_ino;
  return UniqueFd(ends[0]);
}

// Whether a thread of this process sleeps in the kernel.
bool Sleeps(pid_t thread) {
  std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string text;
  std::getline(stat, text);
  const size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.compare(name_end, 3, ") S") == 0;
}

ino_t InodeOf(const UniqueFd& fd) {
  struct stat status;
  EXPECT_EQ(fstat(fd.get(), &status), 0);
  return status.st_ino;
}

// ---- one call, step by step

TEST_F(HostPortTest, TakesACallAndShowsItsProgress) {
  Open({kGeneration, 1, 0});
  EXPECT_FALSE(port_->Take(0, 0).has_value());
  const auto args = Args(42);
  const uint64_t ticket =
      shim_->Post(5, absl::MakeConstSpan(args).first(24), 0, BH_CALLBACK_FILE_EXEC);
  auto call = port_->Take(0, Soon());
  ASSERT_TRUE(call.has_value());
  EXPECT_EQ(call->slot, 5u);
  EXPECT_EQ(call->ticket, ticket);
  EXPECT_EQ(call->callback, BH_CALLBACK_FILE_EXEC);
  EXPECT_EQ(call->args_bytes, 24);
  EXPECT_EQ(std::memcmp(call->args, args.data(), 24), 0);
  for (size_t i = 24; i < BH_INLINE_BYTES; ++i) EXPECT_EQ(call->args[i], 0);

  EXPECT_EQ(shim_->reply(5)->begun, BH_TICKET_NONE);  // no driver has seen it yet
  port_->BeginDriver(*call);
  EXPECT_EQ(shim_->reply(5)->begun, ticket);
  EXPECT_FALSE(shim_->Answered(5, ticket));

  const uint8_t answer[] = {9, 8, 7};
  port_->Reply(*call, BH_REPLY_DONE, answer);
  EXPECT_TRUE(shim_->Answered(5, ticket));
  EXPECT_EQ(shim_->reply(5)->status, BH_REPLY_DONE);
  EXPECT_EQ(shim_->reply(5)->reply_bytes, 3);
  EXPECT_EQ(std::memcmp(shim_->reply(5)->reply, answer, 3), 0);
  EXPECT_EQ(port_->counters().calls, 1u);
  EXPECT_EQ(shim_->reply(5)->bell, 0u);         // no caller slept
  EXPECT_FALSE(port_->Take(0, 0).has_value());  // once only
}

// The thread that took a call goes on to the next one; any other ends it, in any order.
TEST_F(HostPortTest, CallsAreRepliedToByAnyThreadInAnyOrder) {
  Open({kGeneration, 1, 0});
  constexpr uint32_t kHeld = 6;
  std::vector<TakenCall> held;
  std::vector<uint64_t> tickets;
  for (uint32_t slot = 0; slot < kHeld; ++slot) tickets.push_back(shim_->Post(slot, Args(slot)));
  for (uint32_t i = 0; i < kHeld; ++i) {
    auto call = port_->Take(0, Soon());
    ASSERT_TRUE(call.has_value());
    port_->BeginDriver(*call);
    held.push_back(*call);
  }
  for (uint32_t slot = 0; slot < kHeld; ++slot) {
    EXPECT_EQ(shim_->reply(slot)->begun, tickets[slot]);
    EXPECT_FALSE(shim_->Answered(slot, tickets[slot]));
  }
  std::atomic<int> next{kHeld - 1};
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([&] {
      for (int mine; (mine = next.fetch_sub(1)) >= 0;) {
        TakenCall& call = held[static_cast<size_t>(mine)];
        port_->Reply(call, BH_REPLY_DONE, absl::MakeConstSpan(call.args).first(8));
      }
    });
  }
  // Meanwhile the worker serves on, in a slot of its own.
  const uint64_t ticket = shim_->Post(kHeld, Args(77));
  auto call = port_->Take(0, Soon());
  ASSERT_TRUE(call.has_value());
  EXPECT_EQ(call->ticket, ticket);
  port_->Decline(*call);
  for (std::thread& other : others) other.join();
  for (uint32_t slot = 0; slot < kHeld; ++slot) {
    EXPECT_TRUE(shim_->Answered(slot, tickets[slot]));
    EXPECT_EQ(Word(shim_->reply(slot)->reply), slot);
  }
  EXPECT_EQ(port_->counters().calls, kHeld + 1);
}

TEST_F(HostPortTest, ACopyIsMadeOnce) {
  Open({kGeneration, 1, 0});
  const auto args = Args(1);
  shim_->Post(0, args);
  auto call = port_->Take(0, Soon());
  ASSERT_TRUE(call.has_value());
  std::memset(shim_->call(0)->args, 0xff, BH_INLINE_BYTES);
  EXPECT_EQ(std::memcmp(call->args, args.data(), args.size()), 0);
  port_->Decline(*call);
  EXPECT_EQ(shim_->reply(0)->status, BH_REPLY_DECLINED);
}

TEST_F(HostPortTest, DetailsShowPayloadAndRoomForTheAnswer) {
  Open({kGeneration, 1, 0});
  bh_call_slot* slot = shim_->call(0);
  std::memcpy(shim_->call_pool() + 4096, "/tmp/a", 6);
  slot->call_id = 77;
  slot->deadline_ns = 123;
  slot->attempt = 2;
  slot->payload_offset = 4096;
  slot->payload_bytes = 6;
  slot->reply_offset = 8192;
  slot->reply_capacity = 8192;
  shim_->Post(0, Args(1), BH_CALL_HAS_PAYLOAD);
  auto call = port_->Take(0, Soon());
  auto details = port_->Details(*call);
  ASSERT_TRUE(details.ok()) << details.status();
  EXPECT_EQ(details->call_id, 77u);
  EXPECT_EQ(details->deadline_ns, 123u);
  EXPECT_EQ(details->attempt, 2u);
  EXPECT_EQ(details->payload_text(), "/tmp/a");
  ASSERT_EQ(details->reply_room.size(), 8192u);
  std::memcpy(details->reply_room.data(), "long answer", 11);
  port_->Reply(*call, BH_REPLY_DONE, {}, 11);
  EXPECT_EQ(shim_->reply(0)->payload_bytes, 11u);
  EXPECT_EQ(std::memcmp(shim_->reply_pool() + 8192, "long answer", 11), 0);

  // The next reply must not speak of the last one's payload.
  shim_->Post(0, Args(2));
  call = port_->Take(0, Soon());
  port_->Reply(*call, BH_REPLY_DONE, {});
  EXPECT_EQ(shim_->reply(0)->payload_bytes, 0u);
}

TEST_F(HostPortTest, DetailsRefuseOffsetsOutsideTheChannel) {
  Open({kGeneration, 1, 0});
  const uint64_t pool = kGeometry.call_chunks * uint64_t{BH_POOL_CHUNK_BYTES};
  const std::pair<uint64_t, uint64_t> bad[] = {
      {pool, 1}, {0, pool + 1}, {pool - 1, 2}, {UINT64_MAX, 2}, {2, UINT64_MAX}};
  for (const auto& [offset, bytes] : bad) {
    bh_call_slot* slot = shim_->call(0);
    slot->reply_capacity = 0;
    slot->payload_offset = offset;
    slot->payload_bytes = bytes;
    shim_->Post(0, Args(1), BH_CALL_HAS_PAYLOAD);
    auto call = port_->Take(0, Soon());
    EXPECT_EQ(port_->Details(*call).status().code(), absl::StatusCode::kInvalidArgument);
    port_->Decline(*call);
    slot->reply_offset = offset;
    slot->reply_capacity = bytes;
    shim_->Post(0, Args(1));
    call = port_->Take(0, Soon());
    EXPECT_EQ(port_->Details(*call).status().code(), absl::StatusCode::kInvalidArgument);
    port_->Decline(*call);
  }
}

TEST_F(HostPortTest, ArgumentsBeyondTheFirstLineAreCopiedOnce) {
  Open({kGeneration, 1, 0});
  for (size_t bytes = BH_INLINE_BYTES - 1; bytes <= BH_ARGS_BYTES_MAX; ++bytes) {
    std::vector<uint8_t> args(bytes);
    for (size_t i = 0; i < bytes; ++i) args[i] = static_cast<uint8_t>(i + 1);
    std::memset(shim_->call(0)->more_args, 0xee, BH_MORE_ARGS_BYTES);
    shim_->Post(0, args);
    auto call = port_->Take(0, Soon());
    ASSERT_TRUE(call.has_value()) << bytes;
    std::memset(shim_->call(0)->more_args, 0xff, BH_MORE_ARGS_BYTES);
    EXPECT_EQ(call->args_bytes, bytes);
    EXPECT_EQ(std::memcmp(call->args, args.data(), bytes), 0);
    const size_t end = bytes > BH_INLINE_BYTES ? BH_ARGS_BYTES_MAX : BH_INLINE_BYTES;
    for (size_t i = bytes; i < end; ++i) EXPECT_EQ(call->args[i], 0) << bytes;
    port_->Decline(*call);
  }
}

TEST_F(HostPortTest, ACallThatDoesNotFitItsLinesIsDeclined) {
  Open({kGeneration, 1, 0});
  const std::vector<uint8_t> args(BH_ARGS_BYTES_MAX + 1);
  const uint64_t ticket = shim_->Post(0, args);
  EXPECT_FALSE(port_->Take(0, 0).has_value());
  EXPECT_TRUE(shim_->Answered(0, ticket));
  EXPECT_EQ(shim_->reply(0)->status, BH_REPLY_DECLINED);
  EXPECT_EQ(port_->counters().malformed, 1u);
}

// ---- tickets

TEST_F(HostPortTest, TicketsOfOtherGenerationsAreNotTaken) {
  Open({kGeneration, 1, 0});
  for (const uint32_t generation : {kGeneration - 1, kGeneration + 1, 0u}) {
    shim_->PostTicket(1, bh_ticket_make(generation, 9), Args(1), 0, BH_CALLBACK_FILE_OPEN);
    EXPECT_FALSE(port_->Take(0, 0).has_value());
  }
  shim_->Post(1, Args(2));
  EXPECT_TRUE(port_->Take(0, Soon()).has_value());
}

TEST_F(HostPortTest, ALaterGenerationFindsTheReissuedCallAndNobodyAsleep) {
  Open({kGeneration, 2, 0});
  shim_->Post(0, Args(1));
  auto call = port_->Take(1, Soon());  // and dies with it, while worker 9 of an older host slept
  *shim_->sleep_word(9) = 1;
  port_->BeginDriver(*call);
  port_.reset();
  auto next = Attach({kGeneration + 1, 1, 0});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(*shim_->sleep_word(9), 0u);             // a wake-up spent there would be lost
  EXPECT_EQ(shim_->reply(0)->begun, call->ticket);  // the shim may not have asked yet
  EXPECT_FALSE((*next)->Take(0, 0).has_value());
  const uint64_t ticket = bh_ticket_make(kGeneration + 1, 2);
  shim_->PostTicket(0, ticket, Args(1), BH_CALL_REISSUED, BH_CALLBACK_FILE_OPEN);
  auto again = (*next)->Take(0, Soon());
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->ticket, ticket);
  EXPECT_EQ(again->flags & BH_CALL_REISSUED, BH_CALL_REISSUED);
}

TEST_F(HostPortTest, WorkersPreferTheirHomeLanesAndTakeFromAll) {
  Open({kGeneration, 2, 0});
  shim_->Post(0, Args(0));  // lane 0
  shim_->Post(4, Args(4));  // lane 1
  auto by_one = port_->Take(1, Soon());
  EXPECT_EQ(by_one->slot, 4u);
  port_->Decline(*by_one);
  auto other = port_->Take(1, Soon());
  EXPECT_EQ(other->slot, 0u);
  EXPECT_FALSE(port_->Take(0, 0).has_value());  // claimed
  port_->Decline(*other);
}

// A driver that takes long, and an opener with many calls: the others' calls do not wait for them.
TEST_F(HostPortTest, OpenersHaveTheirTurnsBehindASlowDriver) {
  constexpr bh_geometry kOneLane = {1, 12, 4, 4};
  constexpr uint32_t kGreedy = 1001, kOther = 1002;
  Open({kGeneration, 1, 0}, kOneLane);
  const auto post = [this](uint32_t slot, uint32_t opener, uint64_t deadline_ns) {
    shim_->call(slot)->opener = opener;
    shim_->call(slot)->deadline_ns = deadline_ns;
    shim_->Post(slot, Args(slot));
  };
  for (uint32_t slot = 0; slot < 8; ++slot) post(slot, kGreedy, 100 - slot);
  std::vector<uint32_t> order;
  const auto take = [this, &order] {
    auto call = port_->Take(0, Soon());
    ASSERT_TRUE(call.has_value());
    order.push_back(call->slot);
    const uint64_t until_ns = MonotonicAfterNs(50'000);
    while (MonotonicNowNs() < until_ns) bh_cpu_relax();
    port_->Reply(*call, BH_REPLY_DONE, {call->args, call->args_bytes});
  };
  take();
  post(8, kOther, 500);
  post(9, kOther, 400);
  post(10, 0, 600);
  for (int i = 0; i < 6; ++i) take();
  // Openers not served yet come first, of these the one with the least time left; then all in
  // turn; of an opener's own calls, that with the least time left.
  ASSERT_EQ(order.size(), 7u);
  EXPECT_EQ(order, (std::vector<uint32_t>{7, 9, 10, 6, 8, 5, 4}));
}

TEST_F(HostPortTest, ABoundWorkerSaysSoAndServesItsCpu) {
  const auto cpus = static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_CONF));
  if (cpus > BH_WORKERS_MAX) GTEST_SKIP() << "more CPUs than workers";
  Open({.generation = kGeneration, .workers = cpus}, {cpus, 4, 4, 4});
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  if (!CPU_ISSET(0, &before)) GTEST_SKIP() << "CPU 0 is not ours";
  const uint32_t worker = 0;
  threads_.emplace_back([this] {
    EXPECT_TRUE(port_->Bind(worker));
    cpu_set_t now;
    EXPECT_EQ(sched_getaffinity(0, sizeof(now), &now), 0);
    EXPECT_EQ(CPU_COUNT(&now), 1);
    EXPECT_TRUE(CPU_ISSET(worker, &now));
    while (auto call = port_->Take(worker, kForeverNs)) port_->Reply(*call, BH_REPLY_DONE, {});
  });
  for (uint64_t i = 1; i <= 1000; ++i) {
    const uint64_t until_ns = Soon();
    while (bh_load_acquire(shim_->sleep_word(worker)) != BH_SLEEPS_BOUND) {
      ASSERT_LT(MonotonicNowNs(), until_ns);
      std::this_thread::yield();
    }
    const uint64_t ticket = shim_->Post(worker * 4, Args(i));
    ASSERT_TRUE(shim_->SleepForAnswer(worker * 4, ticket, Soon()));
  }
}

TEST_F(HostPortTest, AWorkerIsBoundOnlyWhereEachCpuHasOne) {
  const auto cpus = static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_CONF));
  const uint32_t lanes = std::min(cpus + 1, BH_WORKERS_MAX);
  Open({.generation = kGeneration, .workers = 1}, {lanes, 4, 4, 4});
  EXPECT_FALSE(port_->Bind(0));
  if (cpus == 1) return;
  Open({.generation = kGeneration, .workers = 1}, {1, 4, 4, 4});
  EXPECT_FALSE(port_->Bind(0));  // the lane is that of several CPUs
}

TEST_F(HostPortTest, StopTakingEndsASleepAndLastsOn) {
  Open({kGeneration, 2, 0});
  std::thread sleeper([this] { EXPECT_FALSE(port_->Take(0, kForeverNs).has_value()); });
  while (bh_load_acquire(shim_->sleep_word(0)) == 0) std::this_thread::yield();
  port_->StopTaking();
  sleeper.join();
  shim_->Post(0, Args(0));
  EXPECT_FALSE(port_->Take(1, kForeverNs).has_value());
}

// A shim that is killed between its two steps of waking a worker.
TEST_F(HostPortTest, StopTakingEndsASleepWhoseWakeUpWasLost) {
  Open({kGeneration, 2, 0});
  std::atomic<pid_t> thread{0};
  std::thread sleeper([this, &thread] {
    thread.store(gettid());
    EXPECT_FALSE(port_->Take(0, kForeverNs).has_value());
  });
  while (bh_load_acquire(shim_->sleep_word(0)) == 0 || !Sleeps(thread.load())) {
    std::this_thread::yield();
  }
  bh_exchange(shim_->sleep_word(0), 0u);
  port_->StopTaking();
  sleeper.join();
}

TEST_F(HostPortTest, TakeEndsAtItsTime) {
  Open({kGeneration, 1, 20'000});
  const uint64_t until_ns = MonotonicAfterNs(3 * kNanosecondsPerMillisecond);
  EXPECT_FALSE(port_->Take(0, until_ns).has_value());
  EXPECT_GE(MonotonicNowNs(), until_ns);
  EXPECT_EQ(*shim_->sleep_word(0), 0u);
}

// ---- attaching

TEST_F(HostPortTest, ForgedHeadersAreRefusedByName) {
  Open({kGeneration, 1, 0});
  const bh_channel_header good = *shim_->header();
  auto refusal = [&](auto change) {
    *shim_->header() = good;
    change(shim_->header());
    auto port = Attach({kGeneration, 1, 0});
    EXPECT_EQ(port.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(port.status().message());
  };
  using Header = bh_channel_header;
  EXPECT_THAT(refusal([](Header* h) { h->magic = 1; }), HasSubstr("magic"));
  EXPECT_THAT(refusal([](Header* h) { h->abi_version = BH_ABI_VERSION + 1; }),
              HasSubstr(absl::StrCat("ABI version ", BH_ABI_VERSION + 1)));
  EXPECT_THAT(refusal([](Header* h) { h->abi_version = BH_ABI_VERSION - 1; }),
              HasSubstr(absl::StrCat("ABI version ", BH_ABI_VERSION - 1)));
  EXPECT_THAT(refusal([](Header* h) { h->lanes = 0; }), HasSubstr("geometry"));
  EXPECT_THAT(refusal([](Header* h) { h->lanes = UINT32_MAX; }), HasSubstr("geometry"));
  EXPECT_THAT(refusal([](Header* h) { h->slots_per_lane = 65; }), HasSubstr("geometry"));
  EXPECT_THAT(refusal([](Header* h) { h->call_bytes = 4096; }), HasSubstr("contradicts"));
  EXPECT_THAT(refusal([](Header* h) { h->reply_bytes += 4096; }), HasSubstr("contradicts"));
  EXPECT_THAT(refusal([](Header* h) { h->notify_offset = 64; }), HasSubstr("notification"));
  // Consistent in itself, but not with the memory.
  EXPECT_THAT(refusal([](Header* h) {
                h->call_chunks = 5;
                h->call_bytes += 4096;
              }),
              HasSubstr("call region: shared memory has"));
  EXPECT_THAT(refusal([](Header* h) {
                h->reply_chunks = 5;
                h->reply_bytes += 4096;
              }),
              HasSubstr("reply region: shared memory has"));
  *shim_->header() = good;
  EXPECT_FALSE(Attach({0, 1, 0}).ok());
  EXPECT_FALSE(Attach({kGeneration, 0, 0}).ok());
  EXPECT_FALSE(Attach({kGeneration, BH_WORKERS_MAX + 1, 0}).ok());
  EXPECT_TRUE(Attach({kGeneration, BH_WORKERS_MAX, 0}).ok());
}

TEST_F(HostPortTest, UnsealedOrSwappedRegionsAreRefused) {
  Open({kGeneration, 1, 0});
  auto unsealed = SharedMemory::Create("test", bh_call_region_bytes(&kGeometry));
  std::memcpy(unsealed->data(), shim_->memory().call_region(), 4096);
  auto descriptors = shim_->memory().Descriptors();
  auto port = HostPort::Attach(*unsealed->fd().Duplicate(), std::move(descriptors->reply_region),
                               UniqueFd(), {kGeneration, 1, 0});
  EXPECT_THAT(std::string(port.status().message()), HasSubstr("call region: shared memory lacks"));

  descriptors = shim_->memory().Descriptors();
  port = HostPort::Attach(std::move(descriptors->reply_region), std::move(descriptors->call_region),
                          UniqueFd(), {kGeneration, 1, 0});
  EXPECT_THAT(std::string(port.status().message()), HasSubstr("magic"));
  EXPECT_FALSE(HostPort::Attach(UniqueFd(), UniqueFd(), UniqueFd(), {kGeneration, 1, 0}).ok());
}

// ---- files

TEST_F(HostPortTest, FilesReachTheirCallsInWhateverOrder) {
  Open({kGeneration, 2, 0});
  ino_t inodes[3];
  for (uint32_t slot = 0; slot < 3; ++slot) {
    const UniqueFd file = PipeOfItsOwn(&inodes[slot]);
    SendFile(slot, shim_->NextTicket(slot), file.get());
  }
  for (const uint32_t slot : {2u, 0u, 1u}) {
    shim_->Post(slot, Args(slot), BH_CALL_HAS_DESCRIPTOR);
    auto call = port_->Take(slot % 2, Soon());
    ASSERT_TRUE(call.has_value());
    ASSERT_EQ(call->slot, slot);
    auto file = port_->ReceiveDescriptor(*call);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(InodeOf(*file), inodes[slot]);
    EXPECT_EQ(port_->ReceiveDescriptor(*call).status().code(),
              absl::StatusCode::kFailedPrecondition);
    port_->Decline(*call);
  }
}

TEST_F(HostPortTest, StrayFilesAreClosedAndCounted) {
  Open({kGeneration, 1, 0});
  ino_t inode;
  const UniqueFd file = PipeOfItsOwn(&inode);
  SendFile(0, bh_ticket_make(kGeneration - 1, 1), file.get());            // another generation's
  SendFile(bh_slot_count(&kGeometry), shim_->NextTicket(0), file.get());  // no such slot
  SendFile(0, shim_->NextTicket(0), file.get(), 2);                       // two files
  SendFile(0, shim_->NextTicket(0), file.get(), 20);                      // very many
  SendFile(0, shim_->NextTicket(0), file.get(), 0);                       // none
  shim_->Post(0, Args(0), BH_CALL_HAS_DESCRIPTOR);
  auto call = port_->Take(0, Soon());
  EXPECT_EQ(port_->ReceiveDescriptor(*call).status().code(), absl::StatusCode::kNotFound);
  port_->Decline(*call);
  EXPECT_EQ(port_->counters().stray_descriptors, 5u);

  shim_->Post(0, Args(0), BH_CALL_HAS_DESCRIPTOR);
  shim_socket_.reset();
  call = port_->Take(0, Soon());
  EXPECT_EQ(port_->ReceiveDescriptor(*call).status().code(), absl::StatusCode::kUnavailable);
  port_->Decline(*call);
}

// A driver that never looks at its files must not fill the socket.
TEST_F(HostPortTest, FilesThatNobodyWantsAreDropped) {
  Open({kGeneration, 1, 0});
  ino_t inode;
  const UniqueFd file = PipeOfItsOwn(&inode);
  for (int i = 0; i < 2'000; ++i) {
    SendFile(0, shim_->NextTicket(0), file.get());
    if (HasFatalFailure()) return;
    shim_->Post(0, Args(0), BH_CALL_HAS_DESCRIPTOR);
    auto call = port_->Take(0, Soon());
    ASSERT_TRUE(call.has_value());
    port_->Decline(*call);
  }
}

// ---- many calls, many threads

// One caller that owns its slot; every reply must echo its own arguments.
void Call(FakeShim& shim, uint32_t slot, uint64_t calls, bool sleep) {
  for (uint64_t i = 1; i <= calls; ++i) {
    const uint64_t number = (uint64_t{slot} << 40) | i;
    const uint64_t ticket = shim.Post(slot, Args(number));
    const bool answered = sleep ? shim.SleepForAnswer(slot, ticket, Soon())
                                : shim.SpinForAnswer(slot, ticket, Soon());
    ASSERT_TRUE(answered) << "call " << i << " in slot " << slot << " was lost";
    ASSERT_EQ(Word(shim.reply(slot)->reply), number);
    ASSERT_EQ(Word(shim.reply(slot)->reply + 40), number + 40);
  }
}

TEST_F(HostPortTest, OneCallerOneWorkerSpinning) {
  Open({kGeneration, 1, 20'000});
  StartEcho(1);
  Call(*shim_, 0, kStressCalls / 10, false);
  EXPECT_EQ(port_->counters().calls, kStressCalls / 10);
}

// Neither side ever spins: every call goes through sleep and wake twice. A wake-up that is lost
// shows as a call that is not answered within its bound.
TEST_F(HostPortTest, NoWakeUpIsLostWhenBothSidesSleep) {
  Open({kGeneration, 1, 0});
  StartEcho(1);
  Call(*shim_, 0, kStressCalls / 2, true);
  EXPECT_GT(port_->counters().sleeps, 0u);
  EXPECT_GT(port_->counters().bells, 0u);
}

// One wake-up, spent for the call that the woken worker does not find first: it passes it on.
TEST_F(HostPortTest, AWakeUpForAnotherCallThanTheOneFoundIsPassedOn) {
  Open({kGeneration, 2, 0});
  const uint64_t until_ns = MonotonicNowNs() + 20'000'000'000;
  std::atomic<uint32_t> taken{0};
  std::atomic<bool> answer{false};
  for (uint32_t worker = 0; worker < 2; ++worker) {
    threads_.emplace_back([&, worker] {
      std::optional<TakenCall> call = port_->Take(worker, until_ns);
      if (!call.has_value()) return;
      ++taken;
      while (!answer && MonotonicNowNs() < until_ns) std::this_thread::yield();
      port_->Decline(*call);
    });
  }
  while (bh_load(shim_->sleep_word(0)) == 0 || bh_load(shim_->sleep_word(1)) == 0 ||
         port_->counters().sleeps < 2) {
    ASSERT_LT(MonotonicNowNs(), until_ns);
    std::this_thread::yield();
  }
  // Both calls are there before the first worker is woken for one of them.
  for (uint32_t slot = 0; slot < 2; ++slot) {
    bh_store_release(&shim_->call(slot)->ticket, shim_->NextTicket(slot));
  }
  bh_exchange(shim_->sleep_word(0), 0u);
  FutexWake(shim_->sleep_word(0), FutexScope::kShared, 1);
  while (taken != 2 && MonotonicNowNs() < until_ns - 10'000'000'000) std::this_thread::yield();
  EXPECT_EQ(taken, 2u);
  answer = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

TEST_F(HostPortTest, NoCallIsLostOrTakenTwiceByTwoWorkers) {
  Open({kGeneration, 2, 0});
  StartEcho(2);
  std::vector<std::thread> callers;
  // Two in one lane, one in the other, one of them spinning.
  for (const uint32_t slot : {0u, 1u, 4u}) {
    callers.emplace_back([this, slot] { Call(*shim_, slot, kStressCalls / 6, slot != 1); });
  }
  for (std::thread& caller : callers) caller.join();
  port_->StopTaking();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  EXPECT_EQ(port_->counters().calls, kStressCalls / 6 * 3);
}

}  // namespace
}  // namespace bulkhead
