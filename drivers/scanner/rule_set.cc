// SPDX-License-Identifier: Apache-2.0
#include "rule_set.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace scanner {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
struct DestroyCompiler {
  void operator()(YR_COMPILER* compiler) const { yr_compiler_destroy(compiler); }
};

void OnCompilerMessage(int level, const char* file, int line, const YR_RULE*, const char* message,
                       void* user) {
  auto* error = static_cast<std::string*>(user);
  if (level != YARA_ERROR_LEVEL_ERROR || !error->empty()) return;
  *error =
      std::string(file != nullptr ? file : "rules") + ":" + std::to_string(line) + ": " + message;
}

int OnScanMessage(YR_SCAN_CONTEXT*, int message, void* data, void* user) {
  if (message != CALLBACK_MSG_RULE_MATCHING) return CALLBACK_CONTINUE;
  static_cast<ScanResult*>(user)->found = Found::kMatch;
  static_cast<ScanResult*>(user)->rule = static_cast<YR_RULE*>(data)->identifier;
  return CALLBACK_ABORT;
}

struct DestroyScanner {
  void operator()(YR_SCANNER* scanner) const { yr_scanner_destroy(scanner); }
};

int ScanWith(YR_RULES* rules, std::span<const std::byte> bytes, std::chrono::nanoseconds timeout,
             ScanResult* result) {
  if (timeout.count() <= 0) return ERROR_SCAN_TIMEOUT;
  YR_SCANNER* made = nullptr;
  const int code = yr_scanner_create(rules, &made);
  if (code != ERROR_SUCCESS) return code;
  const std::unique_ptr<YR_SCANNER, DestroyScanner> scanner(made);
  yr_scanner_set_callback(made, OnScanMessage, result);
  yr_scanner_set_flags(made, SCAN_FLAGS_FAST_MODE);
  // yr_scanner_set_timeout() counts in seconds, this field in nanoseconds; a deadline of one second
  // leaves less than one.
  made->timeout = static_cast<uint64_t>(timeout.count());
  return yr_scanner_scan_mem(made, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

bool IsRules(const std::string& path) {
  return path.ends_with(".yar") || path.ends_with(".yara") || path.ends_with(".yarc");
}

// The files of the folder and of those below it. What a link that leads to none was to stand for
// would be missed.
std::vector<std::string> FilesOf(const std::string& folder, std::string* error) {
  std::vector<std::string> paths;
  std::error_code trouble;
  for (std::filesystem::recursive_directory_iterator entry(folder, trouble), end;
       !trouble && entry != end; entry.increment(trouble)) {
    const std::string path = entry->path().string();
    std::error_code missing;
    if (entry->is_regular_file(missing)) {
      paths.push_back(path);
    } else if (entry->is_symlink(missing)) {
      *error = path + ": a symbolic link, but not to a file";
      return paths;
    }
  }
  if (trouble) *error = folder + ": " + trouble.message();
  std::sort(paths.begin(), paths.end());  // the order must not depend on the file system
  return paths;
}

}  // namespace

bool RuleSet::AddCompiled(const std::string& path, std::string* error) {
  YR_RULES* rules = nullptr;
  const int code = yr_rules_load(path.c_str(), &rules);
  if (code != ERROR_SUCCESS) {
    *error =
        path + ": not a compiled rule file of this libyara (error " + std::to_string(code) + ")";
    return false;
  }
  rules_.emplace_back(rules);
  return true;
}

bool RuleSet::AddSources(const std::vector<std::string>& paths, std::string* error) {
  if (paths.empty()) return true;
  YR_COMPILER* made = nullptr;
  if (yr_compiler_create(&made) != ERROR_SUCCESS) {
    *error = "no memory for the rule compiler";
    return false;
  }
  const std::unique_ptr<YR_COMPILER, DestroyCompiler> compiler(made);
  yr_compiler_set_callback(made, OnCompilerMessage, error);
  // Content must come from its folder only: an include would read from elsewhere.
  yr_compiler_set_include_callback(made, nullptr, nullptr, nullptr);
  for (const std::string& path : paths) {
    const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "re"));
    if (!file) {
      *error = path + ": " + std::strerror(errno);
      return false;
    }
    if (yr_compiler_add_file(made, file.get(), nullptr, path.c_str()) != 0) {
      if (error->empty()) *error = path + ": does not compile";
      return false;
    }
  }
  YR_RULES* rules = nullptr;
  if (yr_compiler_get_rules(made, &rules) != ERROR_SUCCESS) {
    *error = "no memory for the compiled rules";
    return false;
  }
  rules_.emplace_back(rules);
  return true;
}

std::unique_ptr<RuleSet> RuleSet::Load(const std::string& folder, std::string* error) {
  std::unique_ptr<RuleSet> set(new RuleSet);
  if (!set->library_.ready) {
    *error = "libyara does not initialise";
    return nullptr;
  }
  std::vector<std::string> sources;
  error->clear();
  for (const std::string& path : FilesOf(folder, error)) {
    if (!IsRules(path)) {
      set->others_.push_back(std::filesystem::path(path).lexically_relative(folder).string());
      continue;
    }
    if (!path.ends_with(".yarc")) {
      sources.push_back(path);
    } else if (!set->AddCompiled(path, error)) {
      return nullptr;
    }
    ++set->files_;
  }
  if (!error->empty()) return nullptr;
  if (!set->AddSources(sources, error)) return nullptr;
  if (set->files_ == 0) {
    *error = folder + ": no rules here; expected *.yar, *.yara or *.yarc";
    return nullptr;
  }
  const std::vector<std::byte> sample(4096, std::byte{'B'});
  if (set->Scan(sample, std::chrono::seconds(5)).found == Found::kTrouble) {
    *error = folder + ": the rules load, but a scan with them fails";
    return nullptr;
  }
  return set;
}

bool RuleSet::Save(const std::string& path, std::string* error) const {
  // Sources are compiled together, and are last in the list.
  const int code = yr_rules_save(rules_.back().get(), path.c_str());
  if (code != ERROR_SUCCESS)
    *error = path + ": can't be written (libyara error " + std::to_string(code) + ")";
  return code == ERROR_SUCCESS;
}

ScanResult RuleSet::Scan(std::span<const std::byte> bytes, std::chrono::nanoseconds timeout) const {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + timeout;
  ScanResult result;
  for (const Rules& rules : rules_) {
    const int code = ScanWith(rules.get(), bytes, end - Clock::now(), &result);
    if (result.found == Found::kMatch) break;
    if (code == ERROR_SCAN_TIMEOUT) {
      result.found = Found::kTimeout;
    } else if (code != ERROR_SUCCESS) {
      result.found = Found::kTrouble;
    }
  }
  return result;
}

}  // namespace scanner
