/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A denial, as the shim that decided it records it for an operator: enforced, or audited, which is
 * one that would have been. It travels from the fanotify shim and from the kernel as it is.
 */
#ifndef BULKHEAD_IPC_ABI_DENIAL_H_
#define BULKHEAD_IPC_ABI_DENIAL_H_

#include "ipc/abi/callbacks.h"
#include "ipc/abi/types.h"

/* clang-format off */
/* Rows as in policy.h. */
#define BH_FOR_EACH_DENIAL(X) \
	X(1, DRIVER, driver, "the driver has answered so") \
	X(2, CACHE, cache, "the verdict cache has: the driver's answer for the same object, of before") \
	X(3, POLICY, policy, "a rule of the policy has, for its reason")

/* Bits: why a denial was not enforced. */
#define BH_FOR_EACH_AUDIT(X) \
	X(0, DRIVER, driver, "its driver is audited") \
	X(1, GUARD, guard, "each guard that covers the object is audited")
/* clang-format on */

#define BH_DENIAL_ENUM_ROW(id, NAME, name, doc) BH_DENIED_BY_##NAME = (id),
enum bh_denied_by {
	BH_FOR_EACH_DENIAL(BH_DENIAL_ENUM_ROW)
};

#define BH_AUDIT_ENUM_ROW(id, NAME, name, doc) BH_AUDITED_##NAME = 1u << (id),
enum bh_audited {
	BH_FOR_EACH_AUDIT(BH_AUDIT_ENUM_ROW)
};

#define BH_DENIAL_COMM_BYTES 16
#define BH_DENIAL_EXE_BYTES 128
#define BH_DENIAL_PATH_BYTES 256

/* Texts end with a 0 or with their field; they are other processes' bytes, a courtesy, and empty
 * where they are not known. Of an exe or a path that is too long there is the end. */
struct bh_denial {
	uint64_t call_id; /* 0: no host was given the call */
	uint64_t device;  /* the object, as in struct bh_file_args */
	uint64_t inode;
	uint32_t callback;   /* enum bh_callback */
	uint32_t by;         /* enum bh_denied_by */
	uint32_t reason;     /* enum bh_reason, by policy; else 0 */
	uint32_t error;      /* the errno that the driver named; 0: EPERM */
	uint32_t audited;    /* bits of enum bh_audited; 0: it was enforced */
	uint32_t generation; /* of the host that was given the call last; 0: none was */
	uint32_t pid;        /* thread group id of the caller */
	uint32_t uid;        /* effective user id of the caller; UINT32_MAX: not known */
	char why[BH_VERDICT_REASON_BYTES]; /* the driver's words: a rule's or a threat's name */
	char comm[BH_DENIAL_COMM_BYTES];   /* name of the caller's process */
	char exe[BH_DENIAL_EXE_BYTES];     /* its program; not known in the kernel */
	char path[BH_DENIAL_PATH_BYTES];   /* name of the object */
};
BH_ASSERT_SIZE(struct bh_denial, 496);
BH_ASSERT_TRIVIAL(struct bh_denial);

#endif /* BULKHEAD_IPC_ABI_DENIAL_H_ */
