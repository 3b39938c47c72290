// SPDX-License-Identifier: Apache-2.0
//
// The real bulkhead-host with real drivers, on a real channel; the test has the role of the
// supervisor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/process/sandbox.h"
#include "ipc/abi/end.h"
#include "ipc/control/host_protocol.h"
#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "ipc/shared_memory.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/testing/fake_observer.h"
#include "tests/testing/host_process_fixture.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kLongNs = 60 * kNanosecondsPerSecond;
const bh_callback_set kOpenAndExec = SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC});

class HostProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* build = std::getenv("BULKHEAD_BUILD");
    ASSERT_NE(build, nullptr);
    build_ = build;
    folder_ = testing::TempDir() + "/host-process-" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
    auto shim = EmbeddedShim::Create({.deadline_ns = kLongNs});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    shim_->SetObserver(&observer_);
    ChannelSpec spec;
    spec.driver = "test";
    spec.geometry = geometry_;
    spec.cache_entries = 0;
    auto channel = shim_->AddChannel(spec);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *channel;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  AttachFields Fields(const std::string& driver, uint32_t generation = 1) const {
    AttachFields fields;
    fields.generation = generation;
    fields.geometry = geometry_;
    fields.workers = 2;
    fields.driver_name = driver;
    fields.driver_path = build_ + "/drivers/" + driver + "/" + driver + ".so";
    fields.callbacks =
        driver == "null"
            ? SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS})
            : kOpenAndExec;
    fields.content_version = 1;
    fields.spin_ns = 20'000;
    fields.sandbox = BH_LAYERS_ALL;
    if (driver == "scanner") fields.content_path = build_ + "/drivers/scanner/rules";
    return fields;
  }
  std::unique_ptr<HostRun> Spawn() {
    auto run = HostRun::Spawn(build_ + "/bin/bulkhead-host");
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *std::move(run) : nullptr;
  }
  std::unique_ptr<HostRun> Serve(const AttachFields& fields, int checkpoint = -1) {
    std::unique_ptr<HostRun> run = Spawn();
    if (!run) return nullptr;
    const absl::Status status = run->Begin(*shim_, channel_, fields, checkpoint);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok() ? std::move(run) : nullptr;
  }
  // The error text of a host that does not start; it must then exit with 1.
  std::string StartFailure(const AttachFields& fields) {
    std::unique_ptr<HostRun> run = Spawn();
    if (!run) return "";
    EXPECT_TRUE(run->Attach(*shim_, channel_, fields).ok());
    const absl::Status status = run->AwaitStarted();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    const int end = run->Wait();
    EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 1) << end;
    return std::string(status.message());
  }

  Completion AskInode(uint64_t inode) {
    FileRequest request;
    request.inode = inode;
    return shim_->Call(request);
  }
  Completion AskName(const std::string& path, uint64_t deadline_span_ns = kLongNs) {
    FileRequest request;
    request.inode = 1;
    request.path = path;
    request.deadline_ns = MonotonicAfterNs(deadline_span_ns);
    return shim_->Call(request);
  }
  Completion AskFile(const std::string& content) {
    const std::string path = folder_ + "/asked";
    std::ofstream(path) << content;
    FileRequest request;
    request.path = path;
    const auto file = OpenAndDescribe(request);
    EXPECT_TRUE(file.ok()) << file.status();
    return shim_->Call(request);
  }
  static bool Answered(const Completion& completion, bool allowed) {
    return completion.outcome == BH_OUTCOME_ANSWERED && completion.allowed() == allowed;
  }

  const bh_geometry geometry_ = {
      .lanes = 2, .slots_per_lane = 8, .call_chunks = 16, .reply_chunks = 0};
  std::string build_;
  std::string folder_;
  FakeObserver observer_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
};

// Composed here: written out, it would make scanners deny this source file.
std::string Eicar() {
  return std::string("X5O!P%@AP[4\\PZX54(P^)7CC)7}$") + "EICAR-STANDARD-" +
         "ANTIVIRUS-TEST-FILE!$H+H*";
}

TEST_F(HostProcessTest, CarriesCallsToADriverAndVerdictsBack) {
  AttachFields fields = Fields("null");
  fields.options = "deny-odd";
  auto run = Serve(fields);
  ASSERT_TRUE(run);
  EXPECT_EQ(run->callbacks(), Fields("null").callbacks);
  EXPECT_EQ(run->descriptors(), SetOf({}));
  for (uint64_t inode = 0; inode < 1000; ++inode) {
    const Completion completion = AskInode(inode);
    ASSERT_TRUE(Answered(completion, inode % 2 == 0)) << inode << " " << OutcomeText(completion);
  }
}

TEST_F(HostProcessTest, TheScannerReadsFilesByTheirDescriptor) {
  auto run = Serve(Fields("scanner"));
  ASSERT_TRUE(run);
  EXPECT_EQ(run->descriptors(), kOpenAndExec);
  EXPECT_TRUE(Answered(AskFile("nothing wrong here"), true));
  EXPECT_TRUE(Answered(AskFile(Eicar()), false));
  EXPECT_TRUE(Answered(AskFile(std::string(100'000, 'x') + Eicar()), false));
  EXPECT_TRUE(Answered(AskFile(""), true));
}

TEST_F(HostProcessTest, AnswersPingsAndSaysWhatItsDriverLogs) {
  auto run = Serve(Fields("scanner"));
  ASSERT_TRUE(run);
  EXPECT_TRUE(Answered(AskFile(Eicar()), false));
  // A call is counted right after its answer, which this test has already.
  uint64_t calls = 0;
  for (uint64_t number = 42; calls == 0; ++number) {
    ASSERT_LT(number, 100'000u);
    ASSERT_TRUE(run->control().Send(MakePing(number)).ok());
    auto pong = run->Receive();
    ASSERT_TRUE(pong.ok()) << pong.status();
    ASSERT_NE(pong->as<wire::Pong>(), nullptr) << pong->name();
    EXPECT_EQ(pong->as<wire::Pong>()->number(), number);
    calls = pong->as<wire::Pong>()->calls();
  }
  EXPECT_EQ(calls, 1u);
  // The log is sent from the same loop, in no fixed order with the pong: after the drain all of it
  // is there.
  ASSERT_TRUE(run->control().Send(MakeDrain(1)).ok());
  EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
  EXPECT_THAT(run->log(), HasSubstr("rules of 2 files in force"));
  EXPECT_THAT(run->log(), HasSubstr("eicar_test_file"));
}

TEST_F(HostProcessTest, DrainFinishesAndExitsWithZero) {
  auto run = Serve(Fields("faulty"));
  ASSERT_TRUE(run);
  std::thread slow([this] { EXPECT_TRUE(Answered(AskName("/x/slow-200-"), true)); });
  // Only once the driver has the call, so that the drain has a call to finish.
  while (shim_->Statistics(channel_)->in_flight == 0) std::this_thread::yield();
  ASSERT_TRUE(shim_->SetState(channel_, /*quarantined=*/false, /*draining=*/true).ok());
  ASSERT_TRUE(run->control().Send(MakeDrain(1)).ok());
  const int end = run->Wait();
  EXPECT_TRUE(WIFEXITED(end)) << end;
  EXPECT_EQ(WEXITSTATUS(end), 0);
  EXPECT_TRUE(shim_->EndGeneration(channel_, 1, BH_END_STOPPED).ok());
  // Whether or not the host had taken it: it is answered, at the latest by the next generation.
  auto next = Serve(Fields("faulty", 2));
  ASSERT_TRUE(next);
  slow.join();
}

TEST_F(HostProcessTest, TheNextGenerationAnswersWhatAKilledOneHad) {
  auto run = Serve(Fields("null"));
  ASSERT_TRUE(run);
  ASSERT_TRUE(Answered(AskInode(1), true));
  for (uint32_t generation = 2; generation <= 6; ++generation) {
    const int end = run->Kill();
    ASSERT_TRUE(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL) << end;
    Completion waiting;
    std::thread caller([&] { waiting = AskInode(generation); });
    ASSERT_TRUE(shim_->EndGeneration(channel_, generation - 1, BH_END_KILLED).ok());
    run = Serve(Fields("null", generation));
    caller.join();
    ASSERT_TRUE(run);
    EXPECT_TRUE(Answered(waiting, true)) << OutcomeText(waiting);
  }
  EXPECT_EQ(shim_->Statistics(channel_)->generations, 6u);
}

TEST_F(HostProcessTest, SaysWhyADriverDoesNotStart) {
  AttachFields fields = Fields("null");
  fields.driver_path = "/nowhere/driver.so";
  EXPECT_THAT(StartFailure(fields), HasSubstr("/nowhere/driver.so: No such file"));
  fields = Fields("null");
  fields.driver_name = "other";
  EXPECT_THAT(StartFailure(fields), HasSubstr("calls itself 'null'"));
  fields = Fields("scanner");
  fields.content_path = folder_;
  EXPECT_THAT(StartFailure(fields), HasSubstr("no rules here"));
  std::ofstream(folder_ + "/bad.yar") << "rule unfinished {\n  condition: tru\n}\n";
  EXPECT_THAT(StartFailure(fields), HasSubstr("bad.yar:2: "));
  std::ofstream(folder_ + "/faults") << "fail-start";
  fields = Fields("faulty");
  fields.content_path = folder_;
  EXPECT_THAT(StartFailure(fields), HasSubstr("its content asks it to fail"));
}

TEST_F(HostProcessTest, ReportsItsSandboxAndDoesNotStartBelowTheRequiredOne) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs a wider filter";
  auto run = Serve(Fields("null"));
  ASSERT_TRUE(run);
  EXPECT_GE(bh_sandbox_level_of(run->sandbox().layers), BH_SANDBOX_BASIC);
  EXPECT_NE(run->sandbox().spent_us, 0u);
  run->Kill();
  ASSERT_TRUE(shim_->EndGeneration(channel_, 1, BH_END_KILLED).ok());

  AttachFields fields = Fields("null", 2);
  fields.sandbox_required = BH_SANDBOX_FULL;
  fields.group_lacks = "none is left";
  const std::string failure = StartFailure(fields);
  EXPECT_THAT(failure, HasSubstr("and full is required; it lacks "));
  EXPECT_THAT(failure, HasSubstr("resources: none is left"));
  EXPECT_THAT(failure, HasSubstr("--require-sandbox"));

  fields = Fields("null", 3);
  fields.sandbox = 0;
  fields.sandbox_required = BH_SANDBOX_BASIC;
  EXPECT_THAT(StartFailure(fields),
              HasSubstr("the level none, and basic is required; it lacks privileges; limits; "));
}

TEST_F(HostProcessTest, EndsWhenItsSupervisorTalksNonsense) {
  AttachFields fields = Fields("null");
  fields.generation = 0;
  auto zero = Spawn();
  ASSERT_TRUE(zero);
  ASSERT_TRUE(zero->Attach(*shim_, channel_, fields).ok());
  int end = zero->Wait();
  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 3) << end;

  auto no_attach = Spawn();
  ASSERT_TRUE(no_attach);
  ASSERT_TRUE(no_attach->control().Send(MakePing(1)).ok());
  end = no_attach->Wait();
  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 3) << end;
}

TEST_F(HostProcessTest, EndsWhenItsSupervisorIsGone) {
  auto before_attach = Spawn();
  ASSERT_TRUE(before_attach);
  before_attach->control().Close();
  int end = before_attach->Wait();
  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 3) << end;

  auto serving = Serve(Fields("null"));
  ASSERT_TRUE(serving);
  serving->control().Close();
  end = serving->Wait();
  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 3) << end;
}

TEST_F(HostProcessTest, AStandbyDisturbsNothingUntilItTakesOver) {
  auto serving = Serve(Fields("null"));
  ASSERT_TRUE(serving);
  AttachFields fields = Fields("faulty");
  fields.standby = true;
  auto standby = Spawn();
  ASSERT_TRUE(standby);
  ASSERT_TRUE(standby->Attach(*shim_, channel_, fields).ok());
  absl::Status status = standby->AwaitReady();
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE(standby->control().Send(MakePing(7)).ok());
  absl::StatusOr<ControlMessage> pong = standby->Receive();
  EXPECT_TRUE(pong.ok() && pong->as<wire::Pong>() != nullptr);
  EXPECT_TRUE(AskName("/x/deny-").allowed()) << "the null driver answers";
  serving->Kill();
  ASSERT_TRUE(shim_->EndGeneration(channel_, Fields("null").generation, BH_END_KILLED).ok());
  fields.generation = Fields("null").generation + 1;
  status = standby->TakeOver(*shim_, channel_, fields);
  ASSERT_TRUE(status.ok()) << status;
  const auto denied = AskName("/x/deny-");
  EXPECT_EQ(denied.outcome, uint32_t{BH_OUTCOME_ANSWERED});
  EXPECT_FALSE(denied.allowed()) << "the standby's driver answers";
  ASSERT_TRUE(standby->control().Send(MakeDrain(fields.generation)).ok());
  const int end = standby->Wait();
  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 0) << end;
}

TEST_F(HostProcessTest, AStandbyEndsAsItIsTold) {
  for (const bool drained : {true, false}) {
    AttachFields fields = Fields("null");
    fields.standby = true;
    auto standby = Spawn();
    ASSERT_TRUE(standby);
    ASSERT_TRUE(standby->Attach(*shim_, channel_, fields).ok());
    ASSERT_TRUE(standby->AwaitReady().ok());
    // A Serve without a channel is nonsense.
    ASSERT_TRUE(standby->control().Send(drained ? MakeDrain(1) : MakeServe(1)).ok());
    const int end = standby->Wait();
    EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == (drained ? 0 : 3)) << end;
  }
}

// A driver that never returns must not keep its process: the supervisor is dead, and nothing else
// would end it.
TEST_F(HostProcessTest, EndsWithAHangingDriverWhenItsSupervisorIsGone) {
  auto run = Serve(Fields("faulty"));
  ASSERT_TRUE(run);
  EXPECT_NE(AskName("hang-", 50 * kNanosecondsPerMillisecond).outcome, BH_OUTCOME_ANSWERED);
  run->control().Close();
  const int end = run->Wait();
  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 3) << end;
}

TEST_F(HostProcessTest, ACrashingDriverTakesItsHostAlongAndNothingElse) {
  const struct {
    const char* name;
    int signal;
  } kFaults[] = {{"crash-", SIGSEGV}, {"abort-", SIGABRT}, {"overflow-", SIGSEGV}};
  uint32_t generation = 0;
  for (const auto& fault : kFaults) {
    auto run = Serve(Fields("faulty", ++generation));
    ASSERT_TRUE(run);
    Completion asked;
    std::thread caller([&] { asked = AskName(fault.name, kNanosecondsPerSecond); });
    const int end = run->Wait();
    // A sanitizer reports a SIGSEGV and exits.
    EXPECT_TRUE(kSanitized ? end != 0 : WIFSIGNALED(end) && WTERMSIG(end) == fault.signal)
        << fault.name << " " << end;
    EXPECT_TRUE(shim_->EndGeneration(channel_, generation, BH_END_CRASHED).ok());
    caller.join();
    EXPECT_EQ(asked.outcome, static_cast<uint32_t>(BH_OUTCOME_POLICY)) << OutcomeText(asked);
  }
  auto run = Serve(Fields("faulty", ++generation));
  ASSERT_TRUE(run);
  EXPECT_TRUE(Answered(AskName("fine"), true));
  EXPECT_TRUE(Answered(AskName("deny-"), false));
}

// As the first process of a namespace, which signals end by its own handlers only: how it ended is
// known all the same.
TEST_F(HostProcessTest, SignalsEndAHostInItsOwnNamespaceToo) {
  const struct {
    const char* asked;  // a path over which the driver ends; or nullptr: the signal comes from here
    int signal;
    bh_end end;
  } kEnds[] = {{"crash-", SIGSEGV, BH_END_CRASHED},    {"abort-", SIGABRT, BH_END_CRASHED},
               {"overflow-", SIGSEGV, BH_END_CRASHED}, {nullptr, SIGSEGV, BH_END_CRASHED},
               {nullptr, SIGABRT, BH_END_CRASHED},     {nullptr, SIGTERM, BH_END_KILLED},
               {nullptr, SIGKILL, BH_END_KILLED}};
  uint32_t generation = 0;
  for (const auto& wanted : kEnds) {
    auto run = HostRun::SpawnInNamespace(build_ + "/bin/bulkhead-host");
    ASSERT_TRUE(run.ok()) << run.status();
    if (!(*run)->child().processes_lack.empty()) GTEST_SKIP() << (*run)->child().processes_lack;
    const absl::Status begun = (*run)->Begin(*shim_, channel_, Fields("faulty", ++generation));
    ASSERT_TRUE(begun.ok()) << begun;
    std::thread caller;
    if (wanted.asked != nullptr) {
      caller = std::thread([&] { (void)AskName(wanted.asked, kNanosecondsPerSecond); });
    } else {
      ASSERT_EQ(kill((*run)->pid(), wanted.signal), 0);
    }
    const int end = (*run)->Wait();
    EXPECT_EQ(bh_signal_of_exit(end), wanted.signal) << end;
    EXPECT_EQ(bh_end_of_exit(end), wanted.end) << end;
    EXPECT_TRUE(shim_->EndGeneration(channel_, generation, wanted.end).ok());
    if (caller.joinable()) caller.join();
  }
}

TEST_F(HostProcessTest, AnExceptionDeclinesOneCall) {
  auto run = Serve(Fields("faulty"));
  ASSERT_TRUE(run);
  EXPECT_EQ(AskName("throw-", 50 * kNanosecondsPerMillisecond).outcome,
            static_cast<uint32_t>(BH_OUTCOME_POLICY));
  EXPECT_TRUE(Answered(AskName("fine"), true));
  ASSERT_TRUE(run->control().Send(MakeDrain(1)).ok());
  EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
  EXPECT_EQ(run->log(), "a callback threw: as asked\n");
}

TEST_F(HostProcessTest, WhatADriverForgesIsAViolation) {
  uint32_t generation = 0;
  for (const char* name : {"garbage-", "cacheability-"}) {
    auto run = Serve(Fields("faulty", ++generation));
    ASSERT_TRUE(run);
    EXPECT_EQ(AskName(name, 100 * kNanosecondsPerMillisecond).outcome,
              static_cast<uint32_t>(BH_OUTCOME_POLICY))
        << name;
    EXPECT_EQ(observer_.WaitFor(FakeObserver::News::kViolation, generation), generation);
    run->Kill();
    (void)shim_->EndGeneration(channel_, generation, BH_END_HOSTILE);
  }
}

// Whatever bytes it wrote: callers end by their deadlines, and the next generation serves.
TEST_F(HostProcessTest, ADriverThatScribblesOverItsChannelBlocksNoCaller) {
  constexpr size_t kCheckpointBytes = 4096;
  auto checkpoint = SharedMemory::Create("bulkhead-scribble-test", kCheckpointBytes);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_TRUE(checkpoint->SealAgainstResize().ok());
  ASSERT_TRUE(checkpoint->SealForGood().ok());
  std::atomic_ref<uint64_t> scribbled(*reinterpret_cast<uint64_t*>(checkpoint->data()));
  for (uint32_t generation = 1; generation <= 5; ++generation) {
    AttachFields fields = Fields("faulty", generation);
    fields.checkpoint_bytes = kCheckpointBytes;
    scribbled = 0;
    auto run = Serve(fields, checkpoint->fd().get());
    ASSERT_TRUE(run);
    const Completion asked = AskName("scribble-", 200 * kNanosecondsPerMillisecond);
    EXPECT_TRUE(asked.outcome == BH_OUTCOME_ANSWERED || asked.outcome == BH_OUTCOME_POLICY)
        << OutcomeText(asked);
    // The call may end before the driver writes. The driver writes to checkpoint and channel: bytes
    // in the checkpoint show that it wrote to the channel too.
    const uint64_t until_ns = MonotonicAfterNs(kLongNs / 2);
    while (scribbled == 0 && MonotonicNowNs() < until_ns) std::this_thread::yield();
    EXPECT_NE(scribbled, 0u) << "the driver wrote nothing";
    run->Kill();
    const absl::Status ended = shim_->EndGeneration(channel_, generation, BH_END_HOSTILE).status();
    EXPECT_TRUE(ended.ok() || absl::IsNotFound(ended)) << ended;
  }
  auto run = Serve(Fields("faulty", 6));
  ASSERT_TRUE(run);
  EXPECT_TRUE(Answered(AskName("fine"), true));
}

TEST_F(HostProcessTest, AFloodOfLogLinesIsDroppedAndCounted) {
  auto run = Serve(Fields("faulty"));
  ASSERT_TRUE(run);
  EXPECT_TRUE(Answered(AskName("flood-"), true)) << "a full log must not hold a driver up";
  ASSERT_TRUE(run->control().Send(MakePing(1)).ok());
  auto pong = run->Receive();
  ASSERT_TRUE(pong.ok()) << pong.status();
  ASSERT_NE(pong->as<wire::Pong>(), nullptr) << pong->name();
  EXPECT_GT(pong->as<wire::Pong>()->log_dropped(), 0u);
}

TEST_F(HostProcessTest, ItsMemoryComesFromMimalloc) {
  if (kSanitized) GTEST_SKIP() << "AddressSanitizer and ThreadSanitizer bring their own allocator";
  AttachFields fields = Fields("allocator");
  fields.driver_path = build_ + "/test-modules/allocator.so";
  auto run = Spawn();
  ASSERT_TRUE(run);
  ASSERT_TRUE(run->Attach(*shim_, channel_, fields).ok());
  const absl::Status status = run->AwaitStarted();
  EXPECT_TRUE(status.ok()) << status;
}

// How long a start takes: printed, without a limit, because it depends on the machine as much as on
// the host.
TEST_F(HostProcessTest, ReportsHowLongAStartTakes) {
  uint32_t generation = 0;
  for (const char* driver : {"null", "scanner"}) {
    std::vector<uint64_t> hello, started;
    for (int i = 0; i < 15; ++i) {
      auto run = Serve(Fields(driver, ++generation));
      ASSERT_TRUE(run);
      hello.push_back(run->hello_ns() - run->spawned_ns());
      started.push_back(MonotonicNowNs() - run->spawned_ns());
      run->Kill();
      ASSERT_TRUE(shim_->EndGeneration(channel_, generation, BH_END_KILLED).ok());
    }
    for (auto* times : {&hello, &started}) std::sort(times->begin(), times->end());
    std::printf("%s: spawn to Hello p50 %.2f ms, to Started p50 %.2f ms\n", driver,
                static_cast<double>(hello[hello.size() / 2]) * 1e-6,
                static_cast<double>(started[started.size() / 2]) * 1e-6);
  }
}

}  // namespace
}  // namespace bulkhead
