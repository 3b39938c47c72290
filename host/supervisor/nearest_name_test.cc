// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/nearest_name.h"

#include <gtest/gtest.h>

#include <string>

namespace bulkhead {
namespace {

TEST(NearestName, FindsWhatWasMeant) {
  const std::vector<std::string> names = {"callbacks", "notifications", "workers", "reads", "name"};
  EXPECT_EQ(NearestName("calbacks", names), "callbacks");
  EXPECT_EQ(NearestName("callbakcs", names), "callbacks");
  EXPECT_EQ(NearestName("Workers", names), "workers");
  EXPECT_EQ(NearestName("read", names), "reads");
  EXPECT_EQ(NearestName("nmae", names), "name");
  EXPECT_EQ(NearestName("altitude", names), "");
  EXPECT_EQ(NearestName("", names), "");
  EXPECT_EQ(NearestName(std::string(100'000, 'x'), names), "");
  EXPECT_EQ(DidYouMean("calbacks", names), "; did you mean \"callbacks\"?");
  EXPECT_EQ(DidYouMean("altitude", names), "");
}

}  // namespace
}  // namespace bulkhead
