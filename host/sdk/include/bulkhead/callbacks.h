/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead/callbacks.h: what a driver can register for. Part of <bulkhead/driver.h>.
 * Made from ipc/abi/callbacks.def and notifications.def by cmake/dev/vocabulary.py.
 */
#ifndef BULKHEAD_CALLBACKS_H_
#define BULKHEAD_CALLBACKS_H_

/* clang-format off */
/* Callbacks: the driver answers, and a caller waits for it. */
enum bulkhead_callback {
  BULKHEAD_ON_FILE_OPEN = 0x0101, /* a file is about to be opened */
  BULKHEAD_ON_FILE_EXEC = 0x0102, /* a file is about to be opened for execution */
  BULKHEAD_ON_FILE_ACCESS = 0x0103, /* a file is about to be read */
};

/* The same by class, as X(NAME, name). */
#define BULKHEAD_FOR_EACH_FILE_CALLBACK(X) X(FILE_OPEN, file_open) X(FILE_EXEC, file_exec) X(FILE_ACCESS, file_access)

/* Notifications: the driver is not asked, and no caller waits. */
enum bulkhead_notification_kind {
  BULKHEAD_FILE_CREATED = 0x0101, /* a file was created */
  BULKHEAD_FILE_MODIFIED = 0x0102, /* a file was written to or truncated */
  BULKHEAD_FILE_WRITTEN = 0x0103, /* a file that was open for writing was closed */
  BULKHEAD_FILE_RENAMED = 0x0104, /* text is the old name, text2 the new one */
  BULKHEAD_FILE_DELETED = 0x0105, /* a file was deleted */
  BULKHEAD_PROCESS_CREATED = 0x0201, /* by fork, vfork or clone; not a thread */
  BULKHEAD_PROCESS_EXECUTED = 0x0202, /* text is the program, text2 its command line */
  BULKHEAD_PROCESS_EXITED = 0x0203, /* a process exited */
  BULKHEAD_MODULE_LOADED = 0x0301, /* text is the name of the kernel module */
};
/* clang-format on */

#endif /* BULKHEAD_CALLBACKS_H_ */
