/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeping and waking of both sides of a channel: callers that wait for answers (bh_issue,
 * bh_call_will_sleep, bh_ring_bells) and workers that wait for calls (HostPort::Wait, Reply,
 * PassWakeOn). README.md maps it to the code.
 *
 * Caller c makes CALLS calls, one after the other, in slot c. A driver may keep its worker without
 * end, the host may stop or crash at any step, and there are no deadlines. When no process can make
 * a step,
 *
 *   no caller sleeps while its answer is there, or after its generation has ended
 *   no call waits for workers that are busy with other calls while some worker sleeps
 *   no worker sleeps after StopTaking
 *
 * A step (an atomic block) makes one access to shared memory. A plain store may stay with its
 * processor while later loads overtake it: it waits in the process's `pending` store. A store with
 * a fence after it is in memory before the next step; where a mutation leaves the fence out, the
 * store is a plain one.
 */
#ifndef CALLERS
#define CALLERS 2
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef CALLS
#define CALLS 1
#endif
#ifndef INTERRUPTS /* sleeps of workers that end without a wake */
#define INTERRUPTS 0
#endif
/* A worker that is in its driver all the time, and a caller's home worker. */
#define STUCK WORKERS
#define OTHER(c) (CALLERS - 1 - (c))

/* The processes with a store buffer and a place to sleep. */
#define CALLER(c) (c)
#define WORKER(w) (CALLERS + (w))
#define STOPPER (CALLERS + WORKERS)
#define PROCESSES (CALLERS + WORKERS + 1)

/* Words that are stored to without a read-modify-write. */
#define TICKET(s) (s)
#define CALLER_SLEEPS(s) (CALLERS + (s))
#define REPLY(s) (2 * CALLERS + (s))
#define WORD(w) (3 * CALLERS + (w))
#define STOP (3 * CALLERS + WORKERS)

byte memory[STOP + 1];
byte pending[PROCESSES]; /* word + 1; 0: no store is pending */
byte pending_value[PROCESSES];
bool asleep[PROCESSES];

byte bell[CALLERS];
bool ended = false;
byte claims[CALLERS]; /* private to the host */
bool crashed = false;
byte interrupts = INTERRUPTS;

/* The condition for a read-modify-write and for a system call. */
#define DRAINED(me) (!pending[me])

#define STORE(me, word, value) \
	atomic { \
		DRAINED(me); \
		pending[me] = (word) + 1; \
		pending_value[me] = value \
	}
#define STORE_AND_FENCE(me, word, value) \
	atomic { \
		DRAINED(me); \
		memory[word] = value \
	}
#define DRAIN(p) \
	atomic { \
		pending[p] -> \
		memory[pending[p] - 1] = pending_value[p]; \
		pending[p] = 0; \
		pending_value[p] = 0 \
	}

/* The kernel checks the word before the thread sleeps. */
#define FUTEX_WAIT(me, word, expected) \
	atomic { \
		DRAINED(me); \
		asleep[me] = (word == expected) \
	}

/* wake_worker, WakeWorker. Check and exchange are one step: only the exchange has an effect, and
 * the result is decided by a first check that finds 0 or by the exchange. */
#define TRY_WAKE(me, w, woken) \
	if \
	:: (w) == STUCK || !memory[WORD(w)] -> woken = false \
	:: (w) != STUCK && memory[WORD(w)] && DRAINED(me) -> \
		memory[WORD(w)] = 0; \
		asleep[WORKER(w)] = false; \
		woken = true \
	fi

active proctype Memory() {
end:
	do
	:: DRAIN(CALLER(0))
	:: DRAIN(WORKER(0))
#ifdef WITH_STOP
	:: DRAIN(STOPPER)
#endif
#if CALLERS > 1
	:: DRAIN(CALLER(1))
#endif
#if WORKERS > 1
	:: DRAIN(WORKER(1))
#endif
	od
}

/* ---- The shim's side ---- */

#ifdef NO_FENCE_IN_ISSUE
#define STORE_TICKET STORE
#else
#define STORE_TICKET STORE_AND_FENCE
#endif
#ifdef NO_FENCE_BEFORE_SLEEP
#define STORE_CALLER_SLEEPS STORE
#else
#define STORE_CALLER_SLEEPS STORE_AND_FENCE
#endif

#ifdef WITH_CRASH
#define IF_ENDED(label) \
	atomic { \
		if \
		:: ended -> goto label \
		:: else \
		fi \
	}
#else
#define IF_ENDED(label)
#endif

inline any_worker(w) {
	if
	:: w = 0
#if WORKERS > 1
	:: w = 1
#endif
	fi
}

/* run() of wait.c, with bh_call_step for a call that is issued to the one generation there is. */
proctype Caller(byte me) {
	byte ticket, expected, w;
	bool nudged, woken;

	do
	:: atomic {
			ticket == CALLS -> break
	}
	:: atomic { ticket < CALLS -> ticket++ }
		/* bh_issue; slots.pml has its meeting with the end of a generation */
		STORE_TICKET(CALLER(me), TICKET(me), ticket);
		atomic { /* bh_wake_for: the home worker, another one, or none when one is awake */
			if
			:: any_worker(w)
			:: w = STUCK
			fi;
			TRY_WAKE(CALLER(me), w, woken);
			/* It hands its CPU over, and wakes no other worker. The code checks again
			 * after some time. */
			if
			:: woken -> nudged = true
			:: skip
			fi;
			w = 0;
			woken = false
		}

		do
		:: /* seek_answer */
			atomic { expected = bell[me] }
			atomic {
				if
				:: memory[REPLY(me)] == ticket -> break
				:: else
				fi
			}
			IF_ENDED(over) /* answered meanwhile, or lost with its host */

#ifndef NO_WAKE_ANOTHER
			/* nudge, once before the first sleep. bh_begun may see an old word. */
			if
			:: atomic { claims[me] == ticket && !nudged -> nudged = true }
			:: atomic {
					!nudged ->
					nudged = true;
					any_worker(w);
					TRY_WAKE(CALLER(me), w, woken);
					if
					:: woken -> woken = false; w = 0; goto announce
					:: else
					fi
				}
#if WORKERS > 1
				atomic {
					w = 1 - w;
					TRY_WAKE(CALLER(me), w, woken);
					woken = false;
					w = 0
				}
#endif
			:: nudged
			fi;
#endif

announce:		/* bh_call_will_sleep */
			STORE_CALLER_SLEEPS(CALLER(me), CALLER_SLEEPS(me), 1);
#ifndef CALLER_LOOKS_ONCE
			atomic {
				if
				:: memory[REPLY(me)] == ticket -> goto awake
				:: else
				fi
			}
			IF_ENDED(awake)
#endif
#ifdef BELL_READ_LAST
			atomic { expected = bell[me] }
#endif
			FUTEX_WAIT(CALLER(me), bell[me], expected);
end_asleep:		!asleep[CALLER(me)];
awake:			STORE(CALLER(me), CALLER_SLEEPS(me), 0)
		od;
		atomic { expected = 0; nudged = false }
	od;
over:	skip
}

/* The host crashes at any time, or never; bh_channel_end_generation when it is dead. */
proctype End() {
	atomic { crashed = true }
	atomic { ended = true }
#ifndef NO_BELLS
	/* bh_ring_bells */
	atomic {
		if
		:: memory[CALLER_SLEEPS(0)] -> bell[0]++; asleep[CALLER(0)] = false
		:: else
		fi
	}
#if CALLERS > 1
	atomic {
		if
		:: memory[CALLER_SLEEPS(1)] -> bell[1]++; asleep[CALLER(1)] = false
		:: else
		fi
	}
#endif
#endif
}

/* ---- The host's side ---- */

#ifdef NO_FENCE_IN_ANNOUNCEMENT
#define STORE_WORD STORE
#else
#define STORE_WORD STORE_AND_FENCE
#endif
#ifdef NO_FENCE_IN_REPLY
#define STORE_REPLY STORE
#else
#define STORE_REPLY STORE_AND_FENCE
#endif
#ifdef NO_FENCE_IN_STOP
#define STORE_STOP STORE
#else
#define STORE_STOP STORE_AND_FENCE
#endif

/* TryTake: slots.pml shows that a call is claimed once. */
inline try_take(s) {
	if
	:: memory[TICKET(s)] != claims[s] ->
		claims[s] = memory[TICKET(s)];
		found = true
	:: else
	fi
}
/* HostPort::State::Scan: all slots, from any starting point. */
inline scan() {
	atomic {
#if CALLERS > 1
		if
		:: slot = 0
		:: slot = 1
		fi;
#endif
		try_take(slot)
	}
#if CALLERS > 1
	if
	:: found
	:: else ->
		atomic {
			slot = OTHER(slot);
			try_take(slot);
			if
			:: !found -> slot = 0
			:: else
			fi
		}
	fi
#endif
}
#ifdef WITH_STOP
#define STOP_IF_TOLD(label) \
	atomic { \
		if \
		:: memory[STOP] -> goto label \
		:: else \
		fi \
	}
#else
#define STOP_IF_TOLD(label)
#endif

proctype Worker(byte w) {
	byte slot;
	bool found, spent, woken;

	{
		do
		:: /* Take: a check without sleeping */
			STOP_IF_TOLD(over)
			scan();
			if
			:: found -> goto take
			:: else
			fi;

again:			/* Wait */
			STOP_IF_TOLD(over)
			STORE_WORD(WORKER(w), WORD(w), 1);
#ifndef WORKER_LOOKS_ONCE
			scan();
#endif
			if
			:: !found ->
				STOP_IF_TOLD(withdraw)
				FUTEX_WAIT(WORKER(w), memory[WORD(w)], 1);
end_asleep:			if
				:: atomic { !asleep[WORKER(w)] -> skip }
#if INTERRUPTS
				:: atomic { interrupts && asleep[WORKER(w)] -> interrupts--; asleep[WORKER(w)] = false }
#endif
				fi;
#ifdef PLAIN_STORE_AFTER_SLEEP
				STORE(WORKER(w), WORD(w), 0);
#else
				STORE_AND_FENCE(WORKER(w), WORD(w), 0);
#endif
				scan();
				if
				:: found -> spent = true
				:: else -> goto again
				fi;
#ifndef NO_PASS_ON_AFTER_SLEEP
				/* AnotherWaits: a ticket without a claim, after a check of all
				 * slots */
				atomic {
					if
					:: memory[TICKET(OTHER(slot))] == claims[OTHER(slot)] -> spent = false
					:: else
					fi
				}
#else
				spent = false;
#endif
				goto pass
			:: else
			fi;
withdraw:
			atomic {
				DRAINED(WORKER(w));
				spent = !memory[WORD(w)];
				memory[WORD(w)] = 0;
				if
				:: !found -> break
				:: else
				fi;
#ifdef NO_PASS_ON
				spent = false
#endif
			}
pass:
#if WORKERS > 1
			if
			:: spent -> atomic { TRY_WAKE(WORKER(w), 1 - w, woken) }
			:: else
			fi;
#endif

take:			atomic { spent = false; woken = false; found = false }
			/* The driver: it answers, or it never returns. */
			if
			:: skip
			:: skip;
end_hung:			false
			fi;

			/* Reply */
			STORE_REPLY(WORKER(w), REPLY(slot), claims[slot]);
			atomic {
				if
				:: memory[CALLER_SLEEPS(slot)] && DRAINED(WORKER(w)) ->
					bell[slot]++;
					asleep[CALLER(slot)] = false
				:: !memory[CALLER_SLEEPS(slot)]
				fi;
				slot = 0
			}
		od;
over:		skip
	} unless {
		crashed
	}
}

/* HostPort::StopTaking */
proctype Stopper() {
	bool woken;

	STORE_STOP(STOPPER, STOP, 1);
	atomic { TRY_WAKE(STOPPER, 0, woken) }
#if WORKERS > 1
	atomic { TRY_WAKE(STOPPER, 1, woken) }
#endif
}

/* No process can make a step: a sleeping process has nothing to do. */
active proctype Check() {
	bool lost_answer, lost_end, lost_wake_up, lost_stop, some_worker_sleeps;
	byte i;

	timeout ->
	d_step {
		do
		:: i < WORKERS ->
			some_worker_sleeps = some_worker_sleeps || (asleep[WORKER(i)] && !crashed);
			i++
		:: else -> break
		od;
		lost_stop = (memory[STOP] && some_worker_sleeps);
		i = 0;
		do
		:: i < CALLERS ->
			if
			:: asleep[CALLER(i)] ->
				lost_answer = lost_answer || memory[REPLY(i)] == memory[TICKET(i)];
				lost_end = lost_end || ended;
				lost_wake_up = lost_wake_up ||
					(claims[i] != memory[TICKET(i)] && some_worker_sleeps)
			:: else
			fi;
			i++
		:: else -> break
		od
	}
	assert(!lost_answer);
	assert(!lost_end);
	assert(!lost_wake_up);
	assert(!lost_stop)
}

init {
	atomic {
		run Caller(0);
		run Worker(0);
#if CALLERS > 1
		run Caller(1);
#endif
#if WORKERS > 1
		run Worker(1);
#endif
#ifdef WITH_STOP
		if
		:: run Stopper()
		:: skip
		fi;
#endif
#ifdef WITH_CRASH
		if
		:: run End()
		:: skip
		fi
#endif
	}
}
