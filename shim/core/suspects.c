// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Calls that a crashed host had begun are issued again one at a time, so that the second crash
 * convicts the right one. First come, first served: a suspect stays in the queue until it leaves
 * the channel, by its deadline at the latest, and only the first in the queue is issued.
 */
#include "shim/core/internal.h"

void bh_suspect_join(struct bh_call *call)
{
	struct bh_channel *channel = call->channel;

	if (call->suspect)
		return;
	call->suspect = 1;
	bh_lock_take(&channel->lock);
	call->suspect_next = NULL;
	call->suspect_previous = channel->suspect_last;
	if (channel->suspect_last)
		channel->suspect_last->suspect_next = call;
	else
		channel->suspect_first = call;
	channel->suspect_last = call;
	bh_lock_drop(&channel->lock);
}

void bh_suspect_leave(struct bh_call *call)
{
	struct bh_channel *channel = call->channel;

	if (!call->suspect)
		return;
	call->suspect = 0;
	bh_lock_take(&channel->lock);
	if (call->suspect_previous)
		call->suspect_previous->suspect_next = call->suspect_next;
	else
		channel->suspect_first = call->suspect_next;
	if (call->suspect_next)
		call->suspect_next->suspect_previous = call->suspect_previous;
	else
		channel->suspect_last = call->suspect_previous;
	bh_lock_drop(&channel->lock);
	/* The lock's exchange is of the one order that bh_room_freed() needs, but its drop is not.
	 */
	bh_fence();
	bh_room_freed(channel);
}

void bh_suspect_abandoned(struct bh_call *call)
{
	struct bh_channel *channel = call->channel;

	if (!call->suspect)
		return;
	bh_lock_take(&channel->lock);
	channel->suspect_slot = call->slot;
	channel->suspect_ticket = call->ticket;
	bh_lock_drop(&channel->lock);
}

int bh_suspect_turn(struct bh_call *call)
{
	struct bh_channel *channel = call->channel;
	uint64_t ticket;
	uint32_t slot;
	int first;

	bh_lock_take(&channel->lock);
	first = channel->suspect_first == call;
	slot = channel->suspect_slot;
	ticket = channel->suspect_ticket;
	bh_lock_drop(&channel->lock);
	if (!first)
		return 0;
	return ticket == BH_TICKET_NONE || bh_slot_reclaim(channel, slot, ticket);
}
