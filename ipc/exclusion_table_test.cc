// SPDX-License-Identifier: Apache-2.0
#include "ipc/exclusion_table.h"

#include <gtest/gtest.h>

#include <memory>

namespace bulkhead {
namespace {

TEST(ExclusionTable, ContainsWhatWasAddedAndNotWhatWasRemoved) {
  auto table = std::make_unique<ExclusionTable>();
  EXPECT_FALSE(table->Contains(10));
  ASSERT_TRUE(table->Add(10).ok());
  ASSERT_TRUE(table->Add(10).ok());
  ASSERT_TRUE(table->Add(11).ok());
  EXPECT_TRUE(table->Contains(10));
  EXPECT_TRUE(table->Contains(11));
  ASSERT_TRUE(table->Remove(10).ok());
  EXPECT_FALSE(table->Contains(10));
  EXPECT_TRUE(table->Contains(11));
  EXPECT_EQ(table->Remove(10).code(), absl::StatusCode::kNotFound);
}

TEST(ExclusionTable, AProcessThatWasNotAddedIsNeverIn) {
  auto table = std::make_unique<ExclusionTable>();
  // The kernel reports 0 for a process outside the reader's pid namespace, and free entries are 0.
  EXPECT_FALSE(table->Contains(0));
  EXPECT_EQ(table->Add(0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(table->Add(-1).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ExclusionTable, APeerIsExcludedAndKnownAsOne) {
  auto table = std::make_unique<ExclusionTable>();
  EXPECT_FALSE(table->HasPeers());
  ASSERT_TRUE(table->Add(10).ok());
  ASSERT_TRUE(table->AddPeer(11).ok());
  ASSERT_TRUE(table->AddPeer(11).ok());
  EXPECT_TRUE(table->HasPeers());
  EXPECT_TRUE(table->Contains(11));
  EXPECT_TRUE(table->IsPeer(11));
  EXPECT_FALSE(table->IsPeer(10));
  EXPECT_FALSE(table->Contains(-11));
  EXPECT_FALSE(table->IsPeer(-11));
  EXPECT_EQ(table->AddPeer(0).code(), absl::StatusCode::kInvalidArgument);
  // Its number may be one of ours before its end was noticed.
  ASSERT_TRUE(table->Add(11).ok());
  ASSERT_TRUE(table->RemovePeer(11).ok());
  EXPECT_FALSE(table->HasPeers());
  EXPECT_TRUE(table->Contains(11));
  EXPECT_EQ(table->RemovePeer(11).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(table->Remove(11).ok());
  EXPECT_FALSE(table->Contains(11));
  EXPECT_TRUE(table->Contains(10));
}

TEST(ExclusionTable, SaysWhenItIsFullAndUsesEntriesAgain) {
  auto table = std::make_unique<ExclusionTable>();
  for (uint32_t i = 1; i <= ExclusionTable::kCapacity; ++i) {
    ASSERT_TRUE(table->Add(static_cast<pid_t>(i)).ok());
  }
  EXPECT_EQ(table->Add(100000).code(), absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(table->Remove(5).ok());
  ASSERT_TRUE(table->Add(100000).ok());
  EXPECT_TRUE(table->Contains(100000));
}

}  // namespace
}  // namespace bulkhead
