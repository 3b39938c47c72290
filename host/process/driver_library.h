// SPDX-License-Identifier: Apache-2.0
//
// DriverLibrary: a driver's shared object, loaded and checked. Each way in which it can be wrong
// has an error text of its own, for the operator.
#ifndef BULKHEAD_HOST_PROCESS_DRIVER_LIBRARY_H_
#define BULKHEAD_HOST_PROCESS_DRIVER_LIBRARY_H_

#include <bulkhead/driver.h>

#include <string>

#include "absl/status/statusor.h"
#include "ipc/abi/sets.h"

namespace bulkhead {

class DriverLibrary {
 public:
  // Runs the library's constructors, and bulkhead_driver(). FailedPrecondition says what is wrong.
  // `name`, `callbacks` and `notifications` come from the manifest: the driver must have that name
  // (empty: whichever it has), and must not register for anything else. All that is wrong about
  // them is said at once.
  static absl::StatusOr<DriverLibrary> Load(const std::string& path, const std::string& name,
                                            const bh_callback_set& callbacks,
                                            const bh_callback_set& notifications = {});

  // For a process that outlives its driver (a vendor's test): every thread and pointer of the
  // driver's has gone. False: the library stays, and its static data with it, because it can't be
  // unloaded (it has symbols of the kind that is unique in a process), or is loaded elsewhere too.
  bool Unload();

  // A private copy; fields that the driver's version does not have are zero. Stays loaded until the
  // process ends, or Unload(): a driver's threads may run until then.
  const bulkhead_driver_description& description() const { return description_; }
  // What it registers for.
  const bh_callback_set& callbacks() const { return callbacks_; }
  const bh_callback_set& descriptors() const { return descriptors_; }
  const bh_callback_set& notifications() const { return notifications_; }

 private:
  std::string path_;
  void* library_ = nullptr;  // dlopen's
  bulkhead_driver_description description_ = {};
  bh_callback_set callbacks_ = {};
  bh_callback_set descriptors_ = {};
  bh_callback_set notifications_ = {};
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_DRIVER_LIBRARY_H_
