// SPDX-License-Identifier: Apache-2.0
//
// A driver's environment inside the real bulkhead-host: the sandbox, before its first instruction;
// its checkpoint, after any death; and the file of a call, as it was sent.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/process/checkpoint.h"
#include "host/process/sandbox.h"
#include "ipc/control/host_protocol.h"
#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "ipc/shared_memory.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/testing/host_process_fixture.h"

namespace bulkhead {
namespace {

constexpr uint64_t kCheckpointBytes = 8192;
const bh_callback_set kOpenAndExec = SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC});

class HostDriverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* build = std::getenv("BULKHEAD_BUILD");
    ASSERT_NE(build, nullptr);
    build_ = build;
    auto shim = EmbeddedShim::Create({.deadline_ns = 60 * kNanosecondsPerSecond});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "test";
    spec.geometry = geometry_;
    spec.cache_entries = 0;
    spec.notify_entries = 64;
    auto channel = shim_->AddChannel(spec);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *channel;
  }

  AttachFields Fields(const std::string& module, uint32_t generation = 1) const {
    AttachFields fields;
    fields.generation = generation;
    fields.reason = generation == 1 ? BH_START_COLD : BH_START_CRASH_RESTART;
    fields.geometry = geometry_;
    fields.workers = 2;
    fields.driver_name = module;
    fields.driver_path = build_ + "/test-modules/" + module + ".so";
    fields.callbacks = kOpenAndExec;
    fields.sandbox = BH_LAYERS_ALL;
    return fields;
  }
  std::unique_ptr<HostRun> Spawn(int leave_open = -1) {
    auto run = HostRun::Spawn(build_ + "/bin/bulkhead-host", leave_open);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *std::move(run) : nullptr;
  }
  std::unique_ptr<HostRun> Serve(const AttachFields& fields, int checkpoint) {
    std::unique_ptr<HostRun> run = Spawn();
    if (!run) return nullptr;
    const absl::Status status = run->Begin(*shim_, channel_, fields, checkpoint);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok() ? std::move(run) : nullptr;
  }
  static absl::StatusOr<SharedMemory> MakeCheckpoint() {
    auto memory = SharedMemory::Create("bulkhead-checkpoint-test", kCheckpointBytes);
    if (!memory.ok()) return memory.status();
    for (const absl::Status& status : {memory->SealAgainstResize(), memory->SealForGood()}) {
      if (!status.ok()) return status;
    }
    return memory;
  }

  const bh_geometry geometry_ = {
      .lanes = 2, .slots_per_lane = 8, .call_chunks = 16, .reply_chunks = 0};
  std::string build_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
};

TEST_F(HostDriverTest, IsLockedInBeforeItsFirstInstruction) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs a wider filter";
  const UniqueFd secret(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(secret.valid());
  auto run = Spawn(secret.get());
  ASSERT_TRUE(run);
  ASSERT_TRUE(run->Attach(*shim_, channel_, Fields("prober")).ok());
  const absl::Status status = run->AwaitStarted();
  EXPECT_TRUE(status.ok()) << status;
}

// The prober without a sandbox: shows that the test above can fail.
TEST_F(HostDriverTest, TheProberDetectsAMissingSandbox) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs a wider filter";
  AttachFields fields = Fields("prober");
  fields.sandbox = 0;
  auto run = Spawn();
  ASSERT_TRUE(run);
  ASSERT_TRUE(run->Attach(*shim_, channel_, fields).ok());
  const absl::Status status = run->AwaitStarted();
  ASSERT_TRUE(absl::IsFailedPrecondition(status)) << status;
  const std::string found(status.message());
  for (const char* what :
       {"a socket", "a file to write", "a signal to the supervisor", "a child",
        "the supervisor's limits", "every system call", "new privileges", "the file /etc/passwd"}) {
    EXPECT_NE(found.find(what), std::string::npos) << what << " is not in: " << found;
  }
}

// Killed at a random moment of a life that saves all the time; the next generation continues from
// the last whole record.
TEST_F(HostDriverTest, ContinuesFromItsCheckpointAfterAKill) {
  const auto memory = MakeCheckpoint();
  ASSERT_TRUE(memory.ok()) << memory.status();
  std::mt19937_64 random(5);
  uint64_t last = 0;
  for (uint32_t generation = 1; generation <= 20; ++generation) {
    AttachFields fields = Fields("survivor", generation);
    fields.checkpoint_bytes = kCheckpointBytes;
    auto run = Serve(fields, memory->fd().get());
    ASSERT_TRUE(run);
    for (uint64_t spin = random() % 200'000; spin != 0; --spin) asm volatile("");
    const int end = run->Kill();
    ASSERT_TRUE(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL) << end;
    ASSERT_TRUE(shim_->EndGeneration(channel_, generation, BH_END_KILLED).ok());

    std::vector<uint64_t> record(kCheckpointBytes / sizeof(uint64_t));
    const long bytes = Checkpoint(std::span(memory->data(), kCheckpointBytes))
                           .Load(std::as_writable_bytes(std::span(record)));
    ASSERT_GT(bytes, 0);
    record.resize(static_cast<size_t>(bytes) / sizeof(uint64_t));
    ASSERT_EQ(record, std::vector<uint64_t>(1 + record[0] % 200, record[0]));
    ASSERT_GT(record[0], last) << "it began anew in generation " << generation;
    last = record[0];
  }
}

// A host that gets past its filter of system calls must not be able to keep the next from mapping
// it.
TEST_F(HostDriverTest, TakesNoCheckpointThatAHostCouldSeal) {
  auto memory = SharedMemory::Create("bulkhead-checkpoint-test", kCheckpointBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_TRUE(memory->SealAgainstResize().ok());
  AttachFields fields = Fields("survivor");
  fields.checkpoint_bytes = kCheckpointBytes;
  auto run = Spawn();
  ASSERT_TRUE(run);
  ASSERT_TRUE(run->Attach(*shim_, channel_, fields, memory->fd().get()).ok());
  EXPECT_EQ(run->AwaitStarted().message(),
            "shared memory lacks F_SEAL_SEAL: its creator must seal it");
}

TEST_F(HostDriverTest, WithoutCheckpointMemorySaysThatARecordDoesNotFit) {
  auto run = Spawn();
  ASSERT_TRUE(run);
  ASSERT_TRUE(run->Attach(*shim_, channel_, Fields("survivor")).ok());
  EXPECT_EQ(run->AwaitStarted().message(), "a record that does not fit");
}

// An answer that was not filled in looks like a declined one: each generation reports it, once.
TEST_F(HostDriverTest, ReportsAnAnswerLeftEmpty) {
  const auto log_of = [this](uint32_t generation, const std::vector<std::string>& paths) {
    AttachFields fields = Fields("silent", generation);
    fields.driver_name = "module";
    auto run = Serve(fields, -1);
    if (!run) return std::string("no start");
    for (const std::string& path : paths) {
      FileRequest request;
      request.path = path;
      const Completion completion = shim_->Call(request);
      EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_POLICY)) << path;
    }
    EXPECT_TRUE(run->control().Send(MakeDrain(1)).ok());
    EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
    EXPECT_TRUE(shim_->EndGeneration(channel_, generation, BH_END_STOPPED).ok());
    return run->log();
  };
  const std::string line =
      "the driver answered nothing to file_open: the policy for declined applies\n";
  EXPECT_EQ(log_of(1, {"decline", "decline"}), "");
  EXPECT_EQ(log_of(2, {"nothing", "nothing", "decline"}), line);
  EXPECT_EQ(log_of(3, {"nothing"}), line);
}

// A notification that a driver had when it crashed is not delivered again; the later ones are.
TEST_F(HostDriverTest, DeliversTheNotificationsThatADriverRegisteredFor) {
  const auto notify = [this](const std::string& text) {
    bh_notification told = {};
    told.kind = BH_NOTIFY_PROCESS_EXECUTED;
    told.pid = 5;
    told.body.process.inode = 131;
    told.text = text.data();
    told.text_bytes = text.size();
    told.text2 = "words";
    told.text2_bytes = 5;
    shim_->Notify(told);
  };
  AttachFields fields = Fields("listener");
  fields.notifications = SetOf({BH_NOTIFY_PROCESS_EXECUTED, BH_NOTIFY_FILE_RENAMED});
  auto run = Serve(fields, -1);
  ASSERT_TRUE(run);
  EXPECT_FALSE(shim_->WantsNotification(BH_NOTIFY_PROCESS_EXITED));
  notify("/bin/a");
  notify("/bin/crash");
  const int end = run->Wait();
  EXPECT_TRUE(WIFSIGNALED(end) && WTERMSIG(end) == SIGABRT) << end;
  ASSERT_TRUE(shim_->EndGeneration(channel_, 1, BH_END_CRASHED).ok());
  notify("/bin/b");

  fields.generation = 2;
  run = Serve(fields, -1);
  ASSERT_TRUE(run);
  const uint64_t until_ns = MonotonicAfterNs(30 * kNanosecondsPerSecond);
  while (shim_->Statistics(channel_)->unread != 0 && MonotonicNowNs() < until_ns) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(run->control().Send(MakeDrain(2)).ok());
  EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
  EXPECT_EQ(run->log(), "told 3 after 0: 514 by 5 /bin/b|words inode 131\n");
  EXPECT_EQ(shim_->Statistics(channel_)->notified, 3u);
}

// Built before there were notifications: it serves, and adds no load to the sources.
TEST_F(HostDriverTest, DeliversNothingToAnOlderDriver) {
  AttachFields fields = Fields("older");
  fields.driver_name = "module";
  fields.notifications = bh_set_everything();
  auto run = Serve(fields, -1);
  ASSERT_TRUE(run);
  EXPECT_FALSE(shim_->WantsNotification(BH_NOTIFY_PROCESS_EXECUTED));
  EXPECT_TRUE(shim_->Call(FileRequest{}).allowed());
}

TEST_F(HostDriverTest, SeesTheFileAsItWasSent) {
  const auto memory = MakeCheckpoint();
  ASSERT_TRUE(memory.ok()) << memory.status();
  AttachFields fields = Fields("survivor");
  fields.checkpoint_bytes = kCheckpointBytes;
  auto run = Serve(fields, memory->fd().get());
  ASSERT_TRUE(run);
  EXPECT_EQ(run->callbacks(), kOpenAndExec);
  EXPECT_EQ(run->descriptors(), SetOf({BH_CALLBACK_FILE_EXEC}))
      << "file_exec alone asks for descriptors";

  const std::string path =
      testing::TempDir() + "/host-driver-" + std::to_string(getpid());  // content: the file's own
                                                                        // name
  std::ofstream(path) << path.substr(path.rfind('/') + 1);
  for (const uint16_t callback : {BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC}) {
    FileRequest request;
    request.path = path;
    request.callback = callback;
    request.pid = 77;
    request.uid = 88;
    request.gid = UINT32_MAX;
    const auto file = OpenAndDescribe(request);
    ASSERT_TRUE(file.ok()) << file.status();
    const Completion completion = shim_->Call(request);
    EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED)) << callback;
    EXPECT_TRUE(completion.allowed()) << callback;
  }
  unlink(path.c_str());
  // stop() must end a thread; a drain that leaves it running would not exit with 0.
  ASSERT_TRUE(run->control().Send(MakeDrain(1)).ok());
  const int end = run->Wait();
  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 0) << end;
}

}  // namespace
}  // namespace bulkhead
