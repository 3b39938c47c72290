/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The core's private truth, and what its files owe each other. Nothing here is shared with a host.
 *
 * How the parts meet without a lock on a call's path:
 *
 *   issue against the end of a generation
 *     A caller stores its ticket in bh_slot.ticket, then looks at bh_channel.serving; the thread
 * that ends a generation clears `serving`, then looks at the tickets. All four are sequentially
 *     consistent, so at least one sees the other: either the call is found and gets its fate, or it
 *     backs out before the host could see it.
 *   abandon against the end of a generation
 *     The same, with bh_slot.abandoned and `ended`.
 *   room against the callers that wait for it
 *     A thread that frees a slot, chunks or the suspects' seat then looks at room_waiters; a
 *     waiter counts itself there, then tries again before it sleeps. One waiter of each queue is
 *     woken: a slot that it can't have, no other of that queue can; for chunks the others
 *     wait until more are freed. One that leaves with nothing wakes the next: it may have left
 *     with a wake.
 */
#ifndef BULKHEAD_SHIM_CORE_INTERNAL_H_
#define BULKHEAD_SHIM_CORE_INTERNAL_H_

#include "ipc/abi/atomics.h"
#include "shim/core/bh_lock.h"
#include "shim/core/bh_platform.h"
#include "shim/core/bulkhead_core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BH_SLOT_NONE 0xffffffffu
/* A time that is shorter is measured by the exact clock: the coarse one takes up to a tenth of it.
 */
#define BH_SHORT_NS (10ull * BH_COARSE_NS)
#define BH_CHUNK_NONE 0xffffffffu
#define BH_WAKE_ALL 0x7fffffff

/* Where a call is, named for what it waits for. The diagram is in call.c. */
enum bh_call_state {
	BH_CALL_START = 0,
	BH_CALL_NEED_HOST = 1,
	BH_CALL_NEED_SLOT = 2,
	BH_CALL_ISSUED = 3,
	BH_CALL_ENDED = 4,
};

/* What happened to an unanswered issue whose generation ended: the fate's low byte is enum bh_end.
 */
#define BH_FATE_BEGUN 0x100u
#define BH_FATE_VIOLATED 0x200u /* not to be used again before the generation has ended */

/*
 * One slot. The caller that took its bit out of the lane's free set owns it, and is the only
 * writer, except for `fate` (the thread that ends a generation) and `abandoned` (the thread that
 * exchanges it for 0 owns the slot).
 */
struct bh_slot {
	uint64_t ticket;    /* of the issue in flight; 0: none */
	uint64_t abandoned; /* ticket of an issue whose call ended without its answer; 0: none */
	uint32_t count;     /* low half of the last ticket */
	uint32_t fate;
	uint32_t issued; /* when, by bh_stamp(); 0: not known */
	uint32_t seen;   /* in the driver's hands, for the first time; 0: it was not */
	uint16_t call_first, call_chunks; /* payload lent to the host */
	uint16_t reply_first, reply_chunks;
	/* statistics of the common case, without an atomic add */
	uint64_t calls;
	uint64_t answered;
} BH_LINE_ALIGNED;
BH_ASSERT_SIZE(struct bh_slot, BH_CACHE_LINE);

/* Callers of one CPU. */
struct bh_lane {
	uint64_t free;         /* a bit for each slot; CAS */
	uint32_t spin_ns;      /* present spin budget */
	uint32_t spin_skipped; /* calls since the budget was 0 */
	/* which way of waking a host pays; see wake.c */
	uint32_t here_ns;         /* what a call takes that is handed over; 0: not known */
	uint32_t elsewhere_ns;    /* the same with a worker on another CPU; 0: not known */
	uint32_t elsewhere;       /* one more than the worker woken last on another CPU; 0: none */
	uint32_t elsewhere_took;  /* by the call it was woken for; 0: not known */
	uint32_t elsewhere_calls; /* that found it awake since then */
	uint32_t cold_calls;      /* of the present trial period */
	uint32_t trial_period;
	uint32_t way;      /* enum bh_way: that seems better */
	uint32_t untimed;  /* calls since one was timed */
	uint32_t answered; /* when the last answer was taken, by bh_stamp(); 0: none was */
	/* by enum bh_counter; what is not counted by lane stays 0 */
	uint64_t counter[BH_STATISTICS_WORDS] BH_LINE_ALIGNED;
} BH_LINE_ALIGNED;

/* Free chunks of one pool, a bit for each. Lock-free. */
struct bh_pool {
	uint32_t chunks;
	uint32_t words;
	uint64_t *free;
};

struct bh_cache_set;
struct bh_cache {
	struct bh_cache_set *sets; /* NULL: off */
	uint32_t set_mask;
	/*
	 * Verdicts that hosts up to this generation gave are not taken: it was convicted of
	 * breaking the protocol, and what it said before is worth no more.
	 */
	uint32_t distrusted;
};
/*
 * Callers that wait for a slot, for chunks, or for their turn as suspects. Those of one opener
 * share a queue, because they share its share; suspects have one of their own.
 */
struct bh_room_queue {
	uint32_t freed; /* private futex word: changes when a waiter should look again */
	uint32_t waiters;
	uint32_t opener; /* of its waiters, while `mixed` is 0 */
	uint32_t mixed;  /* not 0: of several; all are woken */
};
#define BH_ROOM_SUSPECTS 16u
#define BH_ROOM_QUEUES 17u
/* An object over which hosts fell. See poison.c. */
struct bh_poison {
	uint64_t device;
	uint64_t inode;          /* 0: the entry is free */
	uint64_t change;         /* of the conviction */
	uint64_t version;        /* of the content that fell last, */
	uint64_t version_before; /* and of the other one that fell; the same if there is none */
	uint64_t convicted;      /* not 0: it was */
	uint64_t order;          /* the last to fall has the highest */
};
#define BH_POISON_ENTRIES 16u
/* What a user opens of a user's files, when hosts fell over such calls. See users.c. */
struct bh_user {
	uint32_t opener;
	uint32_t owner;   /* BH_USER_ANY: whatever it opens */
	uint32_t strikes; /* 0: the entry is free */
	uint64_t fell_ns; /* the last time */
	uint64_t version; /* of the content that fell */
};
#define BH_USER_ENTRIES 64u

/* The writing side of the notification ring. See notify.c. */
struct bh_ring {
	/* written at set-up */
	uint8_t *region; /* NULL: there is none */
	struct bh_notification_reader *reader;
	uint32_t entries;
	uint32_t any;                 /* not 0: the driver wants some kind */
	struct bh_callback_set kinds; /* that the driver wants; read by every source */

	/* under the lock, which is its own: a flood meets no call there */
	struct bh_lock lock BH_LINE_ALIGNED;
	uint64_t written;
	uint64_t published;    /* of these; behind it is what is put in right now */
	uint64_t accepted;     /* how far the host has read; a lower bound */
	uint64_t lost_at_last; /* all that was lost before the last entry */
	uint64_t lost[BH_LOST_COUNT];
};

struct bh_channel {
	/* written at set-up */
	const struct bh_platform *platform;
	uint8_t *call_region;
	uint8_t *reply_region;
	struct bh_lane *lanes;
	struct bh_slot *slots;
	struct bh_geometry geometry;
	uint32_t slot_count;
	uint32_t lane_factor; /* for bh_lane_of() */
	uint32_t altitude;
	struct bh_callback_set callbacks;
	struct bh_callback_set descriptor_callbacks;
	uint32_t poison_crashes;
	uint32_t poison_kills;
	uint32_t spin_ns;
	uint32_t flags; /* enum bh_channel_flag */
	void *cookie;
	struct bh_pool call_pool;
	struct bh_pool reply_pool;
	struct bh_cache cache;

	/* read by every call, written when something changes */
	uint32_t serving BH_LINE_ALIGNED; /* generation that new issues go to; 0: none */
	uint32_t ended;           /* tickets of this generation and older will not be answered */
	uint32_t epoch;           /* private futex word: changes when a waiter should look again */
	uint32_t unserved_reason; /* enum bh_reason while no host serves */
	uint32_t quarantined;
	uint32_t guilt_known; /* entries of `poison` and `users` that are in use */
	uint32_t budget;      /* the longest visit of this generation's calls, in units of 2^20 ns,
			       * and 1; 0: none */
	uint32_t
		workers_known; /* one more than the highest worker of this generation seen asleep */
	uint64_t content_version;
	uint32_t mode;                                  /* enum bh_mode */
	uint16_t rule[BH_CLASS_COUNT][BH_REASON_COUNT]; /* action, fallback << 8 */

	/* written by callers that wait for room, and by threads that free it */
	uint32_t room_waiters BH_LINE_ALIGNED; /* in all queues */
	uint32_t abandoned_count;
	struct bh_room_queue room[BH_ROOM_QUEUES];
	uint64_t records_until_ns; /* see denial.c */

	/* under the lock */
	struct bh_lock lock BH_LINE_ALIGNED;
	uint32_t fallen;           /* generation that ended last */
	struct bh_in_hand in_hand; /* of its host */
	uint32_t living;           /* generation that has begun and not ended; 0: none */
	uint32_t highest;          /* generation that ever was */
	uint32_t adopted;    /* nothing has begun since the take-over: `highest` may begin again */
	uint32_t taken_over; /* there was one, ever */
	uint32_t detached;
	uint32_t draining;
	uint64_t generations;
	struct bh_call *suspect_first;
	struct bh_call *suspect_last;
	uint32_t suspect_slot;   /* of a suspect that ended while a host had it */
	uint64_t suspect_ticket; /* 0: none */

	/* written under the lock, inode and device read without */
	struct bh_poison poison[BH_POISON_ENTRIES] BH_LINE_ALIGNED;
	uint64_t poison_order;
	struct bh_user users[BH_USER_ENTRIES]; /* all but times read without */
	uint32_t users_known;                  /* entries of these that are in use; read without */
	uint64_t users_last_ns; /* when a host fell over one's calls last; likewise */

	struct bh_ring ring BH_LINE_ALIGNED;
};

static inline struct bh_call_slot *bh_call_slot_at(const struct bh_channel *channel, uint32_t slot)
{
	return (struct bh_call_slot *)(void *)(channel->call_region + bh_call_slot_offset(slot));
}

static inline struct bh_reply_slot *bh_reply_slot_at(const struct bh_channel *channel,
						     uint32_t slot)
{
	return (struct bh_reply_slot *)(void *)(channel->reply_region + bh_reply_slot_offset(slot));
}

/*
 * slot / slots_per_lane, on every call's path, without the division. Exact: the factor is 2^31 /
 * slots_per_lane rounded up, and slot * slots_per_lane stays far below 2^31.
 */
static inline uint32_t bh_lane_factor(uint32_t slots_per_lane)
{
	return ((1u << 31) + slots_per_lane - 1) / slots_per_lane;
}

static inline uint32_t bh_lane_of(const struct bh_channel *channel, uint32_t slot)
{
	return (uint32_t)(((uint64_t)slot * channel->lane_factor) >> 31);
}

static inline int bh_generation_ended(struct bh_channel *channel, uint64_t ticket)
{
	return bh_ticket_generation(ticket) <= bh_load(&channel->ended);
}

static inline void bh_count(struct bh_channel *channel, uint32_t lane, uint32_t counter)
{
	bh_add_relaxed(&channel->lanes[lane].counter[counter], 1u);
}

static inline void bh_count_sum(struct bh_channel *channel, uint32_t lane, uint32_t counter,
				uint64_t more)
{
	bh_add_relaxed(&channel->lanes[lane].counter[counter], more);
}

/* SUBTLE: for counters that only the owner of a slot writes: no other count is overwritten. */
static inline void bh_count_owned(uint64_t *counter)
{
	bh_store_relaxed(counter, bh_load_relaxed(counter) + 1);
}

/*
 * A time in units of about a millisecond, for what must fit into 32 bits: it comes round after 52
 * days, and is never 0. Of two stamps that are less than half of that apart, the difference says
 * which is later.
 */
static inline uint32_t bh_stamp(uint64_t ns)
{
	return (uint32_t)(ns >> 20) | 1u;
}
#define BH_STAMP_STEP 2        /* of two moments, stamps are wrong by less */
#define BH_STAMPS_AHEAD 65536u /* clocks and held-up threads differ by less: a minute */
static inline int bh_stamp_before(uint32_t stamp, uint32_t other)
{
	return (int32_t)(stamp - other) < 0;
}

/*
 * SUBTLE: callers of a lane overwrite each other's times. One that was held up must not put an old
 * time in a later one's place; a time that is far ahead is one of weeks ago.
 */
static inline void bh_answer_taken(struct bh_channel *channel, uint32_t lane, uint64_t now_ns)
{
	uint32_t *answered = &channel->lanes[lane].answered;
	uint32_t stamp = bh_stamp(now_ns);

	if (bh_load_relaxed(answered) - stamp - 1 >= BH_STAMPS_AHEAD)
		bh_store_relaxed(answered, stamp);
}

/* One word of the set, the id's class's. The bit is bh_set_bit() of the id. */
static inline int bh_set_has_bit(const struct bh_callback_set *set, uint32_t id, uint64_t bit)
{
	return (bh_load_relaxed(&set->bits[bh_callback_class(id)]) & bit) != 0;
}

/* SUBTLE: each word is stored by itself; a call looks at one word only. */
static inline void bh_set_store(struct bh_callback_set *set, const struct bh_callback_set *value)
{
	uint32_t klass;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		bh_store_relaxed(&set->bits[klass], value->bits[klass]);
}

/* channel.c */
/* Callers that wait for a host or for room look again. Call without the lock. */
void bh_channel_changed(struct bh_channel *channel);
/* The host of this generation broke the protocol: it gets no more calls. */
void bh_channel_detach(struct bh_channel *channel, uint32_t generation);
void bh_channel_event(struct bh_channel *channel, uint32_t event, uint32_t detail,
		      uint32_t generation, const struct bh_call *call);

/* notify.c */
void bh_ring_init(struct bh_channel *channel, const struct bh_channel_config *config);
void bh_ring_set_kinds(struct bh_channel *channel, const struct bh_callback_set *kinds);
void bh_ring_statistics(struct bh_channel *channel, struct bh_statistics *statistics);

/* slots.c */
/* A slot of the lane, or of another; BH_SLOT_NONE when all that this opener may have are in use. */
uint32_t bh_slot_acquire(struct bh_channel *channel, uint32_t lane, uint32_t opener);
/* Not 0: the host has other calls of this call's opener, which it has not answered; or was given as
 * many since this call came here as a quarter of a lane has slots: its opener had its turns. */
int bh_opener_crowds(struct bh_channel *channel, const struct bh_call *call);
/* REQUIRES: the caller owns the slot, and the host has answered or can't. */
void bh_slot_release(struct bh_channel *channel, uint32_t slot);
/* Gives a slot up whose host may still answer; it comes back when that has, or its generation
 * ended. */
void bh_slot_abandon(struct bh_channel *channel, uint32_t slot, uint64_t ticket, int violated);
/* Not 0: the slot is abandoned no more. */
int bh_slot_reclaim(struct bh_channel *channel, uint32_t slot, uint64_t ticket);
void bh_slots_reclaim(struct bh_channel *channel);
/* Something that others may wait for has become free. */
void bh_room_freed(struct bh_channel *channel);
/* All that wait for room look again. */
void bh_room_look_again(struct bh_channel *channel);
static inline uint32_t bh_room_queue_of(const struct bh_call *call)
{
	return bh_unlikely(call->suspect) ? BH_ROOM_SUSPECTS : call->opener % BH_ROOM_SUSPECTS;
}
/* The call waits in its queue from here on; it has to look once more before it sleeps. */
void bh_room_enter(struct bh_call *call);
/* REQUIRES: it is in a queue. `served`: it has what it waited for. */
void bh_room_leave(struct bh_call *call, int served);

/* pool.c */
void bh_pool_init(struct bh_pool *pool, uint64_t *words, uint32_t chunks);
static inline uint32_t bh_pool_words(uint32_t chunks)
{
	return (chunks + 63) / 64;
}
/* First of `chunks` neighbours, searched from the lane's own part on; BH_CHUNK_NONE when there are
 * none. */
uint32_t bh_pool_acquire(struct bh_pool *pool, uint32_t chunks, uint32_t lane, uint32_t lanes);
/* Takes these very chunks, for a take-over. -1 when one is not free or not there. */
int bh_pool_claim(struct bh_pool *pool, uint64_t first, uint64_t chunks);
/* Whether acquiring them would succeed now, if no other caller did. */
int bh_pool_has(const struct bh_pool *pool, uint32_t chunks);
void bh_pool_release(struct bh_pool *pool, uint32_t first, uint32_t chunks);
/* Whether it would fit into an empty pool. */
int bh_pool_fits(const struct bh_pool *pool, uint64_t chunks);

static inline uint64_t bh_chunks_for(uint64_t bytes)
{
	return bytes / BH_POOL_CHUNK_BYTES + (bytes % BH_POOL_CHUNK_BYTES != 0);
}

/* adopt.c, loan.c. Not in the kernel, where regions are not taken over and payloads are not filled
 * in place: what can't be reached there is not built there. */
#ifdef __KERNEL__
static inline void bh_channel_adopt(struct bh_channel *channel, uint32_t takeover)
{
}
static inline int bh_loan_is_of(const struct bh_channel *channel, const void *payload)
{
	return 0;
}
static inline void bh_loan_to_slot(const struct bh_call *call, struct bh_slot *s)
{
}
static inline void bh_loan_stays(struct bh_call *call, int goes_on)
{
}
static inline void bh_loan_end(struct bh_call *call)
{
}
#else
void bh_channel_adopt(struct bh_channel *channel, uint32_t takeover);
/* Whether it stands in the channel's call pool. REQUIRES: it is not NULL. */
int bh_loan_is_of(const struct bh_channel *channel, const void *payload);
/* The slot owns it. REQUIRES: it is of the call's channel. */
void bh_loan_to_slot(const struct bh_call *call, struct bh_slot *s);
/*
 * The slot keeps it. The call has a copy if it `goes_on`; without room for one, a payload that fits
 * nowhere, so that the channels that would need it are not asked.
 */
void bh_loan_stays(struct bh_call *call, int goes_on);
/* The call has ended: gives back what it has. */
void bh_loan_end(struct bh_call *call);
#endif
/* The call has it back, if the slot has it. Before the slot is released. */
static inline void bh_loan_to_call(const struct bh_call *call, struct bh_slot *s)
{
	if (s->call_chunks && bh_loan_is_of(call->channel, call->payload))
		s->call_chunks = 0;
}

/* policy.c */
/* enum bh_verdict, with a denial's errno in *error, or 0: hold. `final`: there is nothing to hold
 * for. *known: it is one that the driver gave for the object. */
uint32_t bh_policy_decide(struct bh_channel *channel, const struct bh_call *call, uint32_t reason,
			  int final, uint32_t *error, int *known);
/* Not 0: the rule for this reason is to wait. */
int bh_policy_holds(struct bh_channel *channel, uint32_t callback, uint32_t reason);
/* The verdict when there is neither an answer nor anything to wait for, nor to be looked up. */
uint32_t bh_policy_last_word(struct bh_channel *channel, uint32_t callback, uint32_t reason);
/* What a rule says after its comma. */
uint32_t bh_policy_fallback(struct bh_channel *channel, uint32_t callback, uint32_t reason);

/* denial.c */
/* Counts and records a denial by this channel. Not 0: it is audited, and denies nothing. */
BH_COLD int bh_denial_is_audited(struct bh_channel *channel, uint32_t lane,
				 const struct bh_call *call, uint32_t by, uint32_t reason,
				 uint64_t now_ns);

/* cache.c */
size_t bh_cache_bytes(uint32_t entries);
void bh_cache_init(struct bh_cache *cache, void *memory, uint32_t entries);
/* enum bh_verdict, with a denial's errno in *error, or 0: not known. `any_version`: verdicts of
 * other content will do. */
uint32_t bh_cache_find(const struct bh_cache *cache, const struct bh_call *call, uint64_t version,
		       int any_version, uint32_t *error);
/* `generation`: of the host that gave it. */
void bh_cache_store(struct bh_cache *cache, const struct bh_call *call, uint64_t version,
		    uint32_t generation, struct bh_verdict_reply verdict);

/* poison.c */
enum bh_guilt {
	BH_INNOCENT, /* nothing is known of the object */
	BH_STRUCK, /* hosts fell over it, but it is not convicted in this state and by this content
		    */
	BH_CONVICTED, /* its calls are answered by policy */
};
/* What is known of the call's object. */
enum bh_guilt bh_poison_find(struct bh_channel *channel, const struct bh_call *call);
/* A host fell over, or hung with, what is in this slot and nothing else. Not 0: the object is
 * convicted now. REQUIRES: the lock. */
int bh_poison_strike(struct bh_channel *channel, uint32_t slot);
/* Whether a fall over a file of this owner may be the file's doing, or its users'. REQUIRES: the
 * lock. */
int bh_may_blame(const struct bh_channel *channel, uint32_t owner);
/* A call about a struck object was answered. */
void bh_poison_wipe(struct bh_channel *channel, const struct bh_call *call);
/* How many are convicted of the present content. REQUIRES: the lock. */
uint32_t bh_poison_count(const struct bh_channel *channel);

/* users.c */
/* A host of this generation fell: charges the users of the calls that it had in hand, and writes
 * them into channel->in_hand. Where one of them may not be blamed, that explains nothing.
 * REQUIRES: the lock. */
void bh_users_blame(struct bh_channel *channel, uint32_t generation, int violated, uint64_t now_ns);
/* Not 0: calls with this opener about files of this owner are convicted; BH_STRUCK: or a host fell
 * over one within the last minute; of an unknown opener: over anybody's. */
int bh_user_is(struct bh_channel *channel, uint32_t opener, uint32_t owner, enum bh_guilt guilt,
	       uint64_t now_ns);
/* As an owner is told apart from others. */
static inline uint32_t bh_owner_of(uint32_t owner)
{
	return owner < BH_USER_BEYOND ? owner : BH_USER_BEYOND;
}
/* How many entries are convicted now: (opener, owner) pairs, and openers. REQUIRES: the lock. */
uint32_t bh_users_count(const struct bh_channel *channel, uint64_t now_ns);
/* REQUIRES: the lock. */
void bh_users_forget(struct bh_channel *channel);

/* issue.c */
enum bh_issue_result {
	BH_ISSUE_DONE,
	BH_ISSUE_NO_ROOM,            /* slot or payload */
	BH_ISSUE_NO_DESCRIPTOR_ROOM, /* it is not announced when there is */
	BH_ISSUE_NEVER_FITS,
	BH_ISSUE_NO_DESCRIPTOR, /* it can't be sent, ever */
	BH_ISSUE_NO_HOST,       /* the generation ended meanwhile */
};
enum bh_issue_result bh_issue(struct bh_call *call, uint32_t generation, uint64_t now_ns);

/* wake.c */
enum bh_way {
	BH_WAY_NONE, /* no worker was woken, or it makes no difference */
	BH_WAY_HERE, /* a worker bound to the caller's CPU, which the caller is to leave to it */
	BH_WAY_ELSEWHERE, /* instead of that one, a worker bound to another CPU */
};
/* After an issue: wakes a worker unless one is awake that will look. */
void bh_wake_for(struct bh_call *call);
/* It was answered, and `way` is not BH_WAY_NONE. */
void bh_wake_learn(struct bh_call *call);
/* A worker beside the home worker, unless the driver has the call in hand. */
void bh_wake_another(struct bh_channel *channel, const struct bh_call *call);
/* Makes the sleeping callers of this generation look again. */
void bh_ring_bells(struct bh_channel *channel, uint32_t generation);

/* blame.c */
/* Whether the driver has this issue in hand: begun and not answered. The host's word. */
int bh_begun(struct bh_channel *channel, uint32_t slot, uint64_t ticket);
/* What the driver had begun and not answered; `violated`: what it answered by breaking the
 * protocol, when its host ended for that. */
uint64_t bh_had_in_hand(struct bh_channel *channel, uint32_t slot, uint32_t generation,
			int violated);
/*
 * Whether the host of this generation hangs: it has had calls for as long as one may take, and has
 * answered none since; or the driver was seen to have one in hand for that long. That it says that
 * it is busy does not count for it.
 */
int bh_host_hangs(struct bh_channel *channel, uint32_t generation, uint64_t now_ns);
/* Writes the fate of each unanswered issue of this generation. Not 0: the object that was in hand
 * is convicted. REQUIRES: the lock. */
int bh_blame(struct bh_channel *channel, uint32_t generation, uint32_t end, uint64_t now_ns);
enum bh_charge {
	BH_CHARGE_REISSUE,
	BH_CHARGE_UNKNOWN, /* must not run twice */
	BH_CHARGE_POISON,
};
/* Charges a call with its fate and says what becomes of it. */
enum bh_charge bh_charge_call(struct bh_call *call, uint32_t fate);

/* suspects.c */
void bh_suspect_join(struct bh_call *call);
void bh_suspect_leave(struct bh_call *call);
/* Whether this suspect may be issued now. */
int bh_suspect_turn(struct bh_call *call);
/* A suspect ended while the host had it: no other has its turn before the host is done with it. */
void bh_suspect_abandoned(struct bh_call *call);

#ifdef __cplusplus
}
#endif
#endif /* BULKHEAD_SHIM_CORE_INTERNAL_H_ */
