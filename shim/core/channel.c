// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * One driver's channel: its memory, and the generation that serves it.
 *
 * SUBTLE: what the operator or a host's end sets (policy, versions, callbacks, quarantine, the
 * reason why no host serves) is stored relaxed while calls read it. Each is one word: a call takes
 * the old or the new one, as if it had come a moment earlier or later, and waiting callers are told
 * to look again behind the store. What must not be missed (`serving`, `ended`) is exchanged.
 */
#include "shim/core/internal.h"

void bh_channel_config_default(struct bh_channel_config *config)
{
	bh_zero(config, sizeof(*config));
	bh_channel_spec_default(&config->spec);
	/* Until the first host has declared its callbacks, every call is for it: none passes
	 * unasked while the driver starts. */
	config->callbacks = bh_set_everything();
	config->poison_crashes = 2;
	config->poison_kills = 16;
}

/* Where things are in the private memory. */
struct layout {
	size_t lanes;
	size_t slots;
	size_t call_pool;
	size_t reply_pool;
	size_t cache;
	size_t bytes;
};

static size_t place(struct layout *layout, size_t bytes)
{
	size_t at = layout->bytes;

	layout->bytes = (at + bytes + BH_CACHE_LINE - 1) & ~(size_t)(BH_CACHE_LINE - 1);
	return at;
}

static int lay_out(const struct bh_channel_config *config, struct layout *layout)
{
	const struct bh_geometry *geometry = &config->spec.geometry;

	if (!bh_channel_spec_valid(&config->spec) || !config->poison_crashes ||
	    !config->poison_kills)
		return -1;
	layout->bytes = 0;
	place(layout, sizeof(struct bh_channel));
	layout->lanes = place(layout, geometry->lanes * sizeof(struct bh_lane));
	layout->slots = place(layout, bh_slot_count(geometry) * sizeof(struct bh_slot));
	layout->call_pool = place(layout, bh_pool_words(geometry->call_chunks) * sizeof(uint64_t));
	layout->reply_pool = place(layout,
				   bh_pool_words(geometry->reply_chunks) * sizeof(uint64_t));
	layout->cache = place(layout, bh_cache_bytes(config->spec.cache_entries));
	return 0;
}

size_t bh_channel_private_bytes(const struct bh_channel_config *config)
{
	struct layout layout;

	return lay_out(config, &layout) ? 0 : layout.bytes;
}

static void write_header(struct bh_channel *channel)
{
	struct bh_channel_header *header = (void *)channel->call_region;

	bh_zero(header, sizeof(*header));
	header->magic = BH_CHANNEL_MAGIC;
	header->abi_version = BH_ABI_VERSION;
	header->lanes = channel->geometry.lanes;
	header->slots_per_lane = channel->geometry.slots_per_lane;
	header->call_chunks = channel->geometry.call_chunks;
	header->reply_chunks = channel->geometry.reply_chunks;
	header->call_bytes = bh_call_region_bytes(&channel->geometry);
	header->reply_bytes = bh_reply_region_bytes(&channel->geometry);
	header->notify_bytes = bh_notification_region_bytes(channel->ring.entries);
}

static void store_policy(struct bh_channel *channel, const struct bh_policy *policy)
{
	const struct bh_rule *rule;
	uint32_t klass, reason;

	bh_store_relaxed(&channel->mode, (uint32_t)policy->mode);
	for (klass = 0; klass < BH_CLASS_COUNT; klass++) {
		for (reason = 0; reason < BH_REASON_COUNT; reason++) {
			rule = &policy->rule[klass][reason];
			bh_store_relaxed(&channel->rule[klass][reason],
					 (uint16_t)(rule->action | rule->fallback << 8));
		}
	}
}

struct bh_channel *bh_channel_init(void *private_memory, const struct bh_channel_config *config,
				   const struct bh_platform *platform, void *call_region,
				   void *reply_region)
{
	struct bh_channel *channel = private_memory;
	uint8_t *memory = private_memory;
	struct layout layout;
	uint32_t lane;

	if (!private_memory || !platform || !call_region || !reply_region ||
	    lay_out(config, &layout) || (config->spec.notify_entries && !config->notify_region))
		return NULL;
	channel->platform = platform;
	channel->call_region = call_region;
	channel->reply_region = reply_region;
	channel->lanes = (void *)(memory + layout.lanes);
	channel->slots = (void *)(memory + layout.slots);
	channel->geometry = config->spec.geometry;
	channel->slot_count = bh_slot_count(&config->spec.geometry);
	channel->lane_factor = bh_lane_factor(config->spec.geometry.slots_per_lane);
	channel->altitude = config->spec.altitude;
	channel->callbacks = config->callbacks;
	channel->descriptor_callbacks = config->descriptor_callbacks;
	channel->flags = config->spec.flags;
	channel->poison_crashes = config->poison_crashes;
	channel->poison_kills = config->poison_kills;
	channel->spin_ns = config->spec.spin_ns;
	channel->cookie = config->cookie;
	bh_pool_init(&channel->call_pool, (void *)(memory + layout.call_pool),
		     config->spec.geometry.call_chunks);
	bh_pool_init(&channel->reply_pool, (void *)(memory + layout.reply_pool),
		     config->spec.geometry.reply_chunks);
	bh_cache_init(&channel->cache, memory + layout.cache, config->spec.cache_entries);
	bh_lock_init(&channel->lock);
	store_policy(channel, &config->spec.policy);
	for (lane = 0; lane < config->spec.geometry.lanes; lane++) {
		channel->lanes[lane].free = ~0ull >> (64 - config->spec.geometry.slots_per_lane);
		channel->lanes[lane].spin_ns = config->spec.spin_ns;
	}
	bh_ring_init(channel, config);
	write_header(channel);
	if (config->adopt)
		bh_channel_adopt(channel, config->adopt);
	return channel;
}

void bh_channel_changed(struct bh_channel *channel)
{
	const struct bh_platform *platform = channel->platform;

	bh_add_fetch(&channel->epoch, 1u);
	platform->wake(platform->context, &channel->epoch, 0, BH_WAKE_ALL);
	bh_room_look_again(channel);
}

void bh_channel_event(struct bh_channel *channel, uint32_t event, uint32_t detail,
		      uint32_t generation, const struct bh_call *call)
{
	channel->platform->event(channel->platform->context, channel->cookie, event, detail,
				 generation, call->call_id);
}

/* REQUIRES: the lock. */
static void update_serving(struct bh_channel *channel)
{
	uint32_t serving = channel->detached || channel->draining ? 0 : channel->living;

	bh_exchange(&channel->serving, serving);
}

static uint32_t reason_after(uint32_t end)
{
	switch (end) {
	case BH_END_STOPPED:
		return BH_REASON_ABSENT;
	case BH_END_HUNG:
		return BH_REASON_HUNG;
	default:
		return BH_REASON_CRASHED;
	}
}

/* REQUIRES: the lock, and a living generation. Not 0: an object is convicted of its end. */
static int end_living(struct bh_channel *channel, uint32_t end, uint64_t now_ns)
{
	uint32_t generation = channel->living;
	int convicted;

	channel->living = 0;
	/* First no call is issued to it any more, then the calls that it has get their fates, then
	 * they may look. */
	update_serving(channel);
	convicted = bh_blame(channel, generation, end, now_ns);
	bh_exchange(&channel->ended, generation);
	if (end == BH_END_HOSTILE)
		bh_store_relaxed(&channel->cache.distrusted, generation);
	bh_store_relaxed(&channel->unserved_reason, reason_after(end));
	return convicted;
}

/* Of an object: its calls may all have gone. */
static void tell_conviction(struct bh_channel *channel, uint32_t generation)
{
	channel->platform->event(channel->platform->context, channel->cookie, BH_EVENT_POISON, 0,
				 generation, 0);
}

int bh_channel_end_generation(struct bh_channel *channel, uint32_t generation, uint32_t end)
{
	uint64_t now_ns = channel->platform->now_ns(channel->platform->context);
	int convicted;

	bh_lock_take(&channel->lock);
	if (!generation || channel->living != generation) {
		bh_lock_drop(&channel->lock);
		return -1;
	}
	convicted = end_living(channel, end, now_ns);
	bh_lock_drop(&channel->lock);

	if (convicted)
		tell_conviction(channel, generation);
	bh_slots_reclaim(channel);
	bh_ring_bells(channel, generation);
	bh_channel_changed(channel);
	return 0;
}

int bh_channel_in_hand(struct bh_channel *channel, uint32_t generation, struct bh_in_hand *in_hand)
{
	int found;

	bh_lock_take(&channel->lock);
	found = generation && channel->fallen == generation;
	if (found)
		*in_hand = channel->in_hand;
	bh_lock_drop(&channel->lock);
	return found ? 0 : -1;
}

/*
 * Tickets can be foretold. What a dead host answered to calls of generations after its own must not
 * be taken for their answers, nor what it stored in `begun` for calls that their host had. Its own
 * answers are older, and stay.
 */
static void forget_planted_words(struct bh_channel *channel, uint32_t generation)
{
	struct bh_reply_slot *reply;
	uint32_t slot;

	for (slot = 0; slot < channel->slot_count; slot++) {
		reply = bh_reply_slot_at(channel, slot);
		if (bh_ticket_generation(bh_load_relaxed(&reply->ticket)) >= generation)
			bh_store_release(&reply->ticket, BH_TICKET_NONE);
		if (bh_ticket_generation(bh_load_relaxed(&reply->begun)) >= generation)
			bh_store_relaxed(&reply->begun, BH_TICKET_NONE);
	}
}

void bh_channel_set_wanted(struct bh_channel *channel, const struct bh_generation_spec *spec)
{
	bh_set_store(&channel->callbacks, &spec->callbacks);
	bh_set_store(&channel->descriptor_callbacks, &spec->descriptor_callbacks);
	bh_ring_set_kinds(channel, &spec->notifications);
	bh_store_relaxed(&channel->content_version, spec->content_version);
}

int bh_channel_begin_generation(struct bh_channel *channel, const struct bh_generation_spec *spec)
{
	uint32_t generation = spec->generation;
	uint32_t previous;

	bh_lock_take(&channel->lock);
	if (!generation || generation < channel->highest ||
	    (generation == channel->highest && !channel->adopted)) {
		bh_lock_drop(&channel->lock);
		return -1;
	}
	previous = channel->living;
	if (previous)
		(void)end_living(channel, channel->detached ? BH_END_HOSTILE : BH_END_STOPPED, 0);
	/* Whatever an adopted channel's slots wait for of other generations will not come. */
	bh_exchange(&channel->ended, generation - 1);
	if (generation > channel->highest)
		forget_planted_words(channel, generation);
	/* Before it serves: nothing reaches the new host that it did not ask for, or is answered
	 * from what the content before it said. */
	bh_channel_set_wanted(channel, spec);
	channel->highest = generation;
	channel->living = generation;
	channel->adopted = 0;
	channel->detached = 0;
	bh_store_relaxed(&channel->draining, 0u);
	channel->generations++;
	bh_store_relaxed(&channel->workers_known, 0u);
	bh_store_relaxed(&channel->budget, 0u);
	bh_store_relaxed(&channel->quarantined, 0u);
	bh_store_relaxed(&channel->unserved_reason, (uint32_t)BH_REASON_ABSENT);
	update_serving(channel);
	bh_lock_drop(&channel->lock);

	bh_slots_reclaim(channel);
	if (previous)
		bh_ring_bells(channel, previous);
	bh_channel_changed(channel);
	return 0;
}

void bh_channel_detach(struct bh_channel *channel, uint32_t generation)
{
	bh_lock_take(&channel->lock);
	if (channel->living == generation) {
		channel->detached = 1;
		bh_store_relaxed(&channel->cache.distrusted, generation);
		bh_store_relaxed(&channel->unserved_reason, (uint32_t)BH_REASON_CRASHED);
		update_serving(channel);
	}
	bh_lock_drop(&channel->lock);
	bh_channel_changed(channel);
}

void bh_channel_set_quarantined(struct bh_channel *channel, int quarantined)
{
	bh_store_relaxed(&channel->quarantined, quarantined ? 1u : 0u);
	bh_channel_changed(channel);
}

void bh_channel_set_draining(struct bh_channel *channel, int draining)
{
	bh_lock_take(&channel->lock);
	bh_store_relaxed(&channel->draining, draining ? 1u : 0u);
	update_serving(channel);
	bh_lock_drop(&channel->lock);
	bh_channel_changed(channel);
}

int bh_channel_set_policy(struct bh_channel *channel, const struct bh_policy *policy)
{
	if (bh_policy_check(policy))
		return -1;
	store_policy(channel, policy);
	bh_channel_changed(channel);
	return 0;
}

void bh_shim_init(struct bh_shim *shim, const struct bh_platform *platform)
{
	bh_zero(shim, sizeof(*shim));
	shim->platform = platform;
}

int bh_shim_add(struct bh_shim *shim, struct bh_channel *channel)
{
	uint32_t at = shim->channel_count;

	if (at == BH_CHANNELS_MAX)
		return -1;
	for (; at && shim->channels[at - 1]->altitude < channel->altitude; at--)
		shim->channels[at] = shim->channels[at - 1];
	shim->channels[at] = channel;
	shim->channel_count++;
	return 0;
}

uint32_t bh_shim_wants(const struct bh_shim *shim, uint32_t callback)
{
	uint64_t bit = bh_set_bit(callback);
	uint32_t i, wants = 0;

	for (i = 0; i < shim->channel_count; i++) {
		if (!bh_set_has_bit(&shim->channels[i]->callbacks, callback, bit))
			continue;
		wants |= BH_WANTS_CALL;
		if (shim->channels[i]->flags & BH_CHANNEL_PATHS)
			wants |= BH_WANTS_PATH;
	}
	return wants;
}

int bh_shim_suspects_users(const struct bh_shim *shim)
{
	uint32_t i;

	for (i = 0; i < shim->channel_count; i++)
		if (bh_load_relaxed(&shim->channels[i]->users_known))
			return 1;
	return 0;
}
