// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/pair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kLongNs = 60'000'000'000;

TransportKind Kind(std::function<std::unique_ptr<Transport>()> make) {
  return {"test", "a transport of the test", "", false, std::move(make)};
}

// Its server never gets a call; its client succeeds without one.
struct Idle : Transport {
  void Serve() override { pause(); }
  bool Call(Payload& payload) override {
    Answer(payload);
    return true;
  }
};

TEST(PairTest, MeasuresAsManyCallsAsWanted) {
  absl::StatusOr<std::unique_ptr<Pair>> pair = Pair::Start(Kind(&MakePipe));
  ASSERT_TRUE(pair.ok()) << pair.status().message();
  for (const uint32_t trips : {100u, 1u, Pair::kTripsMax}) {
    absl::StatusOr<absl::Span<const uint32_t>> samples = (*pair)->Run(trips, kLongNs);
    ASSERT_TRUE(samples.ok()) << samples.status().message();
    EXPECT_EQ(samples->size(), trips);
  }
  EXPECT_GE((*pair)->calls(), 101 + Pair::kTripsMax);
  EXPECT_EQ((*pair)->wrong(), 0u);
}

TEST(PairTest, CountsWrongAnswers) {
  struct Wrong : Idle {
    bool Call(Payload&) override { return true; }
  };
  absl::StatusOr<std::unique_ptr<Pair>> pair =
      Pair::Start(Kind([] { return std::make_unique<Wrong>(); }));
  ASSERT_TRUE(pair.ok()) << pair.status().message();
  ASSERT_TRUE((*pair)->Run(10, kLongNs).ok());
  EXPECT_GE((*pair)->calls(), 10u);
  EXPECT_EQ((*pair)->wrong(), (*pair)->calls());
}

TEST(PairTest, TellsThatAServerEnded) {
  if (kThreadSanitized) {
    GTEST_SKIP() << "ThreadSanitizer puts signals off until a call that it knows to wait returns";
  }
  struct Mortal : Idle {
    void Serve() override { _exit(1); }
    bool Call(Payload&) override {
      for (;;) pause();
    }
  };
  absl::StatusOr<std::unique_ptr<Pair>> pair =
      Pair::Start(Kind([] { return std::make_unique<Mortal>(); }));
  ASSERT_TRUE(pair.ok()) << pair.status().message();
  EXPECT_TRUE(absl::IsAborted((*pair)->Run(10, kLongNs).status()));
  EXPECT_TRUE(absl::IsAborted((*pair)->Run(10, kLongNs).status())) << "and says so again";
}

TEST(PairTest, AServerThatDoesNotAnswerIsAnErrorAndNoFigure) {
  struct Silent : Idle {
    bool Call(Payload&) override {
      for (;;) pause();
    }
  };
  absl::StatusOr<std::unique_ptr<Pair>> pair =
      Pair::Start(Kind([] { return std::make_unique<Silent>(); }));
  ASSERT_TRUE(pair.ok()) << pair.status().message();
  const absl::Status silent = (*pair)->Run(10, kLongNs, kNanosecondsPerMillisecond).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(silent));
  EXPECT_THAT(std::string(silent.message()), HasSubstr("the end of a unit did not come"));
  EXPECT_TRUE(absl::IsAborted((*pair)->Run(10, kLongNs).status())) << "it is gone";
}

TEST(PairTest, PassesOnWhyATransportCannotStart) {
  struct Forbidden : Idle {
    absl::Status Prepare() override { return absl::UnavailableError("forbidden here"); }
  };
  struct Broken : Idle {
    absl::Status StartServer() override { return absl::InternalError("no socket"); }
  };
  const absl::Status forbidden =
      Pair::Start(Kind([] { return std::make_unique<Forbidden>(); })).status();
  EXPECT_TRUE(absl::IsUnavailable(forbidden));
  EXPECT_THAT(std::string(forbidden.message()), HasSubstr("forbidden here"));
  const absl::Status broken = Pair::Start(Kind([] { return std::make_unique<Broken>(); })).status();
  EXPECT_TRUE(absl::IsInternal(broken));
  EXPECT_THAT(std::string(broken.message()), HasSubstr("no socket"));
}

TEST(PairTest, LeavesNoProcessBehind) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);  // a server without its client becomes a child of
                                                   // this process
  absl::StatusOr<std::unique_ptr<Pair>> pair =
      Pair::Start(Kind([] { return std::make_unique<Idle>(); }));
  ASSERT_TRUE(pair.ok()) << pair.status().message();
  pair->reset();
  int end = 0;
  EXPECT_GT(waitpid(-1, &end, 0), 0) << "the server was to end with its client";
  EXPECT_TRUE(WIFSIGNALED(end));
  EXPECT_EQ(waitpid(-1, &end, 0), -1) << "nobody else is left";
}

}  // namespace
}  // namespace bulkhead
