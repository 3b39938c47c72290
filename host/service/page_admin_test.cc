// SPDX-License-Identifier: Apache-2.0
#include "host/service/page_admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace bulkhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const OperatorPeer kAdmin = {.user = 1001, .groups = {}};

class PageAdminTest : public ::testing::Test {
 protected:
  std::string SignedIn() {
    const absl::StatusOr<std::string> session = admin_.SignIn(admin_.MakeLink(kAdmin));
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *session : "";
  }
  PageAdmin::SessionState AwaitEnd(const std::string& session) {
    for (;;) {
      absl::StatusOr<PageAdmin::SessionState> state = admin_.State(session);
      EXPECT_TRUE(state.ok()) << state.status();
      if (!state.ok()) return {};
      if (!state->running) return *state;
      poll(nullptr, 0, 5);
    }
  }
  bool Knows(const std::string& session) { return admin_.State(session).ok(); }

  std::atomic<bool> may_{true};
  std::atomic<uint64_t> now_ns_{1};
  std::promise<void> hold_;  // of a reload
  std::string released_;
  std::vector<std::string> used_;
  PageAdmin admin_{
      {.may_change =
           [this](const OperatorPeer& who) { return may_.load() && who.user == kAdmin.user; },
       .reload =
           [this] {
             hold_.get_future().wait();
             return absl::InvalidArgumentError("bulkhead.toml:3:1: unknown key 'x'");
           },
       .release =
           [this](const std::string& driver) {
             released_ = driver;
             return absl::OkStatus();
           },
       .used = [this](const std::string& text) { used_.push_back(text); },
       .now_ns = [this] { return now_ns_.load(); }}};
};

TEST_F(PageAdminTest, ALinkSignsInOnce) {
  const std::string link = admin_.MakeLink(kAdmin);
  const absl::StatusOr<std::string> session = admin_.SignIn(link);
  ASSERT_TRUE(session.ok()) << session.status();
  const absl::StatusOr<PageAdmin::SessionState> state = admin_.State(*session);
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->user, kAdmin.user);
  EXPECT_EQ(state->left_ms, PageAdmin::kSessionNs / kNanosecondsPerMillisecond);
  EXPECT_EQ(state->action, "");
  const absl::Status again = admin_.SignIn(link).status();
  EXPECT_TRUE(absl::IsUnauthenticated(again)) << again;
  EXPECT_THAT(std::string(again.message()), HasSubstr("bulkhead sign-in"));
  EXPECT_TRUE(Knows(*session));
  EXPECT_TRUE(admin_.SignOut(*session).ok());
  EXPECT_FALSE(Knows(*session));
  EXPECT_TRUE(absl::IsUnauthenticated(admin_.SignOut(*session)));
  EXPECT_THAT(used_, ElementsAre("user 1001 has signed in", "user 1001 has signed out"));
}

TEST_F(PageAdminTest, WhatIsNoSecretOpensNothing) {
  const std::string link = admin_.MakeLink(kAdmin);
  const std::string session = SignedIn();
  for (const std::string& secret : {std::string(), std::string("0"), std::string(64, '0'),
                                    link.substr(1), link + "0", session}) {
    EXPECT_FALSE(admin_.SignIn(secret).ok()) << secret;
  }
  for (const std::string& secret : {std::string(), link, session.substr(1), session + "0"}) {
    EXPECT_TRUE(absl::IsUnauthenticated(admin_.State(secret).status())) << secret;
    EXPECT_TRUE(absl::IsUnauthenticated(admin_.Reload(secret))) << secret;
    EXPECT_TRUE(absl::IsUnauthenticated(admin_.Release(secret, "scanner"))) << secret;
    EXPECT_TRUE(absl::IsUnauthenticated(admin_.SignOut(secret))) << secret;
  }
  EXPECT_TRUE(admin_.SignIn(link).ok());
}

TEST_F(PageAdminTest, SecretsAreLongAndDiffer) {
  std::set<std::string> secrets;
  for (int i = 0; i < 100; ++i) {
    secrets.insert(admin_.MakeLink(kAdmin));
    secrets.insert(SignedIn());
  }
  EXPECT_EQ(secrets.size(), 200u);
  for (const std::string& secret : secrets) EXPECT_EQ(secret.size(), 64u);
}

TEST_F(PageAdminTest, TimeEndsBoth) {
  const std::string link = admin_.MakeLink(kAdmin);
  const std::string session = SignedIn();
  now_ns_ += PageAdmin::kLinkNs - 1;
  const std::string younger = admin_.MakeLink(kAdmin);
  now_ns_ += 1;
  EXPECT_FALSE(admin_.SignIn(link).ok());
  EXPECT_TRUE(admin_.SignIn(younger).ok());
  now_ns_ += PageAdmin::kSessionNs - PageAdmin::kLinkNs - 1;
  EXPECT_TRUE(Knows(session));
  now_ns_ += 1;
  EXPECT_FALSE(Knows(session));
  EXPECT_TRUE(absl::IsUnauthenticated(admin_.Reload(session)));
}

TEST_F(PageAdminTest, OneThatHasLostItsRightHasLostItsSessionAndItsLink) {
  const std::string link = admin_.MakeLink(kAdmin);
  const std::string session = SignedIn();
  may_ = false;
  EXPECT_TRUE(absl::IsUnauthenticated(admin_.Release(session, "scanner")));
  EXPECT_FALSE(admin_.SignIn(link).ok());
  may_ = true;
  EXPECT_FALSE(Knows(session)) << "it has ended, and does not come back";
}

TEST_F(PageAdminTest, OfManyTheNewestStay) {
  const std::string first_link = admin_.MakeLink(kAdmin);
  const std::string first = SignedIn();
  std::vector<std::string> links, sessions;
  for (size_t i = 0; i < PageAdmin::kSessionsMax; ++i) sessions.push_back(SignedIn());
  for (size_t i = 0; i < PageAdmin::kLinksMax; ++i) links.push_back(admin_.MakeLink(kAdmin));
  EXPECT_FALSE(Knows(first));
  EXPECT_FALSE(admin_.SignIn(first_link).ok());
  for (const std::string& session : sessions) EXPECT_TRUE(Knows(session));
  EXPECT_TRUE(admin_.SignIn(links.front()).ok());
}

TEST_F(PageAdminTest, OneActionAtATimeAndHowItWent) {
  const std::string session = SignedIn(), other = SignedIn();
  ASSERT_TRUE(admin_.Reload(session).ok());
  EXPECT_TRUE(admin_.State(other)->running);
  EXPECT_EQ(admin_.State(other)->action, "reload");
  const absl::Status busy = admin_.Release(other, "scanner");
  EXPECT_TRUE(absl::IsUnavailable(busy)) << busy;
  EXPECT_THAT(std::string(busy.message()), HasSubstr("busy with: reload"));
  hold_.set_value();
  EXPECT_THAT(AwaitEnd(session).error, HasSubstr("unknown key 'x'"));
  ASSERT_TRUE(admin_.Release(other, "scanner").ok());
  const PageAdmin::SessionState after = AwaitEnd(session);
  EXPECT_EQ(after.action, "release scanner");
  EXPECT_EQ(after.error, "");
  EXPECT_EQ(released_, "scanner");
  EXPECT_EQ(used_.back(), "user 1001: release scanner");
  EXPECT_EQ(used_[used_.size() - 2], "user 1001: reload") << "what was refused has not happened";
}

TEST_F(PageAdminTest, ItsEndWaitsForAnActionThatRuns) {
  std::promise<void> began, go_on;
  std::atomic<bool> done{false};
  auto admin = std::make_unique<PageAdmin>(
      PageAdmin::Hooks{.may_change = [](const OperatorPeer&) { return true; },
                       .reload =
                           [&] {
                             began.set_value();
                             go_on.get_future().wait();
                             done = true;
                             return absl::OkStatus();
                           },
                       .release = [](const std::string&) { return absl::OkStatus(); },
                       .used = [](const std::string&) {}});
  ASSERT_TRUE(admin->Reload(*admin->SignIn(admin->MakeLink(kAdmin))).ok());
  began.get_future().wait();
  std::thread ends([&] { admin.reset(); });
  go_on.set_value();
  ends.join();
  EXPECT_TRUE(done.load());
}

}  // namespace
}  // namespace bulkhead
