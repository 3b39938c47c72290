// SPDX-License-Identifier: Apache-2.0
//
// A driver's manifest.json: what the driver is and what it may have. The fields and
// their bounds stand in docs/manifest.md. A manifest may come from a stranger: everything
// about it is checked, and each error names the field.
#ifndef BULKHEAD_HOST_SUPERVISOR_MANIFEST_H_
#define BULKHEAD_HOST_SUPERVISOR_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/supervisor/host_cgroup.h"
#include "host/supervisor/json_places.h"
#include "ipc/abi/channel_spec.h"
#include "ipc/abi/sets.h"

namespace bulkhead {

struct Manifest {
  std::string name;
  std::string version;
  std::string summary;
  std::string library;  // relative to the folder
  bh_callback_set callbacks = {};
  bh_callback_set notifications = {};
  uint32_t altitude = 1000;
  uint32_t channel_flags = BH_CHANNEL_FLAGS_DEFAULT;
  uint32_t workers = 2;
  uint32_t pending_calls_max = 0;  // calls that it may answer after their callback has returned
  uint32_t checkpoint_bytes = 0;
  uint32_t memory_mib_max = 1024;
  uint32_t start_within_s = 30;  // to load library and content, until it may be asked
  bool takes_content = false;    // it says something of content
  bool content_required = false;
  std::string content_default;  // relative to the folder; empty: none
  std::string options;
  std::vector<std::string> reads;   // absolute paths that its host may open for reading, with all
                                    // below, beside its own folder and content
  std::vector<std::string> writes;  // likewise, for writing, making and removing files
  uint32_t scratch_mib = 0;         // room for files of a host's own; 0: none
  uint32_t cpu_percent_max = 0;     // 100: one processor; 0: no limit

  std::string folder;  // where it was loaded from; empty for parsed text
  HostLimits Limits() const {
    return {.memory_bytes_max = uint64_t{memory_mib_max} << 20,
            .scratch_bytes_max = uint64_t{scratch_mib} << 20,
            .cpu_percent_max = cpu_percent_max};
  }
  std::string LibraryPath() const { return folder + "/" + library; }
};

// What is wrong with a manifest, and where that stands in it.
struct ManifestProblem {
  TextPlace place = {};
  std::string field = {};  // "content.required"; empty: the whole text
  std::string text;        // "must be true or false"
  std::string Sentence() const;
};

struct ManifestReading {
  Manifest manifest;                      // a field of which something is wrong has its default
  std::vector<ManifestProblem> problems;  // in their order in the text
};

// All that is wrong with it. A text that is not JSON has one problem.
ManifestReading ReadManifest(std::string_view text);
// InvalidArgument names the first field that is wrong and what it should be.
absl::StatusOr<Manifest> ParseManifest(std::string_view text);
// The text of `folder`/manifest.json, or more than ReadManifest() takes. NotFound when there is
// none.
absl::StatusOr<std::string> ManifestTextOf(const std::string& folder);
// The file's manifest; an error has its place and counts what else is wrong.
absl::StatusOr<Manifest> LoadManifest(const std::string& folder);
// Whether a driver can have this name: [a-z][a-z0-9-]{0,31}.
bool GoodDriverName(std::string_view name);
// A folder with a manifest, or the name of a driver in one of the search folders. NotFound says
// where was looked.
absl::StatusOr<Manifest> FindDriver(const std::string& name_or_folder,
                                    const std::vector<std::string>& search_folders);
// $BULKHEAD_DRIVERS (a list with ':'), then the folders beside the running program.
std::vector<std::string> DriverSearchFolders();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_MANIFEST_H_
