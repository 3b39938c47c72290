// SPDX-License-Identifier: GPL-2.0-only
/* Which of the accesses below a guard are worth a call. Looked at under RCU; waits for nothing. */
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/string.h>
#include <linux/uidgid.h>

#include "shim/module/file/file.h"

static int take_skip(struct path *to, int fd)
{
	struct file *file = fget(fd);
	int result = -EBADF;

	if (!file)
		return result;
	result = -ENOTDIR;
	if (d_is_dir(file->f_path.dentry)) {
		*to = file->f_path;
		path_get(to);
		result = 0;
	}
	fput(file);
	return result;
}

static int check(const struct bh_module_filter *wanted)
{
	const char(*extension)[BH_MODULE_EXTENSION_BYTES] = wanted->extension;
	u32 i;

	if (wanted->modes & ~(BH_MODE_READ | BH_MODE_WRITE) || wanted->skips > BH_MODULE_SKIPS ||
	    wanted->extensions > BH_MODULE_EXTENSIONS)
		return -EINVAL;
	for (i = 0; i < wanted->extensions; i++)
		if (!extension[i][0] || extension[i][BH_MODULE_EXTENSION_BYTES - 1])
			return -EINVAL;
	if (memchr_inv(extension[i], 0, sizeof(wanted->extension) - i * sizeof(*extension)) ||
	    memchr_inv(wanted->skip + wanted->skips, 0,
		       sizeof(wanted->skip) - wanted->skips * sizeof(*wanted->skip)))
		return -EINVAL;
	return 0;
}

int bh_filter_init(struct bh_filter *filter, const struct bh_module_filter *wanted)
{
	int result = check(wanted);

	filter->skips = 0;
	if (result)
		return result;
	filter->modes = wanted->modes;
	filter->any_owner = wanted->owner == BH_MODULE_ANY_OWNER;
	filter->owner = make_kuid(&init_user_ns, wanted->owner);
	filter->extensions = wanted->extensions;
	memcpy(filter->extension, wanted->extension, sizeof(filter->extension));
	while (filter->skips < wanted->skips) {
		result = take_skip(&filter->skip[filter->skips], wanted->skip[filter->skips]);
		if (result) {
			bh_filter_drop(filter);
			return result;
		}
		filter->skips++;
	}
	return 0;
}

void bh_filter_drop(struct bh_filter *filter)
{
	while (filter->skips)
		path_put(&filter->skip[--filter->skips]);
}

static bool has_extension(const struct bh_filter *filter, struct dentry *dentry)
{
	bool has = false;
	u32 i;

	spin_lock(&dentry->d_lock); /* renames are kept away: name and length are of one piece */
	for (i = 0; i < filter->extensions && !has; i++) {
		size_t bytes = strlen(filter->extension[i]);
		const unsigned char *end = dentry->d_name.name + dentry->d_name.len;

		has = dentry->d_name.len > bytes && end[-(ssize_t)bytes - 1] == '.' &&
		      !strncasecmp(end - bytes, filter->extension[i], bytes);
	}
	spin_unlock(&dentry->d_lock);
	return has;
}

static bool skips(const struct bh_filter *filter, struct dentry *dentry)
{
	u32 i;

	for (i = 0; i < filter->skips; i++)
		if (dentry->d_sb == filter->skip[i].dentry->d_sb &&
		    is_subdir(dentry, filter->skip[i].dentry))
			return true;
	return false;
}

bool bh_filter_passes(const struct bh_filter *filter, struct dentry *dentry, fmode_t mode)
{
	if (filter->modes && !(filter->modes & (mode & FMODE_WRITE ? BH_MODE_WRITE : BH_MODE_READ)))
		return false;
	if (!filter->any_owner && !uid_eq(d_inode(dentry)->i_uid, filter->owner))
		return false;
	if (filter->extensions && !has_extension(filter, dentry))
		return false;
	return !skips(filter, dentry);
}
