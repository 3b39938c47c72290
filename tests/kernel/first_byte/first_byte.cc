// SPDX-License-Identifier: Apache-2.0
//
// first-byte: denies files that begin with 'I', as long as they do, and files named *.keep while
// they are opened for writing; it declines *.none. A test that changes that byte can predict every
// answer.
#include <fcntl.h>
#include <unistd.h>
#include <bulkhead/driver.hpp>

class FirstByte : public bulkhead::Driver {
  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override { return Answer(file); }
  bulkhead::Verdict file_exec(const bulkhead::FileEvent& file) override { return Answer(file); }

  static bulkhead::Verdict Answer(const bulkhead::FileEvent& file) {
    if (file.path().ends_with(".keep") && (file.open_flags() & O_ACCMODE) != O_RDONLY) {
      return bulkhead::deny();
    }
    if (file.path().ends_with(".none")) return bulkhead::decline();
    char first = 0;
    if (pread(file.descriptor(), &first, 1, 0) < 0) return bulkhead::decline();
    return first == 'I' ? bulkhead::deny().cache() : bulkhead::allow().cache();
  }
};

BULKHEAD_DRIVER(FirstByte, "first-byte", "1.0.0", BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC,
                BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC)
