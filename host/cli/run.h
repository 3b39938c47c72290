// SPDX-License-Identifier: Apache-2.0
//
// bulkhead run: guards folders through fanotify, in the foreground, until Ctrl-C. And what talks to
// such an instance: status, content, release, stop.
#ifndef BULKHEAD_HOST_CLI_RUN_H_
#define BULKHEAD_HOST_CLI_RUN_H_

#include <functional>

#include "host/cli/program.h"
#include "host/cli/service_options.h"

namespace CLI {
class App;
}

namespace bulkhead {

// `defaults`: what the words don't say.
void AddRun(CLI::App& app, const Program& program, std::function<int()>* run,
            const ServiceOptions& defaults = {});

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_RUN_H_
