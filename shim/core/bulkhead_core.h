/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The shim's core: what it knows about every call, and the one place that decides about it.
 *
 *   shim        an ordered stack of channels; a call visits them by altitude, the first denial wins
 *   visit       a call's time at one channel: an equal share of what the call has left
 *   channel     one driver's shared memory and the shim's private truth about it
 *   call        one callback that waits for an answer; it ends exactly once, by its deadline
 *   step        looks at a call, moves it as far as it can go, and says what to wait for
 *
 * Freestanding C11: no libc, no allocation after set-up, everything else comes in through
 * struct bh_platform. The same sources build into the user-mode library and the kernel module,
 * which goes without adopt.c and loan.c.
 *
 * Invariants:
 *   1. bh_call_step() never waits, and ends every call whose deadline has passed.
 *   2. Nothing in the reply region is believed before it was copied to private memory and checked.
 *   3. Geometry, tickets, states, payload ownership and deadlines are private to the shim.
 *   4. A slot whose call ended without its answer is not used again before the host has answered
 *      the old ticket or its generation has ended.
 *
 * Threads: any number of callers, each stepping its own calls, beside any number of threads that
 * call bh_channel_*(). One call is stepped by one thread at a time.
 */
#ifndef BULKHEAD_SHIM_CORE_BULKHEAD_CORE_H_
#define BULKHEAD_SHIM_CORE_BULKHEAD_CORE_H_

#include "ipc/abi/channel_spec.h"
#include "ipc/abi/denial.h"
#include "ipc/abi/end.h"
#include "ipc/abi/events.h"
#include "ipc/abi/generation.h"
#include "ipc/abi/notification.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/statistics.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BH_NO_DEADLINE (~0ull)
#define BH_COARSE_NS 10000000u /* a tick of the slowest kernel */

struct bh_channel;
struct bh_call;

struct bh_denial_cause {
	uint32_t by;      /* enum bh_denied_by */
	uint32_t reason;  /* enum bh_reason, by policy */
	uint32_t audited; /* bits of enum bh_audited */
};

/* The world below. Functions may be called from any thread; none may call back into the core. */
struct bh_platform {
	void *context;
	uint64_t (*now_ns)(void *context); /* monotonic */
	/* The same clock read cheaply: never ahead of now_ns, behind it by BH_COARSE_NS at most. */
	uint64_t (*coarse_ns)(void *context);
	/*
	 * Sleep until *word != expected, a wake, until_ns, or a spurious reason. 0, or -1 when the
	 * caller is being killed and must not wait any longer. `word` is a bell in the reply region
	 * (shared) or a private word of the core.
	 */
	int (*wait)(void *context, uint32_t *word, uint32_t expected, int shared,
		    uint64_t until_ns);
	void (*wake)(void *context, uint32_t *word, int shared, int waiters);
	/*
	 * Send the call's file ahead of a ticket to the host of the channel's present generation.
	 * Must not wait. 0, -1 when there is no room now, -2 when it can never be sent.
	 */
	int (*send_descriptor)(void *context, void *channel_cookie, uint32_t slot, uint64_t ticket,
			       const struct bh_call *call);
	void (*event)(void *context, void *channel_cookie, uint32_t event, uint32_t detail,
		      uint32_t generation, uint64_t call_id);
	/*
	 * A call is denied, or would be (audited): for bh_denial_fill(). In the caller's context,
	 * before the caller goes on; a bounded number of times a second for each channel. Must not
	 * wait. 0, or -1 when there is no room for a record. NULL: none are kept.
	 */
	int (*denied)(void *context, void *channel_cookie, const struct bh_call *call,
		      const struct bh_denial_cause *cause);
	/*
	 * Of the calls of a CPU, one in so many is timed; 0: none. A timed call looks at now_ns
	 * twice more.
	 */
	uint32_t timed_every;
	/* Index of the CPU that runs the caller, for the choice of a lane. */
	uint32_t (*cpu)(void *context);
};

struct bh_channel_config {
	struct bh_channel_spec spec;
	struct bh_callback_set callbacks; /* until a generation begins; others pass without a call.
					   * Default: all, so that calls wait for the first host */
	struct bh_callback_set descriptor_callbacks; /* calls that carry the file to the host */
	uint32_t poison_crashes; /* hosts a call may crash or hang before it is poison; default 2 */
	uint32_t poison_kills;   /* the same for hosts killed from outside; default 16 */
	void *notify_region;     /* bh_notification_region_bytes(), zeroed unless adopted */
	uint32_t adopt;          /* not 0: which take-over of a dead shim's regions this is */
	void *cookie;            /* handed to the platform */
};

void bh_channel_config_default(struct bh_channel_config *config);

/* Bytes of private, zeroed, 64-byte aligned memory that the channel needs. 0: config is not valid.
 */
size_t bh_channel_private_bytes(const struct bh_channel_config *config);

/*
 * Lays a channel over its two regions (sizes: bh_call_region_bytes(), bh_reply_region_bytes()) and
 * its private memory; writes the header. With config.adopt, slots whose last ticket was not
 * answered stay abandoned until it is, and their payload stays lent. NULL when the config is not
 * valid. All memory is the caller's and must outlive the channel.
 */
struct bh_channel *bh_channel_init(void *private_memory, const struct bh_channel_config *config,
				   const struct bh_platform *platform, void *call_region,
				   void *reply_region);

/*
 * A host serves as the spec's generation (not 0, greater than any before) from here on; the one
 * before it ends with this if it has not. Draining and quarantine are over. -1 when the number is
 * not greater; right after a take-over, the generation that served then may begin again, and keeps
 * its calls.
 */
int bh_channel_begin_generation(struct bh_channel *channel, const struct bh_generation_spec *spec);

/*
 * The host of `generation` is dead (its parent has reaped it) or detached for good. Answers that it
 * stored before stay valid. Calls that it had begun are charged by `end`, then reissued to the next
 * generation by class. -1 when that generation does not serve.
 */
int bh_channel_end_generation(struct bh_channel *channel, uint32_t generation, uint32_t end);
/* What its host had in hand then; nothing for a driver that has never answered. -1: this generation
 * is not the one that ended last. */
int bh_channel_in_hand(struct bh_channel *channel, uint32_t generation, struct bh_in_hand *in_hand);

/* No host will come until further notice (crash loop, operator): "hold" no longer holds. */
void bh_channel_set_quarantined(struct bh_channel *channel, int quarantined);
/* An operator's word: objects that were convicted as poison get another chance. */
void bh_channel_forgive(struct bh_channel *channel);
/* No new calls reach the host; calls in flight go on. For an orderly stop. */
void bh_channel_set_draining(struct bh_channel *channel, int draining);
int bh_channel_set_policy(struct bh_channel *channel, const struct bh_policy *policy);
/*
 * What the next generation will want, before it begins: all of the spec but its number. Calls in
 * flight keep what they began with. bh_channel_begin_generation() does this by itself.
 */
void bh_channel_set_wanted(struct bh_channel *channel, const struct bh_generation_spec *spec);
/* Calls that a host has and has not answered. */
uint32_t bh_channel_in_flight(struct bh_channel *channel);

void bh_channel_statistics(struct bh_channel *channel, struct bh_statistics *statistics);

/* The stack of channels that a call visits. Add and remove only while no call is in flight. */
struct bh_shim {
	const struct bh_platform *platform;
	uint32_t channel_count;
	struct bh_channel *channels[BH_CHANNELS_MAX]; /* by altitude, highest first */
};
void bh_shim_init(struct bh_shim *shim, const struct bh_platform *platform);
int bh_shim_add(struct bh_shim *shim, struct bh_channel *channel); /* -1 when full */
#define BH_WANTS_CALL 1u /* some channel would be asked about this callback */
#define BH_WANTS_PATH 2u /* and look at the file's name, which is the call's payload */
/* Bits of these, or 0. */
uint32_t bh_shim_wants(const struct bh_shim *shim, uint32_t callback);
/* Not 0: a driver fell over calls of some users: whose a call is should be known when it starts. */
int bh_shim_suspects_users(const struct bh_shim *shim);

/*
 * One notification to be told. The source fills all of it, 0 where it knows nothing; texts are the
 * source's and need to last for the call only. What does not fit of them is cut.
 */
struct bh_notification {
	uint32_t kind; /* enum bh_notification_kind */
	uint32_t pid;
	uint32_t parent;
	uint32_t uid;
	uint32_t gid;
	uint64_t time_ns;
	uint64_t start_ns;
	uint64_t cgroup;
	union {
		struct bh_notify_file file;
		struct bh_notify_process process;
	} body;
	const char *text;
	size_t text_bytes;
	const char *text2;
	size_t text2_bytes;
};

/* Whether any channel wants notifications of this kind: to be asked before one is filled. */
int bh_shim_wants_notification(const struct bh_shim *shim, uint32_t kind);
/*
 * Tells each channel that wants it. From any thread and, in the kernel, any context, interrupts
 * too, but not under the lock of a run queue: it may wake a reader. Never sleeps; the work is
 * bounded. What finds no room is lost, and counted.
 */
void bh_shim_notify(const struct bh_shim *shim, const struct bh_notification *notification);
void bh_notify(struct bh_channel *channel, const struct bh_notification *notification);
/*
 * The same for several, in this order: the lock, the fence and the look for a sleeping reader once
 * for many, which can be read together. A reader that sleeps is woken behind the last one.
 */
void bh_shim_notify_many(const struct bh_shim *shim, const struct bh_notification *notifications,
			 size_t count);
void bh_notify_many(struct bh_channel *channel, const struct bh_notification *notifications,
		    size_t count);

/* How a call ended. */
enum bh_outcome {
	BH_OUTCOME_PENDING = 0,
	BH_OUTCOME_ANSWERED = 1,  /* by each driver that was asked, or the one that denied */
	BH_OUTCOME_CACHED = 2,    /* the same, the last of them from the cache */
	BH_OUTCOME_POLICY = 3,    /* by policy for some driver, and none denied; or by a denial of
				   * policy; `reason` says for what */
	BH_OUTCOME_UNASKED = 4,   /* no driver registered for it */
	BH_OUTCOME_CANCELLED = 5, /* the caller was killed while it waited */
	BH_OUTCOME_UNKNOWN = 6,   /* must not run twice, was begun, and its host died */
};

/*
 * One call. The caller owns the memory and keeps it until the call has ended; payload and
 * descriptor stay the caller's too (copied or duplicated as needed). Fill the whole input, start
 * it: the rest needs no value before.
 */
struct bh_call {
	/* input */
	uint32_t callback;
	uint32_t args_bytes;
	uint8_t args[BH_ARGS_BYTES_MAX];
	const void *payload; /* private memory, a loan, or NULL */
	size_t payload_bytes;
	size_t reply_capacity; /* room for an answer beyond the line; 0 for deciding calls */
	void *reply_payload;   /* where that answer is copied: reply_capacity bytes, or NULL */
	int descriptor;        /* the file, as send_descriptor() knows it; negative: none */
	uint32_t reissue;      /* enum bh_reissue */
	uint64_t deadline_ns;  /* monotonic */
	uint64_t call_id;      /* 0: the core numbers it when a host first gets it */
	/* Whose call it is, for the shares: a user id + 1. 0: not known; it has no share, and may
	 * take the last slot. */
	uint32_t opener;
	uint32_t owner;   /* whose file it is about, likewise */
	uint32_t audited; /* not 0: each guard that covers its object is audited. A denial of it is
			   * recorded, and not enforced */

	/* output, valid once outcome is not BH_OUTCOME_PENDING */
	uint32_t outcome; /* enum bh_outcome */
	uint32_t reason;  /* enum bh_reason, when by policy */
	uint32_t verdict; /* enum bh_verdict, for deciding calls always one of them */
	uint32_t error;   /* of a denial: the errno that its driver wants for it; 0: EPERM */
	uint32_t reply_bytes;
	uint8_t reply[BH_INLINE_BYTES];
	size_t reply_payload_bytes;
	uint32_t issues;   /* times it was given to a host */
	uint64_t ended_ns; /* the core's last look at the clock: BH_COARSE_NS old at most */

	/* the core's */
	struct bh_shim *shim;
	struct bh_channel *channel; /* the one that is being asked */
	uint32_t position;          /* of that channel in the stack */
	uint32_t state;             /* enum bh_call_state */
	uint32_t visit_outcome;     /* how the channels that were asked ended it, as `outcome` */
	uint32_t lane;
	uint32_t slot;
	uint32_t attempts; /* issues on this channel */
	uint32_t crashes;  /* hosts of this channel that it may have crashed */
	uint32_t kills;    /* hosts of this channel that were killed while they had it */
	uint32_t spurious_wakes;
	uint32_t bell;       /* what the bell read when the caller went to sleep */
	uint8_t counted;     /* in this channel's statistics */
	uint8_t announced;   /* as one that waits for room */
	uint8_t sleeping;    /* as one that sleeps on its reply */
	uint8_t looks;       /* at this issue, up to 2: then a second worker is woken for it */
	uint8_t suspect;     /* in the queue of those that are issued one at a time */
	uint8_t struck;      /* its object may have ended a host; see poison.c */
	uint8_t bell_broken; /* the host abuses the bell: never sleep on it again */
	uint8_t waits_here;  /* its caller has nothing else to do on its CPU until it ends */
	uint8_t way;         /* enum bh_way: how a host that slept was woken for this issue */
	uint64_t woken_ns;   /* right before that */
	uint64_t visit_ns;   /* when the visit of this channel began */
	uint64_t timed_ns;   /* the same, if this visit is timed; else 0 */
	uint64_t visit_deadline_ns; /* by which this channel must answer; else the next is asked */
	uint64_t ticket;
	uint64_t content_version; /* that the answer will be about */
	struct bh_call *suspect_previous;
	struct bh_call *suspect_next;
	struct bh_call
		*next; /* the caller's while the call is pending: e.g. a list of parked calls */
};

/*
 * Lends `bytes` of the channel's call pool to a caller, which fills them and makes them the payload
 * of one call, whole: payload is the loan, payload_bytes what was lent. The host reads them where
 * they are; other channels of the stack get a copy. The call's end gives the room back, or, where
 * the host has not answered, that host's end. A call that goes on without that host's answer needs
 * the same room again for those behind it; where there is none, it is `full` for them. NULL when
 * there is no room, or nothing is asked for.
 *
 * To be given back by bh_loan_drop() when no call was started with it. A call made while the loan
 * is being filled waits for room no longer than its deadline, as always.
 */
void *bh_loan_take(struct bh_channel *channel, size_t bytes);
void bh_loan_drop(struct bh_channel *channel, const void *loan, size_t bytes);

/* What to wait for before the next step. */
struct bh_wait {
	uint32_t *word; /* sleep while *word == expected; NULL when the call has ended */
	uint32_t expected;
	int shared;                 /* the word is in the reply region */
	uint64_t until_ns;          /* and never longer than this */
	const uint64_t *spin_word;  /* changes when the answer is there: poll it first; or NULL */
	uint64_t spin_value;        /* the value of it that means: step now */
	const uint32_t *spin_epoch; /* leave off spinning when it is no longer spin_epoch_value */
	uint32_t spin_epoch_value;
};

/* Begins a call on a shim; it is pending or has ended. */
void bh_call_start(struct bh_shim *shim, struct bh_call *call);
/*
 * Moves a started call past the channels that know its verdict. Not 0 when it has ended; else its
 * payload is needed from here on, and not before.
 */
int bh_call_try_caches(struct bh_call *call, uint64_t now_ns);
/* Moves it as far as it goes now. Not 0 when it has ended; else *wait is filled. */
int bh_call_step(struct bh_call *call, uint64_t now_ns, struct bh_wait *wait);
/*
 * Announces that the caller will sleep on wait->word, and looks again (the lost-wakeup check). Not
 * 0: do not sleep, step. After the sleep call bh_call_awake().
 */
int bh_call_will_sleep(struct bh_call *call, const struct bh_wait *wait);
void bh_call_awake(struct bh_call *call);
/* Whose call it is became known: it counts for that opener's share from here on. */
void bh_call_charge(struct bh_call *call, uint32_t opener);
/*
 * The verdict for a call that no driver is asked about, for want of room in the attachment:
 * BH_REASON_FULL or BH_REASON_CROWD. Denials are counted and recorded as ever; the call itself is
 * not changed, and may be pending.
 */
uint32_t bh_call_refuse(const struct bh_shim *shim, const struct bh_call *call, uint32_t reason);
/* All of a record but for what the call does not know of its process. */
void bh_denial_fill(struct bh_denial *denial, const struct bh_call *call,
		    const struct bh_denial_cause *cause);
/* The caller can't wait any longer: end it now, by BH_OUTCOME_CANCELLED. */
void bh_call_cancel(struct bh_call *call, uint64_t now_ns);
/* Start, spin within the adaptive budget, sleep and step until it has ended. */
void bh_call_run(struct bh_shim *shim, struct bh_call *call);
/* The same, and the caller has just looked at the clock for the deadline: coarsely will do. */
void bh_call_run_at(struct bh_shim *shim, struct bh_call *call, uint64_t now_ns);
/* The same for a call already started, but returns 0 when it is still pending at until_ns. */
int bh_call_run_until(struct bh_call *call, uint64_t until_ns);

#ifdef __cplusplus
}
#endif
#endif /* BULKHEAD_SHIM_CORE_BULKHEAD_CORE_H_ */
