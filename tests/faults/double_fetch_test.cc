// SPDX-License-Identifier: Apache-2.0
//
// Each word that a host writes is read once. The caller runs one instruction at a time, and between
// two instructions a word of the host's is changed, from the right one to a wrong one or back: at
// whichever instruction the change happens, the call ends as with the one word or as with the
// other. For a reply: with the verdict and the errno that the host gave, or the host is convicted
// of a violation, or the call waits on. For what was begun: the call is charged or it is not, and
// all that is said about that agrees. A planted reader that reads twice must be caught.
//
// The suite makes each change at 20 or more places, evenly spread over the instructions. Between
// any two of them: BULKHEAD_EVERY_INSTRUCTION=1 bin/tests/double_fetch_test
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
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

// What the caller does while its word is changed, and at how many places the suite changes it.
enum class Scene {
  kAnswered,  // it takes the answer of a call that was pending in its driver
  kCrashed,   // its host has crashed, the second one: is the call poison?
  kOverdue,   // its deadline has passed: does the host hang?
};
constexpr long Places(Scene scene) { return scene == Scene::kAnswered ? 32 : 20; }

// One word of a reply slot: the right one that the host wrote, and a wrong one. `answer`: the reply
// that is right then.
struct Change {
  const char* name;
  size_t offset;
  uint64_t good;
  uint64_t bad;
  bh_verdict_reply answer;
};
// In place of a ticket, which no table knows: that of the call in the slot.
constexpr uint64_t kTicket = ~uint64_t{0};

constexpr uint64_t Word(uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; }
constexpr uint64_t Word(const bh_verdict_reply& reply) {
  return Word(reply.verdict, reply.cacheability | uint32_t{reply.error} << 16);
}

constexpr size_t kStatus = offsetof(bh_reply_slot, status);
constexpr size_t kVerdict = offsetof(bh_reply_slot, reply);
constexpr uint64_t kDone = Word(BH_REPLY_DONE, sizeof(bh_verdict_reply));
constexpr bh_verdict_reply kAllow = {BH_VERDICT_ALLOW, BH_CACHE_NOT, 0};
constexpr bh_verdict_reply kRefuse = {BH_VERDICT_DENY, BH_CACHE_NOT, EACCES};
constexpr bh_verdict_reply kRestart = {BH_VERDICT_DENY, BH_CACHE_NOT, 512};  // ERESTARTSYS
constexpr bh_verdict_reply kAllowWithErrno = {BH_VERDICT_ALLOW, BH_CACHE_NOT, EACCES};

constexpr std::array<Change, 8> kChanges = {{
    {"status", kStatus, kDone, Word(77, sizeof(bh_verdict_reply)), kAllow},
    {"reply_bytes", kStatus, kDone, Word(BH_REPLY_DONE, 0xffff), kAllow},
    {"verdict", kVerdict, Word(kAllow), Word(0x66666666, BH_CACHE_NOT), kAllow},
    {"cacheability", kVerdict, Word(kAllow), Word(BH_VERDICT_ALLOW, 0x66666666), kAllow},
    {"errno", kVerdict, Word(kRefuse), Word(kRestart), kRefuse},
    {"errno of an allowed call", kVerdict, Word(kRefuse), Word(kAllowWithErrno), kRefuse},
    {"ticket", offsetof(bh_reply_slot, ticket), kTicket, BH_TICKET_NONE, kRefuse},
    {"begun", offsetof(bh_reply_slot, begun), kTicket, BH_TICKET_NONE, kRefuse},
}};
constexpr const Change& kBegun = kChanges.back();

int ErrnoOf(const bh_verdict_reply& reply) { return reply.error != 0 ? reply.error : EPERM; }

// The results that the stepped process reports of each round.
struct Findings {
  bh_verdict_reply answer;  // what its host is to answer in the next round

  bh_reply_slot* slot;  // in its memory
  uint64_t ticket;      // of its call
  bool ended;           // else the call waits: for its answer, or for the next host
  uint32_t outcome;
  uint32_t reason;
  uint32_t verdict;
  int error;
  // that were added in this round
  uint64_t violations;
  uint64_t poisoned;
  uint64_t overdue;
};

// A caller, and its host.
class Caller {
 public:
  Caller() {
    shim_ = *EmbeddedShim::Create({});
    ChannelSpec spec;
    spec.driver = "twofaced";
    spec.geometry = kGeometry;
    channel_ = *shim_->AddChannel(spec);
  }

  // Up to the point at which the part begins that is stepped.
  void Prepare(Scene scene, Findings* findings) {
    BeginGeneration(findings);
    Start(scene);
    if (scene == Scene::kCrashed) {
      Take();
      EndGeneration(BH_END_CRASHED);
      BeginGeneration(findings);
      Completion completion;
      if (shim_->Poll(*call_, &completion)) _exit(3);
    }
    // As a driver that answers later: the call is begun, and any thread replies.
    TakenCall taken = Take();
    findings->ticket = taken.ticket;
    if (scene == Scene::kAnswered) {
      const bh_verdict_reply& answer = findings->answer;
      port_->Reply(taken, BH_REPLY_DONE,
                   {reinterpret_cast<const uint8_t*>(&answer), sizeof(answer)});
    }
    while (scene == Scene::kOverdue && MonotonicNowNs() < deadline_ns_) {
    }
    before_ = *shim_->Statistics(channel_);
  }
  // What is stepped.
  void Act(Scene scene, Findings* findings) {
    if (scene == Scene::kCrashed) EndGeneration(BH_END_CRASHED);
    Completion completion;
    findings->ended = shim_->Poll(*call_, &completion);
    findings->outcome = completion.outcome;
    findings->reason = completion.reason;
    findings->verdict = completion.verdict;
    findings->error = completion.error;
  }
  void CleanUp(Findings* findings) {
    if (!findings->ended) (void)shim_->Cancel(*call_);
    const bh_statistics after = *shim_->Statistics(channel_);
    findings->violations = after.violations - before_.violations;
    findings->poisoned = after.poisoned - before_.poisoned;
    findings->overdue = after.overdue - before_.overdue;
    EndGeneration(BH_END_KILLED);
    call_.reset();
  }

  static constexpr bh_geometry kGeometry = {
      .lanes = 1, .slots_per_lane = 1, .call_chunks = 1, .reply_chunks = 0};

 private:
  void BeginGeneration(Findings* findings) {
    ++generation_;
    auto regions = *shim_->Descriptors(channel_);
    reply_ = *SharedMemory::MapChecked(UniqueFd(dup(regions.reply_region.get())),
                                       bh_reply_region_bytes(&kGeometry),
                                       SharedMemory::Access::kReadWrite, 0);
    findings->slot = reinterpret_cast<bh_reply_slot*>(reply_.data() + bh_reply_slot_offset(0));
    port_.reset();
    port_ = *HostPort::Attach(std::move(regions.call_region), std::move(regions.reply_region),
                              UniqueFd(), {.generation = generation_, .workers = 1, .spin_ns = 0});
    if (!shim_
             ->BeginGeneration(channel_,
                               GenerationSpec(generation_, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1),
                               UniqueFd())
             .ok())
      _exit(1);
  }
  void EndGeneration(bh_end cause) { (void)shim_->EndGeneration(channel_, generation_, cause); }
  // A call that its host has. One that is to be overdue is started until it gets there in time.
  void Start(Scene scene) {
    uint64_t span_ns =
        scene == Scene::kOverdue ? kNanosecondsPerMillisecond / 2 : 60 * kNanosecondsPerSecond;
    Completion completion;
    for (int tries = 0; tries < 10; ++tries, span_ns *= 2) {
      FileRequest request;
      request.inode = generation_;
      deadline_ns_ = MonotonicAfterNs(span_ns);
      request.deadline_ns = deadline_ns_;
      call_ = shim_->Start(request);
      if (!shim_->Poll(*call_, &completion)) return;
    }
    _exit(2);
  }
  TakenCall Take() {
    std::optional<TakenCall> taken = port_->Take(0, kForeverNs);
    port_->BeginDriver(*taken);
    return *taken;
  }

  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  uint32_t generation_ = 0;
  SharedMemory reply_;
  std::unique_ptr<HostPort> port_;
  std::unique_ptr<EmbeddedShim::PendingCall> call_;
  uint64_t deadline_ns_ = 0;
  bh_statistics before_ = {};
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
  findings->error = ErrnoOf(bh_reply_verdict(&copy));
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

  // Rounds without end. It stops before and after the part that is stepped, and at the round's end.
  [[noreturn]] void LiveAsCaller(Scene scene, bool planted) {
    Caller caller;
    for (;;) {
      const bh_verdict_reply answer = findings_->answer;
      *findings_ = {};
      findings_->answer = answer;
      caller.Prepare(scene, findings_);
      SteppedProcess::StopHere();
      planted ? TakeTwice(findings_) : caller.Act(scene, findings_);
      SteppedProcess::StopHere();
      if (planted) {
        Findings rest = *findings_;
        caller.Act(scene, &rest);
        caller.CleanUp(&rest);
      } else {
        caller.CleanUp(findings_);
      }
      SteppedProcess::StopHere();
    }
  }

  void Continue(SteppedProcess& caller, int stops) {
    for (; stops > 0; --stops) caller.Continue();
    ASSERT_TRUE(caller.alive());
  }
  // The part's length, in a round with this answer, which is that of the rounds that follow.
  long Length(SteppedProcess& caller, const bh_verdict_reply& answer) {
    findings_->answer = answer;
    Continue(caller, 3);  // the present round still has the answer before
    const long length = caller.Step(1'000'000);
    EXPECT_TRUE(findings_->ended);
    Continue(caller, 2);
    return length;
  }

  // Changes the word after `steps` instructions; the word was wrong until then if `from_bad`.
  void Round(SteppedProcess& caller, const Change& change, bool from_bad, long steps) {
    void* word = reinterpret_cast<uint8_t*>(findings_->slot) + change.offset;
    const uint64_t good = change.good == kTicket ? findings_->ticket : change.good;
    if (from_bad) caller.Poke(word, change.bad);
    const bool inside = caller.Step(steps) == steps;  // a refusal may take fewer instructions
    caller.Poke(word, from_bad ? good : change.bad);
    Continue(caller, inside ? 2 : 1);  // to the round's end
  }

  static long Stride(Scene scene, long length) {
    if (std::getenv("BULKHEAD_EVERY_INSTRUCTION") != nullptr) return 1;
    return std::max(1L, length / Places(scene));
  }
  template <typename Check>
  void ForEachPlace(SteppedProcess& caller, const Change& change, long length, long stride,
                    const Check& check) {
    for (const bool from_bad : {false, true}) {
      for (long steps = 0; steps < length && !HasFailure(); steps += stride) {
        SCOPED_TRACE(testing::Message() << change.name << (from_bad ? " to" : " from")
                                        << " right, after " << steps << " instructions");
        Round(caller, change, from_bad, steps);
        if (HasFatalFailure()) return;
        check();
        Continue(caller, 1);
      }
    }
  }

  Findings* const findings_;
  const OnOneCpu on_one_cpu_;
};

TEST_F(DoubleFetch, NoWordOfAReplyIsUsedThatWasNotValidated) {
  SteppedProcess caller([&] { LiveAsCaller(Scene::kAnswered, /*planted=*/false); });
  ASSERT_TRUE(caller.alive());
  for (const Change& change : kChanges) {
    const long length = Length(caller, change.answer);
    int answered = 0, refused = 0, waiting = 0;
    ForEachPlace(caller, change, length, Stride(Scene::kAnswered, length), [&] {
      if (findings_->ended) {
        ++answered;
        EXPECT_EQ(findings_->outcome, uint32_t{BH_OUTCOME_ANSWERED});
        EXPECT_EQ(findings_->verdict, change.answer.verdict);
        if (change.answer.verdict == BH_VERDICT_DENY) {
          EXPECT_EQ(findings_->error, ErrnoOf(change.answer));
        }
        EXPECT_EQ(findings_->violations, 0u);
      } else if (findings_->violations != 0) {
        ++refused;
        EXPECT_EQ(findings_->violations, 1u);
      } else {
        ++waiting;
      }
      EXPECT_EQ(findings_->poisoned + findings_->overdue, 0u);
    });
    std::printf("%s: %ld instructions, %d answers, %d refused, %d wait\n", change.name, length,
                answered, refused, waiting);
    EXPECT_GT(answered, 0) << change.name;
    if (change.offset == kBegun.offset) {
      EXPECT_EQ(refused + waiting, 0) << "what was begun is nothing to a call with an answer";
    } else if (change.good == kTicket) {
      EXPECT_EQ(refused, 0);
      EXPECT_GT(waiting, 0) << "no change came before its word was read";
    } else {
      EXPECT_EQ(waiting, 0);
      EXPECT_GT(refused, 0) << "no change came before its word was read";
    }
  }
}

TEST_F(DoubleFetch, ACrashIsChargedToACallOrItIsNot) {
  SteppedProcess caller([&] { LiveAsCaller(Scene::kCrashed, /*planted=*/false); });
  ASSERT_TRUE(caller.alive());
  const long length = Length(caller, kAllow);
  int poisoned = 0, reissued = 0;
  ForEachPlace(caller, kBegun, length, Stride(Scene::kCrashed, length), [&] {
    findings_->ended ? ++poisoned : ++reissued;
    if (findings_->ended) {
      EXPECT_EQ(findings_->outcome, uint32_t{BH_OUTCOME_POLICY});
      EXPECT_EQ(findings_->reason, uint32_t{BH_REASON_POISON});
      EXPECT_EQ(findings_->verdict, uint32_t{BH_VERDICT_DENY});
    }
    EXPECT_EQ(findings_->poisoned, findings_->ended ? 1u : 0u);
    EXPECT_EQ(findings_->violations + findings_->overdue, 0u);
  });
  std::printf("%ld instructions: %d poison, %d to be issued again\n", length, poisoned, reissued);
  EXPECT_GT(poisoned, 0);
  EXPECT_GT(reissued, 0);
}

// The host has this call alone, and has not answered it: it hangs, whatever it says of the call.
TEST_F(DoubleFetch, AnOverdueCallIsHeldAgainstItsHostWhateverThatSays) {
  SteppedProcess caller([&] { LiveAsCaller(Scene::kOverdue, /*planted=*/false); });
  ASSERT_TRUE(caller.alive());
  const long length = Length(caller, kAllow);
  int in_hand = 0, not_begun = 0;
  ForEachPlace(caller, kBegun, length, Stride(Scene::kOverdue, length), [&] {
    EXPECT_TRUE(findings_->ended);
    EXPECT_EQ(findings_->outcome, uint32_t{BH_OUTCOME_POLICY});
    const bool begun = findings_->reason == BH_REASON_OVERDUE;
    begun ? ++in_hand : ++not_begun;
    EXPECT_TRUE(begun || findings_->reason == BH_REASON_HUNG) << findings_->reason;
    EXPECT_EQ(findings_->overdue, 1u);
    EXPECT_EQ(findings_->violations + findings_->poisoned, 0u);
  });
  std::printf("%ld instructions: %d in hand, %d not begun\n", length, in_hand, not_begun);
  EXPECT_GT(in_hand, 0);
}

TEST_F(DoubleFetch, AReaderThatReadsTwiceIsCaught) {
  constexpr long kPlantedStride = 3;
  SteppedProcess caller([&] { LiveAsCaller(Scene::kAnswered, /*planted=*/true); });
  ASSERT_TRUE(caller.alive());
  for (const Change& change : kChanges) {
    // No caller sees the others.
    if (change.offset != kVerdict || &change == &kChanges[3]) continue;
    const long length = Length(caller, change.answer);
    int believed = 0;
    ForEachPlace(caller, change, length, kPlantedStride, [&] {
      const bool right =
          findings_->verdict == change.answer.verdict && findings_->error == ErrnoOf(change.answer);
      if (findings_->ended && !right) ++believed;
    });
    std::printf("%s: %ld instructions, %d impossible\n", change.name, length, believed);
    EXPECT_GT(believed, 0) << change.name;
  }
}

}  // namespace
}  // namespace bulkhead
