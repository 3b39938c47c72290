// SPDX-License-Identifier: Apache-2.0
//
// The configuration file of a service: TOML, /etc/bulkhead/bulkhead.toml by default. All mistakes
// are found in one pass, each with its line and column, and say what is expected.
// docs/configuration.md is its reference; kConfigKeys is what both are held against.
#ifndef BULKHEAD_HOST_SERVICE_CONFIG_FILE_H_
#define BULKHEAD_HOST_SERVICE_CONFIG_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/attachment/registry.h"
#include "host/service/service_config.h"

namespace bulkhead {

inline constexpr char kConfigPath[] = "/etc/bulkhead/bulkhead.toml";

// X(table, key, what it takes, meaning)
#define BULKHEAD_CONFIG_KEYS(X)                                                                    \
  X("service", "attachment", "a name, as doctor lists them, or \"auto\"", "where calls come from") \
  X("service", "accept", "a list of names, as doctor lists them",                                  \
    "limits of the attachment that don't make protection degraded")                                \
  X("service", "quarantine-retry", "a time, or \"never\"",                                         \
    "when a quarantined driver is started again; after twice as long each further time")           \
  X("service", "require-sandbox", "\"none\", \"basic\", \"confined\" or \"full\"",                 \
    "the least sandbox that a driver is loaded in")                                                \
  X("service", "log", "\"auto\", \"text\", \"json\" or \"journal\"",                               \
    "how the log is written; auto: to the journal with fields when standard error goes there, "    \
    "else as text")                                                                                \
  X("service", "on-stop", "\"release\" or \"keep\"",                                               \
    "what a stop does: end hosts and guards, or leave them to the next service")                   \
  X("service", "metrics", "\"127.0.0.1:PORT\", \"[::1]:PORT\" or the absolute path of a socket",   \
    "where Prometheus reads /metrics; without it: nowhere")                                        \
  X("service", "page", "true or false",                                                            \
    "whether the address of metrics also has the page; without it: no")                            \
  X("operators", "readers", "a group's name or id",                                                \
    "its members may look: status, top, events; without it: only admins and root")                 \
  X("operators", "admins", "a group's name or id",                                                 \
    "its members may do all that root may ask of the service; without it: only root")              \
  X("policy", "REASON", "an action, and after a comma what to do when that gives no verdict",      \
    "for every driver: the answer when a call gets none from it, by reason")                       \
  X("policy.CLASS", "REASON", "the same", "only of this class of callbacks")                       \
  X("driver", "name", "a name, or the absolute path of a driver's folder", "the driver")           \
  X("driver", "content", "an absolute path", "the folder with its content; else the manifest's")   \
  X("driver", "options", "a text", "words for the driver, after those of its manifest")            \
  X("driver", "mode", "\"enforce\" or \"audit\"",                                                  \
    "audit: what it denies, or what is denied because it gives no answer, is recorded and goes "   \
    "on")                                                                                          \
  X("driver", "cache", "0, or a power of two up to 1048576", "verdicts to remember; 0: none")      \
  X("driver", "spin", "0 to 10000",                                                                \
    "microseconds that callers and workers spin at most before they sleep")                        \
  X("driver.policy", "REASON", "as in policy", "of this driver; what it does not say is as there") \
  X("driver.policy.CLASS", "REASON", "the same", "only of this class of callbacks")                \
  X("guard", "folder", "an absolute path", "the folder to guard")                                  \
  X("guard", "events", "a list of \"open\", \"exec\", \"access\"", "what to ask about")            \
  X("guard", "mark", "\"auto\", \"directory\", \"mount\" or \"filesystem\"",                       \
    "what of the kernel's is watched for it")                                                      \
  X("guard", "mode", "\"enforce\" or \"audit\"",                                                   \
    "audit: what is denied there is recorded and goes on; a file that an enforced guard covers, "  \
    "too, is denied")                                                                              \
  X("guard", "deadline", "a time up to an hour", "the longest that a caller waits")                \
  X("guard", "skip-under", "a list of absolute paths",                                             \
    "what is in these folders is not asked "                                                       \
    "about")                                                                                       \
  X("guard.only", "opened-for", "\"read\" or \"write\"",                                           \
    "ask only about files opened for writing, or only about the others")                           \
  X("guard.only", "owner", "a user id", "ask only about files of this user")                       \
  X("guard.only", "extensions", "a list of texts without a dot", "ask only about names that end so")

struct ConfigKey {
  const char* table;
  const char* key;
  const char* takes;
  const char* meaning;
};
inline constexpr ConfigKey kConfigKeys[] = {
#define X(table, key, takes, meaning) {table, key, takes, meaning},
    BULKHEAD_CONFIG_KEYS(X)
#undef X
};

struct FileMistake {
  uint32_t line = 1;    // from 1
  uint32_t column = 1;  // likewise, in characters
  std::string text;
};
// "/etc/bulkhead/bulkhead.toml:12:3: text"
std::string MistakeText(const std::string& path, const FileMistake& mistake);

struct ParsedConfig {
  ServiceConfig config;               // of use only without mistakes
  std::vector<FileMistake> mistakes;  // in the order of the file
};

// Also looks whether the folders exist. `rows`: the attachments that there are.
ParsedConfig ParseConfig(std::string_view text, AttachmentRows rows);

// NotFound, PermissionDenied: it can't be read, or users other than its owner, who is root or us,
// can write to it. Those are not mistakes in it.
absl::StatusOr<ParsedConfig> ReadConfigFile(const std::string& path, AttachmentRows rows);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_CONFIG_FILE_H_
