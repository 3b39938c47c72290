// SPDX-License-Identifier: Apache-2.0
//
// The errors of a driver's library, and the text that an operator gets for each.
#include "host/process/driver_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Module(const std::string& name) {
  const char* folder = std::getenv("BULKHEAD_TEST_MODULES");
  return std::string(folder != nullptr ? folder : ".") + "/" + name + ".so";
}

std::string Refusal(const std::string& path, const std::string& name = "module",
                    const bh_callback_set& callbacks = bh_set_everything(),
                    const bh_callback_set& notifications = bh_set_everything()) {
  const auto library = DriverLibrary::Load(path, name, callbacks, notifications);
  EXPECT_EQ(library.status().code(), absl::StatusCode::kFailedPrecondition) << path;
  return std::string(library.status().message());
}

TEST(DriverLibrary, TakesAGoodOne) {
  const auto library =
      DriverLibrary::Load(Module("good"), "module", bh_set_of(BULKHEAD_ON_FILE_OPEN));
  ASSERT_TRUE(library.ok()) << library.status();
  EXPECT_STREQ(library->description().version, "1");
  EXPECT_NE(library->description().file_open, nullptr);
}

TEST(DriverLibrary, TakesOneWithFieldsThatItDoesNotKnow) {
  const auto library =
      DriverLibrary::Load(Module("newer"), "module", bh_set_of(BULKHEAD_ON_FILE_OPEN));
  ASSERT_TRUE(library.ok()) << library.status();
  EXPECT_NE(library->description().start, nullptr);
}

TEST(DriverLibrary, TakesAnOlderOneWithNewerFieldsZero) {
  const auto library =
      DriverLibrary::Load(Module("older"), "module", bh_set_of(BULKHEAD_ON_FILE_OPEN));
  ASSERT_TRUE(library.ok()) << library.status();
  EXPECT_EQ(library->description().notifications, nullptr);
  EXPECT_EQ(library->description().notify, nullptr);
  EXPECT_NE(library->description().file_open, nullptr);
}

TEST(DriverLibrary, RefusesAListWithAnIdThatCanBeNone) {
  EXPECT_THAT(Refusal(Module("wrong_id")), HasSubstr("id that can't be one"));
}

TEST(DriverLibrary, SaysWhatIsWrongWithNotifications) {
  EXPECT_THAT(Refusal(Module("no_notify")), HasSubstr("no function for them"));
  EXPECT_THAT(Refusal(Module("no_notify"), "module", bh_set_everything(), bh_set_none()),
              HasSubstr("notifications that its manifest does not name"));
}

TEST(DriverLibrary, SaysWhatAFileIsNot) {
  EXPECT_THAT(Refusal("/nowhere/driver.so"), HasSubstr("No such file"));
  const std::string text = testing::TempDir() + "/text-" + std::to_string(getpid()) + ".so";
  std::ofstream(text) << "no driver";
  EXPECT_THAT(Refusal(text), HasSubstr("not an ELF file"));
  std::ofstream(text) << std::string(200, 'x');
  EXPECT_THAT(Refusal(text), HasSubstr("not an ELF file"));
  unlink(text.c_str());
  EXPECT_THAT(Refusal(Module("executable")), HasSubstr("link it with -shared"));
  EXPECT_THAT(Refusal(testing::TempDir()), HasSubstr("directory"));
}

TEST(DriverLibrary, SaysWhatADriverLacks) {
  EXPECT_THAT(Refusal(Module("no_entry")), HasSubstr("no entry point bulkhead_driver"));
  EXPECT_THAT(Refusal(Module("nothing")), HasSubstr("returned nothing"));
  EXPECT_THAT(Refusal(Module("wrong_abi")), AllOf(HasSubstr("ABI 2"), HasSubstr("has ABI 1")));
  EXPECT_THAT(Refusal(Module("too_small")), HasSubstr("has at least"));
  EXPECT_THAT(Refusal(Module("no_start")), HasSubstr("no start()"));
  EXPECT_THAT(Refusal(Module("no_function")), HasSubstr("file_exec but has no function"));
}

TEST(DriverLibrary, SaysWhereManifestAndDriverDiffer) {
  EXPECT_THAT(Refusal(Module("good"), "other"), AllOf(HasSubstr("'module'"), HasSubstr("'other'")));
  EXPECT_THAT(Refusal(Module("good"), "module", bh_set_of(BULKHEAD_ON_FILE_EXEC)),
              HasSubstr("callbacks that its manifest does not name"));
}

}  // namespace
}  // namespace bulkhead
