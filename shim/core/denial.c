// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Denials: each is counted, as one that was enforced or as one that an audited driver or guard
 * would have brought about, and recorded for the operator. Records are for readers, and any user
 * can cause denials without end: a channel records so many at a time and so many a second, and
 * counts the rest (BH_COUNT_UNRECORDED). Of the path of a call that is not denied nothing is here.
 */
#include "shim/core/internal.h"

#define RECORDS_AT_A_TIME 100u
#define RECORD_EVERY_NS 100000000u
/* A name that is longer is none: a payload that was lost (loan.c). */
#define NAME_BYTES_MAX 4096u

/*
 * One word is the whole account: until when the records that were taken last. A record takes
 * RECORD_EVERY_NS of it, from now on if that is past; RECORDS_AT_A_TIME of them may be taken ahead.
 *
 * SUBTLE: the word is loaded without an order, and may be old: then the exchange fails, and has the
 * one that is there. Nothing else is read because of it.
 */
static int may_record(struct bh_channel *channel, uint64_t now_ns)
{
	uint64_t until = bh_load_relaxed(&channel->records_until_ns);
	uint64_t from;

	do {
		from = until > now_ns ? until : now_ns;
		if (from - now_ns > (RECORDS_AT_A_TIME - 1) * (uint64_t)RECORD_EVERY_NS)
			return 0;
	} while (!bh_compare_exchange(&channel->records_until_ns, &until, from + RECORD_EVERY_NS));
	return 1;
}

BH_COLD int bh_denial_is_audited(struct bh_channel *channel, uint32_t lane,
				 const struct bh_call *call, uint32_t by, uint32_t reason,
				 uint64_t now_ns)
{
	const struct bh_platform *platform = channel->platform;
	struct bh_denial_cause cause;

	cause.by = by;
	cause.reason = by == BH_DENIED_BY_POLICY ? reason : 0;
	cause.audited = 0;
	/* SUBTLE: old or new, as if the policy had been set a moment later or sooner (channel.c).
	 */
	if (bh_load_relaxed(&channel->mode) == BH_MODE_AUDIT)
		cause.audited |= BH_AUDITED_DRIVER;
	if (call->audited)
		cause.audited |= BH_AUDITED_GUARD;
	bh_count(channel, lane, cause.audited ? BH_COUNT_WOULD_DENY : BH_COUNT_DENIED);
	if (platform->denied &&
	    (!may_record(channel, now_ns) ||
	     platform->denied(platform->context, channel->cookie, call, &cause)))
		bh_count(channel, lane, BH_COUNT_UNRECORDED);
	return cause.audited != 0;
}

uint32_t bh_call_refuse(const struct bh_shim *shim, const struct bh_call *call, uint32_t reason)
{
	const struct bh_platform *platform = shim->platform;
	uint64_t now_ns = platform->coarse_ns(platform->context);
	uint64_t bit = bh_set_bit(call->callback);
	uint32_t lane, i;

	for (i = 0; i < shim->channel_count; i++) {
		struct bh_channel *channel = shim->channels[i];

		if (!bh_set_has_bit(&channel->callbacks, call->callback, bit) ||
		    bh_policy_last_word(channel, call->callback, reason) == BH_VERDICT_ALLOW)
			continue;
		lane = platform->cpu(platform->context) % channel->geometry.lanes;
		if (!bh_denial_is_audited(channel, lane, call, BH_DENIED_BY_POLICY, reason, now_ns))
			return BH_VERDICT_DENY;
	}
	return BH_VERDICT_ALLOW;
}

/* The end of a text that is too long; the record is zeroed. */
static void take_end(char *to, size_t room, const uint8_t *from, size_t bytes)
{
	size_t i;

	if (bytes > room) {
		from += bytes - room;
		bytes = room;
	}
	for (i = 0; i < bytes; i++)
		to[i] = (char)from[i];
}

void bh_denial_fill(struct bh_denial *denial, const struct bh_call *call,
		    const struct bh_denial_cause *cause)
{
	struct bh_file_args args;

	bh_zero(denial, sizeof(*denial));
	denial->call_id = call->call_id;
	denial->callback = call->callback;
	denial->by = cause->by;
	denial->reason = cause->reason;
	denial->audited = cause->audited;
	denial->uid = ~0u;
	if (cause->by != BH_DENIED_BY_POLICY)
		denial->error = call->error;
	if (cause->by == BH_DENIED_BY_DRIVER) {
		denial->generation = bh_ticket_generation(call->ticket);
		if (call->reply_bytes > sizeof(struct bh_verdict_reply))
			take_end(denial->why, sizeof(denial->why),
				 call->reply + sizeof(struct bh_verdict_reply),
				 call->reply_bytes - sizeof(struct bh_verdict_reply));
	}
	if (!(bh_callback_flags(call->callback) & BH_CALLBACK_ABOUT_OBJECT) ||
	    call->args_bytes != sizeof(args))
		return;
	bh_copy(&args, call->args, sizeof(args));
	denial->device = args.device;
	denial->inode = args.inode;
	denial->pid = args.pid;
	denial->uid = args.uid;
	if (call->payload && call->payload_bytes <= NAME_BYTES_MAX)
		take_end(denial->path, sizeof(denial->path), call->payload, call->payload_bytes);
}
