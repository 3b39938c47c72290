// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Chunks of a pool: a private bitmap, one CAS for a run that fits into one word of it (256 KiB). A
 * longer run starts at a word's start and takes several words; it gives back what it has when it
 * loses a race.
 */
#include "shim/core/internal.h"

#define WORD_CHUNKS 64u

static uint64_t low_bits(uint32_t count)
{
	return count >= WORD_CHUNKS ? ~0ull : (1ull << count) - 1;
}

/* The chunks of one word that exist. */
static uint64_t whole_word(const struct bh_pool *pool, uint32_t word)
{
	return low_bits(pool->chunks - word * WORD_CHUNKS);
}

void bh_pool_init(struct bh_pool *pool, uint64_t *words, uint32_t chunks)
{
	uint32_t i;

	pool->chunks = chunks;
	pool->words = bh_pool_words(chunks);
	pool->free = words;
	for (i = 0; i < pool->words; i++)
		pool->free[i] = whole_word(pool, i);
}

/* Bit i of the result: bits i .. i + count - 1 of `free` are set. 1 <= count <= 64. */
static uint64_t runs(uint64_t free, uint32_t count)
{
	uint32_t have = 1, more;

	while (have < count && free) {
		more = count - have < have ? count - have : have;
		free &= free >> more;
		have += more;
	}
	return free;
}

static uint32_t acquire_in_word(struct bh_pool *pool, uint32_t word, uint32_t chunks)
{
	uint64_t found = bh_load(&pool->free[word]);
	uint64_t starts;
	uint32_t bit;

	while ((starts = runs(found, chunks)) != 0) {
		bit = (uint32_t)__builtin_ctzll(starts);
		if (bh_compare_exchange(&pool->free[word], &found,
					found & ~(low_bits(chunks) << bit)))
			return word * WORD_CHUNKS + bit;
	}
	return BH_CHUNK_NONE;
}

static int take_bits(struct bh_pool *pool, uint32_t word, uint64_t bits)
{
	uint64_t found = bh_load(&pool->free[word]);

	while ((found & bits) == bits)
		if (bh_compare_exchange(&pool->free[word], &found, found & ~bits))
			return 0;
	return -1;
}

int bh_pool_claim(struct bh_pool *pool, uint64_t first, uint64_t chunks)
{
	uint32_t word, bit, count, done = 0;

	if (first >= pool->chunks || chunks > pool->chunks - first)
		return -1;
	while (done < chunks) {
		word = ((uint32_t)first + done) / WORD_CHUNKS;
		bit = ((uint32_t)first + done) % WORD_CHUNKS;
		count = WORD_CHUNKS - bit;
		if (count > chunks - done)
			count = (uint32_t)chunks - done;
		if (take_bits(pool, word, low_bits(count) << bit)) {
			bh_pool_release(pool, (uint32_t)first, done);
			return -1;
		}
		done += count;
	}
	return 0;
}

int bh_pool_fits(const struct bh_pool *pool, uint64_t chunks)
{
	return chunks <= pool->chunks;
}

static int bits_free(const struct bh_pool *pool, uint32_t word, uint64_t bits)
{
	return (bh_load(&pool->free[word]) & bits) == bits;
}

/* Whether `chunks`, more than a word of them, are free from this word on. */
static int words_free(const struct bh_pool *pool, uint32_t word, uint32_t chunks)
{
	for (; chunks > WORD_CHUNKS && word < pool->words; word++, chunks -= WORD_CHUNKS)
		if (!bits_free(pool, word, ~0ull))
			return 0;
	return word < pool->words && bits_free(pool, word, low_bits(chunks));
}

int bh_pool_has(const struct bh_pool *pool, uint32_t chunks)
{
	uint32_t word;

	for (word = 0; word < pool->words; word++)
		if (chunks > WORD_CHUNKS ? words_free(pool, word, chunks)
					 : runs(bh_load(&pool->free[word]), chunks) != 0)
			return 1;
	return !chunks;
}

uint32_t bh_pool_acquire(struct bh_pool *pool, uint32_t chunks, uint32_t lane, uint32_t lanes)
{
	uint32_t i, word, first;

	if (!chunks || !bh_pool_fits(pool, chunks))
		return BH_CHUNK_NONE;
	if (chunks > WORD_CHUNKS) {
		for (word = 0; word < pool->words; word++)
			if (!bh_pool_claim(pool, word * WORD_CHUNKS, chunks))
				return word * WORD_CHUNKS;
		return BH_CHUNK_NONE;
	}
	word = lane * pool->words / lanes;
	for (i = 0; i < pool->words; i++) {
		first = acquire_in_word(pool, word, chunks);
		if (first != BH_CHUNK_NONE)
			return first;
		if (++word == pool->words)
			word = 0;
	}
	return BH_CHUNK_NONE;
}

void bh_pool_release(struct bh_pool *pool, uint32_t first, uint32_t chunks)
{
	uint32_t bit, count;

	while (chunks) {
		bit = first % WORD_CHUNKS;
		count = WORD_CHUNKS - bit < chunks ? WORD_CHUNKS - bit : chunks;
		bh_fetch_or(&pool->free[first / WORD_CHUNKS], low_bits(count) << bit);
		first += count;
		chunks -= count;
	}
}
