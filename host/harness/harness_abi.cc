// SPDX-License-Identifier: Apache-2.0
//
// <bulkhead/testing.h> over Harness: structs of any size come in, copies of ours go out.
#include <bulkhead/testing.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/harness/child_process.h"
#include "host/harness/harness.h"
#include "host/harness/recording.h"
#include "ipc/monotonic.h"

struct bulkhead_test {
  std::unique_ptr<bulkhead::Harness> harness;
};

namespace bulkhead {
namespace {

constexpr int kExitNotLoaded = 4;  // of a child, beside those of its body

// 0, or -1 with the error's text.
int Tell(const absl::Status& status, char* error, size_t error_bytes) {
  if (status.ok()) return 0;
  if (error != nullptr && error_bytes != 0) {
    std::snprintf(error, error_bytes, "%s", std::string(status.message()).c_str());
  }
  return -1;
}

// A caller may have been built against an older header: what its struct lacks is zero.
template <typename Struct>
absl::StatusOr<Struct> Taken(const Struct* from, const char* name) {
  if (from == nullptr || from->size < sizeof(from->size)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ".size is not set: it is sizeof(struct ", name, ")"));
  }
  Struct taken = {};
  std::memcpy(&taken, from, std::min<size_t>(from->size, sizeof(taken)));
  taken.size = sizeof(taken);
  return taken;
}

template <typename Struct>
void Give(const Struct& from, Struct* to) {
  const uint32_t size = to->size;
  std::memcpy(to, &from, std::min<size_t>(size, sizeof(from)));
  to->size = size;
}

std::string TextOf(const char* text) { return text == nullptr ? std::string() : text; }

HarnessSetup SetupOf(const bulkhead_test_setup& c) {
  return {.folder = TextOf(c.folder),
          .library = TextOf(c.library),
          .content = TextOf(c.content),
          .options = TextOf(c.options),
          .workers = c.workers,
          .deadline_ns = c.deadline_ns,
          .pending_calls_max = c.pending_calls_max,
          .checkpoint_bytes = c.checkpoint_bytes,
          .log_memory = {}};
}

absl::StatusOr<bulkhead_test_result> Ask(Harness& harness, const bulkhead_test_call& call) {
  const absl::StatusOr<uint64_t> id = harness.Begin(call);
  if (!id.ok()) return id.status();
  bulkhead_test_result result = {};
  if (absl::StatusOr<bool> ended = harness.Wait(*id, kForeverNs, &result); !ended.ok()) {
    return ended.status();
  }
  return result;
}

char* Copied(const std::string& text) {
  auto* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

int RunBody(HarnessSetup setup, std::span<std::byte> log, int (*body)(bulkhead_test*, void*),
            void* context) {
  setup.log_memory = log;
  absl::StatusOr<std::unique_ptr<Harness>> harness = Harness::Load(setup);
  absl::Status status = harness.status();
  if (status.ok()) status = (*harness)->Start(BH_START_COLD);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return kExitNotLoaded;
  }
  bulkhead_test test = {std::move(*harness)};
  const int code = body(&test, context);
  test.harness.reset();
  return code;
}

}  // namespace
}  // namespace bulkhead

using bulkhead::Give;
using bulkhead::Taken;
using bulkhead::Tell;

extern "C" {

bulkhead_test* bulkhead_test_load(const bulkhead_test_setup* setup, char* error,
                                  size_t error_bytes) {
  const auto taken = Taken(setup, "bulkhead_test_setup");
  if (Tell(taken.status(), error, error_bytes) != 0) return nullptr;
  auto harness = bulkhead::Harness::Load(bulkhead::SetupOf(*taken));
  if (Tell(harness.status(), error, error_bytes) != 0) return nullptr;
  return new bulkhead_test{*std::move(harness)};
}

void bulkhead_test_free(bulkhead_test* test) { delete test; }

int bulkhead_test_start(bulkhead_test* test, uint32_t reason, char* error, size_t error_bytes) {
  return Tell(test->harness->Start(static_cast<bh_start>(reason)), error, error_bytes);
}

int bulkhead_test_stop(bulkhead_test* test, char* error, size_t error_bytes) {
  const absl::StatusOr<bool> unloaded = test->harness->Stop();
  if (Tell(unloaded.status(), error, error_bytes) != 0) return -1;
  return *unloaded ? 1 : 0;
}

const char* bulkhead_test_outcome_name(uint32_t outcome) {
  return bulkhead::TestOutcomeName(outcome);
}

int bulkhead_test_make_call(bulkhead_test* test, const struct bulkhead_test_call* call,
                            bulkhead_test_result* result, char* error, size_t error_bytes) {
  const auto taken = Taken(call, "bulkhead_test_call");
  if (Tell(taken.status(), error, error_bytes) != 0) return -1;
  const auto ended = bulkhead::Ask(*test->harness, *taken);
  if (Tell(ended.status(), error, error_bytes) != 0) return -1;
  Give(*ended, result);
  return 0;
}

int bulkhead_test_begin(bulkhead_test* test, const struct bulkhead_test_call* call, uint64_t* id,
                        char* error, size_t error_bytes) {
  const auto taken = Taken(call, "bulkhead_test_call");
  if (Tell(taken.status(), error, error_bytes) != 0) return -1;
  const absl::StatusOr<uint64_t> begun = test->harness->Begin(*taken);
  if (Tell(begun.status(), error, error_bytes) != 0) return -1;
  *id = *begun;
  return 0;
}

int bulkhead_test_wait(bulkhead_test* test, uint64_t id, uint64_t within_ns,
                       bulkhead_test_result* result) {
  bulkhead_test_result filled = {};
  const absl::StatusOr<bool> ended =
      test->harness->Wait(id, bulkhead::MonotonicAfterNs(within_ns), &filled);
  if (!ended.ok()) return -1;
  Give(filled, result);
  return *ended ? 1 : 0;
}

int bulkhead_test_notify(bulkhead_test* test, const bulkhead_notification* notification,
                         char* error, size_t error_bytes) {
  const auto taken = Taken(notification, "bulkhead_notification");
  if (Tell(taken.status(), error, error_bytes) != 0) return -1;
  return Tell(test->harness->Notify(*taken), error, error_bytes);
}

int bulkhead_test_settle(bulkhead_test* test, uint64_t within_ns, char* error, size_t error_bytes) {
  return Tell(test->harness->Settle(bulkhead::MonotonicAfterNs(within_ns)), error, error_bytes);
}

size_t bulkhead_test_log(bulkhead_test* test) { return test->harness->Log().size(); }

int bulkhead_test_log_line(bulkhead_test* test, size_t index, bulkhead_test_line* line) {
  const auto& lines = test->harness->Log();
  if (index >= lines.size()) return -1;
  Give({.size = sizeof(bulkhead_test_line),
        .level = lines[index].level,
        .time_ns = lines[index].time_ns,
        .text = lines[index].text.c_str(),
        .length = lines[index].text.size()},
       line);
  return 0;
}

void bulkhead_test_clear_log(bulkhead_test* test) { test->harness->ClearLog(); }

uint64_t bulkhead_test_log_dropped(bulkhead_test* test) { return test->harness->LogDropped(); }

int bulkhead_test_record_call(const char* path, const struct bulkhead_test_call* call, char* error,
                              size_t error_bytes) {
  const auto taken = Taken(call, "bulkhead_test_call");
  if (Tell(taken.status(), error, error_bytes) != 0) return -1;
  return Tell(bulkhead::AppendToRecording(path, bulkhead::CallText(*taken)), error, error_bytes);
}

int bulkhead_test_record_notification(const char* path, const bulkhead_notification* notification,
                                      char* error, size_t error_bytes) {
  const auto taken = Taken(notification, "bulkhead_notification");
  if (Tell(taken.status(), error, error_bytes) != 0) return -1;
  return Tell(bulkhead::AppendToRecording(path, bulkhead::NotificationText(*taken)), error,
              error_bytes);
}

long bulkhead_test_replay(bulkhead_test* test, const char* path,
                          int (*on_result)(void*, const struct bulkhead_test_call*,
                                           const bulkhead_test_result*),
                          void* context, char* error, size_t error_bytes) {
  auto events = bulkhead::ReadRecording(path);
  if (Tell(events.status(), error, error_bytes) != 0) return -1;
  long replayed = 0;
  for (bulkhead::RecordedEvent& event : *events) {
    absl::Status status;
    int stop = 0;
    if (auto* recorded = std::get_if<bulkhead::RecordedCall>(&event.event)) {
      recorded->call.path = recorded->path.data();
      recorded->call.path_length = recorded->path.size();
      const auto result = bulkhead::Ask(*test->harness, recorded->call);
      status = result.status();
      if (status.ok() && on_result != nullptr) stop = on_result(context, &recorded->call, &*result);
    } else {
      auto& told = std::get<bulkhead::RecordedNotification>(event.event);
      told.notification.text = told.text.data();
      told.notification.text_length = told.text.size();
      told.notification.text2 = told.text2.data();
      told.notification.text2_length = told.text2.size();
      status = test->harness->Notify(told.notification);
      if (status.ok() && on_result != nullptr) stop = on_result(context, nullptr, nullptr);
    }
    if (!status.ok()) {
      status = absl::Status(status.code(),
                            absl::StrCat(path, ": line ", event.line, ": ", status.message()));
      return Tell(status, error, error_bytes);
    }
    ++replayed;
    if (stop != 0) break;
  }
  return replayed;
}

int bulkhead_test_in_child(const bulkhead_test_setup* setup, int (*body)(bulkhead_test*, void*),
                           void* context, uint64_t within_ns, bulkhead_test_end* end, char* error,
                           size_t error_bytes) {
  const auto taken = Taken(setup, "bulkhead_test_setup");
  if (Tell(taken.status(), error, error_bytes) != 0) return -1;
  const bulkhead::HarnessSetup of_child = bulkhead::SetupOf(*taken);
  const auto ended = bulkhead::RunInChild(
      [&](std::span<std::byte> log) { return bulkhead::RunBody(of_child, log, body, context); },
      within_ns);
  if (Tell(ended.status(), error, error_bytes) != 0) return -1;
  Give({.size = sizeof(bulkhead_test_end),
        .signal = ended->signal,
        .exit_code = ended->exit_code,
        .hung = ended->hung ? 1u : 0u,
        .text = bulkhead::Copied(ended->text),
        .last_lines = bulkhead::Copied(ended->last_lines),
        .error_output = bulkhead::Copied(ended->error_output)},
       end);
  return 0;
}

void bulkhead_test_end_free(bulkhead_test_end* end) {
  std::free(end->text);
  std::free(end->last_lines);
  std::free(end->error_output);
  end->text = end->last_lines = end->error_output = nullptr;
}

}  // extern "C"
