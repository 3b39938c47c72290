// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guards: which accesses are calls. A mark says that something on a file system is guarded;
 * the list here narrows that to mounts and trees, and by filters.
 */
#include <linux/dcache.h>
#include <linux/mount.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "shim/module/file/file.h"
#include "shim/module/session/source.h"

#define GUARDS_MAX 64u
#define GUARDS_ALL (2 * GUARDS_MAX) /* with those that dead sessions left */

struct guard {
	struct guard __rcu *next;
	struct path path;
	u32 kind;
	u32 id; /* its supervisor's; 0: it has none */
	bool audited;
	struct bh_callback_set callbacks;
	u64 deadline_ns;
	struct bh_filter filter;
	bool left; /* by a session that died or changes its guards; under bh_control_mutex */
};

/* Longest deadline first: the first that wants a call has its deadline. Read under RCU; changed
 * under bh_control_mutex. */
static struct guard __rcu *guards;
/* Under bh_control_mutex. */
static u32 guard_count;
static u32 own_count; /* of the session that is there now, at most GUARDS_MAX */

static bool covers(const struct guard *guard, const struct path *path)
{
	switch (guard->kind) {
	case BH_GUARD_FILESYSTEM:
		return path->dentry->d_sb == guard->path.dentry->d_sb;
	case BH_GUARD_MOUNT:
		if (path->mnt)
			return path->mnt == guard->path.mnt;
		return path->dentry->d_sb == guard->path.dentry->d_sb &&
		       is_subdir(path->dentry, guard->path.mnt->mnt_root);
	default:
		return path->dentry->d_sb == guard->path.dentry->d_sb &&
		       is_subdir(path->dentry, guard->path.dentry);
	}
}

enum bh_concern bh_guards_concern(const struct path *path, fmode_t mode, u32 callback,
				  u64 *within_ns, bool *audited)
{
	enum bh_concern concern = BH_NOT_GUARDED;
	const struct guard *guard;

	*within_ns = 0;
	*audited = false;
	rcu_read_lock();
	/* Behind one that is audited may be one that is enforced. */
	for (guard = rcu_dereference(guards); guard && (concern != BH_TO_BE_ASKED || *audited);
	     guard = rcu_dereference(guard->next)) {
		if (!bh_set_has(&guard->callbacks, callback) || !covers(guard, path))
			continue;
		if (!bh_filter_passes(&guard->filter, path->dentry, mode)) {
			if (concern == BH_NOT_GUARDED)
				concern = BH_FILTERED;
			continue;
		}
		if (concern != BH_TO_BE_ASKED)
			*within_ns = guard->deadline_ns;
		concern = BH_TO_BE_ASKED;
		*audited = guard->audited;
	}
	rcu_read_unlock();
	return concern;
}

struct vfsmount *bh_guards_mount(struct dentry *dentry)
{
	const struct path path = {.mnt = NULL, .dentry = dentry};
	struct vfsmount *mount = NULL;
	const struct guard *guard;

	rcu_read_lock();
	for (guard = rcu_dereference(guards); guard && !mount;
	     guard = rcu_dereference(guard->next)) {
		if (covers(guard, &path))
			mount = mntget(guard->path.mnt);
	}
	rcu_read_unlock();
	return mount;
}

static struct guard *locked(struct guard __rcu *guard)
{
	return rcu_dereference_protected(guard, lockdep_is_held(&bh_control_mutex));
}

static void free_guard(struct guard *guard)
{
	bh_filter_drop(&guard->filter);
	path_put(&guard->path);
	kfree(guard);
}

/* The guard of this kind and place that was left; NULL: there is none. */
static struct guard *find_left(u32 kind, const struct path *path)
{
	struct guard *guard;

	for (guard = locked(guards); guard; guard = locked(guard->next))
		if (guard->left && guard->kind == kind && path_equal(&guard->path, path))
			return guard;
	return NULL;
}

/* What the session that is there now set with this id; NULL: nothing. */
static struct guard *find_own(u32 id)
{
	struct guard *guard;

	for (guard = locked(guards); guard; guard = locked(guard->next))
		if (id && guard->id == id && !guard->left)
			return guard;
	return NULL;
}

static void insert(struct guard *guard)
{
	struct guard __rcu **link = &guards;

	while (locked(*link) && locked(*link)->deadline_ns > guard->deadline_ns)
		link = &locked(*link)->next;
	RCU_INIT_POINTER(guard->next, locked(*link));
	rcu_assign_pointer(*link, guard);
	guard_count++;
}

static void drop(struct guard *guard)
{
	struct guard __rcu **link = &guards;

	while (locked(*link) != guard)
		link = &locked(*link)->next;
	rcu_assign_pointer(*link, locked(guard->next));
	guard_count--;
	synchronize_rcu();
	bh_volume_put(guard->path.dentry->d_sb);
	free_guard(guard);
}

int bh_guards_add(const struct path *path, const struct bh_module_guard *wanted)
{
	struct guard *left = find_left(wanted->kind, path);
	struct guard *own = find_own(wanted->id);
	struct guard *guard;
	int result;

	if (!own && (own_count == GUARDS_MAX || (guard_count == GUARDS_ALL && !left)))
		return -ENOSPC;
	guard = kzalloc(sizeof(*guard), GFP_KERNEL_ACCOUNT);
	if (!guard)
		return -ENOMEM;
	result = bh_filter_init(&guard->filter, &wanted->filter);
	if (result) {
		kfree(guard);
		return result;
	}
	guard->path = *path;
	path_get(path);
	guard->kind = wanted->kind;
	guard->id = wanted->id;
	guard->audited = wanted->mode == BH_MODE_AUDIT;
	guard->callbacks = wanted->callbacks;
	guard->deadline_ns = wanted->deadline_ns;
	result = bh_volume_get(path->dentry->d_sb);
	if (result) {
		free_guard(guard);
		return result;
	}
	insert(guard);
	own_count++;
	if (own) {
		own_count--;
		drop(own);
	}
	if (left)
		drop(left);
	return 0;
}

bool bh_guards_leave(void)
{
	struct guard *guard;

	for (guard = locked(guards); guard; guard = locked(guard->next))
		guard->left = true;
	own_count = 0;
	return guard_count != 0;
}

void bh_guards_drop_left(void)
{
	struct guard *guard, *next;

	for (guard = locked(guards); guard; guard = next) {
		next = locked(guard->next);
		if (guard->left)
			drop(guard);
	}
}

void bh_guards_disarm(void)
{
	struct guard *last = locked(guards);

	if (!last)
		return;
	RCU_INIT_POINTER(guards, NULL);
	synchronize_rcu();
	guard_count = 0;
	own_count = 0;
	while (last) {
		struct guard *next = locked(last->next);

		bh_volume_put(last->path.dentry->d_sb);
		free_guard(last);
		last = next;
	}
}
