// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/opener.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <string>

#include "ipc/abi/channel.h"
#include "ipc/sanitizer.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr uid_t kUser = 65534;

// A process that has done `become`, until the object ends.
class Child {
 public:
  explicit Child(const std::function<bool()>& become) {
    int ready[2], end[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(end, O_CLOEXEC), 0);
    UniqueFd ready_read(ready[0]), ready_write(ready[1]), end_read(end[0]);
    end_.reset(end[1]);
    pid_ = fork();
    if (pid_ == 0) {
      end_.reset();
      const char done = become() ? 'y' : 'n';
      if (write(ready_write.get(), &done, 1) != 1) _exit(1);
      char byte;
      _exit(read(end_read.get(), &byte, 1) == 0 ? 0 : 1);
    }
    ready_write.reset();
    char done = 'n';
    became_ = read(ready_read.get(), &done, 1) == 1 && done == 'y';
  }
  ~Child() {
    end_.reset();
    waitpid(pid_, nullptr, 0);
  }
  bool became() const { return became_; }
  pid_t pid() const { return pid_; }
  uint32_t opener() const { return OpenerOf(pid_); }

 private:
  UniqueFd end_;
  pid_t pid_ = -1;
  bool became_ = false;
};

bool BecomeUser(uid_t real, uid_t effective) {
  // By system call: the library's would change all threads of this process, of which there is one.
  return syscall(SYS_setresuid, real, effective, real) == 0;
}

class OpenerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, to become other users";
  }
};

TEST_F(OpenerTest, IsTheRealUser) {
  EXPECT_EQ(OpenerOf(getpid()), BH_OPENER_ROOT);
  const Child user([] { return BecomeUser(kUser, kUser); });
  ASSERT_TRUE(user.became());
  EXPECT_EQ(user.opener(), kUser + 1);
  // As in a program with the set-uid bit, which anybody can start without number.
  const Child set_uid([] { return BecomeUser(kUser, 0); });
  ASSERT_TRUE(set_uid.became());
  EXPECT_EQ(set_uid.opener(), kUser + 1);
}

TEST(Opener, KnowsAParent) {
  const Child child([] { return true; });
  EXPECT_EQ(ParentOf(child.pid()), getpid());
  EXPECT_EQ(ParentOf(getpid()), getppid());
  EXPECT_EQ(ParentOf(0), -1);
}

TEST_F(OpenerTest, ANameDoesNotPassForALine) {
  const Child user(
      [] { return prctl(PR_SET_NAME, "a\nUid:\t0") == 0 && BecomeUser(kUser, kUser); });
  ASSERT_TRUE(user.became());
  EXPECT_EQ(user.opener(), kUser + 1);
}

constexpr char kThreaded[] =
    "ThreadSanitizer's runtime starts a thread in the child, which then can't make a user "
    "namespace";

TEST_F(OpenerTest, WhoMadeANamespaceAnswersForIt) {
  if (kThreadSanitized) GTEST_SKIP() << kThreaded;
  const Child inside([] { return BecomeUser(kUser, kUser) && unshare(CLONE_NEWUSER) == 0; });
  if (!inside.became()) GTEST_SKIP() << "users can't make user namespaces here";
  EXPECT_EQ(inside.opener(), kUser + 1);
  const Child deeper([] {
    return BecomeUser(kUser, kUser) && unshare(CLONE_NEWUSER) == 0 && unshare(CLONE_NEWUSER) == 0;
  });
  if (deeper.became()) {
    EXPECT_EQ(deeper.opener(), kUser + 1);
  }
}

// A namespace of its own for the caller, with the user id 0 in it.
bool EnterOne() {
  const std::string users = "0 " + std::to_string(geteuid()) + " 1";
  const std::string groups = "0 " + std::to_string(getegid()) + " 1";
  if (unshare(CLONE_NEWUSER) != 0) return false;
  (std::ofstream("/proc/self/setgroups") << "deny").flush();
  return (std::ofstream("/proc/self/uid_map") << users).flush().good() &&
         (std::ofstream("/proc/self/gid_map") << groups).flush().good();
}

TEST_F(OpenerTest, AsManyNamespacesAsTheKernelAllowsHideNobody) {
  if (kThreadSanitized) GTEST_SKIP() << kThreaded;
  const Child one(
      [] { return BecomeUser(kUser, kUser) && prctl(PR_SET_DUMPABLE, 1) == 0 && EnterOne(); });
  if (!one.became()) GTEST_SKIP() << "users can't make user namespaces here";
  const Child deep([] {
    if (!BecomeUser(kUser, kUser) || prctl(PR_SET_DUMPABLE, 1) != 0) return false;
    int entered = 0;
    while (EnterOne()) ++entered;
    return entered > 30;
  });
  ASSERT_TRUE(deep.became());
  EXPECT_EQ(deep.opener(), kUser + 1);
}

// Root's containers: their users are users like others.
TEST_F(OpenerTest, RootsNamespacesAnswerForNobody) {
  if (kThreadSanitized) GTEST_SKIP() << kThreaded;
  const Child container([] { return BecomeUser(kUser, 0) && unshare(CLONE_NEWUSER) == 0; });
  if (!container.became()) GTEST_SKIP() << "no user namespaces here";
  EXPECT_EQ(container.opener(), kUser + 1);
}

TEST_F(OpenerTest, OneThatIsGoneIsNotRoot) {
  pid_t gone = 0;
  {
    gone = fork();
    if (gone == 0) _exit(0);
    waitpid(gone, nullptr, 0);
  }
  EXPECT_EQ(OpenerOf(gone), kUnknownOpener);
  EXPECT_EQ(OpenerOf(0), kUnknownOpener);
}

}  // namespace
}  // namespace bulkhead
