// SPDX-License-Identifier: Apache-2.0
//
// What a driver vendor usually gets wrong, and the sentence that each mistake yields from
// `bulkhead check` and from what would start the driver.
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "ipc/sanitizer.h"
#include "tests/testing/cli_fixture.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAny[] = "";  // whatever it says
const char* const kStarts = nullptr;

struct Mistake {
  const char* name;
  std::string manifest;  // its fields; empty: no manifest
  std::string library;   // of test-modules, copied as library.so; empty: none
  const char* check_says;
  const char* start_says;  // kStarts: it is no mistake for a start
  std::function<void(const std::string& folder)> also = [](const std::string&) {};
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.name; }

constexpr char kOtherVersion[] = "-1.0";  // behind the name of a folder

// A whole manifest with some fields replaced, or added.
std::string With(const std::string& changed) {
  nlohmann::ordered_json fields = {{"schema", 1},     {"name", "module"},
                                   {"version", "1"},  {"library", "library.so"},
                                   {"driver_abi", 1}, {"callbacks", {"file_open"}}};
  fields.update(nlohmann::ordered_json::parse("{" + changed + "}"));
  return fields.dump(2);
}

void ChangeByte(const std::string& path, std::streamoff at, char to) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  file.put(to);
}

class VendorMistakes : public Cli, public ::testing::WithParamInterface<Mistake> {
 protected:
  void SetUp() override {
    Cli::SetUp();
    driver_ = folder_ + "/module";
    fs::create_directory(driver_);
    const Mistake& mistake = GetParam();
    if (!mistake.manifest.empty()) std::ofstream(driver_ + "/manifest.json") << mistake.manifest;
    if (!mistake.library.empty()) {
      fs::copy_file(build_ + "/test-modules/" + mistake.library, driver_ + "/library.so");
    }
    mistake.also(driver_);
    if (!fs::exists(driver_)) driver_ += kOtherVersion;
  }
  std::string driver_;
};

TEST_P(VendorMistakes, AreToldByCheckAndByAStart) {
  const Mistake& mistake = GetParam();
  const Outcome check = Run("check --load " + driver_);
  EXPECT_EQ(check.code, 1) << check.text;
  EXPECT_THAT(check.text, HasSubstr(mistake.check_says));
  const Outcome scan = Run("scan --driver " + driver_ + " " + files_);
  if (mistake.start_says == kStarts) {
    EXPECT_EQ(scan.code, 0) << scan.text;
  } else {
    EXPECT_EQ(scan.code, 2) << scan.text;
    EXPECT_THAT(scan.text, HasSubstr(mistake.start_says));
  }
}

// What `run` says is what `scan` says, where this machine lets it come to that.
TEST_P(VendorMistakes, AreToldByRun) {
  if (geteuid() != 0) GTEST_SKIP() << "run needs root";
  if (GetParam().start_says == kStarts) return;  // it would serve
  const Outcome run = Run("run --driver " + driver_ + " --guard " + files_);
  if (run.text.find("fanotify") != std::string::npos) GTEST_SKIP() << run.text;
  EXPECT_EQ(run.code, 2) << run.text;
  EXPECT_THAT(run.text, HasSubstr(GetParam().start_says));
}

INSTANTIATE_TEST_SUITE_P(
    Each, VendorMistakes,
    ::testing::Values(
        Mistake{"NoManifest", "", "good.so",
                "manifest.json: is not there; a driver's folder has one",
                "manifest.json: no such file; a driver's folder has one"},
        Mistake{"ACommaTooMany", "{\n\"schema\": 1,\n}", "good.so",
                "manifest.json:3:1: is not JSON: syntax error", "remove the comma before it"},
        Mistake{"AComment", "{\n// mine\n\"schema\": 1}", "good.so", "JSON has no comments",
                "manifest.json:2:"},
        Mistake{"AMisspeltField", With(R"("altitud": 7)"), "good.so",
                "\"altitud\" is no field of a manifest; did you mean \"altitude\"?",
                "\"altitud\" is no field of a manifest; did you mean \"altitude\"?"},
        Mistake{"AMissingField", R"({"schema": 1, "name": "module", "library": "library.so",
                "driver_abi": 1, "callbacks": ["file_open"]})",
                "good.so", "manifest.json: \"version\" is missing", "\"version\" is missing"},
        Mistake{"ABadName", With(R"("name": "My Driver")"), "good.so",
                "\"name\" must match [a-z][a-z0-9-]{0,31}, and 'My Driver' does not",
                "'My Driver' does not"},
        Mistake{"AFieldTwice", R"({"schema": 1, "schema": 1, "name": "module", "version": "1",
                "library": "library.so", "driver_abi": 1, "callbacks": ["file_open"]})",
                "good.so", "manifest.json:1:15: \"schema\" stands twice: remove one",
                "\"schema\" stands twice"},
        Mistake{"TooManyWorkers", With(R"("workers": 17)"), "good.so",
                "\"workers\" must be a whole number from 1 to 16, not 17",
                "\"workers\" must be a whole number from 1 to 16, not 17"},
        Mistake{"AnAltitudeOutOfRange", With(R"("altitude": 1000001)"), "good.so",
                "\"altitude\" must be a whole number from 0 to 1000000, not 1000001",
                "from 0 to 1000000"},
        Mistake{"ANumberAsText", With(R"("memory_mib_max": "1024")"), "good.so",
                "\"memory_mib_max\" must be a whole number from 64 to 1048576, not \"1024\"",
                "not \"1024\""},
        Mistake{"ALibraryElsewhere", With(R"("library": "../library.so")"), "good.so",
                "\"library\" must be a relative path without \"..\"",
                "\"library\" must be a relative path without \"..\""},
        Mistake{"AMisspeltCallback", With(R"("callbacks": ["file_opne"])"), "good.so",
                "did you mean \"file_open\"?", "\"callbacks\" has the entry 'file_opne'"},
        Mistake{"AMisspeltNotification", With(R"("notifications": ["file_rename"])"), "good.so",
                "did you mean \"file_renamed\"?", "\"notifications\" has the entry 'file_rename'"},
        Mistake{"ANewerManifest", With(R"("driver_abi": 2)"), "good.so",
                "\"driver_abi\" is 2; this Bulkhead has 1: build the driver against its SDK",
                "build the driver against its SDK"},
        Mistake{"NotBuiltYet", With(""), "",
                "library.so: is not there, and the manifest names it as \"library\": build it",
                "library.so: No such file or directory"},
        Mistake{"AScript", With(""), "",
                "library.so: is not an ELF file; a driver is a shared object",
                "library.so is not an ELF file",
                [](const std::string& folder) {
                  std::ofstream(folder + "/library.so") << "#!/bin/sh\nexit 0\n"
                                                        << std::string(99, '#');
                }},
        Mistake{"AnotherMachine", With(""), "good.so",
                "library.so: is built for risc-v, and this machine is", "is built for risc-v",
                [](const std::string& folder) {
                  ChangeByte(folder + "/library.so", offsetof(Elf64_Ehdr, e_machine),
                             static_cast<char>(EM_RISCV));
                }},
        Mistake{"AProgram", With(""), "executable.so",
                "library.so: is an ELF file, but no shared object; link it with -shared",
                "but no shared object; link it with -shared"},
        Mistake{"NoEntryPoint", With(""), "no_entry.so",
                "library.so: has no entry point bulkhead_driver(); export it",
                "library.so has no entry point bulkhead_driver(); export it"},
        Mistake{"NoDescription", With(""), "nothing.so", "bulkhead_driver() returned nothing",
                "bulkhead_driver() returned nothing"},
        Mistake{"AnotherAbi", With(""), "wrong_abi.so",
                "is built for driver ABI 2, this host has ABI 1; build it against",
                "is built for driver ABI 2, this host has ABI 1; build it against"},
        Mistake{"NotLinkedWithWhatItCalls", With(""), "undefined.so", "undefined symbol",
                "in all it lacks "},
        Mistake{"AnotherNameInTheLibrary", With(R"("name": "other")"), "good.so",
                "calls itself 'module', its manifest 'other'",
                "calls itself 'module', its manifest 'other'"},
        Mistake{"ACallbackThatTheManifestLacks", With(R"("callbacks": ["file_exec"])"), "good.so",
                "registers for callbacks that its manifest does not name (file_open)",
                "add them to \"callbacks\""},
        Mistake{"NameAndCallbacksAtOnce", With(R"("name": "other", "callbacks": ["file_exec"])"),
                "good.so", "its manifest 'other'; it registers for callbacks",
                "its manifest 'other'; it registers for callbacks"},
        Mistake{"NoFunctionForACallback", With(R"("callbacks": ["file_open", "file_exec"])"),
                "no_function.so", "registers for file_exec but has no function for it",
                "registers for file_exec but has no function for it"},
        Mistake{"NoStartFunction", With(""), "no_start.so", "has no name, no version or no start()",
                "has no name, no version or no start()"},
        Mistake{"ContentThatIsNotThere", With(R"("content": {"default_path": "rules"})"), "good.so",
                "rules: is not there, and the manifest names it as \"default_path\"", kAny},
        Mistake{"AFolderOfAnotherName", With(""), "good.so",
                "'bulkhead run --driver module' does not find it; rename one of them", kStarts,
                [](const std::string& folder) { fs::rename(folder, folder + kOtherVersion); }},
        Mistake{"ALibraryThatEveryUserMayWrite", With(""), "good.so",
                "library.so: can be written by every user, who would then be the driver: chmod o-w",
                kStarts,
                [](const std::string& folder) { chmod((folder + "/library.so").c_str(), 0666); }},
        Mistake{"ALibraryThatAHostCannotRead", With(""), "good.so",
                "library.so: can't be read by a host's own user: chmod o+r", kStarts,
                [](const std::string& folder) { chmod((folder + "/library.so").c_str(), 0640); }}),
    [](const auto& mistake) { return std::string(mistake.param.name); });

class VendorCheck : public Cli {
 protected:
  // A folder with the driver faulty, whose content asks for this fault.
  std::string Faulty(const std::string& fault) const {
    const std::string driver = folder_ + "/faulty";
    fs::create_directories(driver + "/faults");
    fs::copy_file(build_ + "/drivers/faulty/faulty.so", driver + "/faulty.so",
                  fs::copy_options::overwrite_existing);
    std::ofstream(driver + "/faults/faults") << fault;
    std::ofstream(driver + "/manifest.json") << R"({"schema": 1, "name": "faulty", "version": "1",
      "library": "faulty.so", "driver_abi": 1, "callbacks": ["file_open", "file_exec"],
      "content": {"required": true, "default_path": "faults"}})";
    return driver;
  }
};

TEST_F(VendorCheck, AGoodDriverHasNothingWrong) {
  for (const char* driver : {"null", "scanner", "observer"}) {
    const Outcome check = Run("check --load " + build_ + "/drivers/" + driver);
    EXPECT_EQ(check.code, 0) << check.text;
    EXPECT_THAT(check.text, HasSubstr(std::string(driver) + ": nothing is wrong"));
  }
  const Outcome unloaded = Run("check " + build_ + "/drivers/null");
  EXPECT_EQ(unloaded.code, 0);
  EXPECT_THAT(unloaded.text, HasSubstr("it was not loaded; --load"));
}

TEST_F(VendorCheck, SaysWhatTheDriverSaysOfItsContent) {
  const Outcome refused = Run("check --load " + Faulty("fail-start"));
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.text, HasSubstr("its content asks it to fail in start"));
  const Outcome crashed = Run("check --load " + Faulty("crash-start"));
  EXPECT_EQ(crashed.code, 1) << "a crash is the driver's host's, not the command's";
  EXPECT_THAT(crashed.text, HasSubstr(kSanitized ? "does not start" : "signal 11"));
  EXPECT_EQ(Run("check --load " + Faulty("")).code, 0);
}

// The driver is run by a host, and not without --load.
TEST_F(VendorCheck, RunsNothingUnlessAsked) {
  const Outcome check = Run("check " + Faulty("crash-start"));
  EXPECT_EQ(check.code, 0) << check.text;
}

TEST_F(VendorCheck, SaysEverythingAtOnceAndAsJson) {
  const std::string driver = folder_ + "/many";
  fs::create_directory(driver);
  std::ofstream(driver + "/manifest.json")
      << With(R"("workers": 0, "altitude": -1, "clalbacks": [])");
  std::ofstream(driver + "/library.so") << "text";
  chmod((driver + "/library.so").c_str(), 0600);
  const Outcome check = Run("check " + driver + " --json " + folder_ + "/check.json");
  EXPECT_EQ(check.code, 1);
  for (const char* part :
       {"\"workers\" must be", "\"altitude\" must be", "\"clalbacks\" is no field",
        "library.so: is not an ELF file", "library.so: can't be read by a host's own user",
        "is called 'many', and its driver 'module'", "module: 6 things are wrong"}) {
    EXPECT_THAT(check.text, HasSubstr(part));
  }
  std::ifstream file(folder_ + "/check.json");
  const auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json["driver"], "module");
  EXPECT_EQ(json["loaded"], false);
  ASSERT_EQ(json["findings"].size(), 6u);
  EXPECT_EQ(json["findings"][0]["file"], "manifest.json");
  EXPECT_NE(json["findings"][0]["line"], 0);
}

TEST_F(VendorCheck, WhatCannotBeLookedAtIsTrouble) {
  EXPECT_EQ(Run("check /nowhere/driver").code, 2);
  EXPECT_EQ(Run("check " + files_ + "/clean").code, 2);
  EXPECT_EQ(Run("check").code, 2);
}

TEST_F(VendorCheck, NewRefusesWhatItCannotMake) {
  const auto refused = [this](const std::string& words, const char* says) {
    const Outcome outcome = Run("new " + words + " --in " + folder_);
    EXPECT_EQ(outcome.code, 2) << words;
    EXPECT_THAT(outcome.text, HasSubstr(says));
  };
  refused("My_Driver", "'My_Driver' is no name of a driver");
  refused("test", "is the name of a target of CMake's own");
  refused("fine --callbacks file_opn", "did you mean \"file_open\"?");
  fs::create_directory(folder_ + "/there");
  refused("there", "is there already: choose another name or --in, or remove it");
  EXPECT_TRUE(fs::is_empty(folder_ + "/there"));
  EXPECT_EQ(Run("new fine --in /nowhere").code, 2);
  EXPECT_FALSE(fs::exists(folder_ + "/fine"));
  const Outcome made = Run("new fine --callbacks file_exec,file_open,file_exec --in " + folder_);
  EXPECT_EQ(made.code, 0) << made.text;
  std::ifstream file(folder_ + "/fine/manifest.json");
  EXPECT_EQ(nlohmann::json::parse(file)["callbacks"], nlohmann::json({"file_exec", "file_open"}));
}

}  // namespace
}  // namespace bulkhead
