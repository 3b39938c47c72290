/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Notifications: what a driver sees without deciding. Each channel may have a ring for them, a
 * third region beside the two of channel.h. No caller waits for a notification and none travels in
 * a call's slot, so that a flood of them delays no verdict.
 *
 *   notification region   written by the shim only; the host maps it read-only
 *     header page | entry [entries]
 *   reply region, between the host line and the reply slots
 *     reader line | sleep line | told line
 *
 * Two counts. A position counts the entries that were put into the ring; entry p lies in place
 * p % entries. A number counts what happened, those that found no room included: where numbers
 * jump, notifications were lost, and the entry after the gap says how many. So what happened is, at
 * any time, what was put into the ring and what was lost, to the last one:
 *
 *     number of the last entry + lost after it = written + sum of lost[]
 *
 * The shim fills an entry and stores its `published` word last, with release; the host polls that
 * word of the next entry and nothing else. The host says how far it has read; the shim looks at
 * that only when the ring seems full, and believes it only as a distance: not behind what it said
 * before, not beyond what was written. A host that lies there loses its own notifications and
 * nothing else.
 *
 * Versioning: as in channel.h. Kinds are never reused.
 */
#ifndef BULKHEAD_IPC_ABI_NOTIFICATION_H_
#define BULKHEAD_IPC_ABI_NOTIFICATION_H_

#include "ipc/abi/channel.h"

#define BH_NOTIFICATION_MAGIC 0x31544e4448424b42ull /* "BKBHDNT1" read as little-endian bytes */
#define BH_NOTIFICATION_VERSION 1u

#define BH_NOTIFICATION_ENTRIES_MIN 64u
#define BH_NOTIFICATION_ENTRIES_MAX 65536u /* 32 MiB */
#define BH_NOTIFICATION_ENTRY_BYTES 512u
#define BH_NOTIFICATION_BODY_BYTES 48u
#define BH_NOTIFICATION_TEXT_BYTES 384u

enum bh_notification_kind {
#define BH_NOTIFICATION_ROW(klass, index, NAME, name, body, doc) \
	BH_NOTIFY_##NAME = BH_ID(BH_CLASS_##klass, index),
#include "ipc/abi/notifications.def"
};

enum bh_notification_flags {
	BH_NOTIFICATION_TEXT_CUT = 1u << 0, /* its end is missing */
	BH_NOTIFICATION_TEXT2_CUT = 1u << 1,
};

/* clang-format off */
/* Why a notification is not in the ring. Rows as in policy.h. */
#define BH_FOR_EACH_LOSS(X) \
	X(0, FULL, full, "the host reads too slowly") \
	X(1, ABSENT, absent, "no host serves, and the ring holds all that the next one can read") \
	X(2, CURSOR, cursor, "the host says that it has read what it can't have")
/* clang-format on */

#define BH_LOSS_ENUM_ROW(id, NAME, name, doc) BH_LOST_##NAME = (id),
enum bh_notification_loss {
	BH_FOR_EACH_LOSS(BH_LOSS_ENUM_ROW)
};
enum {
	BH_LOST_COUNT = 0 BH_FOR_EACH_LOSS(BH_ROW_COUNT)
};
#define BH_LOST_MAX 6u /* room for causes to come */

/* Body of the file kinds. */
struct bh_notify_file {
	uint64_t device;     /* st_dev of the object */
	uint64_t inode;      /* st_ino */
	uint64_t change;     /* as in struct bh_file_args; 0 while the file is open for writing */
	uint64_t size;       /* bytes in the object */
	uint32_t generation; /* of the inode number: the same number may name another file later */
	uint32_t mode;       /* st_mode */
	uint64_t reserved;
};
BH_ASSERT_SIZE(struct bh_notify_file, BH_NOTIFICATION_BODY_BYTES);
BH_ASSERT_TRIVIAL(struct bh_notify_file);

/* Body of the process kinds: what the process runs; all 0 when not known. */
struct bh_notify_process {
	uint64_t device;
	uint64_t inode;
	uint64_t change;
	uint32_t exit_code; /* of an exit: as wait(2) gives it */
	uint32_t reserved;
	uint64_t reserved2[2];
};
BH_ASSERT_SIZE(struct bh_notify_process, BH_NOTIFICATION_BODY_BYTES);
BH_ASSERT_TRIVIAL(struct bh_notify_process);

/*
 * One notification. The shim writes, the host reads. The first line and the body are always
 * written; of the text only as much as there is: what is behind it is older.
 */
struct bh_notification_entry {
	/* line 0 */
	uint64_t published; /* its position + 1, stored last, with release; 0: never written */
	uint64_t number;    /* counts what happened, from 1 */
	uint64_t missed;    /* numbers right before this one that were lost */
	uint64_t time_ns;   /* CLOCK_MONOTONIC */
	/* The acting process; of the process kinds: the process that was created, executes or
	 * exits. */
	uint64_t start_ns; /* CLOCK_BOOTTIME of its start: pid and start name a process for good */
	uint64_t cgroup;   /* id of its cgroup (v2), 0 when not known */
	uint32_t pid;      /* thread group */
	uint32_t parent;   /* thread group of the parent */
	uint32_t uid;      /* effective; UINT32_MAX when not known */
	uint32_t gid;
	/* line 1 */
	uint16_t kind;  /* enum bh_notification_kind */
	uint16_t flags; /* enum bh_notification_flags */
	uint16_t text_bytes;
	uint16_t text2_bytes; /* right behind text */
	uint64_t reserved;
	uint8_t body[BH_NOTIFICATION_BODY_BYTES]; /* by the kind's class */
	/* lines 2 to 7 */
	uint8_t text[BH_NOTIFICATION_TEXT_BYTES]; /* not terminated; a courtesy, like a call's path
						   */
};
BH_ASSERT_SIZE(struct bh_notification_entry, BH_NOTIFICATION_ENTRY_BYTES);
BH_ASSERT_OFFSET(struct bh_notification_entry, kind, 64);
BH_ASSERT_OFFSET(struct bh_notification_entry, body, 80);
BH_ASSERT_OFFSET(struct bh_notification_entry, text, 128);
BH_ASSERT_TRIVIAL(struct bh_notification_entry);

/* First bytes of the notification region. */
struct bh_notification_header {
	/* line 0: written once by the shim, before the host gets the region */
	uint64_t magic; /* BH_NOTIFICATION_MAGIC */
	uint32_t version;
	uint32_t entries;     /* a power of two */
	uint32_t entry_bytes; /* BH_NOTIFICATION_ENTRY_BYTES */
	uint32_t reserved0;
	uint64_t bytes; /* of the whole region */
	uint64_t reserved1[4];
	/*
	 * line 1: the shim's, for a reader or writer that begins in the middle: the next host, and
	 * the shim that takes over from one that died. It is not polled.
	 */
	uint64_t written;  /* entries put into the ring, each counted before it is published */
	uint64_t accepted; /* how far the host has read, as the shim last believed it */
	uint64_t lost[BH_LOST_MAX];
};
BH_ASSERT_SIZE(struct bh_notification_header, 2 * BH_CACHE_LINE);
BH_ASSERT_OFFSET(struct bh_notification_header, written, 64);
BH_ASSERT_TRIVIAL(struct bh_notification_header);

/*
 * In the reply region. `read` changes now and then while the host reads, and a shim whose ring is
 * full looks at it each time; `sleeping` seldom changes, and the shim always looks at it; `told`
 * changes with each entry, and no shim ever looks at it. A pair of lines for each, as processors
 * fetch them.
 */
struct bh_notification_reader {
	/* host writes, shim reads */
	uint64_t read; /* entries before this position may be written over */
	uint64_t reserved0[15];
	/* 1 while the reader sleeps or is about to (host writes); the shim stores 0 before it wakes
	 * it. Futex word. */
	uint32_t sleeping;
	uint32_t reserved1[31];
	/*
	 * Host writes, the next host reads, and believes it where it can be: what stands before
	 * this position was given to the driver, which may have died of it. Not behind `read`.
	 */
	uint64_t told;
	uint64_t reserved2[15];
};
BH_ASSERT_SIZE(struct bh_notification_reader, 6 * BH_CACHE_LINE);
BH_ASSERT_OFFSET(struct bh_notification_reader, sleeping, 128);
BH_ASSERT_OFFSET(struct bh_notification_reader, told, 256);
BH_ASSERT_TRIVIAL(struct bh_notification_reader);

#define BH_NOTIFICATION_READER_OFFSET 2048u
BH_STATIC_ASSERT(sizeof(struct bh_host_line) <= BH_NOTIFICATION_READER_OFFSET,
		 "the host line reaches into the reader's");
BH_STATIC_ASSERT(BH_NOTIFICATION_READER_OFFSET + sizeof(struct bh_notification_reader) <= 4096,
		 "the reader's lines reach into the reply slots");

/* Where a number of a worker is asked for, this one means the reader of notifications. */
#define BH_WORKER_NOTIFICATIONS BH_WORKERS_MAX

/* 0 is valid: no ring. */
static inline int bh_notification_entries_valid(uint32_t entries)
{
	return entries == 0 ||
	       (entries >= BH_NOTIFICATION_ENTRIES_MIN && entries <= BH_NOTIFICATION_ENTRIES_MAX &&
		(entries & (entries - 1)) == 0);
}

static inline size_t bh_notification_region_bytes(uint32_t entries)
{
	return entries ? 4096 + (size_t)entries * BH_NOTIFICATION_ENTRY_BYTES : 0;
}

static inline size_t bh_notification_entry_offset(uint32_t entries, uint64_t position)
{
	return 4096 + (size_t)(position & (entries - 1)) * BH_NOTIFICATION_ENTRY_BYTES;
}

#endif /* BULKHEAD_IPC_ABI_NOTIFICATION_H_ */
