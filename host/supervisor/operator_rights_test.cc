// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/operator_rights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uid_t kOwner = 500, kUser = 1001;
constexpr gid_t kReaders = 700, kAdmins = 701, kOther = 702;

OperatorGroups Both() {
  return {.readers = OperatorGroup{"readers", kReaders},
          .admins = OperatorGroup{"admins", kAdmins}};
}

TEST(OperatorRights, TheStrongestGroupOfAProcessCounts) {
  EXPECT_EQ(RoleOf({0, {0}}, {}, kOwner), OperatorRole::kOwner);
  EXPECT_EQ(RoleOf({kOwner, {kOther}}, {}, kOwner), OperatorRole::kOwner);
  EXPECT_EQ(RoleOf({kUser, {kReaders, kAdmins}}, Both(), kOwner), OperatorRole::kAdmin);
  EXPECT_EQ(RoleOf({kUser, {kAdmins}}, Both(), kOwner), OperatorRole::kAdmin);
  EXPECT_EQ(RoleOf({kUser, {kOther, kReaders}}, Both(), kOwner), OperatorRole::kReader);
  EXPECT_EQ(RoleOf({kUser, {kOther}}, Both(), kOwner), OperatorRole::kNone);
  EXPECT_EQ(RoleOf({kUser, {}}, Both(), kOwner), OperatorRole::kNone);
  EXPECT_EQ(RoleOf({kUser, {kReaders, kAdmins, 0}}, {}, kOwner), OperatorRole::kNone)
      << "without groups in the configuration no group counts, root's neither";
}

TEST(OperatorRights, ReadersMayOnlyLook) {
  for (const OperatorRequest& request : kOperatorRequests) {
    const bool looks =
        request.type == wire::Message::GetStatus || request.type == wire::Message::GetEvents;
    EXPECT_EQ(MayAsk(OperatorRole::kReader, request), looks) << request.verb;
    EXPECT_TRUE(MayAsk(OperatorRole::kAdmin, request)) << request.verb;
    EXPECT_TRUE(MayAsk(OperatorRole::kOwner, request)) << request.verb;
    EXPECT_FALSE(MayAsk(OperatorRole::kNone, request)) << request.verb;
  }
  EXPECT_EQ(FindOperatorRequest(wire::Message::Ping), nullptr);
}

TEST(OperatorRights, ARefusalNamesTheGroupsThatWouldDo) {
  const OperatorPeer peer = {kUser, {kOther}};
  const OperatorRequest& look = *FindOperatorRequest(wire::Message::GetStatus);
  const OperatorRequest& stop = *FindOperatorRequest(wire::Message::Shutdown);
  EXPECT_THAT(RefusalText(peer, look, Both()),
              AllOf(HasSubstr("user 1001 may not ask for the status"), HasSubstr("'readers'"),
                    HasSubstr("'admins'")));
  EXPECT_THAT(
      RefusalText(peer, stop, Both()),
      AllOf(HasSubstr("stop the service"), HasSubstr("'admins'"), Not(HasSubstr("readers"))));
  EXPECT_THAT(RefusalText(peer, stop, {}), HasSubstr("that takes root"));
}

TEST(OperatorRights, AGroupHasToExist) {
  const absl::StatusOr<OperatorGroup> root = FindOperatorGroup("root");
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(root->id, 0u);
  const absl::StatusOr<OperatorGroup> number = FindOperatorGroup("0");
  ASSERT_TRUE(number.ok()) << number.status();
  EXPECT_EQ(number->id, 0u);
  const absl::Status none = FindOperatorGroup("no-such-group").status();
  EXPECT_TRUE(absl::IsNotFound(none)) << none;
  EXPECT_THAT(std::string(none.message()), HasSubstr("no group 'no-such-group'"));
  EXPECT_TRUE(absl::IsNotFound(FindOperatorGroup("4294967294").status()));
  EXPECT_TRUE(absl::IsNotFound(FindOperatorGroup("").status()));
  if (FindOperatorGroup("nogroup").ok()) ADD_FAILURE() << "unknown groups appear as that one";
}

}  // namespace
}  // namespace bulkhead
