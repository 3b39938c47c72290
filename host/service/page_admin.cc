// SPDX-License-Identifier: Apache-2.0
#include "host/service/page_admin.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "ipc/check.h"

namespace bulkhead {
namespace {

constexpr size_t kSecretBytes = 32;

std::string NewSecret() {
  std::array<char, kSecretBytes> bytes;
  // Never partial for as few, once the kernel's generator is seeded.
  BULKHEAD_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

// Takes as long whatever is in them.
bool IsSame(std::string_view one, std::string_view other) {
  if (one.size() != other.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    difference |= static_cast<unsigned char>(one[i] ^ other[i]);
  }
  return difference == 0;
}

absl::Status SignedOut() {
  return absl::UnauthenticatedError("not signed in, or no longer; `bulkhead sign-in` gives a link");
}

}  // namespace

PageAdmin::PageAdmin(Hooks hooks) : hooks_(std::move(hooks)), thread_([this] { Act(); }) {}

PageAdmin::~PageAdmin() {
  {
    const MutexLock lock(mutex_);
    ending_ = true;
  }
  asked_.NotifyAll();
  thread_.join();
}

std::string PageAdmin::Add(std::deque<Grant>& grants, size_t max, OperatorPeer who,
                           uint64_t until_ns) {
  if (grants.size() >= max) grants.pop_front();
  grants.push_back({NewSecret(), std::move(who), until_ns});
  return grants.back().secret;
}

std::deque<PageAdmin::Grant>::iterator PageAdmin::Find(std::deque<Grant>& grants,
                                                       std::string_view secret) {
  const uint64_t now_ns = hooks_.now_ns();
  while (!grants.empty() && grants.front().until_ns <= now_ns) grants.pop_front();
  return std::find_if(grants.begin(), grants.end(),
                      [secret](const Grant& grant) { return IsSame(grant.secret, secret); });
}

std::string PageAdmin::MakeLink(const OperatorPeer& who) {
  const MutexLock lock(mutex_);
  Find(links_, "");  // those that are old make room
  return Add(links_, kLinksMax, who, hooks_.now_ns() + kLinkNs);
}

absl::StatusOr<std::string> PageAdmin::SignIn(std::string_view link) {
  Grant grant;
  {
    const MutexLock lock(mutex_);
    const auto found = Find(links_, link);
    if (found != links_.end()) {
      grant = std::move(*found);
      links_.erase(found);
    }
  }
  if (grant.secret.empty() || !hooks_.may_change(grant.who)) {
    return absl::UnauthenticatedError(absl::StrCat("this link was used, or is older than ",
                                                   kLinkNs / kNanosecondsPerSecond,
                                                   " s; `bulkhead sign-in` gives another"));
  }
  const uid_t user = grant.who.user;
  std::string secret;
  {
    const MutexLock lock(mutex_);
    Find(sessions_, "");
    secret = Add(sessions_, kSessionsMax, std::move(grant.who), hooks_.now_ns() + kSessionNs);
  }
  hooks_.used(absl::StrCat("user ", user, " has signed in"));
  return secret;
}

absl::StatusOr<PageAdmin::Grant> PageAdmin::Holder(std::string_view session) {
  Grant grant;
  {
    const MutexLock lock(mutex_);
    const auto found = Find(sessions_, session);
    if (found == sessions_.end()) return SignedOut();
    grant = *found;
  }
  if (hooks_.may_change(grant.who)) return grant;
  const MutexLock lock(mutex_);
  if (const auto found = Find(sessions_, session); found != sessions_.end()) {
    sessions_.erase(found);
  }
  return SignedOut();
}

absl::Status PageAdmin::SignOut(std::string_view session) {
  uid_t user = 0;
  {
    const MutexLock lock(mutex_);
    const auto found = Find(sessions_, session);
    if (found == sessions_.end()) return SignedOut();
    user = found->who.user;
    sessions_.erase(found);
  }
  hooks_.used(absl::StrCat("user ", user, " has signed out"));
  return absl::OkStatus();
}

absl::StatusOr<PageAdmin::SessionState> PageAdmin::State(std::string_view session) {
  const absl::StatusOr<Grant> holder = Holder(session);
  if (!holder.ok()) return holder.status();
  const uint64_t now_ns = hooks_.now_ns();
  const MutexLock lock(mutex_);
  return SessionState{
      .user = holder->who.user,
      .left_ms = (std::max(holder->until_ns, now_ns) - now_ns) / kNanosecondsPerMillisecond,
      .action = name_,
      .running = running_,
      .error = error_};
}

absl::Status PageAdmin::Reload(std::string_view session) {
  return Begin(session, "reload", hooks_.reload);
}

absl::Status PageAdmin::Release(std::string_view session, const std::string& driver) {
  return Begin(session, absl::StrCat("release ", driver),
               [this, driver] { return hooks_.release(driver); });
}

absl::Status PageAdmin::Begin(std::string_view session, const std::string& name,
                              std::function<absl::Status()> action) {
  const absl::StatusOr<Grant> holder = Holder(session);
  if (!holder.ok()) return holder.status();
  {
    const MutexLock lock(mutex_);
    if (running_) {
      return absl::UnavailableError(
          absl::StrCat("busy with: ", name_, "; try again when it is done"));
    }
    running_ = true;
    name_ = name;
    error_.clear();
    next_ = std::move(action);
  }
  hooks_.used(absl::StrCat("user ", holder->who.user, ": ", name));
  asked_.NotifyAll();
  return absl::OkStatus();
}

void PageAdmin::Act() {
  for (;;) {
    std::function<absl::Status()> action;
    {
      const MutexLock lock(mutex_);
      while (!next_ && !ending_) asked_.Wait(mutex_);
      if (ending_) return;
      action = std::exchange(next_, nullptr);
    }
    const absl::Status status = action();
    const MutexLock lock(mutex_);
    running_ = false;
    error_ = std::string(status.message());
  }
}

}  // namespace bulkhead
