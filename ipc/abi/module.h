/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What user mode says to the kernel module. Two kinds of descriptors:
 *
 *   control   /dev/bulkhead, for one supervisor at a time (CAP_SYS_ADMIN). read() gives struct
 *             bh_module_event, whole ones; it polls. Closed with no guard in force, all that was
 *             made through it goes. Closed with guards in force, as by the supervisor's death,
 *             guards, channels and policies stay: callers get what the policies say for a host that
 *             is not there, and the next process that opens it takes over. It adds its channels
 * (one that is what a channel left behind was continues that one, with the calls that wait in it)
 *             and its guards, and then drops the rest with BH_CONTROL_SETTLE. One whose guards
 *             change does the same with those: BH_CONTROL_LEAVE, its guards, BH_CONTROL_SETTLE.
 *   host      made by BH_CONTROL_HOST and handed to one driver host: it maps the channel, waits,
 *             wakes callers and fetches the files of calls that it was given; nothing else. When
 *             its last copy is closed, as at the host's death, its generation has ended.
 *
 * mmap of a host descriptor: the call region, read-only, at offset 0; the reply region at
 * BH_MODULE_REPLY_OFFSET; the notification region, read-only, at BH_MODULE_NOTIFY_OFFSET. Sizes:
 * bh_call_region_bytes() and bh_reply_region_bytes() of the geometry that BH_HOST_INFO gives.
 *
 * All fields are written by user mode and read by the kernel unless they say otherwise. Reserved
 * fields and unused bytes are 0, or the call fails with EINVAL.
 */
#ifndef BULKHEAD_IPC_ABI_MODULE_H_
#define BULKHEAD_IPC_ABI_MODULE_H_

#include "ipc/abi/channel.h"
#include "ipc/abi/denial.h"
#include "ipc/abi/end.h"
#include "ipc/abi/events.h"
#include "ipc/abi/generation.h"
#include "ipc/abi/channel_spec.h"
#include "ipc/abi/notification.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/statistics.h"

#ifdef __KERNEL__
#include <linux/ioctl.h>
#else
#include <sys/ioctl.h>
#endif

#define BH_MODULE_ABI 10u
#define BH_MODULE_REPLY_OFFSET (1ull << 32)
#define BH_MODULE_NOTIFY_OFFSET (2ull << 32)
#define BH_MODULE_NAME_BYTES 32
#define BH_MODULE_CHANNELS_MAX 8u
#define BH_MODULE_SKIPS 16
#define BH_MODULE_EXTENSIONS 32
#define BH_MODULE_EXTENSION_BYTES 16
#define BH_MODULE_ANY_OWNER 0xffffffffu

struct bh_module_add {
	uint32_t abi;                    /* BH_MODULE_ABI */
	char name[BH_MODULE_NAME_BYTES]; /* ends with 0 */
	struct bh_channel_spec spec;
	uint32_t channel;    /* the kernel writes: its number, below BH_MODULE_CHANNELS_MAX */
	uint32_t generation; /* 0; the kernel writes: the last that a channel left behind had */
};

struct bh_module_begin {
	uint32_t channel;
	uint32_t reserved;
	struct bh_generation_spec spec;
};

struct bh_module_end {
	uint32_t channel;
	uint32_t generation;
	uint32_t cause; /* enum bh_end */
	uint32_t reserved;
	struct bh_in_hand in_hand; /* the kernel writes: what its host had in hand */
};

struct bh_module_state {
	uint32_t channel;
	uint8_t quarantined;
	uint8_t draining;
	uint8_t reserved[2];
};

struct bh_module_set_policy {
	uint32_t channel;
	uint32_t reserved;
	struct bh_policy policy;
};

/* The kernel writes all but the channel. */
struct bh_module_statistics {
	uint32_t channel;
	uint32_t
		last_end; /* enum bh_end of the generation that ended last; BH_END_NONE: none did */
	uint64_t filtered; /* accesses that guards' filters kept from all channels */
	struct bh_statistics counters;
};

enum bh_module_guard_kind {
	BH_GUARD_TREE = 1,       /* what lies in or below the directory */
	BH_GUARD_MOUNT = 2,      /* what is reached through the mount */
	BH_GUARD_FILESYSTEM = 3, /* the file system, however it is reached */
};

/* How a file is opened. */
#define BH_MODE_READ 1u  /* not for writing */
#define BH_MODE_WRITE 2u /* for writing, maybe for reading too */

/* Which accesses to what is guarded are calls; the others go on unasked. All of it must hold. */
struct bh_module_filter {
	uint32_t modes;                /* bits of BH_MODE_*; 0: any */
	uint32_t owner;                /* uid of the file's owner, or BH_MODULE_ANY_OWNER */
	uint32_t skips;                /* directories in `skip`; their order says nothing */
	uint32_t extensions;           /* names in `extension`; 0: any, also none */
	int32_t skip[BH_MODULE_SKIPS]; /* descriptors; what lies in or below is not asked about */
	/* "exe": names that end with ".exe", in any case of ASCII letters. Each ends with 0. */
	char extension[BH_MODULE_EXTENSIONS][BH_MODULE_EXTENSION_BYTES];
};

#define BH_MODULE_DEADLINE_MAX_NS 600000000000ull

struct bh_module_guard {
	int32_t fd;    /* any file or directory there */
	uint32_t kind; /* enum bh_module_guard_kind */
	/* Takes the place of the guard that this supervisor set with the same id before, without a
	 * moment between them; 0: of none. For a place whose object is another one now. */
	uint32_t id;
	/* enum bh_mode. A file that several guards cover, whose filters let it through, is audited
	 * when each of them is. */
	uint32_t mode;
	/* That calls get, from their start; up to BH_MODULE_DEADLINE_MAX_NS. Where several guards
	 * cover a file and their filters let it through, the longest of theirs. */
	uint64_t deadline_ns;
	struct bh_callback_set callbacks; /* what is asked about here */
	struct bh_module_filter filter;
};

struct bh_module_pid {
	int32_t pid; /* thread group; in the caller's pid namespace */
	uint32_t reserved;
};

struct bh_module_event {
	uint32_t channel;
	uint32_t event; /* enum bh_event */
	uint32_t detail;
	uint32_t generation;
	uint64_t call_id;
	uint64_t lost; /* events that found no room before this one */
};

/* The kernel writes all. */
struct bh_module_denial {
	uint32_t channel;
	uint32_t reserved;
	struct bh_denial denial;
};

struct bh_module_host {
	uint32_t channel;
	uint32_t reserved;
};

struct bh_module_wait {
	uint32_t worker;
	uint32_t reserved;
	uint64_t until_ns; /* CLOCK_MONOTONIC; UINT64_MAX: for ever */
};

struct bh_module_fetch {
	uint64_t ticket;
	uint32_t slot;
	uint32_t reserved;
};

/* The kernel writes all. */
struct bh_module_ring {
	uint32_t entries; /* 0: the channel has no notification ring */
	uint32_t reserved;
};

#define BH_MODULE_IOC 0xB8

/* Control. EPERM, EINVAL, ENOMEM as ever. ENOENT: there is no such channel or generation. */
/*
 * A channel left behind is continued when all before `channel` is the same. ENOSPC: no room. EBUSY:
 * a host that was begun for the supervisor before still has it, and must end first.
 */
#define BH_CONTROL_ADD _IOWR(BH_MODULE_IOC, 1, struct bh_module_add)
#define BH_CONTROL_HOST _IOW(BH_MODULE_IOC, 2, struct bh_module_host)   /* returns a descriptor */
#define BH_CONTROL_BEGIN _IOW(BH_MODULE_IOC, 3, struct bh_module_begin) /* the last host made */
#define BH_CONTROL_END _IOWR(BH_MODULE_IOC, 4, struct bh_module_end)
#define BH_CONTROL_STATE _IOW(BH_MODULE_IOC, 5, struct bh_module_state)
#define BH_CONTROL_POLICY _IOW(BH_MODULE_IOC, 6, struct bh_module_set_policy)
#define BH_CONTROL_STATISTICS _IOWR(BH_MODULE_IOC, 7, struct bh_module_statistics)
#define BH_CONTROL_GUARD _IOW(BH_MODULE_IOC, 8, struct bh_module_guard) /* EOPNOTSUPP */
#define BH_CONTROL_UNGUARD _IO(BH_MODULE_IOC, 11) /* all: waiting callers are still answered */
#define BH_CONTROL_EXCLUDE _IOW(BH_MODULE_IOC, 9, struct bh_module_pid)
#define BH_CONTROL_INCLUDE _IOW(BH_MODULE_IOC, 10, struct bh_module_pid)
/*
 * Drops what is left of the supervisor before: guards that were not set again, channels that were
 * not continued. Callers that wait in those go on by policy.
 */
#define BH_CONTROL_SETTLE _IO(BH_MODULE_IOC, 20)
/* The guards of this supervisor count as those of one before: they stay in force until they are set
 * again, or are dropped with the rest. */
#define BH_CONTROL_LEAVE _IO(BH_MODULE_IOC, 22)

/* The oldest denial that was recorded and not fetched; EAGAIN: there is none. While there are some,
 * poll() says POLLPRI. What found no room is counted (unrecorded). */
#define BH_CONTROL_DENIAL _IOR(BH_MODULE_IOC, 21, struct bh_module_denial)

/* Host. */
#define BH_HOST_INFO _IOR(BH_MODULE_IOC, 32, struct bh_geometry)
/* Sleeps while the worker's sleeping word stays what it is and not 0. 0 or ETIMEDOUT or EINTR. */
#define BH_HOST_WAIT _IOW(BH_MODULE_IOC, 33, struct bh_module_wait)
/* Wakes the worker of this number: its sleeping word was set to 0. */
#define BH_HOST_WAKE _IO(BH_MODULE_IOC, 34)
/* Wakes the caller of this slot: its bell was changed. */
#define BH_HOST_RING _IO(BH_MODULE_IOC, 35)
/* Returns a read-only descriptor of the call's file. ENOENT: that call is not in the slot. */
#define BH_HOST_FETCH _IOW(BH_MODULE_IOC, 36, struct bh_module_fetch)
#define BH_HOST_RING_INFO _IOR(BH_MODULE_IOC, 48, struct bh_module_ring)

BH_ASSERT_SIZE(struct bh_module_add, 80 + sizeof(struct bh_policy));
BH_ASSERT_SIZE(struct bh_module_set_policy, 8 + sizeof(struct bh_policy));
BH_ASSERT_SIZE(struct bh_module_statistics, 16 + sizeof(struct bh_statistics));
BH_ASSERT_SIZE(struct bh_module_begin, 8 + sizeof(struct bh_generation_spec));
BH_ASSERT_SIZE(struct bh_module_end, 144);
BH_ASSERT_SIZE(struct bh_module_state, 8);
BH_ASSERT_SIZE(struct bh_module_filter, 592);
BH_ASSERT_SIZE(struct bh_module_guard, 616 + sizeof(struct bh_callback_set));
BH_ASSERT_SIZE(struct bh_module_event, 32);
BH_ASSERT_SIZE(struct bh_module_denial, 8 + sizeof(struct bh_denial));
BH_ASSERT_SIZE(struct bh_module_wait, 16);
BH_ASSERT_SIZE(struct bh_module_fetch, 16);
BH_ASSERT_SIZE(struct bh_module_ring, 8);

#endif /* BULKHEAD_IPC_ABI_MODULE_H_ */
