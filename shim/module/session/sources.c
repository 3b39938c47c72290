// SPDX-License-Identifier: GPL-2.0-only
/* What the session does with all sources. */
#include <linux/errno.h>
#include <linux/kernel.h>

#include "shim/module/session/session.h"

#define ROW(name) &bh_##name##_source,
static const struct bh_source *const sources[] = {BH_SOURCES(ROW)};

#define FOR_EACH_SOURCE(source, i) \
	for ((i) = 0; (i) < ARRAY_SIZE(sources) && ((source) = sources[i]); (i)++)

static void exit_before(size_t end)
{
	while (end--)
		if (sources[end]->exit)
			sources[end]->exit();
}

int bh_sources_init(void)
{
	const struct bh_source *source;
	int result;
	size_t i;

	FOR_EACH_SOURCE(source, i)
	{
		result = source->init ? source->init() : 0;
		if (result) {
			exit_before(i);
			return result;
		}
	}
	return 0;
}

void bh_sources_exit(void)
{
	exit_before(ARRAY_SIZE(sources));
}

int bh_sources_notify(const struct bh_callback_set *kinds)
{
	const struct bh_source *source;
	int result = 0;
	size_t i;

	/* One that fails does not keep the others from what is wanted of them. */
	FOR_EACH_SOURCE(source, i)
	{
		int one = source->notify ? source->notify(kinds) : 0;

		if (one)
			result = one;
	}
	return result;
}

int bh_sources_add_guard(const struct bh_module_guard *wanted)
{
	const struct bh_source *source;
	size_t i;

	FOR_EACH_SOURCE(source, i)
	{
		int result = source->add_guard ? source->add_guard(wanted) : -ENOIOCTLCMD;

		if (result != -ENOIOCTLCMD)
			return result;
	}
	return -EINVAL;
}

bool bh_sources_leave(void)
{
	const struct bh_source *source;
	bool guards = false;
	size_t i;

	FOR_EACH_SOURCE(source, i)
	if (source->leave && source->leave())
		guards = true;
	return guards;
}

void bh_sources_drop_left(void)
{
	const struct bh_source *source;
	size_t i;

	FOR_EACH_SOURCE(source, i)
	if (source->drop_left)
		source->drop_left();
}

void bh_sources_disarm(void)
{
	const struct bh_source *source;
	size_t i;

	FOR_EACH_SOURCE(source, i)
	if (source->disarm)
		source->disarm();
}

void bh_sources_clear(void)
{
	const struct bh_source *source;
	size_t i;

	FOR_EACH_SOURCE(source, i)
	if (source->clear)
		source->clear();
}

void bh_sources_count(struct bh_module_statistics *to)
{
	const struct bh_source *source;
	size_t i;

	FOR_EACH_SOURCE(source, i)
	if (source->count)
		source->count(to);
}
