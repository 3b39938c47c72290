// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Payloads that their caller filled in place. The room of a loan has one owner at any time:
 *
 *   the caller   from bh_loan_take() to the start of a call with it
 *   the call     while no host has it: before its issue, between two issues, while another channel
 *                is asked
 *   the slot     while a host has it. It returns to the call with the answer, the host's end or its
 *                violation. It stays with the slot if the call has left the channel without an
 *                answer: that host may still read it. A call that goes on to another channel takes
 *                a copy along, in room of the same pool
 *
 * A payload is a loan if its address is inside the call pool.
 */
#include "shim/core/internal.h"

static uint64_t offset_of(const struct bh_channel *channel, const void *payload)
{
	return (size_t)payload -
	       (size_t)(channel->call_region + bh_call_pool_offset(&channel->geometry));
}

int bh_loan_is_of(const struct bh_channel *channel, const void *payload)
{
	return offset_of(channel, payload) <
	       (uint64_t)channel->call_pool.chunks * BH_POOL_CHUNK_BYTES;
}

static uint32_t first_chunk(const struct bh_channel *channel, const void *payload)
{
	return (uint32_t)(offset_of(channel, payload) / BH_POOL_CHUNK_BYTES);
}

void *bh_loan_take(struct bh_channel *channel, size_t bytes)
{
	const struct bh_platform *platform = channel->platform;
	uint64_t chunks = bh_chunks_for(bytes);
	uint32_t first;

	if (!bh_pool_fits(&channel->call_pool, chunks))
		return NULL;
	first = bh_pool_acquire(&channel->call_pool, (uint32_t)chunks,
				platform->cpu(platform->context) % channel->geometry.lanes,
				channel->geometry.lanes);
	if (first == BH_CHUNK_NONE)
		return NULL;
	return channel->call_region + bh_call_pool_offset(&channel->geometry) +
	       (size_t)first * BH_POOL_CHUNK_BYTES;
}

void bh_loan_drop(struct bh_channel *channel, const void *loan, size_t bytes)
{
	bh_pool_release(&channel->call_pool, first_chunk(channel, loan),
			(uint32_t)bh_chunks_for(bytes));
	bh_room_freed(channel);
}

void bh_loan_to_slot(const struct bh_call *call, struct bh_slot *s)
{
	s->call_first = (uint16_t)first_chunk(call->channel, call->payload);
	s->call_chunks = (uint16_t)bh_chunks_for(call->payload_bytes);
}

/* In place of a payload that could not be copied, with a size that fits nowhere. */
static const char lost_payload;

void bh_loan_stays(struct bh_call *call, int goes_on)
{
	const void *payload = call->payload;
	void *copy;

	if (!payload || !bh_loan_is_of(call->channel, payload))
		return;
	call->payload = NULL;
	if (!goes_on)
		return;
	copy = bh_loan_take(call->channel, call->payload_bytes);
	if (copy) {
		bh_copy(copy, payload, call->payload_bytes);
		call->payload = copy;
	} else {
		call->payload = &lost_payload;
		call->payload_bytes = ~(size_t)0;
	}
}

void bh_loan_end(struct bh_call *call)
{
	struct bh_channel *channel;
	uint32_t i;

	if (call->payload == &lost_payload)
		call->payload = NULL;
	for (i = 0; call->payload && i < call->shim->channel_count; i++) {
		channel = call->shim->channels[i];
		if (!bh_loan_is_of(channel, call->payload))
			continue;
		bh_loan_drop(channel, call->payload, call->payload_bytes);
		call->payload = NULL;
	}
}
