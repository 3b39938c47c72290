// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/host_protocol.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/control_messages.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

TEST(HostProtocol, AttachSurvivesTheTrip) {
  const ControlBuffer buffer = MakeAttach(SomeAttach());
  auto read = ReadAttach(Body<wire::Attach>(buffer));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->generation, 3u);
  EXPECT_EQ(read->reason, BH_START_CRASH_RESTART);
  EXPECT_EQ(read->geometry.reply_chunks, 32u);
  EXPECT_EQ(read->workers, 4u);
  EXPECT_EQ(read->driver_name, "scanner");
  EXPECT_EQ(read->driver_path, "/opt/scanner.so");
  EXPECT_EQ(read->content_path, "/opt/rules");
  EXPECT_EQ(read->content_version, 7u);
  EXPECT_EQ(read->options, "fast");
  EXPECT_EQ(read->callbacks, SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_ACCESS}));
  EXPECT_EQ(read->notifications, SetOf({BH_NOTIFY_FILE_DELETED, BH_NOTIFY_MODULE_LOADED}));
  EXPECT_EQ(read->checkpoint_bytes, 4096u);
  EXPECT_EQ(read->spin_ns, 20'000u);
  EXPECT_EQ(read->pending_calls_max, 1000u);
  EXPECT_EQ(read->reads, "/opt/lists\n/etc/vendor");
  EXPECT_EQ(read->sandbox, 1u);
  EXPECT_TRUE(read->standby);
  EXPECT_EQ(read->writes, "/var/lib/vendor");
  EXPECT_EQ(read->scratch_mib, 16u);
  EXPECT_EQ(read->sandbox_required, BH_SANDBOX_CONFINED);
  EXPECT_EQ(read->group, "host-3");
  EXPECT_EQ(read->group_lacks, "none here");
  EXPECT_EQ(read->processes_lack, "nor these");
}

TEST(HostProtocol, AHostSaysWhatItsSandboxIs) {
  const SandboxFields sent = {.generation = 4,
                              .layers = BH_LAYER_LIMITS | 1u << 31,
                              .lacks = {"files: this kernel has no Landlock", "users: no"},
                              .spent_us = 1234};
  const ControlBuffer buffer = MakeSandboxed(sent);
  const SandboxFields read = ReadSandboxed(Body<wire::Sandboxed>(buffer));
  EXPECT_EQ(read.generation, 4u);
  EXPECT_EQ(read.layers, uint32_t{BH_LAYER_LIMITS}) << "without what is no layer";
  EXPECT_EQ(read.lacks, sent.lacks);
  EXPECT_EQ(read.spent_us, 1234u);
  const ControlBuffer many = MakeSandboxed({.lacks = std::vector<std::string>(100, "x")});
  EXPECT_EQ(ReadSandboxed(Body<wire::Sandboxed>(many)).lacks.size(), 16u);
}

TEST(HostProtocol, TheLevelOfASandboxIsTheHighestWithoutAGap) {
  EXPECT_EQ(bh_sandbox_level_of(0), BH_SANDBOX_NONE);
  EXPECT_EQ(bh_sandbox_level_of(BH_LAYERS_ALL), BH_SANDBOX_FULL);
  EXPECT_EQ(bh_sandbox_level_of(BH_LAYERS_ALL & ~uint32_t{BH_LAYER_RESOURCES}),
            BH_SANDBOX_CONFINED);
  EXPECT_EQ(bh_sandbox_level_of(BH_LAYERS_ALL & ~uint32_t{BH_LAYER_OWN_USER}), BH_SANDBOX_BASIC);
  EXPECT_EQ(bh_sandbox_level_of(BH_LAYERS_ALL & ~uint32_t{BH_LAYER_SYSTEM_CALLS}), BH_SANDBOX_NONE);
  EXPECT_EQ(bh_sandbox_layers_of(BH_SANDBOX_NONE), 0u);
  EXPECT_EQ(bh_sandbox_layers_of(BH_SANDBOX_FULL), uint32_t{BH_LAYERS_ALL});
}

TEST(HostProtocol, AStandbyAndItsSupervisorNameTheGeneration) {
  const ControlBuffer ready = MakeReady(4), serve = MakeServe(5);
  EXPECT_EQ(Body<wire::Ready>(ready).generation(), 4u);
  EXPECT_EQ(Body<wire::Serve>(serve).generation(), 5u);
}

TEST(HostProtocol, ReadAttachRefusesImpossibleValues) {
  auto refusal = [](void (*change)(AttachFields&)) {
    AttachFields fields = SomeAttach();
    change(fields);
    const ControlBuffer buffer = MakeAttach(fields);
    return std::string(ReadAttach(Body<wire::Attach>(buffer)).status().message());
  };
  EXPECT_THAT(refusal([](AttachFields& f) { f.geometry.lanes = 0; }), HasSubstr("geometry"));
  EXPECT_THAT(refusal([](AttachFields& f) { f.generation = 0; }), HasSubstr("generation"));
  EXPECT_THAT(refusal([](AttachFields& f) { f.workers = 17; }), HasSubstr("workers"));
  EXPECT_THAT(refusal([](AttachFields& f) { f.reason = bh_start{}; }), HasSubstr("reason"));
}

}  // namespace
}  // namespace bulkhead
