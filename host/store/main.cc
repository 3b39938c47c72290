// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "host/store/descriptor_store.h"

namespace {

constexpr int kExitUsage = 2;
constexpr char kHelp[] =
    "Usage: bulkhead-fdstore [--service-fd N] PATH\n\n"
    "Holds descriptors for the bulkheadd that is connected to the socket PATH, or to the "
    "inherited\n"
    "descriptor N, and for the one after it: while it runs, hosts and shim outlive the service.\n"
    "It is started by bulkheadd, not by hand.\n";

}  // namespace

int main(int argc, char** argv) {
  int service = -1;
  std::string path;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") {
      std::fputs(kHelp, stdout);
      return EXIT_SUCCESS;
    }
    char* end = nullptr;
    if (word == "--service-fd" && i + 1 < argc) {
      service = static_cast<int>(std::strtol(argv[++i], &end, 10));
      if (*end != '\0' || fcntl(service, F_SETFD, FD_CLOEXEC) != 0) {
        std::fprintf(stderr, "bulkhead-fdstore: descriptor '%s' is not open\n", argv[i]);
        return kExitUsage;
      }
    } else if (path.empty() && word.starts_with('/')) {
      path = word;
    } else {
      std::fprintf(stderr, "bulkhead-fdstore: cannot use argument '%s'\n%s", argv[i], kHelp);
      return kExitUsage;
    }
  }
  if (path.empty()) {
    std::fprintf(stderr, "bulkhead-fdstore: the path of its socket is missing\n%s", kHelp);
    return kExitUsage;
  }
  return bulkhead::RunStore(path, bulkhead::UniqueFd(service));
}
