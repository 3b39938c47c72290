// SPDX-License-Identifier: Apache-2.0
//
// Whether this build has AddressSanitizer or ThreadSanitizer: their runtimes need memory, threads
// and system calls beyond the program's own.
#ifndef BULKHEAD_IPC_SANITIZER_H_
#define BULKHEAD_IPC_SANITIZER_H_

namespace bulkhead {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitized = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kThreadSanitized = true;
#else
inline constexpr bool kThreadSanitized = false;
#endif
#else
inline constexpr bool kThreadSanitized = false;
#endif

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_SANITIZER_H_
