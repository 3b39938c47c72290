/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead/testing.h: tests a driver in the test's own process, without root and without a shim in
 * the kernel. Link with Bulkhead::testing (CMake) or bulkhead-testing (pkg-config).
 *
 * The library is Bulkhead's own code: the driver is loaded and checked as bulkhead-host does it,
 * gets its calls from the same dispatcher over the same shared memory, and its answers are judged
 * by the same shim. What is not there: the sandbox, the driver's own user, and its limit of memory.
 * A debugger, a sanitizer and coverage see the driver, because it is in their process.
 *
 *   load -> start -> call, notify ... -> stop -> start (a restart) ... -> free
 *
 * One thread at a time may use a struct bulkhead_test. Errors are sentences, written to `error` (of
 * error_bytes, terminated); a function that fails returns -1 or NULL and changes nothing.
 *
 * The C++ face over this is <bulkhead/testing.hpp>. Structs begin with their size, as in driver.h.
 */
#ifndef BULKHEAD_TESTING_H_
#define BULKHEAD_TESTING_H_

#include <bulkhead/driver.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BULKHEAD_TESTING_EXPORT __attribute__((visibility("default")))
#else
#define BULKHEAD_TESTING_EXPORT
#endif

struct bulkhead_test;

struct bulkhead_test_setup {
  uint32_t size;
  /* 0, or in place of the manifest's; 1 makes the order of calls predictable. */
  uint32_t workers;
  /* A driver's folder: its manifest.json, library and default content. NULL: `library` alone, which
   * may then register for anything. */
  const char* folder;
  const char* library;
  const char* content; /* a folder; NULL: the manifest's default */
  const char* options; /* after the manifest's own */
  /* How long a call may take whose own deadline_ns is 0; 0: 5 s. */
  uint64_t deadline_ns;
  /* Only without a folder; else the manifest says them. */
  uint32_t pending_calls_max;
  uint32_t checkpoint_bytes;
};

/* Loads and checks the library, which runs its constructors and bulkhead_driver(). */
BULKHEAD_TESTING_EXPORT struct bulkhead_test* bulkhead_test_load(
    const struct bulkhead_test_setup* setup, char* error, size_t error_bytes);
/*
 * Stops the driver when it runs, unloads its library and frees the checkpoint. A driver that does
 * not stop within 10 s (a callback that hangs) ends the process, with a line on standard error: its
 * threads can't be ended otherwise.
 */
BULKHEAD_TESTING_EXPORT void bulkhead_test_free(struct bulkhead_test* test);

/* The next generation starts: `reason` is enum bulkhead_start_reason. -1: start() failed, and the
 * error is what it said. The library is loaded again where it was unloaded. */
BULKHEAD_TESTING_EXPORT int bulkhead_test_start(struct bulkhead_test* test, uint32_t reason,
                                                char* error, size_t error_bytes);
/*
 * As a host stops: no more calls, those in hand and pending are waited for, then stop(). The
 * checkpoint is kept for the next start. Then the library is unloaded, so that static data begins
 * anew, as in a new process; 1 when it was, 0 when it stays (a C++ library with symbols that are
 * unique in a process can't be unloaded; build with -fno-gnu-unique). -1: it does not stop within
 * 10 s.
 */
BULKHEAD_TESTING_EXPORT int bulkhead_test_stop(struct bulkhead_test* test, char* error,
                                               size_t error_bytes);

/* What a call or a notification is about. Fields that are not named are 0. */
struct bulkhead_test_call {
  uint32_t size;
  uint32_t callback; /* enum bulkhead_callback */
  /*
   * The file: a path, which is opened and described; or a descriptor, with a path as a courtesy.
   * With no_file the path is given as it is, nothing is opened, and the object is what device,
   * inode, change and length say.
   */
  const char* path;   /* may be NULL with a descriptor; not terminated */
  size_t path_length; /* 0: up to the terminating zero byte */
  int32_t descriptor; /* -1: none. Stays the caller's, who closes it when the call has ended */
  uint32_t no_file;
  uint64_t device;
  uint64_t inode;
  uint64_t change;
  uint64_t length;
  /* The opener. pid 0: the test's own process. */
  uint32_t pid;
  uint32_t uid; /* UINT32_MAX: not known */
  uint32_t gid;
  uint32_t open_flags;
  uint64_t deadline_ns; /* how long this call may take; 0: the setup's */
};

enum bulkhead_test_outcome {
  BULKHEAD_TEST_PENDING = 0,
  BULKHEAD_TEST_ANSWERED = 1,
  /* By decline(), an exception, an empty answer, or a PENDING that the manifest does not allow. */
  BULKHEAD_TEST_DECLINED = 2,
  /* No answer by its deadline. A host would be killed for it. */
  BULKHEAD_TEST_OVERDUE = 3,
  /* The answer breaks the protocol (an unknown verdict, an errno that no kernel takes). A host
   * would be killed for it; the driver gets no more calls until it is started again. */
  BULKHEAD_TEST_VIOLATION = 4,
  /* The driver did not register for this callback. */
  BULKHEAD_TEST_UNASKED = 5,
  BULKHEAD_TEST_CANCELLED = 6, /* by bulkhead_test_stop */
};
BULKHEAD_TESTING_EXPORT const char* bulkhead_test_outcome_name(uint32_t outcome); /* "answered" */

struct bulkhead_test_result {
  uint32_t size;
  uint32_t outcome; /* enum bulkhead_test_outcome */
  /* BULKHEAD_ALLOW or BULKHEAD_DENY: the driver's, or what the default policy makes of the outcome.
   */
  uint32_t verdict;
  int32_t error; /* of a denial: the errno that the caller gets */
  uint32_t cacheability;
  uint32_t reason_length;
  char reason[BULKHEAD_REASON_BYTES +
              1];   /* the driver's because(), or which violation; terminated */
  uint64_t took_ns; /* from the call to its end, CLOCK_MONOTONIC */
};

/* Makes a call and waits for its end. */
BULKHEAD_TESTING_EXPORT int bulkhead_test_make_call(struct bulkhead_test* test,
                                                    const struct bulkhead_test_call* call,
                                                    struct bulkhead_test_result* result,
                                                    char* error, size_t error_bytes);
/* Makes a call; *id names it for bulkhead_test_wait(). */
BULKHEAD_TESTING_EXPORT int bulkhead_test_begin(struct bulkhead_test* test,
                                                const struct bulkhead_test_call* call, uint64_t* id,
                                                char* error, size_t error_bytes);
/* 1: it has ended, *result is filled, the id is used up. 0: not within within_ns; the outcome is
 * pending. -1: no such call. A call ends at its deadline, whatever the driver does. */
BULKHEAD_TESTING_EXPORT int bulkhead_test_wait(struct bulkhead_test* test, uint64_t id,
                                               uint64_t within_ns,
                                               struct bulkhead_test_result* result);

/*
 * Tells the driver that something happened. `kind`, the process, the object, `text` and `text2` are
 * taken; `size` and `number` are set by the library; `time_ns` 0: now. With `missed` that many are
 * lost right before this one. Texts beyond 384 bytes together are cut, as in a kernel. The driver
 * must run and have registered for the kind.
 */
BULKHEAD_TESTING_EXPORT int bulkhead_test_notify(struct bulkhead_test* test,
                                                 const struct bulkhead_notification* notification,
                                                 char* error, size_t error_bytes);
/* Waits until notify() has returned for all that was told; -1: not within within_ns. */
BULKHEAD_TESTING_EXPORT int bulkhead_test_settle(struct bulkhead_test* test, uint64_t within_ns,
                                                 char* error, size_t error_bytes);

struct bulkhead_test_line {
  uint32_t size;
  uint32_t level;   /* enum bulkhead_log_level */
  uint64_t time_ns; /* CLOCK_REALTIME, when the driver said it */
  const char* text; /* terminated; valid until the log is cleared or the test freed */
  size_t length;
};

/* The log since the load, what the host says of the driver included. Its length. */
BULKHEAD_TESTING_EXPORT size_t bulkhead_test_log(struct bulkhead_test* test);
/* -1: there is no such line. */
BULKHEAD_TESTING_EXPORT int bulkhead_test_log_line(struct bulkhead_test* test, size_t index,
                                                   struct bulkhead_test_line* line);
BULKHEAD_TESTING_EXPORT void bulkhead_test_clear_log(struct bulkhead_test* test);
/* Lines that found no room: 256 were waiting. */
BULKHEAD_TESTING_EXPORT uint64_t bulkhead_test_log_dropped(struct bulkhead_test* test);

/*
 * Recordings: a file of events, one JSON object a line; docs/writing-a-driver.md has the fields.
 * Recording appends; replaying calls `on_result` with each call's result (NULL and NULL for a
 * notification), in the order of the file, and stops when it returns not 0. Relative paths in a
 * recording are relative to the recording's folder. Returns how many events were replayed; -1 with
 * the line's number in the error.
 */
BULKHEAD_TESTING_EXPORT int bulkhead_test_record_call(const char* path,
                                                      const struct bulkhead_test_call* call,
                                                      char* error, size_t error_bytes);
BULKHEAD_TESTING_EXPORT int bulkhead_test_record_notification(
    const char* path, const struct bulkhead_notification* notification, char* error,
    size_t error_bytes);
BULKHEAD_TESTING_EXPORT long bulkhead_test_replay(
    struct bulkhead_test* test, const char* path,
    int (*on_result)(void* context, const struct bulkhead_test_call* call,
                     const struct bulkhead_test_result* result),
    void* context, char* error, size_t error_bytes);

/* How a driver in a process of its own ended. Free it with bulkhead_test_end_free(). */
struct bulkhead_test_end {
  uint32_t size;
  int32_t signal;     /* 0: none */
  int32_t exit_code;  /* -1: a signal */
  uint32_t hung;      /* it did not end in time, and was killed */
  char* text;         /* "signal 11 (Segmentation fault)", "exit code 3" */
  char* last_lines;   /* of its log, a line each: "error: text" */
  char* error_output; /* the last 64 KiB */
};

/*
 * For a driver that is to crash, or hang: in a child process (fork) the driver is loaded from
 * `setup` and started, and `body` runs; when it returns, the driver is stopped, and the child ends
 * with what it returned as its exit code. -1: no child could be made. Bounded by within_ns.
 */
BULKHEAD_TESTING_EXPORT int bulkhead_test_in_child(const struct bulkhead_test_setup* setup,
                                                   int (*body)(struct bulkhead_test*, void*),
                                                   void* context, uint64_t within_ns,
                                                   struct bulkhead_test_end* end, char* error,
                                                   size_t error_bytes);
BULKHEAD_TESTING_EXPORT void bulkhead_test_end_free(struct bulkhead_test_end* end);

#ifdef __cplusplus
}
#endif
#endif /* BULKHEAD_TESTING_H_ */
