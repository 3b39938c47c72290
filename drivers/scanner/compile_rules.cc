// SPDX-License-Identifier: Apache-2.0
//
// bulkhead-rules: compiles a folder of YARA rule sources to one .yarc file, which the scanner loads
// faster than the sources.
//
//   bulkhead-rules FOLDER OUTPUT.yarc
#include <cstdio>
#include <cstdlib>
#include <string>

#include "rule_set.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr,
                 "Usage: bulkhead-rules FOLDER OUTPUT.yarc\n\nCompiles the *.yar and *.yara files "
                 "of FOLDER for the scanner driver.\n");
    return 2;
  }
  std::string error;
  const auto rules = scanner::RuleSet::Load(argv[1], &error);
  if (rules && rules->Save(argv[2], &error)) {
    for (const std::string& other : rules->others()) {
      std::fprintf(stderr, "bulkhead-rules: not read as rules, by its name: %s\n", other.c_str());
    }
    return EXIT_SUCCESS;
  }
  std::fprintf(stderr, "bulkhead-rules: %s\n", error.c_str());
  return EXIT_FAILURE;
}
