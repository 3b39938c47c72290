/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Layout of the memory that one shim and one driver host share: the channel.
 *
 *   call region   written by the shim only; the host maps it read-only and can never do otherwise
 *     header | call slot [lanes * slots_per_lane] | call pool
 *   reply region  written by the host (and by the shim where a field says so)
 *     host line | words of the notification reader | reply slot [lanes * slots_per_lane] | reply
 *     pool
 *   notification region   see notification.h
 *
 * A call is a slot: call slot i and reply slot i belong together. The shim fills the call slot and
 * stores its ticket last, with release; the host answers by filling the reply slot and storing the
 * same ticket there, with release. A small call moves one line each way.
 *
 * Trust: the shim believes nothing in the reply region before it has copied and validated it, and
 * reads no geometry from either region: it keeps its own. The host reads the header once.
 *
 * Versioning: BH_ABI_VERSION changes when a field moves or changes its meaning. Reserved fields are
 * written as zero and ignored by readers.
 */
#ifndef BULKHEAD_IPC_ABI_CHANNEL_H_
#define BULKHEAD_IPC_ABI_CHANNEL_H_

#include "ipc/abi/callbacks.h"
#include "ipc/abi/types.h"

#define BH_CHANNEL_MAGIC 0x3148434448424b42ull /* "BKBHDCH1" read as little-endian bytes */
#define BH_ABI_VERSION 3u

#define BH_CHANNELS_MAX 8u /* of a shim: drivers that one call can visit */
#define BH_LANES_MAX 64u
#define BH_SLOTS_PER_LANE_MAX 64u
#define BH_WORKERS_MAX 16u
#define BH_OPENER_ROOT 1u
#define BH_POOL_CHUNK_BYTES 4096u
#define BH_POOL_CHUNKS_MAX 4096u /* 16 MiB for each direction */

/*
 * A ticket names one issue of one call in one slot: generation in the high half, a count that never
 * repeats within the slot in the low half. Two slots may hold the same ticket: where slots are
 * mixed, slot and ticket together name the issue. 0 is no ticket.
 */
#define BH_TICKET_NONE 0ull

static inline uint64_t bh_ticket_make(uint32_t generation, uint32_t count)
{
	return ((uint64_t)generation << 32) | count;
}

static inline uint32_t bh_ticket_generation(uint64_t ticket)
{
	return (uint32_t)(ticket >> 32);
}

/* First bytes of the call region. Written once by the shim, before the host gets the region. */
struct bh_channel_header {
	uint64_t magic;          /* BH_CHANNEL_MAGIC */
	uint32_t abi_version;    /* BH_ABI_VERSION */
	uint32_t lanes;          /* 1 .. BH_LANES_MAX */
	uint32_t slots_per_lane; /* 1 .. BH_SLOTS_PER_LANE_MAX */
	uint32_t call_chunks;    /* chunks in the call pool, 0 .. BH_POOL_CHUNKS_MAX */
	uint32_t reply_chunks;   /* chunks in the reply pool, 0 .. BH_POOL_CHUNKS_MAX */
	uint32_t reserved_flags; /* 0 */
	uint64_t call_bytes;     /* whole call region */
	uint64_t reply_bytes;    /* whole reply region */
	uint64_t notify_offset;  /* 0: the ring is a region of its own */
	uint64_t notify_bytes;   /* of the notification region (notification.h); 0: there is none */
};
BH_ASSERT_SIZE(struct bh_channel_header, 64);
BH_ASSERT_TRIVIAL(struct bh_channel_header);

enum bh_call_flags {
	BH_CALL_HAS_DESCRIPTOR = 1u << 0, /* the file was sent ahead on the descriptor socket */
	BH_CALL_HAS_PAYLOAD = 1u << 1,    /* payload_offset and payload_bytes are valid */
	BH_CALL_REISSUED = 1u << 2,       /* an earlier generation had this call */
};

/*
 * Four lines. Line 0 is all that a small call costs. Line 1 is read when the host asks for it.
 * Line 2 changes only when the caller goes to sleep, so that the host's look at it after every
 * reply finds it in its own cache. Line 3 is written and read only when there are more than
 * BH_INLINE_BYTES of arguments.
 */
struct bh_call_slot {
	/* line 0: shim writes, host reads */
	uint64_t ticket;     /* stored last, with release */
	uint16_t callback;   /* enum bh_callback */
	uint16_t args_bytes; /* 0 .. BH_ARGS_BYTES_MAX */
	uint16_t flags;      /* enum bh_call_flags */
	uint16_t ahead;      /* with a payload: its first chunk, to be fetched ahead of line 1 */
	uint8_t args[BH_INLINE_BYTES];
	/* line 1: shim writes, host reads */
	uint64_t call_id;        /* the same through every reissue; for logs and records */
	uint64_t deadline_ns;    /* CLOCK_MONOTONIC; this driver's share of the call's */
	uint64_t payload_offset; /* bytes from the start of the call pool */
	uint64_t payload_bytes;
	uint64_t reply_offset; /* bytes from the start of the reply pool: room lent for an answer */
	uint64_t reply_capacity; /* bytes of it; 0: answer inline only */
	uint32_t attempt;        /* 0 for the first issue */
	/*
	 * Whose call it is: a user id + 1, so that root is BH_OPENER_ROOT; 0: not known. A host
	 * whose driver takes long over calls serves openers in turn.
	 */
	uint32_t opener;
	/* Whose file it is about, likewise. Of no use to the host: the shim reads it again when the
	 * host has fallen. */
	uint32_t owner;
	uint32_t reserved2;
	/* line 2: shim writes, host reads */
	uint32_t caller_sleeps; /* not 0: after the reply, add 1 to the reply slot's bell and wake
				   it */
	uint32_t reserved3[15];
	/* line 3: shim writes, host reads */
	uint8_t more_args[BH_MORE_ARGS_BYTES]; /* what args has no room for */
};
BH_ASSERT_SIZE(struct bh_call_slot, 4 * BH_CACHE_LINE);
BH_ASSERT_OFFSET(struct bh_call_slot, args, 16);
BH_ASSERT_OFFSET(struct bh_call_slot, call_id, 64);
BH_ASSERT_OFFSET(struct bh_call_slot, caller_sleeps, 128);
BH_ASSERT_OFFSET(struct bh_call_slot, more_args, 192);
BH_ASSERT_TRIVIAL(struct bh_call_slot);

enum bh_reply_status {
	BH_REPLY_DONE = 1,     /* the driver answered; reply[] is valid */
	BH_REPLY_DECLINED = 2, /* the driver has no answer: the policy for "declined" applies */
};

/*
 * Four lines, in two pairs. Line 0 is all that a small answer costs. Line 2 changes with each call
 * too, but no shim polls it: it stays in the cache of the host's CPU.
 */
struct bh_reply_slot {
	/* line 0: host writes, shim reads */
	uint64_t ticket;      /* the call's ticket, stored last, with release */
	uint32_t status;      /* enum bh_reply_status */
	uint16_t reply_bytes; /* 0 .. BH_INLINE_BYTES */
	uint16_t reserved0;
	uint8_t reply[BH_INLINE_BYTES];
	/* line 1: touched only when the caller sleeps */
	uint32_t bell; /* futex word; host adds 1 after a reply, shim adds 1 to make callers look */
	uint32_t reserved1;
	uint64_t payload_bytes; /* host writes, before the ticket: bytes put at reply_offset */
	uint64_t reserved2[6];
	/* line 2 */
	/*
	 * Host writes, before the driver sees the call: the call's ticket. A call is in the
	 * driver's hands while this is its ticket and `ticket` is not. The shim reads it when a
	 * caller goes to sleep, when a call is overdue and when the host has died: which calls it
	 * had begun.
	 */
	uint64_t begun;
	uint64_t reserved3[7];
	/* line 3: keeps neighbours apart */
	uint64_t reserved4[8];
};
BH_ASSERT_SIZE(struct bh_reply_slot, 4 * BH_CACHE_LINE);
BH_ASSERT_OFFSET(struct bh_reply_slot, reply, 16);
BH_ASSERT_OFFSET(struct bh_reply_slot, bell, 64);
BH_ASSERT_OFFSET(struct bh_reply_slot, begun, 128);
BH_ASSERT_TRIVIAL(struct bh_reply_slot);

/* What a worker says that sleeps or is about to. */
enum bh_sleep {
	BH_AWAKE = 0,
	BH_SLEEPS = 1,
	BH_SLEEPS_BOUND = 2, /* and runs on no CPU but that of lane w, whose number is the same */
};

/*
 * First line of the reply region. Word w is worker w's, of enum bh_sleep (host writes). The shim
 * stores BH_AWAKE before it wakes the worker. Futex words.
 */
struct bh_host_line {
	union {
		uint32_t sleeping[BH_WORKERS_MAX];
		uint64_t sleeping_pairs[BH_WORKERS_MAX / 2]; /* for a look at all of them */
	};
};
BH_ASSERT_SIZE(struct bh_host_line, BH_CACHE_LINE);
BH_ASSERT_TRIVIAL(struct bh_host_line);

/* Capacity of a channel. Each side keeps a private, validated copy. */
struct bh_geometry {
	uint32_t lanes;
	uint32_t slots_per_lane;
	uint32_t call_chunks;
	uint32_t reply_chunks;
};

static inline int bh_geometry_valid(const struct bh_geometry *g)
{
	return g->lanes >= 1 && g->lanes <= BH_LANES_MAX && g->slots_per_lane >= 1 &&
	       g->slots_per_lane <= BH_SLOTS_PER_LANE_MAX && g->call_chunks <= BH_POOL_CHUNKS_MAX &&
	       g->reply_chunks <= BH_POOL_CHUNKS_MAX;
}

static inline uint32_t bh_slot_count(const struct bh_geometry *g)
{
	return g->lanes * g->slots_per_lane;
}

/* Slot i belongs to lane i / slots_per_lane. */
static inline size_t bh_call_slot_offset(uint32_t slot)
{
	return 4096 + (size_t)slot * sizeof(struct bh_call_slot);
}

static inline size_t bh_page_align(size_t bytes)
{
	return (bytes + 4095) & ~(size_t)4095;
}

static inline size_t bh_call_pool_offset(const struct bh_geometry *g)
{
	return bh_page_align(bh_call_slot_offset(bh_slot_count(g)));
}

static inline size_t bh_call_region_bytes(const struct bh_geometry *g)
{
	return bh_call_pool_offset(g) + (size_t)g->call_chunks * BH_POOL_CHUNK_BYTES;
}

static inline size_t bh_reply_slot_offset(uint32_t slot)
{
	return 4096 + (size_t)slot * sizeof(struct bh_reply_slot);
}

static inline size_t bh_reply_pool_offset(const struct bh_geometry *g)
{
	return bh_page_align(bh_reply_slot_offset(bh_slot_count(g)));
}

static inline size_t bh_reply_region_bytes(const struct bh_geometry *g)
{
	return bh_reply_pool_offset(g) + (size_t)g->reply_chunks * BH_POOL_CHUNK_BYTES;
}

/*
 * What goes ahead of a call with BH_CALL_HAS_DESCRIPTOR on the descriptor socket, with the file as
 * its one SCM_RIGHTS descriptor. The socket belongs to one generation.
 */
struct bh_descriptor_note {
	uint64_t ticket;
	uint32_t slot;
	uint32_t reserved;
};
BH_ASSERT_SIZE(struct bh_descriptor_note, 16);
BH_ASSERT_TRIVIAL(struct bh_descriptor_note);

#endif /* BULKHEAD_IPC_ABI_CHANNEL_H_ */
