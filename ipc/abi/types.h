/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Fixed-width types and layout assertions for every header that the kernel, freestanding C11 and
 * C++20 share. The kernel's <linux/types.h> defines the same uint32_t family as <stdint.h>.
 */
#ifndef BULKHEAD_IPC_ABI_TYPES_H_
#define BULKHEAD_IPC_ABI_TYPES_H_

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef __cplusplus
#include <type_traits>
#define BH_STATIC_ASSERT(condition, text) static_assert(condition, text)
#define BH_ASSERT_TRIVIAL(type) \
	static_assert(std::is_trivial_v<type> && std::is_standard_layout_v<type>, \
		      #type " crosses a trust boundary: it must be plain bytes")
#else
#define BH_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#define BH_ASSERT_TRIVIAL(type) BH_STATIC_ASSERT(sizeof(type) > 0, #type " must be complete")
#endif

#define BH_ASSERT_SIZE(type, size) \
	BH_STATIC_ASSERT(sizeof(type) == (size), #type " changed its size")
#define BH_ASSERT_OFFSET(type, field, offset) \
	BH_STATIC_ASSERT(offsetof(type, field) == (offset), #type "." #field " moved")

/* For lists X(id, ...): how many rows, and the set of the rows' ids as bits. */
#define BH_ROW_COUNT(...) +1
#define BH_ROW_BIT(id, ...) | 1u << (id)

/* What one core takes from another in one transfer; x86-64 and arm64 server parts. */
#define BH_CACHE_LINE 64

#endif /* BULKHEAD_IPC_ABI_TYPES_H_ */
