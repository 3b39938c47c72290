// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Objects that end hosts. A call is poison when it has used up its own budget of hosts; the next
 * call about the same object would use up as many. So an object is remembered, for the driver and
 * the content that fell over it and in the state in which it was: one strike for each host that
 * fell while it had nothing else in hand, or that held nothing else for as long as a call may take.
 * With the second strike it is convicted, and its calls are answered by policy. An answer wipes a
 * strike off.
 *
 * A wrong conviction denies a good file, so that there is none
 *   by a host that had other calls in hand: each of them may be the one,
 *   while the driver has answered nothing with its content, or after CONVICTED_MAX objects were
 *   convicted: then the fault is the driver's, which goes into quarantine.
 */
#include "shim/core/internal.h"

#define STRUCK BH_VERDICT_ALLOW
#define CONVICTED BH_VERDICT_DENY
#define CONVICTED_MAX 8u

static uint64_t answered_calls(struct bh_channel *channel)
{
	uint64_t sum = 0;
	uint32_t slot;

	for (slot = 0; slot < channel->slot_count; slot++)
		sum += bh_load_relaxed(&channel->slots[slot].answered);
	return sum;
}

int bh_poison_known(struct bh_channel *channel, struct bh_call *call)
{
	uint32_t error, found;

	found = bh_cache_find(&channel->poison, call, bh_load_relaxed(&channel->content_version), 0,
			      &error);
	call->struck = found == STRUCK;
	return found == CONVICTED;
}

/* REQUIRES: the lock. */
static void remember(struct bh_channel *channel, const struct bh_call *call, uint32_t what)
{
	struct bh_verdict_reply entry;

	entry.verdict = what;
	entry.cacheability = BH_CACHE_OBJECT;
	entry.error = 0;
	bh_cache_store(&channel->poison, call, call->content_version,
		       bh_ticket_generation(call->ticket), entry);
	bh_store_relaxed(&channel->poison_known, 1u);
}

int bh_poison_strike(struct bh_channel *channel, struct bh_call *call)
{
	uint64_t version = call->content_version;
	int convicted = 0;
	uint32_t error;

	bh_lock_take(&channel->lock);
	if (version == bh_load_relaxed(&channel->content_version) &&
	    !bh_load_relaxed(&channel->poison_void) &&
	    answered_calls(channel) != bh_load_relaxed(&channel->answered_before)) {
		convicted = bh_cache_find(&channel->poison, call, version, 0, &error) != 0;
		remember(channel, call, convicted ? CONVICTED : STRUCK);
		call->struck = 1;
		if (bh_cache_count(&channel->poison, version, CONVICTED) > CONVICTED_MAX) {
			bh_cache_clear(&channel->poison);
			bh_store_relaxed(&channel->poison_void, 1u);
			convicted = 0;
		}
	}
	bh_lock_drop(&channel->lock);
	return convicted;
}

void bh_poison_wipe(struct bh_channel *channel, struct bh_call *call)
{
	bh_lock_take(&channel->lock);
	remember(channel, call, 0);
	bh_lock_drop(&channel->lock);
}

uint32_t bh_poison_count(struct bh_channel *channel)
{
	return bh_cache_count(&channel->poison, bh_load_relaxed(&channel->content_version),
			      CONVICTED);
}

/* SUBTLE: a strike of the same moment is the old content's: it has another version. */
void bh_poison_new_content(struct bh_channel *channel)
{
	bh_store_relaxed(&channel->answered_before, answered_calls(channel));
	bh_store_relaxed(&channel->poison_void, 0u);
}

void bh_poison_forget(struct bh_channel *channel)
{
	bh_lock_take(&channel->lock);
	bh_cache_clear(&channel->poison);
	bh_store_relaxed(&channel->poison_void, 0u);
	bh_store_relaxed(&channel->poison_known, 0u);
	bh_lock_drop(&channel->lock);
}
