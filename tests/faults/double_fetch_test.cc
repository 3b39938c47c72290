// SPDX-License-Identifier: Apache-2.0
//
// Each word that a host writes is read once. The caller runs one instruction at a time, and between
// two instructions its reply is changed, from a valid to an invalid one or back: at whichever
// instruction the change happens, the call ends with a valid verdict, or the host is convicted of a
// violation. A planted reader that reads twice must be caught.
//
// The suite makes each change at 60 or more places, evenly spread over the instructions. Between
// any two of them: BULKHEAD_EVERY_INSTRUCTION=1 bin/tests/double_fetch_test
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "shim/core/reply.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/faults/stepped_process.h"

namespace bulkhead {
namespace {

constexpr long kPlaces = 60;  // of the path, at which the suite changes each field

// One word of a reply: the good one that the host wrote, and a bad one.
struct Change {
  const char* name;
  size_t offset;  // in the reply slot
  uint64_t good;
  uint64_t bad;
};

uint64_t Word(uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; }

const std::array<Change, 4> kChanges = {{
    {"status", offsetof(bh_reply_slot, status), Word(BH_REPLY_DONE, sizeof(bh_verdict_reply)),
     Word(77, sizeof(bh_verdict_reply))},
    {"reply_bytes", offsetof(bh_reply_slot, status), Word(BH_REPLY_DONE, sizeof(bh_verdict_reply)),
     Word(BH_REPLY_DONE, 0xffff)},
    {"verdict", offsetof(bh_reply_slot, reply), Word(BH_VERDICT_ALLOW, BH_CACHE_NOT),
     Word(0x66666666, BH_CACHE_NOT)},
    {"cacheability", offsetof(bh_reply_slot, reply), Word(BH_VERDICT_ALLOW, BH_CACHE_NOT),
     Word(BH_VERDICT_ALLOW, 0x66666666)},
}};

// The results that the stepped process reports of each round.
struct Findings {
  bh_reply_slot* slot;  // in its memory
  bool ended;           // else the channel was detached, and the call waits for the next host
  uint32_t outcome;
  uint32_t verdict;
  uint64_t violations;
};

// A caller, and a host that has answered it.
class Caller {
 public:
  Caller() {
    shim_ = *EmbeddedShim::Create({});
    ChannelSpec spec;
    spec.driver = "twofaced";
    spec.geometry = {.lanes = 1, .slots_per_lane = 1, .call_chunks = 1, .reply_chunks = 0};
    channel_ = *shim_->AddChannel(spec);
  }

  // Up to the point at which the answer is in its slot.
  void GetAnswered(Findings* findings) {
    ++generation_;
    auto regions = *shim_->Descriptors(channel_);
    reply_ = *SharedMemory::MapChecked(UniqueFd(dup(regions.reply_region.get())),
                                       bh_reply_region_bytes(&kGeometry),
                                       SharedMemory::Access::kReadWrite, 0);
    auto port =
        *HostPort::Attach(std::move(regions.call_region), std::move(regions.reply_region),
                          UniqueFd(), {.generation = generation_, .workers = 1, .spin_ns = 0});
    if (!shim_
             ->BeginGeneration(channel_,
                               GenerationSpec(generation_, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1),
                               UniqueFd())
             .ok())
      _exit(1);
    FileRequest request;
    request.inode = generation_;
    request.deadline_ns = MonotonicAfterNs(60 * kNanosecondsPerSecond);
    call_ = shim_->Start(request);
    Completion completion;
    if (shim_->Poll(*call_, &completion)) _exit(2);
    std::optional<TakenCall> taken = port->Take(0, kForeverNs);
    const bh_verdict_reply answer = {.verdict = BH_VERDICT_ALLOW, .cacheability = BH_CACHE_NOT};
    port->Reply(*taken, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&answer), sizeof(answer)});
    findings->slot = reinterpret_cast<bh_reply_slot*>(reply_.data() + bh_reply_slot_offset(0));
  }
  void TakeAnswer(Findings* findings) {
    Completion completion;
    findings->ended = shim_->Poll(*call_, &completion);
    findings->outcome = completion.outcome;
    findings->verdict = completion.verdict;
  }
  void CleanUp(Findings* findings) {
    if (!findings->ended) (void)shim_->Cancel(*call_);
    findings->violations = shim_->Statistics(channel_)->violations;
    (void)shim_->EndGeneration(channel_, generation_, BH_END_KILLED);
    call_.reset();
  }

  static constexpr bh_geometry kGeometry = {
      .lanes = 1, .slots_per_lane = 1, .call_chunks = 1, .reply_chunks = 0};

 private:
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  uint32_t generation_ = 0;
  SharedMemory reply_;
  std::unique_ptr<EmbeddedShim::PendingCall> call_;
};

// The planted defect: validates one copy and uses the next.
void TakeTwice(Findings* findings) {
  const bh_reply_facts facts = {.callback = BH_CALLBACK_FILE_OPEN, .reply_capacity = 0};
  bh_reply_copy copy;
  bh_reply_copy_once(findings->slot, &facts, &copy);
  findings->ended = bh_reply_validate(&copy, &facts) == BH_VIOLATION_NONE;
  bh_reply_copy_once(findings->slot, &facts, &copy);
  findings->outcome = BH_OUTCOME_ANSWERED;
  findings->verdict = bh_reply_verdict(&copy).verdict;
}

class DoubleFetch : public ::testing::Test {
 protected:
  DoubleFetch()
      : findings_(static_cast<Findings*>(mmap(nullptr, sizeof(Findings), PROT_READ | PROT_WRITE,
                                              MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~DoubleFetch() override { munmap(findings_, sizeof(Findings)); }

  void SetUp() override {
    if (!SteppedProcess::Allowed()) GTEST_SKIP() << "this machine does not permit tracing a child";
  }

  // Rounds without end, with a stop before and after the part that is stepped.
  [[noreturn]] void LiveAsCaller(bool planted) {
    Caller caller;
    for (;;) {
      *findings_ = {};
      caller.GetAnswered(findings_);
      SteppedProcess::StopHere();
      planted ? TakeTwice(findings_) : caller.TakeAnswer(findings_);
      SteppedProcess::StopHere();
      if (planted) caller.TakeAnswer(findings_);
      caller.CleanUp(findings_);
    }
  }

  // Changes the word after `steps` instructions; the word was invalid until then if `from_bad`.
  void Round(SteppedProcess& caller, const Change& change, bool from_bad, long steps) {
    void* word = reinterpret_cast<uint8_t*>(findings_->slot) + change.offset;
    if (from_bad) caller.Poke(word, change.bad);
    const bool inside = caller.Step(steps) == steps;  // a refusal may take fewer instructions
    caller.Poke(word, from_bad ? change.good : change.bad);
    if (inside) caller.Continue();
    ASSERT_TRUE(caller.alive());
    const bool legal = findings_->verdict == BH_VERDICT_ALLOW;
    if (findings_->ended && findings_->outcome == BH_OUTCOME_ANSWERED) {
      ++answered_;
      if (!legal) ++believed_;
    } else {
      ++refused_;
    }
    caller.Continue();  // after the next answer
    ASSERT_TRUE(caller.alive());
  }

  void Run(bool planted) {
    SteppedProcess caller([&] { LiveAsCaller(planted); });
    ASSERT_TRUE(caller.alive());
    const long length = caller.Step(1'000'000);
    ASSERT_TRUE(findings_->ended);
    ASSERT_EQ(findings_->verdict, uint32_t{BH_VERDICT_ALLOW});
    caller.Continue();
    const bool each = std::getenv("BULKHEAD_EVERY_INSTRUCTION") != nullptr || planted;
    const long stride = each ? 1 : std::max(1L, length / kPlaces);
    for (const Change& change : kChanges) {
      for (const bool from_bad : {false, true}) {
        for (long steps = 0; steps < length && !HasFatalFailure(); steps += stride) {
          Round(caller, change, from_bad, steps);
        }
      }
    }
    std::printf("%ld instructions: %d answers, %d refused, %d impossible\n", length, answered_,
                refused_, believed_);
  }

  Findings* const findings_;
  const OnOneCpu on_one_cpu_;
  int answered_ = 0, refused_ = 0, believed_ = 0;
};

TEST_F(DoubleFetch, NoWordIsUsedThatWasNotValidated) {
  Run(/*planted=*/false);
  EXPECT_EQ(believed_, 0);
  EXPECT_GT(answered_, 0);
  EXPECT_GT(refused_, 0) << "no change came before its word was read";
}

TEST_F(DoubleFetch, AReaderThatReadsTwiceIsCaught) {
  Run(/*planted=*/true);
  EXPECT_GT(believed_, 0);
}

}  // namespace
}  // namespace bulkhead
