/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead/driver.h: the stable C ABI between a driver and its host.
 *
 * A driver is a shared object with one exported function, bulkhead_driver(). The host calls it
 * once, checks sizes and versions, calls start(), then the file callbacks from as many threads as
 * the manifest allows, then stop(). A driver may crash, hang or be killed at any moment: its
 * callers wait for the next generation, which the host starts with BH_START_CRASH_RESTART.
 *
 * Versioning: every struct that crosses this line begins with its size. A newer side only appends
 * fields; a field past the other side's size reads as zero. BULKHEAD_DRIVER_ABI changes only when
 * that can't be kept.
 *
 * The C++ face over this is <bulkhead/driver.hpp>.
 */
#ifndef BULKHEAD_DRIVER_H_
#define BULKHEAD_DRIVER_H_

#include <bulkhead/callbacks.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BULKHEAD_DRIVER_ABI 1u

/* Why the driver is being started. */
enum bulkhead_start_reason {
  BULKHEAD_START_COLD = 1,          /* the first generation */
  BULKHEAD_START_CRASH_RESTART = 2, /* the generation before crashed, hung or was killed */
  BULKHEAD_START_UPGRADE = 3,       /* new driver or new content; or back to the last good one */
};

enum bulkhead_verdict {
  BULKHEAD_ALLOW = 1,
  BULKHEAD_DENY = 2,
  BULKHEAD_DECLINE = 3, /* no opinion can be formed: the operator's policy for "declined" answers */
  BULKHEAD_PENDING = 4, /* later, by bulkhead_host.complete */
};

enum bulkhead_cacheability {
  BULKHEAD_CACHE_NOT = 0,
  BULKHEAD_CACHE_OBJECT = 1, /* holds until the object, the content or the driver changes */
};

enum bulkhead_log_level {
  BULKHEAD_LOG_DEBUG = 0,
  BULKHEAD_LOG_INFO = 1,
  BULKHEAD_LOG_WARNING = 2,
  BULKHEAD_LOG_ERROR = 3,
};

enum bulkhead_notification_cut {
  BULKHEAD_TEXT_CUT = 1, /* the end of text is missing */
  BULKHEAD_TEXT2_CUT = 2,
};

/*
 * Something that happened. Valid until the callback returns. Fields that the kind does not have are
 * 0. For the process kinds, pid and what goes with it are those of the process that was created,
 * executes or exits; otherwise of the one that did it.
 */
struct bulkhead_notification {
  uint32_t size;    /* sizeof(struct bulkhead_notification) of the host */
  uint32_t kind;    /* enum bulkhead_notification_kind; there may be ones that you don't know */
  uint64_t number;  /* counts what happened of the kinds that you want */
  uint64_t missed;  /* how many right before this one were lost: you read too slowly */
  uint64_t time_ns; /* CLOCK_MONOTONIC */
  uint32_t pid;
  uint32_t parent;
  uint64_t start_ns; /* of the process, CLOCK_BOOTTIME: pid and start name it for good */
  uint32_t uid;      /* UINT32_MAX when not known */
  uint32_t gid;
  uint64_t cgroup; /* id of its cgroup (v2) */
  uint64_t device; /* the file, or what the process runs */
  uint64_t inode;
  uint64_t change; /* as in bulkhead_file; 0 while somebody may still write */
  uint64_t length; /* bytes in the file */
  uint32_t inode_generation;
  uint32_t mode;      /* st_mode */
  uint32_t exit_code; /* as wait(2) gives it */
  uint32_t cut;       /* enum bulkhead_notification_cut */
  const char* text;   /* not terminated; a name is a courtesy: it may name another object already */
  size_t text_length;
  const char* text2;
  size_t text2_length;
};

/* Opaque to the driver: the call in hand. Valid until the callback returns; where it returns
 * BULKHEAD_PENDING, until the call is completed. */
struct bulkhead_call;

/* The file that a callback is about. Valid as long as its call. */
struct bulkhead_file {
  uint32_t size;      /* sizeof(struct bulkhead_file) of the host */
  int32_t descriptor; /* read-only, the host closes it; -1 when the driver did not ask for it */
  uint64_t device;    /* the object: device, inode and change */
  uint64_t inode;
  uint64_t change;     /* differs whenever the content may; 0: not known */
  uint64_t length;     /* bytes, when the call was made */
  uint32_t pid;        /* who asks */
  uint32_t uid;        /* UINT32_MAX when not known: fanotify tells the process only */
  uint32_t gid;        /* as uid */
  uint32_t open_flags; /* O_*; 0 when not known */
  const char* path;    /* not terminated; a courtesy: it may already name another object */
  size_t path_length;  /* 0 when not known */
  uint64_t call_id;    /* the same when the call comes again after a crash */
  uint32_t attempt;    /* 0, or how many generations had this call before */
  uint32_t reserved;
};

#define BULKHEAD_REASON_BYTES 40

struct bulkhead_answer {
  uint32_t size;         /* set by the host to what it reads; the driver leaves it */
  uint32_t verdict;      /* enum bulkhead_verdict; 0 is an error: logged once, and declines */
  uint32_t cacheability; /* enum bulkhead_cacheability */
  /*
   * With BULKHEAD_DENY: the errno that the caller gets; 0: EPERM. One of <errno.h>, but neither
   * ECHILD nor ESTALE, which make the kernel ask again: with one that it may not be, or beside
   * another verdict, the answer breaks the protocol. fanotify can't hand one on: EPERM there.
   */
  uint32_t error;
  /*
   * From here on only if `size` says so: an older host has less.
   * Why: the name of a threat, of a rule. Shown where calls are made (`bulkhead scan`); not
   * terminated. Bytes of it; what is beyond BULKHEAD_REASON_BYTES is cut. 0: none.
   */
  uint32_t reason_length;
  char reason[BULKHEAD_REASON_BYTES];
};

/* What the host does for the driver. Every function may be called from any driver thread. */
struct bulkhead_host {
  uint32_t size;
  uint32_t abi;
  void* context; /* first argument of every function */

  /* One line, at most 1,024 bytes, cut beyond. Never waits: a full queue drops and counts. */
  void (*log)(void* context, uint32_t level, const char* text, size_t length);
  /* Nanoseconds until this driver's deadline for the call; 0 when it has passed. */
  uint64_t (*time_left_ns)(void* context, const struct bulkhead_call* call);
  /*
   * The file's bytes, mapped read-only from the page cache; unmapped when the call has ended.
   * NULL with errno set (EBADF: the driver did not ask for descriptors; EINVAL: no such call). An
   * empty file gives a valid pointer and *length 0. Another process may truncate the file
   * meanwhile: touching pages past its new end raises SIGBUS, which ends this generation and not
   * the machine.
   */
  const void* (*map_file)(void* context, const struct bulkhead_call* call,
                          const struct bulkhead_file* file, size_t* length);
  /*
   * State that survives a restart: `checkpoint_bytes` (from the manifest, at most 1 MiB; 0, and
   * null, without that) of memory, zero at cold start, as the last generation left it after. It may
   * have died in mid-write: use save and load below for whole records.
   */
  void* checkpoint;
  size_t checkpoint_bytes;
  /* Saves a record whole or not at all. 0, or -1 with errno ENOSPC. Not for the path of a verdict.
   */
  int (*checkpoint_save)(void* context, const void* record, size_t bytes);
  /* Copies the last whole record; its length, 0 when there is none, -1 when `capacity` is too
   * small. */
  long (*checkpoint_load)(void* context, void* record, size_t capacity);

  /* From here on a host may be older: its struct ends before. */
  /*
   * Ends a call whose callback has returned BULKHEAD_PENDING, or is about to: from any thread, in
   * any order, once. Until then the call's file, its descriptor, path and mapping stay as they were
   * in the callback; the call keeps its deadline. 0, or -1 with errno: ESTALE (it is not pending:
   * completed before, or answered by its callback), EINVAL (no answer: the call stays pending),
   * ENOTSUP (the manifest's pending_calls_max is 0). Any handle that was ever handed out may be
   * given; one of a call that has ended reaches nothing.
   */
  int (*complete)(void* context, const struct bulkhead_call* call,
                  const struct bulkhead_answer* answer);
};

/* Ends a pending call; see bulkhead_host.complete. */
static inline int bulkhead_complete(const struct bulkhead_host* host,
                                    const struct bulkhead_call* call,
                                    const struct bulkhead_answer* answer) {
  if (host->size < offsetof(struct bulkhead_host, complete) + sizeof(host->complete)) {
    errno = ENOTSUP; /* an older host */
    return -1;
  }
  return host->complete(host->context, call, answer);
}

struct bulkhead_start {
  uint32_t size;
  uint32_t reason;     /* enum bulkhead_start_reason */
  uint32_t generation; /* counts up with every start */
  uint32_t workers;    /* threads that will call back at the same time */
  const char*
      content_path; /* folder with the driver's content (rules, models); "" when it has none */
  uint64_t content_version; /* grows with every content that is put in force */
  const char* options; /* the manifest's "options" text, for the driver's own use; "" when none */
  /* From here on a host may be older: its struct ends before. */
  uint32_t pending_calls_max; /* calls that may be pending at a time (BULKHEAD_PENDING); 0: none */
  uint32_t reserved;
};

/* How many calls the driver may have pending at a time. */
static inline uint32_t bulkhead_pending_calls_max(const struct bulkhead_start* start) {
  return start->size < offsetof(struct bulkhead_start, reserved) ? 0 : start->pending_calls_max;
}

/* What bulkhead_driver() returns: constant for the life of the process. */
struct bulkhead_driver_description {
  uint32_t size;    /* sizeof(struct bulkhead_driver_description) of the driver */
  uint32_t abi;     /* BULKHEAD_DRIVER_ABI */
  const char* name; /* as in the manifest */
  const char* version;
  /* Lists of BULKHEAD_ON_*, each ended by 0; NULL: an empty one. */
  const uint32_t* callbacks;
  const uint32_t* descriptors; /* of these, the ones that get the file as a descriptor */

  /*
   * Gets ready to answer; *state is handed to everything after. 0, or not 0 when the driver can't
   * serve, with a sentence for the operator in error (of error_bytes, terminated).
   */
  int (*start)(const struct bulkhead_host* host, const struct bulkhead_start* start, void** state,
               char* error, size_t error_bytes);
  /* No call is in hand or pending any more. May be NULL. */
  void (*stop)(void* state);

  /* Called from several threads at once. */
  void (*file_open)(void* state, const struct bulkhead_call* call, const struct bulkhead_file* file,
                    struct bulkhead_answer* answer);
  void (*file_exec)(void* state, const struct bulkhead_call* call, const struct bulkhead_file* file,
                    struct bulkhead_answer* answer);
  void (*file_access)(void* state, const struct bulkhead_call* call,
                      const struct bulkhead_file* file, struct bulkhead_answer* answer);

  /* From here on a driver may be older: its description ends before, and it is told nothing. */
  const uint32_t* notifications; /* of bulkhead_notification_kind, ended by 0; NULL: none */
  /*
   * From one thread, beside the callbacks above, in the order of the numbers. Whatever is not taken
   * in time is lost, and counted; a call is never delayed by it. What was in hand at a crash is not
   * told again.
   */
  void (*notify)(void* state, const struct bulkhead_notification* notification);
};

/* The driver's one exported function. */
#define BULKHEAD_DRIVER_ENTRY "bulkhead_driver"
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct bulkhead_driver_description*
bulkhead_driver(void);

#ifdef __cplusplus
}
#endif
#endif /* BULKHEAD_DRIVER_H_ */
