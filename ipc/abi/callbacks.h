/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Callback ids, made from callbacks.def, and the argument and reply structs that travel inside a
 * call line.
 *
 * Ids are never reused. A shim answers an id that the driver did not register for without asking
 * it.
 */
#ifndef BULKHEAD_IPC_ABI_CALLBACKS_H_
#define BULKHEAD_IPC_ABI_CALLBACKS_H_

#include "ipc/abi/sets.h"
#include "ipc/abi/types.h"

enum bh_callback {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
	BH_CALLBACK_##NAME = BH_ID(BH_CLASS_##klass, index),
#include "ipc/abi/callbacks.def"
};

enum bh_callback_kind {
	BH_CALLBACK_UNKNOWN = 0,
	BH_CALLBACK_DECIDES = 1,  /* the reply begins with struct bh_verdict_reply */
	BH_CALLBACK_OPERATES = 2, /* the reply is a completion */
};

enum bh_callback_flags {
	/* The arguments are struct bh_file_args: a verdict may be cached for the object. */
	BH_CALLBACK_ABOUT_OBJECT = 1u << 0,
};

/* How a call may be repeated after the host that had it is gone. */
enum bh_reissue {
	BH_REISSUE_FREELY = 0,     /* deciding calls and idempotent I/O */
	BH_REISSUE_IF_UNBEGUN = 1, /* must not run twice */
};

/* What a callback's row says; for an id that is not known all of these are 0. */
static inline uint32_t bh_callback_kind(uint32_t callback)
{
	switch (callback) {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
	case BH_CALLBACK_##NAME: \
		return BH_CALLBACK_##kind;
#include "ipc/abi/callbacks.def"
	default:
		return BH_CALLBACK_UNKNOWN;
	}
}

static inline uint32_t bh_callback_flags(uint32_t callback)
{
	switch (callback) {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
	case BH_CALLBACK_##NAME: \
		return flags;
#include "ipc/abi/callbacks.def"
	default:
		return 0;
	}
}

static inline uint32_t bh_callback_reissue(uint32_t callback)
{
	switch (callback) {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
	case BH_CALLBACK_##NAME: \
		return BH_REISSUE_##reissue;
#include "ipc/abi/callbacks.def"
	default:
		return BH_REISSUE_FREELY;
	}
}

/* Bytes of arguments, and of reply, that travel in the line that also carries the ticket. */
#define BH_INLINE_BYTES 48
/* Bytes of arguments that do not fit there travel in a line of their own (bh_call_slot.more_args).
 */
#define BH_MORE_ARGS_BYTES 64
#define BH_ARGS_BYTES_MAX (BH_INLINE_BYTES + BH_MORE_ARGS_BYTES)

/*
 * Arguments of file_open, file_exec and file_access. Written by the shim, read by the host.
 * The path, when there is one, is the call's payload (not terminated, a courtesy: the verdict is
 * about the object, invariant 9). The object is (device, inode, change). `change` says nothing but
 * whether it is the same; 0: it may not tell the next content from this one, so no verdict is kept.
 */
struct bh_file_args {
	uint32_t pid;        /* thread group id of the caller, in the shim's pid namespace */
	uint32_t uid;        /* effective user id; UINT32_MAX when not known (fanotify) */
	uint64_t device;     /* st_dev of the object */
	uint64_t inode;      /* st_ino of the object */
	uint64_t change;     /* differs whenever the object's content may; 0: not known */
	uint64_t size;       /* bytes in the object when the call was made */
	uint32_t gid;        /* effective group id; UINT32_MAX when not known (fanotify) */
	uint32_t open_flags; /* O_* as the shim knows them; 0 when not known */
};
BH_ASSERT_SIZE(struct bh_file_args, BH_INLINE_BYTES);
BH_ASSERT_OFFSET(struct bh_file_args, open_flags, 44);
BH_ASSERT_TRIVIAL(struct bh_file_args);

enum bh_verdict {
	BH_VERDICT_ALLOW = 1, /* 0 is no verdict: a zeroed reply must not read as permission */
	BH_VERDICT_DENY = 2,
};

enum bh_cacheability {
	BH_CACHE_NOT = 0,    /* ask again next time */
	BH_CACHE_OBJECT = 1, /* holds until the object changes, or the content or driver does */
};

/*
 * Reply to a deciding call. Written by the host, validated by the shim. Behind it, in the rest of
 * the line, may stand why the driver decided so: up to BH_VERDICT_REASON_BYTES of text, without an
 * end mark. Any bytes: whoever shows them replaces what a terminal would obey.
 */
struct bh_verdict_reply {
	uint32_t verdict;      /* enum bh_verdict */
	uint16_t cacheability; /* enum bh_cacheability */
	uint16_t error;        /* of a denial: the errno that the caller gets; 0: EPERM */
};
BH_ASSERT_SIZE(struct bh_verdict_reply, 8);
BH_ASSERT_TRIVIAL(struct bh_verdict_reply);
#define BH_VERDICT_REASON_BYTES (BH_INLINE_BYTES - sizeof(struct bh_verdict_reply))

#define BH_ERROR_MAX 133u /* EHWPOISON, the last that programs know */

/*
 * Whether a kernel may hand this errno of a denial on to its caller; 0 is the default. ECHILD and
 * ESTALE are none: the kernel takes them for a reason to look the name up and ask once more. Nor
 * are those above BH_ERROR_MAX, which mean things inside the kernel.
 */
static inline int bh_error_valid(uint32_t error)
{
	return error <= BH_ERROR_MAX && error != 10 /* ECHILD */ && error != 116 /* ESTALE */;
}

#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
	BH_STATIC_ASSERT(sizeof(struct bh_##args) <= BH_INLINE_BYTES && \
				 sizeof(struct bh_##reply) <= BH_INLINE_BYTES, \
			 #name ": arguments and reply must fit a line"); \
	BH_STATIC_ASSERT((index) >= 1 && (index) <= BH_IDS_PER_CLASS, \
			 #name ": a class has room for 64");
#include "ipc/abi/callbacks.def"

#endif /* BULKHEAD_IPC_ABI_CALLBACKS_H_ */
