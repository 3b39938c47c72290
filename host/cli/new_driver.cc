// SPDX-License-Identifier: Apache-2.0
#include "host/cli/new_driver.h"

#include <bulkhead/driver.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "host/cli/driver_templates.h"
#include "host/service/bounded_write.h"
#include "host/supervisor/manifest.h"
#include "host/supervisor/nearest_name.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

struct NewOptions {
  std::string name;
  std::string in = ".";
  std::vector<std::string> callbacks = {"file_open"};
};

// Of callbacks that the driver's template answers: those of files.
const std::vector<std::string>& Callbacks() {
#define BULKHEAD_ROW(NAME, name) #name,
  static const std::vector<std::string> names = {BULKHEAD_FOR_EACH_FILE_CALLBACK(BULKHEAD_ROW)};
#undef BULKHEAD_ROW
  return names;
}

// Targets that CMake makes itself: no library can be called so.
constexpr const char* kTakenByCMake[] = {"all",     "clean",   "depend", "help",
                                         "install", "package", "test"};

// "no-scripts": "NoScripts"
std::string ClassOf(const std::string& name) {
  std::string text;
  bool begins = true;
  for (const char letter : name) {
    if (letter != '-') {
      text += begins ? static_cast<char>(std::toupper(static_cast<unsigned char>(letter))) : letter;
    }
    begins = letter == '-';
  }
  return text;
}

std::string IdOf(const std::string& callback) {
  std::string id = "BULKHEAD_ON_";
  for (const char letter : callback) {
    id += static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  }
  return id;
}

absl::Status CheckWords(const NewOptions& options) {
  if (!GoodDriverName(options.name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", options.name,
                     "' is no name of a driver: it has 1 to 32 of a-z, 0-9 and "
                     "'-', and begins with a letter, like my-driver"));
  }
  if (std::find(std::begin(kTakenByCMake), std::end(kTakenByCMake), options.name) !=
      std::end(kTakenByCMake)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", options.name, "' is the name of a target of CMake's own: choose another"));
  }
  for (const std::string& callback : options.callbacks) {
    if (std::find(Callbacks().begin(), Callbacks().end(), callback) != Callbacks().end()) continue;
    return absl::InvalidArgumentError(absl::StrCat("--callbacks: '", callback, "' is not one of ",
                                                   absl::StrJoin(Callbacks(), ", "),
                                                   DidYouMean(callback, Callbacks())));
  }
  return absl::OkStatus();
}

std::string Filled(std::string_view text, const NewOptions& options) {
  const auto join_ids = [&](const char* between) {
    return absl::StrJoin(options.callbacks, between,
                         [](std::string* out, const std::string& name) { *out += IdOf(name); });
  };
  const std::string names = absl::StrJoin(
      options.callbacks, ", ",
      [](std::string* out, const std::string& name) { absl::StrAppend(out, "\"", name, "\""); });
  std::string methods;
  for (const std::string& callback : options.callbacks) {
    absl::StrAppend(&methods, "  bulkhead::Verdict ", callback,
                    "(const bulkhead::FileEvent& file) override { return judge(file); }\n");
  }
  return absl::StrReplaceAll(std::string(text), {{"@NAME@", options.name},
                                                 {"@CLASS@", ClassOf(options.name)},
                                                 {"@VERSION@", BULKHEAD_SDK_VERSION},
                                                 {"@CALLBACK_NAMES@", names},
                                                 {"@CALLBACK_IDS@", join_ids(" | ")},
                                                 {"@CALLBACK_ID_LIST@", join_ids(", ")},
                                                 {"@FIRST_ID@", IdOf(options.callbacks.front())},
                                                 {"@METHODS@\n", methods + "\n"}});
}

// Where a template goes in the project.
std::string PlaceOf(std::string_view name) {
  if (name == "words") return "content/words";
  if (name == "gitignore") return ".gitignore";
  return std::string(name);
}

absl::Status Write(const fs::path& path, const std::string& text) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  std::string_view rest = text;
  if (!file.valid() || WriteUntil(file.get(), rest, kForeverNs) != WriteResult::kDone) {
    return absl::ErrnoToStatus(errno, path.string());
  }
  return absl::OkStatus();
}

// Only what this made is removed again.
absl::Status MakeProject(const fs::path& folder, const NewOptions& options) {
  if (mkdir(folder.c_str(), 0755) != 0) {
    if (errno == EEXIST) {
      return absl::AlreadyExistsError(absl::StrCat(
          folder.string(), " is there already: choose another name or --in, or remove it"));
    }
    return absl::ErrnoToStatus(errno, folder.string());
  }
  absl::Status status = absl::OkStatus();
  if (mkdir((folder / "content").c_str(), 0755) != 0) {
    status = absl::ErrnoToStatus(errno, (folder / "content").string());
  }
  for (const EmbeddedFile& file : DriverTemplates()) {
    if (status.ok()) status = Write(folder / PlaceOf(file.name), Filled(file.text, options));
  }
  std::error_code error;
  if (!status.ok()) fs::remove_all(folder, error);
  return status;
}

int RunNew(NewOptions options) {
  if (absl::Status status = CheckWords(options); !status.ok()) return Complain(status);
  // One twice is one.
  std::vector<std::string> once;
  for (const std::string& callback : options.callbacks) {
    if (std::find(once.begin(), once.end(), callback) == once.end()) once.push_back(callback);
  }
  options.callbacks = once;
  const fs::path folder = fs::path(options.in) / options.name;
  if (absl::Status status = MakeProject(folder, options); !status.ok()) return Complain(status);
  const std::string shown = folder.lexically_normal().string();
  std::printf(
      "%s: a driver's project. Next:\n"
      "  cd %s\n"
      "  cmake -S . -B build && cmake --build build && ctest --test-dir build\n"
      "  bulkhead check --load build/%s\n"
      "  bulkhead scan --driver ./build/%s DIR\n"
      "Where Bulkhead is not installed below /usr or /usr/local, give cmake its place: "
      "-DCMAKE_PREFIX_PATH=PREFIX\n",
      Printable(shown).c_str(), Printable(shown).c_str(), options.name.c_str(),
      options.name.c_str());
  return kExitOk;
}

}  // namespace

void AddNewDriver(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<NewOptions>();
  CLI::App* command =
      app.add_subcommand("new", "Make a driver's project, which builds against the installed SDK");
  command->add_option("name", options->name, "The driver's name: [a-z][a-z0-9-]{0,31}")
      ->required()
      ->type_name("NAME");
  command->add_option("--in", options->in, "The folder in which the project's is made")
      ->type_name("DIR")
      ->capture_default_str();
  command->add_option("--callbacks", options->callbacks, "What it is asked about")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME,…")
      ->default_str("file_open");
  command->callback([options, run] { *run = [options] { return RunNew(*options); }; });
}

}  // namespace bulkhead
