// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_TEXT_OUTPUT_H_
#define BULKHEAD_HOST_CLI_TEXT_OUTPUT_H_

#include <cstdarg>
#include <cstdio>
#include <string>

#include "host/report/report.h"

namespace bulkhead {

// What a command prints for a reader, unless its --json goes to standard output.
class TextOutput {
 public:
  explicit TextOutput(const std::string& json) : silent_(json == kStandardOutput) {}
  void Print(const char* format, ...) const __attribute__((format(printf, 2, 3))) {
    if (silent_) return;
    va_list arguments;
    va_start(arguments, format);
    std::vprintf(format, arguments);
    va_end(arguments);
  }

 private:
  const bool silent_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_TEXT_OUTPUT_H_
