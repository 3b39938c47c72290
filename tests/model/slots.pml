/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a slot: taken, issued, answered or abandoned, given back, through the end of a
 * generation and the begin of the next (bh_issue, seek_answer, bh_slot_abandon, bh_blame,
 * bh_channel_end_generation, HostPort::State::TryTake). README.md maps it to the code.
 *
 * Each caller makes one call. Caller 0's may be issued again freely and be cancelled at any time,
 * unless STRICT; the others' must not run twice, and wait for ever if need be. The host has two workers and may
 * crash at any step, in each generation; behind the last one nobody comes and the policy ends what
 * waits.
 *
 *   a call ends once, and an answer that it ends with was given to this very call
 *   a driver begins a call that must not run twice once
 *   a slot has one owner
 *   when nothing moves any more, nobody waits for a host that is there, or for room that is there
 *
 * How those sleep who wait for an answer is in waiting.pml: here they look all the time. What the
 * code does with sequentially consistent operations is one step here.
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
#define NOBODY 255
/* Whose call may run twice, and may be cancelled. */
#ifdef STRICT
#define FREELY(caller) false
#else
#define FREELY(caller) ((caller) == 0)
#endif

/* bh_ticket_make. 0 is no ticket. */
#define TICKET(generation, count) ((generation) * 16 + (count))
#define GENERATION(ticket) ((ticket) / 16)

/* Shared memory: the call slots, and the reply slots and worker lines, which the host writes. */
byte ticket[SLOTS], args[SLOTS];
byte reply[SLOTS], reply_value[SLOTS];
byte line_slot[WORKERS], line_ticket[WORKERS];

/* The shim's own. */
bool free[SLOTS] = true;
byte slot_ticket[SLOTS], abandoned[SLOTS], count[SLOTS];
bool begun_fate[SLOTS]; /* bh_slot.fate has BH_FATE_BEGUN */
byte serving = 1, ended, epoch, freed, room_waiters, abandoned_count;
bool quarantined;

/* The host's own. */
byte claims[SLOTS];
byte alive = 1; /* generation of the host that runs; 0: none */

/* What only the checks look at. */
byte owner[SLOTS] = NOBODY;
byte begun[CALLERS], completions[CALLERS];
byte waits_for[CALLERS]; /* 1: host, 2: room */
bool begun_twice, completed_twice, wrong_answer, two_owners;

/* ---- Slots ---- */

inline room_freed() {
	atomic {
		if
		:: room_waiters -> freed++
		:: else
		fi
	}
}
inline release() {
	atomic { slot_ticket[slot] = 0; free[slot] = true; owner[slot] = NOBODY }
	room_freed()
}

/* bh_slot_reclaim. What it looks at never goes back, so that all looks count as made with the last,
 * the compare-and-exchange. */
inline reclaim(s) {
	if
	:: atomic {
			abandoned[s] && (reply[s] == abandoned[s] || ended >= GENERATION(abandoned[s])) ->
			abandoned[s] = 0;
			abandoned_count--
		}
		atomic { free[s] = true; owner[s] = NOBODY }
		room_freed()
	:: else
	fi
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

/* acquire_anywhere: the lowest free one, by compare-and-exchange; and the new owner's first store. */
inline acquire() {
	atomic {
		slot = 0;
		do
		:: slot < SLOTS && !free[slot] -> slot++
		:: else -> break
		od;
		if
		:: slot < SLOTS ->
			free[slot] = false;
			two_owners = two_owners || owner[slot] != NOBODY;
			owner[slot] = me;
			begun_fate[slot] = false
		:: else
		fi
	}
}

/* ---- A call ---- */

inline complete() {
	atomic {
		completions[me]++;
		completed_twice = completed_twice || completions[me] > 1
	}
}

inline stop_waiting_for_room() {
	if
	:: announced -> atomic { room_waiters--; announced = false }
	:: else
	fi
}

proctype Caller(byte me) {
	byte mine, slot, seen, generation;
	bool announced, unknown, polls;

need_host:
	/* seek_host */
#ifndef EPOCH_READ_LAST
	atomic { seen = epoch }
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
	atomic { seen = epoch }
#endif
end_host:
	if
	:: atomic { epoch != seen -> waits_for[me] = 0; goto need_host }
	:: atomic { FREELY(me) -> waits_for[me] = 0; goto by_policy } /* cancelled */
	fi;

need_slot:
	/* seek_slot */
	atomic { seen = freed }
	atomic {
		generation = serving;
		if
		:: !generation -> goto host_gone
		:: else
		fi
	}
	acquire();
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
		atomic { slot = 0; polls = abandoned_count }
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
		:: atomic { freed != seen -> waits_for[me] = 0; goto need_slot }
		   /* The end of a poll matters when it finds something. */
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

	/* bh_issue */
	atomic {
		count[slot]++;
		mine = TICKET(generation, count[slot]);
		slot_ticket[slot] = mine
	}
	if
	:: atomic { serving != generation -> mine = 0 }
		release();
		goto host_gone
	:: atomic { serving == generation -> skip }
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
	/* lose_host, bh_charge_call */
	atomic { unknown = begun_fate[slot] && !FREELY(me) }
	release();
	atomic {
		mine = 0;
		slot = 0;
		if
		:: unknown -> unknown = false; goto by_policy
		:: else -> goto need_host
		fi
	}

answered:
	atomic { wrong_answer = wrong_answer || reply_value[slot] != me }
	release();
	complete();
	goto over;

abandon:
#ifdef DEADLINE_FREES_SLOT
	release();
#else
	/* bh_slot_abandon */
	atomic { begun_fate[slot] = false; slot_ticket[slot] = 0; owner[slot] = NOBODY }
	atomic { abandoned_count++ }
	atomic { abandoned[slot] = mine }
	reclaim(slot);
#ifndef ABANDON_TELLS_NOBODY
	room_freed();
#endif
#endif
	complete();
	goto over;

host_gone:
	atomic { generation = 0; slot = 0 }
	stop_waiting_for_room();
	goto need_host;

by_policy:
	stop_waiting_for_room();
	complete();

over:	atomic { mine = 0; slot = 0; seen = 0; generation = 0; polls = false; unknown = false }
}

/* ---- The host ---- */

#ifdef GENERATION_IGNORED
#define MAY_TAKE(s) (ticket[s] && ticket[s] != claims[s])
#else
#define MAY_TAKE(s) (GENERATION(ticket[s]) == generation && ticket[s] != claims[s])
#endif

/* Of the generation that lives, each time anew. */
proctype Worker(byte w) {
	byte generation = 1, slot, claimed, found, call;

end_again:
	{
end:
		do
		:: /* TryTake. The claim is read before the ticket. */
			atomic {
				if
				:: MAY_TAKE(0) -> slot = 0
#if SLOTS > 1
				:: MAY_TAKE(1) -> slot = 1
#endif
#if SLOTS > 2
				:: MAY_TAKE(2) -> slot = 2
#endif
				fi;
#ifdef CLAIM_READ_LAST
				found = ticket[slot]
			}
			atomic {
				claimed = claims[slot];
				if
				:: found == claimed -> goto next
				:: else
				fi
			}
#else
				claimed = claims[slot]
			}
			atomic {
				found = ticket[slot];
				if
				:: found == claimed -> goto next
				:: else
				fi
			}
#endif
			atomic {
				if
				:: claims[slot] != claimed -> goto next
				:: else -> claims[slot] = found
				fi
			}
			/* StoreTaken, CopyCall, BeginDriver */
			atomic { line_slot[w] = slot; line_ticket[w] = found }
			atomic {
				call = args[slot];
				begun[call]++;
				begun_twice = begun_twice || !FREELY(call) && begun[call] > 1
			}
			/* Reply, StoreIdle */
			atomic { reply_value[slot] = call; reply[slot] = found }
			atomic { line_slot[w] = 0; line_ticket[w] = 0 }
next:			atomic { slot = 0; claimed = 0; found = 0; call = 0 }
		od
	} unless {
		generation != alive
	}
end_dead:
	atomic {
		alive > generation;
		generation = alive;
		slot = 0;
		claimed = 0;
		found = 0;
		call = 0;
		goto end_again
	}
}

#define IN_HAND(w, s, issue) (line_ticket[w] == issue && line_slot[w] == s)
#if WORKERS > 1
#define BEGUN(s, issue) (IN_HAND(0, s, issue) || IN_HAND(1, s, issue))
#else
#define BEGUN(s, issue) IN_HAND(0, s, issue)
#endif

/* bh_blame, of one slot. The host is dead: what it wrote stays. */
inline blame(s) {
	atomic { blamed = slot_ticket[s] }
	atomic {
		if
		:: GENERATION(blamed) == generation && reply[s] != blamed && BEGUN(s, blamed) ->
			begun_fate[s] = true
		:: else
		fi;
		blamed = 0
	}
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

/* Whoever ends and begins generations, under the channel's lock. */
active proctype Supervisor() {
	byte generation = 1, blamed;

	do
	:: atomic { alive = 0 } /* the host dies */
		/* end_living */
		atomic { serving = 0 }
#ifdef ENDED_BEFORE_FATES
		atomic { ended = generation }
#endif
		blame_all();
		atomic { ended = generation }
		reclaim_all();
		if
		:: generation == GENERATIONS -> break
		:: else
		fi;
		/* bh_channel_changed: at once, or when the next generation has begun. A waiter looks at
		 * one of the two words. */
		if
		:: atomic { epoch++; freed++ }
		:: skip
		fi;
		/* The next host (HostPort::State) and its begin. */
		atomic {
			claims[0] = 0;
#if SLOTS > 1
			claims[1] = 0;
#endif
#if SLOTS > 2
			claims[2] = 0;
#endif
			line_slot[0] = 0;
			line_ticket[0] = 0;
#if WORKERS > 1
			line_slot[1] = 0;
			line_ticket[1] = 0;
#endif
			generation++;
			alive = generation
		}
		atomic { serving = generation }
		atomic { epoch++; freed++ }
	:: goto over
	od;
	atomic { quarantined = true }
	atomic { epoch++; freed++ }
over:	skip
}

/* Nothing moves any more. */
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
		run Caller(1)
#endif
	}
}
