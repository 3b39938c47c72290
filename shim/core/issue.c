// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Giving a call to a host: a slot, room for payloads, the lines, the ticket, the wake. */
#include "shim/core/internal.h"

#define BLAME_MAX_NS (1ull << 50)

struct room {
	int loaned; /* the payload stands in the pool already */
	uint32_t call_chunks;
	uint32_t reply_chunks;
};

/*
 * Whether there is room, before anything is taken: a caller that takes a slot and gives it back for
 * want of payload room wakes the others that wait, and if each did so none would ever sleep.
 */
static enum bh_issue_result look_for_room(const struct bh_call *call, struct room *room)
{
	const struct bh_channel *channel = call->channel;
	uint64_t reply_chunks = bh_chunks_for(call->reply_capacity);
	uint64_t call_chunks = 0;

	room->call_chunks = 0;
	room->reply_chunks = 0;
	room->loaned = 0;
	if (!call->payload && !reply_chunks)
		return BH_ISSUE_DONE;
	room->loaned = call->payload && bh_loan_is_of(channel, call->payload);
	if (call->payload && !room->loaned)
		call_chunks = bh_chunks_for(call->payload_bytes);
	if (!bh_pool_fits(&channel->call_pool, call_chunks) ||
	    !bh_pool_fits(&channel->reply_pool, reply_chunks))
		return BH_ISSUE_NEVER_FITS;
	room->call_chunks = (uint32_t)call_chunks;
	room->reply_chunks = (uint32_t)reply_chunks;
	if ((call_chunks && !bh_pool_has(&channel->call_pool, room->call_chunks)) ||
	    (reply_chunks && !bh_pool_has(&channel->reply_pool, room->reply_chunks)))
		return BH_ISSUE_NO_ROOM;
	return BH_ISSUE_DONE;
}

/* Lends room in both pools to the slot, which gives back what it has when that fails. */
static enum bh_issue_result lend(const struct bh_call *call, const struct room *room,
				 struct bh_slot *s)
{
	struct bh_channel *channel = call->channel;
	uint32_t first;

	if (room->loaned)
		bh_loan_to_slot(call, s);
	if (room->call_chunks) {
		first = bh_pool_acquire(&channel->call_pool, room->call_chunks, call->lane,
					channel->geometry.lanes);
		if (first == BH_CHUNK_NONE)
			return BH_ISSUE_NO_ROOM;
		s->call_first = (uint16_t)first;
		s->call_chunks = (uint16_t)room->call_chunks;
	}
	if (room->reply_chunks) {
		first = bh_pool_acquire(&channel->reply_pool, room->reply_chunks, call->lane,
					channel->geometry.lanes);
		if (first == BH_CHUNK_NONE)
			return BH_ISSUE_NO_ROOM;
		s->reply_first = (uint16_t)first;
		s->reply_chunks = (uint16_t)room->reply_chunks;
	}
	return BH_ISSUE_DONE;
}

/* A number that stays with the call: position, generation, count and slot of its first issue. */
static uint64_t number(const struct bh_call *call, uint32_t slot, uint64_t ticket)
{
	return ((uint64_t)call->position << 61) |
	       ((uint64_t)(bh_ticket_generation(ticket) & 0x1ffff) << 44) |
	       ((ticket & 0xffffffffull) << 12) | slot;
}

static void fill(struct bh_call *call, const struct bh_slot *s, struct bh_call_slot *shared,
		 int with_descriptor)
{
	struct bh_channel *channel = call->channel;
	uint32_t flags = 0;

	if (with_descriptor)
		flags |= BH_CALL_HAS_DESCRIPTOR;
	if (call->attempts)
		flags |= BH_CALL_REISSUED;
	shared->call_id = call->call_id;
	shared->deadline_ns = call->visit_deadline_ns;
	shared->payload_offset = 0;
	shared->payload_bytes = 0;
	if (s->call_chunks) {
		flags |= BH_CALL_HAS_PAYLOAD;
		shared->ahead = s->call_first;
		shared->payload_offset = (uint64_t)s->call_first * BH_POOL_CHUNK_BYTES;
		shared->payload_bytes = call->payload_bytes;
		if (!bh_loan_is_of(channel, call->payload))
			bh_copy(channel->call_region + bh_call_pool_offset(&channel->geometry) +
					shared->payload_offset,
				call->payload, call->payload_bytes);
	}
	shared->reply_offset = (uint64_t)s->reply_first * BH_POOL_CHUNK_BYTES;
	shared->reply_capacity = s->reply_chunks ? call->reply_capacity : 0;
	shared->attempt = call->attempts;
	if (bh_load_relaxed(&shared->caller_sleeps))
		bh_store_relaxed(&shared->caller_sleeps, 0u);
	shared->callback = (uint16_t)call->callback;
	shared->args_bytes = (uint16_t)call->args_bytes;
	shared->flags = (uint16_t)flags;
	bh_copy_words(shared->args, call->args, BH_INLINE_BYTES);
	if (bh_unlikely(call->args_bytes > BH_INLINE_BYTES))
		bh_copy_words(shared->more_args, call->args + BH_INLINE_BYTES, BH_MORE_ARGS_BYTES);
}

/*
 * SUBTLE: the generation may end here and the next begin. The note then goes to a host that knows
 * no such ticket and drops it, and the call is found by its fate and issued again with another.
 */
static BH_COLD int send_descriptor(struct bh_call *call, uint32_t slot, uint64_t ticket)
{
	const struct bh_platform *platform = call->channel->platform;

	return platform->send_descriptor(platform->context, call->channel->cookie, slot, ticket,
					 call);
}

/* A host has as long as the longest of its calls may take before it is blamed for silence. */
static void note_budget(struct bh_channel *channel, const struct bh_call *call)
{
	uint64_t budget_ns = call->visit_deadline_ns - call->visit_ns;
	uint32_t budget = (uint32_t)(budget_ns >> 20) + 1;

	/* A call that may wait for ever says nothing of how long an answer takes. */
	if (budget_ns <= BLAME_MAX_NS && budget > bh_load_relaxed(&channel->budget))
		bh_store_relaxed(&channel->budget, budget);
}

enum bh_issue_result bh_issue(struct bh_call *call, uint32_t generation, uint64_t now_ns)
{
	struct bh_channel *channel = call->channel;
	int with_descriptor = call->descriptor >= 0 &&
			      bh_set_has_bit(&channel->descriptor_callbacks, call->callback,
					     bh_set_bit(call->callback));
	enum bh_issue_result result;
	struct bh_call_slot *shared;
	struct bh_slot *s;
	struct room room;
	uint64_t ticket;
	uint32_t slot;
	int sent = 0;

	result = look_for_room(call, &room);
	if (result != BH_ISSUE_DONE)
		return result;
	slot = bh_slot_acquire(channel, call->lane, call->opener);
	if (slot == BH_SLOT_NONE)
		return BH_ISSUE_NO_ROOM;
	s = &channel->slots[slot];
	shared = bh_call_slot_at(channel, slot);
	bh_store_relaxed(&shared->opener, call->opener);
	bh_store_relaxed(&shared->owner, call->owner);
	bh_store_relaxed(&s->fate, 0u);
	result = lend(call, &room, s);
	if (result != BH_ISSUE_DONE)
		goto give_back;

	bh_store_relaxed(&s->issued, bh_stamp(now_ns));
	bh_store_relaxed(&s->seen, 0u);
	note_budget(channel, call);
	ticket = bh_ticket_make(generation, ++s->count);
	bh_exchange(&s->ticket, ticket);
	result = BH_ISSUE_NO_HOST;
	if (bh_load(&channel->serving) != generation)
		goto give_back;

	if (!call->call_id)
		call->call_id = number(call, slot, ticket);
	fill(call, s, shared, with_descriptor);
	if (with_descriptor)
		sent = send_descriptor(call, slot, ticket);
	if (sent) {
		result = sent == -1 ? BH_ISSUE_NO_DESCRIPTOR_ROOM : BH_ISSUE_NO_DESCRIPTOR;
		goto give_back;
	}
	call->content_version = bh_load_relaxed(&channel->content_version);
	call->slot = slot;
	call->ticket = ticket;
	if (!call->counted) {
		call->counted = 1;
		bh_count_owned(&s->calls);
	}

	bh_store_release(&shared->ticket, ticket);
	/* A worker announces that it sleeps, fences, and looks at the slots: one of us sees the
	 * other. */
	bh_fence();
	bh_wake_for(call);

	if (call->attempts)
		bh_count(channel, call->lane, BH_COUNT_REISSUED);
	call->attempts++;
	call->issues++;
	call->looks = 0;
	call->spurious_wakes = 0;
	call->bell_broken = 0;
	return BH_ISSUE_DONE;

give_back:
	bh_loan_to_call(call, s);
	bh_slot_release(channel, slot);
	return result;
}
