/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a slot: taken, issued, answered or abandoned, given back, through the end of a
 * generation and the begin of the next (bh_issue, seek_answer, bh_slot_abandon, bh_blame,
 * bh_channel_end_generation, HostPort::State::TryTake). README.md maps it to the code.
 *
 * Each caller makes one call. Caller 0's call may be issued any number of times and be cancelled at
 * any time, unless STRICT; the others' calls must not run twice, and wait without end if necessary.
 * The host may crash at any step, in each generation; after the last one no host comes, and the
 * policy ends the waiting calls.
 *
 *   a call ends once, and an answer that it ends with was given to this very call
 *   a driver begins a call that must not run twice once
 *   a slot has one owner
 *   when no process can make a step, no caller waits for a host or for room that is there
 *
 * With PENDING a worker may keep a call that it has begun and take the next one; any thread of the
 * host completes it then, at any time, in any order (HostPort::Reply, CallTable).
 *
 * With WITH_DRAIN a host may also be ordered to leave, instead of its crash: no call is issued to it
 * from then on, and it ends when it has answered all that it has taken, or is killed before that.
 *
 *   a host that leaves as ordered leaves no call behind that it has begun
 *
 * How a caller sleeps while it waits for an answer is in waiting.pml: here it polls all the time.
 * Each sequentially consistent operation of the code is one step here.
 */
#ifndef CALLERS
#define CALLERS 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef GENERATIONS
#define GENERATIONS 2
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#define NO_OWNER 255
/* The calls that may run twice, and may be cancelled. */
#ifdef STRICT
#define FREELY(caller) false
#else
#define FREELY(caller) ((caller) == 0)
#endif

/* bh_ticket_make. 0 is no ticket. */
#define TICKET(generation, count) ((generation) * 16 + (count))
#define GENERATION(ticket) ((ticket) / 16)

/* A caller waits for room only where there are more callers than slots. */
#if SLOTS < CALLERS
#define ROOM
#endif

/* Shared memory: the call slots, and the reply slots, which the host writes. */
byte ticket[SLOTS], args[SLOTS];
byte reply[SLOTS], reply_value[SLOTS], slot_begun[SLOTS];

/* Private to the shim. */
bool free[SLOTS] = true;
byte slot_ticket[SLOTS], abandoned[SLOTS];
bool begun_fate[SLOTS]; /* bh_slot.fate has BH_FATE_BEGUN */
byte serving = 1, ended, room_waiters, abandoned_count;
bool quarantined;
/* bh_channel.epoch and .freed only grow, and are only compared with an earlier value: each process
 * that has read one has a flag that says whether it has changed since. */
#define EPOCH 1
#define FREED 2
byte watches[CALLERS];
bool changed[CALLERS];

/* Private to the host: the claims, and the state of each worker. */
byte claims[SLOTS];
byte step[WORKERS], at_slot[WORKERS], claimed[WORKERS], found[WORKERS], call[WORKERS];
byte alive = 1; /* generation of the running host; 0: none */
#ifdef PENDING
/* The call that was kept in each slot, by its ticket: a slot has one call in the host at a time. */
byte kept[SLOTS], kept_call[SLOTS];
#endif

/* Only for the checks. */
byte owner[SLOTS] = NO_OWNER;
byte begun[CALLERS], completions[CALLERS];
byte waits_for[CALLERS]; /* 1: host, 2: room */
bool begun_twice, completed_twice, wrong_answer, two_owners, changed_in_hand;
#ifdef WITH_DRAIN
bool left_begun;
#endif

#define TELL(caller, word) changed[caller] = changed[caller] || watches[caller] == word
#if CALLERS > 2
#define CHANGE(word) TELL(0, word); TELL(1, word); TELL(2, word)
#elif CALLERS > 1
#define CHANGE(word) TELL(0, word); TELL(1, word)
#else
#define CHANGE(word) TELL(0, word)
#endif
#define WATCH(word) watches[me] = word; changed[me] = false

/* ---- Slots ---- */

#ifdef ROOM
inline room_freed() {
	atomic {
		if
		:: room_waiters -> CHANGE(FREED)
		:: else
		fi
	}
}
#else
#define room_freed()
#endif
#define GIVE_BACK(s) free[s] = true; owner[s] = NO_OWNER
#define RELEASE slot_ticket[slot] = 0; reply_value[slot] = 0; GIVE_BACK(slot)

/* bh_slot_reclaim. The conditions that it reads never become false again, so all reads count as
 * made with the last step, the compare-and-exchange. */
#define MAY_RECLAIM(s) \
	(abandoned[s] && (reply[s] == abandoned[s] || ended >= GENERATION(abandoned[s])))
inline reclaim(s) {
#ifdef ROOM
	if
	:: atomic { MAY_RECLAIM(s) -> abandoned[s] = 0; abandoned_count-- }
		atomic { GIVE_BACK(s) }
		room_freed()
	:: else
	fi
#else
	atomic {
		if
		:: MAY_RECLAIM(s) -> abandoned[s] = 0; GIVE_BACK(s)
		:: else
		fi
	}
#endif
}
inline reclaim_all() {
	reclaim(0);
#if SLOTS > 1
	reclaim(1);
#endif
#if SLOTS > 2
	reclaim(2)
#endif
}

/* acquire_anywhere, by compare-and-exchange, in any lane; and the new owner's first store. */
inline acquire() {
	atomic {
		if
		:: free[0] -> slot = 0
#if SLOTS > 1
		:: free[1] -> slot = 1
#endif
#if SLOTS > 2
		:: free[2] -> slot = 2
#endif
		:: else -> slot = SLOTS
		fi;
		if
		:: slot < SLOTS ->
			free[slot] = false;
			two_owners = two_owners || owner[slot] != NO_OWNER;
			owner[slot] = me;
			begun_fate[slot] = false
		:: else
		fi
	}
}

/* A count never repeats in its slot. A count that no variable of the model holds any more is equal
 * to one that was never used: it is used again, so that the model stays finite and small. */
#define HELD(w, s, t) (at_slot[w] == s && (found[w] == t || claimed[w] == t))
#ifdef PENDING
#define KEPT(s, t) (kept[s] == t)
#else
#define KEPT(s, t) false
#endif
#if WORKERS > 1
#define IN_SOME_HAND(s, t) (HELD(0, s, t) || HELD(1, s, t))
#else
#define IN_SOME_HAND(s, t) HELD(0, s, t)
#endif
#define NAMED(s, t) \
	(ticket[s] == t || claims[s] == t || reply[s] == t || slot_ticket[s] == t || \
	 abandoned[s] == t || slot_begun[s] == t || KEPT(s, t) || IN_SOME_HAND(s, t))

/* ---- A call ---- */

#define COMPLETE completions[me]++; completed_twice = completed_twice || completions[me] > 1

#ifdef ROOM
inline stop_waiting_for_room() {
	if
	:: announced -> atomic { room_waiters--; announced = false }
	:: else
	fi
}
#else
#define stop_waiting_for_room()
#endif

proctype Caller(byte me) {
	byte mine, slot, generation;
	bool announced, unknown, polls;

need_host:
	/* seek_host */
#ifndef EPOCH_READ_LAST
	atomic { WATCH(EPOCH) }
#endif
	atomic {
		generation = serving;
		if
		:: generation -> goto need_slot
		:: else
		fi;
		if
		:: quarantined -> goto by_policy
		:: else -> waits_for[me] = 1
		fi
	}
#ifdef EPOCH_READ_LAST
	atomic { WATCH(EPOCH) }
#endif
end_host:
	if
	:: atomic { changed[me] -> waits_for[me] = 0; goto need_host }
	:: atomic { FREELY(me) -> waits_for[me] = 0; goto by_policy } /* cancelled */
	fi;

need_slot:
	/* seek_slot */
#ifdef ROOM
	atomic { WATCH(FREED) }
#endif
	atomic {
#ifndef ROOM
		WATCH(0);
#endif
		generation = serving;
		if
		:: !generation -> goto host_gone
		:: else
		fi
	}
	acquire();
#ifdef ROOM
	if
	:: slot == SLOTS ->
		if
		:: atomic { abandoned_count -> skip }
			reclaim_all();
			acquire()
		:: else
		fi
	:: else
	fi;
	if
	:: slot == SLOTS ->
		/* hold_for_room, will_sleep_for_room */
		atomic { slot = 0; generation = 0; polls = abandoned_count }
		if
		:: !announced ->
			atomic { room_waiters++; announced = true }
#ifndef ROOM_ANNOUNCED_LAST
			goto need_slot
#endif
		:: else
		fi;
		atomic { waits_for[me] = 2 }
end_room:
		if
		:: atomic { changed[me] -> waits_for[me] = 0; goto need_slot }
		   /* The end of a poll matters only when it finds a slot to reclaim. */
		:: atomic {
				polls && abandoned[0] && reply[0] == abandoned[0] ->
				waits_for[me] = 0;
				goto need_slot
			}
#if SLOTS > 1
		:: atomic {
				polls && abandoned[1] && reply[1] == abandoned[1] ->
				waits_for[me] = 0;
				goto need_slot
			}
#endif
		:: atomic { FREELY(me) -> waits_for[me] = 0; goto by_policy }
		fi
	:: else
	fi;
#else
	assert(slot < SLOTS);
#endif

	/* bh_issue */
	atomic {
		WATCH(0);
		polls = false;
		mine = TICKET(generation, 1);
		do
		:: NAMED(slot, mine) -> mine++
		:: else -> break
		od;
		slot_ticket[slot] = mine
	}
	if
	:: atomic { serving != generation -> mine = 0; RELEASE }
		room_freed();
		goto host_gone
	:: atomic { serving == generation -> generation = 0 }
	fi;
	atomic { args[slot] = me; ticket[slot] = mine }
	stop_waiting_for_room();

	/* seek_answer */
	if
	:: atomic { reply[slot] == mine -> goto answered }
	:: atomic { ended >= GENERATION(mine) -> skip }
	:: atomic { FREELY(me) && reply[slot] != mine -> goto abandon } /* its deadline, or cancelled */
	fi;
#ifndef ANSWER_LOOKED_FOR_ONCE
	if
	:: atomic { reply[slot] == mine -> goto answered }
	:: atomic { reply[slot] != mine -> skip }
	fi;
#endif
	/* lose_host, bh_charge_call: after the end of its generation only the owner changes a
	 * fate. */
	atomic {
		unknown = begun_fate[slot] && !FREELY(me);
		begun_fate[slot] = false;
		RELEASE
	}
	room_freed();
	atomic {
		mine = 0;
		slot = 0;
		if
		:: unknown -> unknown = false; goto by_policy
		:: else -> goto need_host
		fi
	}

answered:
	atomic { wrong_answer = wrong_answer || reply_value[slot] != me; COMPLETE; RELEASE }
	room_freed();
	goto over;

abandon:
#ifdef DEADLINE_FREES_SLOT
	atomic { RELEASE }
	room_freed();
#else
	/* bh_slot_abandon */
	atomic { begun_fate[slot] = false; slot_ticket[slot] = 0; owner[slot] = NO_OWNER }
#ifdef ROOM
	atomic { abandoned_count++ }
#endif
	atomic { abandoned[slot] = mine }
	reclaim(slot);
#ifndef ABANDON_WAKES_NO_WAITER
	room_freed();
#endif
#endif
	atomic { COMPLETE }
	goto over;

host_gone:
	atomic { generation = 0; slot = 0; polls = false; WATCH(0) }
	stop_waiting_for_room();
	goto need_host;

by_policy:
	atomic { COMPLETE }
	stop_waiting_for_room();

over:	atomic { mine = 0; slot = 0; generation = 0; polls = false; WATCH(0) }
}

/* ---- The host ---- */

#ifdef GENERATION_IGNORED
#define MAY_TAKE(s) (ticket[s] && ticket[s] != claims[s])
#else
#define MAY_TAKE(s) (GENERATION(ticket[s]) == alive && ticket[s] != claims[s])
#endif
#define BEGIN(w) \
	call[w] = args[at_slot[w]]; \
	if \
	:: !FREELY(call[w]) -> \
		begun[call[w]]++; \
		begun_twice = begun_twice || begun[call[w]] > 1 \
	:: else \
	fi
/* No other call gets the slot while this one is in the host. */
#define REPLY(s, issue, value) \
	changed_in_hand = changed_in_hand || ticket[s] != issue || args[s] != value; \
	reply_value[s] = value; \
	reply[s] = issue
#define REST(w) step[w] = 0; at_slot[w] = 0; claimed[w] = 0; found[w] = 0; call[w] = 0

/* A worker of the living generation. Its state is in `step`: a death resets it at once. */
proctype Worker(byte w) {
end:
	do
	:: atomic { /* TryTake: the claim is read before the ticket */
			alive && step[w] == 0 && (MAY_TAKE(0)
#if SLOTS > 1
			|| MAY_TAKE(1)
#endif
#if SLOTS > 2
			|| MAY_TAKE(2)
#endif
			) ->
			if
			:: MAY_TAKE(0) -> at_slot[w] = 0
#if SLOTS > 1
			:: MAY_TAKE(1) -> at_slot[w] = 1
#endif
#if SLOTS > 2
			:: MAY_TAKE(2) -> at_slot[w] = 2
#endif
			fi;
#ifdef CLAIM_READ_LAST
			found[w] = ticket[at_slot[w]];
#else
			claimed[w] = claims[at_slot[w]];
#endif
			step[w] = 1
		}
	:: atomic {
			alive && step[w] == 1 ->
#ifdef CLAIM_READ_LAST
			claimed[w] = claims[at_slot[w]];
#else
			found[w] = ticket[at_slot[w]];
#endif
			if
			:: found[w] == claimed[w] -> REST(w)
			:: else -> step[w] = 2
			fi
		}
	:: atomic { /* the claim */
			alive && step[w] == 2 ->
			if
			:: claims[at_slot[w]] != claimed[w] -> REST(w)
			:: else ->
				claims[at_slot[w]] = found[w];
				claimed[w] = 0;
				step[w] = 3
			fi
		}
#ifdef BEGUN_STORED_LAST
	:: atomic { alive && step[w] == 3 -> BEGIN(w); step[w] = 5 }
	:: atomic { alive && step[w] == 5 -> slot_begun[at_slot[w]] = found[w]; step[w] = 4 }
#else
	:: atomic { /* BeginDriver; the driver */
			alive && step[w] == 3 ->
			slot_begun[at_slot[w]] = found[w];
			step[w] = 5
		}
	:: atomic { alive && step[w] == 5 -> BEGIN(w); step[w] = 4 }
#endif
	:: atomic { /* Reply */
			alive && step[w] == 4 ->
			REPLY(at_slot[w], found[w], call[w]);
			REST(w)
		}
#ifdef PENDING
	:: atomic { /* the driver's answer is "later" */
			alive && step[w] == 4 ->
			kept[at_slot[w]] = found[w];
			kept_call[at_slot[w]] = call[w];
#ifdef BEGUN_BY_WORKER
			slot_begun[at_slot[w]] = 0;
#endif
			REST(w)
		}
#endif
	od
}

#ifdef PENDING
#ifdef COMPLETED_AGAIN
#define TAKE_OUT(s)
#else
#define TAKE_OUT(s) kept[s] = 0; kept_call[s] = 0
#endif
/* CallTable::Complete and Reply. All of the driver's threads are one: an entry is taken out once. */
active proctype Completer() {
	byte s, issue, value;

end:
	do
	:: atomic {
			alive && (kept[0]
#if SLOTS > 1
			|| kept[1]
#endif
#if SLOTS > 2
			|| kept[2]
#endif
			) ->
			if
			:: kept[0] -> s = 0
#if SLOTS > 1
			:: kept[1] -> s = 1
#endif
#if SLOTS > 2
			:: kept[2] -> s = 2
#endif
			fi;
			issue = kept[s];
			value = kept_call[s];
			TAKE_OUT(s);
			REPLY(s, issue, value);
			s = 0;
			issue = 0;
			value = 0
		}
	od
}
#if SLOTS > 2
#define FORGET_KEPT kept[0] = 0; kept[1] = 0; kept[2] = 0; \
	kept_call[0] = 0; kept_call[1] = 0; kept_call[2] = 0
#elif SLOTS > 1
#define FORGET_KEPT kept[0] = 0; kept[1] = 0; kept_call[0] = 0; kept_call[1] = 0
#else
#define FORGET_KEPT kept[0] = 0; kept_call[0] = 0
#endif
#else
#define FORGET_KEPT skip
#endif

/* bh_begun, bh_blame, for one slot. The host is dead: the words that it wrote stay. */
#define TO_BLAME(s) \
	(GENERATION(slot_ticket[s]) == generation && reply[s] != slot_ticket[s] && \
	 slot_begun[s] == slot_ticket[s])
inline blame(s) {
	if
	:: atomic { TO_BLAME(s) -> skip }
		atomic { begun_fate[s] = true }
	:: atomic { !TO_BLAME(s) -> skip }
	fi
}
inline blame_all() {
	blame(0);
#if SLOTS > 1
	blame(1);
#endif
#if SLOTS > 2
	blame(2)
#endif
}

#if SLOTS > 2
#define FORGET_BEGUN slot_begun[0] = 0; slot_begun[1] = 0; slot_begun[2] = 0
#elif SLOTS > 1
#define FORGET_BEGUN slot_begun[0] = 0; slot_begun[1] = 0
#else
#define FORGET_BEGUN slot_begun[0] = 0
#endif

#if SLOTS > 2
#define FORGET_CLAIMS claims[0] = 0; claims[1] = 0; claims[2] = 0
#elif SLOTS > 1
#define FORGET_CLAIMS claims[0] = 0; claims[1] = 0
#else
#define FORGET_CLAIMS claims[0] = 0
#endif

/* The host dies, with its private state. */
#if WORKERS > 1
#define REST_ALL REST(0); REST(1)
#else
#define REST_ALL REST(0)
#endif
#define DIE alive = 0; FORGET_CLAIMS; FORGET_KEPT; REST_ALL

#ifdef WITH_DRAIN
/* Dispatcher::Finish: no worker has a call, and none is kept. */
#if WORKERS > 1
#define NONE_IN_HAND (step[0] == 0 && step[1] == 0)
#else
#define NONE_IN_HAND (step[0] == 0)
#endif
#if !defined(PENDING) || defined(LEAVES_WITH_KEPT)
#define NONE_IS_KEPT true
#elif SLOTS > 2
#define NONE_IS_KEPT !(kept[0] || kept[1] || kept[2])
#elif SLOTS > 1
#define NONE_IS_KEPT !(kept[0] || kept[1])
#else
#define NONE_IS_KEPT !kept[0]
#endif
#if SLOTS > 2
#define SOME_TO_BLAME (TO_BLAME(0) || TO_BLAME(1) || TO_BLAME(2))
#elif SLOTS > 1
#define SOME_TO_BLAME (TO_BLAME(0) || TO_BLAME(1))
#else
#define SOME_TO_BLAME TO_BLAME(0)
#endif
#endif

/* Ends and begins generations, under the channel's lock. */
active proctype Supervisor() {
	byte generation = 1;
#ifdef DRAIN_BLAMES_NONE
	bool ordered;
#endif

	do
#ifndef WITH_DRAIN
	:: atomic { DIE }
#else
	:: if
		:: atomic { DIE }
		   /* Ordered to leave, it stops to take calls at any time after. Without one in hand it
		    * leaves; killed before that, it dies as above. */
		:: atomic { /* bh_channel_set_draining */
				serving = 0
#ifdef DRAIN_BLAMES_NONE
				; ordered = true
#endif
			}
			atomic { CHANGE(EPOCH); CHANGE(FREED) }
			if
			:: atomic {
					NONE_IN_HAND && NONE_IS_KEPT ->
					left_begun = left_begun || SOME_TO_BLAME;
					DIE
				}
			:: atomic { DIE }
			fi
		fi;
#endif
		/* end_living */
		atomic { serving = 0 }
#ifdef ENDED_BEFORE_FATES
		atomic { ended = generation }
#endif
#ifdef DRAIN_BLAMES_NONE
		if
		:: ordered -> ordered = false
		:: else -> blame_all()
		fi;
#else
		blame_all();
#endif
		atomic { /* No process reads what an ended generation had begun. */
			ended = generation;
			FORGET_BEGUN
		}
		reclaim_all();
		if
		:: generation == GENERATIONS -> break
		:: else
		fi;
		/* bh_channel_changed: at once, or when the next generation has begun. A waiter
		 * reads one of the two words. */
		if
		:: atomic { CHANGE(EPOCH); CHANGE(FREED) }
		:: skip
		fi;
		/* The next host, and its begin: it finds no call before there is a ticket of its
		 * generation. */
		atomic {
			generation++;
			alive = generation;
			serving = generation
		}
		atomic { CHANGE(EPOCH); CHANGE(FREED) }
	:: goto over
	od;
	atomic { quarantined = true }
	atomic { CHANGE(EPOCH); CHANGE(FREED) }
over:	skip
}

/* No process can make a step. */
active proctype Check() {
	bool lost_host, lost_room, lost_call;
	byte i, n;

	timeout ->
	d_step {
		do
		:: i < CALLERS ->
			lost_call = lost_call || !completions[i] && !waits_for[i];
			if
			:: waits_for[i] == 1 -> lost_host = lost_host || serving || quarantined
			:: waits_for[i] == 2 ->
				lost_host = lost_host || !serving;
				n = 0;
				do
				:: n < SLOTS ->
					lost_room = lost_room || free[n] || abandoned[n] &&
						(reply[n] == abandoned[n] || ended >= GENERATION(abandoned[n]));
					n++
				:: else -> break
				od
			:: else
			fi;
			i++
		:: else -> break
		od
	}
	assert(!completed_twice);
	assert(!wrong_answer);
	assert(!begun_twice);
	assert(!two_owners);
	assert(!changed_in_hand);
#ifdef WITH_DRAIN
	assert(!left_begun);
#endif
	assert(!lost_host);
	assert(!lost_room);
	assert(!lost_call)
}

init {
	atomic {
		run Worker(0);
#if WORKERS > 1
		run Worker(1);
#endif
		run Caller(0);
#if CALLERS > 1
		run Caller(1);
#endif
#if CALLERS > 2
		run Caller(2)
#endif
	}
}
