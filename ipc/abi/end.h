/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How the generation of a host ended. The user-mode supervisor and the kernel module both read a
 * process's exit status; bh_end_of_exit() is the one place that says what it means.
 */
#ifndef BULKHEAD_IPC_ABI_END_H_
#define BULKHEAD_IPC_ABI_END_H_

#include "ipc/abi/types.h"

#ifdef __KERNEL__
#include <linux/signal.h>
#else
#include <signal.h>
#endif

/* clang-format off */
/*
 * As its parent saw it. Crashes, hangs and want of memory are held against the calls that the host
 * had in hand, kills from outside only in numbers. Rows as in policy.h.
 */
#define BH_FOR_EACH_END(X) \
	X(0, STOPPED, stopped, "asked to; it had drained") \
	X(1, CRASHED, crashed, "a signal of its own making, or a non-zero exit") \
	X(2, HUNG, hung, "killed by its supervisor for missing a deadline or its heartbeat") \
	X(3, KILLED, killed, "killed from outside") \
	X(4, HOSTILE, hostile, "killed for a violation of the protocol") \
	X(5, STARVED, starved, "killed by the kernel for want of memory")
/* clang-format on */

#define BH_END_ENUM_ROW(id, NAME, name, doc) BH_END_##NAME = (id),
enum bh_end {
	BH_FOR_EACH_END(BH_END_ENUM_ROW)
};

#define BH_END_NONE 0xffu /* where a last end is asked for: no generation has ended */

static inline int bh_end_known(uint32_t end)
{
	return end < 32 && ((0u BH_FOR_EACH_END(BH_ROW_BIT)) >> end & 1);
}

/*
 * A host that is the first process of its process id namespace is not ended by signals with their
 * default action. Its handlers exit with this much more than the signal's number instead, as a
 * shell does for a command that a signal has ended.
 */
#define BH_EXIT_OF_SIGNAL 128

/* The signal that ended it, by itself or through its handler; 0: none did. `status` as below. */
static inline int bh_signal_of_exit(int status)
{
	const int code = (status >> 8) & 0xff;

	if (status & 0x7f)
		return status & 0x7f;
	return code > BH_EXIT_OF_SIGNAL && code <= BH_EXIT_OF_SIGNAL + SIGTERM
		       ? code - BH_EXIT_OF_SIGNAL
		       : 0;
}

/*
 * The end that an exit status stands for: BH_END_STOPPED, BH_END_CRASHED or BH_END_KILLED.
 * `status` has waitpid()'s form, which is also that of task_struct's exit_code and of the last
 * field of /proc/PID/stat: the signal in the low 7 bits, the exit code in bits 8 to 15.
 *
 * The status does not say where a signal came from. SIGKILL, SIGTERM, SIGINT, SIGHUP and SIGQUIT
 * come from an operator, a terminal, a session's end, a service manager or the OOM killer, of which
 * whoever asks may know more: BH_END_STARVED. All others count as the host's own making. A host may
 * exit with any code, or send itself any signal: what it gains is what a kill from outside gains.
 */
static inline enum bh_end bh_end_of_exit(int status)
{
	switch (bh_signal_of_exit(status)) {
	case 0:
		return (status & 0xff00) ? BH_END_CRASHED : BH_END_STOPPED;
	case SIGKILL:
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
	case SIGQUIT:
		return BH_END_KILLED;
	default:
		return BH_END_CRASHED;
	}
}

#endif /* BULKHEAD_IPC_ABI_END_H_ */
