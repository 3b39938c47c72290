/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The notification ring: bh_notify, accept_position (shim/core/notify.c) with NotificationReader
 * and the thread that delivers to the driver (ipc/notification_reader.cc, Dispatcher::Tell).
 * README.md maps it to the code.
 *
 * HAPPEN notifications occur, numbered from 1; a reader dies at any step, LIVES - 1 times, and the
 * next one continues. When no process can make a step,
 *
 *   no notification was delivered twice, and each delivered one has the content written under its
 *   number
 *   the reader does not sleep while there is an entry for it
 *   each notification written and not delivered was in a reader's hand when it died: one for each
 *   death
 *
 * With FORGED_WORDS a reader that dies may leave any words behind. Then its successor may deliver
 * again or miss the notifications that the forged words cover, but must not stop, and no
 * unpublished notification may count as read: the next reader finds the two counts in the header in
 * their order.
 *
 * A step makes one access to shared memory. Missing fences are modelled by stores that wait: where
 * a fence is left out, the store before it reaches memory later than the loads after it.
 */
#ifndef ENTRIES
#define ENTRIES 2
#endif
#ifndef HAPPEN
#define HAPPEN 4
#endif
#ifndef LIVES
#define LIVES 2
#endif
/* Under one lock: first all are put into the ring, then they are published one after the other. */
#ifndef BATCH
#define BATCH 1
#endif
#define PLACE(position) ((position) % ENTRIES)
/* Words count without end in 64 bits; here in 6. */
#define WORDS 64
#define AHEAD(a, b) ((WORDS + (a) - (b)) % WORDS)

/* Shared memory. */
byte published[ENTRIES]; /* position + 1 */
byte number[ENTRIES];    /* the entry's contents */
byte header_written, header_accepted, read_word, told_word;
bool sleeping;
/* Stores that wait: the shim's store of `published`, the reader's store of `sleeping`. */
bool published_waits, sleeping_waits;
byte waiting_place, waiting_value;

/* Private to the shim. */
byte written, announced, accepted; /* put into the ring; published; accepted as read */
bool all_happened;
/* For the readers and the checks. */
byte next, deaths;
bool asleep;
byte written_as[HAPPEN + 1]; /* by position */
byte told[HAPPEN + 1];       /* by number */
bool told_twice, torn, read_ahead, lost_wake_up, stands_still, lost_silently;

proctype Drain() {
end:
	do
	:: atomic { published_waits -> published[waiting_place] = waiting_value; published_waits = false }
	:: atomic { sleeping_waits -> sleeping = true; sleeping_waits = false }
	od
}

inline publish() {
#ifdef NO_FENCE_IN_NOTIFY
	atomic {
		!published_waits;
		waiting_place = PLACE(announced); waiting_value = announced + 1; published_waits = true
	}
#else
	published[PLACE(announced)] = announced + 1
#endif
}

#ifdef ACCEPTS_UNPUBLISHED
#define READABLE written
#else
#define READABLE announced
#endif

inline put_or_lose() {
	happened++;
	if
	:: AHEAD(written, accepted) < ENTRIES
	:: else ->
		claimed = read_word;
		if
		:: AHEAD(claimed, accepted) <= AHEAD(READABLE, accepted) ->
			accepted = claimed;
			read_ahead = (accepted > announced);
			assert(!(read_ahead));
			header_accepted = claimed
		:: else
		fi
	fi;
	if
	:: AHEAD(written, accepted) >= ENTRIES /* lost, and counted */
	:: else ->
		written_as[written] = happened;
		atomic { !published_waits -> number[PLACE(written)] = happened };
		written++
	fi
}

proctype Shim() {
	byte happened = 0, claimed;
	bool there;
	do
	:: happened == HAPPEN -> break
	:: else ->
		do
		:: happened == HAPPEN || written - announced == BATCH -> break
		:: happened < HAPPEN && written - announced < BATCH -> put_or_lose()
		:: written != announced -> break /* sources bring any number of notifications */
		od;
		there = (written != announced);
		do
		:: announced == written -> break
		:: else ->
#ifdef PUBLISHED_BEFORE_COUNTED
			publish();
			header_written = announced + 1;
#else
			header_written = announced + 1;
			publish();
#endif
			announced++
		od;
		if
		:: atomic { there && sleeping -> sleeping = false; asleep = false }
		:: else
		fi
	od;
	!published_waits;
	all_happened = true
}

#define MAY_DIE if :: deaths < LIVES - 1 -> goto dead :: skip fi

proctype Reader() {
	byte counted, given, contents;
	bool there;
alive:
	given = header_accepted;
	counted = header_written;
	next = read_word;
	if
	:: AHEAD(next, given) > AHEAD(counted, given) -> next = given
	:: else
	fi;
#ifndef NOT_TOLD
	contents = told_word;
	if
	:: AHEAD(contents, next) <= AHEAD(counted, next) -> next = contents
	:: else
	fi;
#endif
	told_word = next;
	read_word = next;
	sleeping = false;
	do
	:: MAY_DIE;
		there = (published[PLACE(next)] == next + 1);
		if
#ifndef NEVER_LOOKS_AHEAD
		:: !there ->
			contents = AHEAD(published[PLACE(next)], next + 1);
			if
			:: contents > 0 && contents <= WORDS / 2 ->
				next = header_accepted;
				told_word = next;
				read_word = next
			:: else
			fi
#endif
		:: else
		fi;
		if
		:: there ->
#ifdef RELEASES_FIRST
			told_word = next + 1;
			read_word = next + 1;
			MAY_DIE;
			contents = number[PLACE(next)];
#else
			contents = number[PLACE(next)];
#ifndef TELLS_FIRST
			MAY_DIE;
			told_word = next + 1;
			/* Room is given back now, or some entries later. */
			if
			:: MAY_DIE; read_word = next + 1
			:: skip
			fi;
#endif
			MAY_DIE;
#endif
			atomic {
				told[contents]++;
				told_twice = told_twice || told[contents] > 1;
				torn = torn || contents != written_as[next];
			}
#ifdef TELLS_FIRST
			MAY_DIE;
			told_word = next + 1;
			read_word = next + 1;
#endif
			next++
		:: else ->
			/* The last of a batch gives all room back. */
			if
			:: read_word != next -> read_word = next
			:: else
			fi;
#ifdef NO_FENCE_BEFORE_SLEEP
			sleeping_waits = true;
#else
			sleeping = true;
#endif
#ifndef LOOKS_ONCE
			contents = AHEAD(published[PLACE(next)], next);
#ifdef NEVER_LOOKS_AHEAD
			there = (contents == 1);
#else
			there = (contents >= 1 && contents <= WORDS / 2);
#endif
#endif
			if
			:: !there ->
				/* The kernel checks the word before the thread sleeps. */
				atomic { !sleeping_waits -> asleep = sleeping };
end_asleep:
				if
				:: !asleep
				:: deaths < LIVES - 1 -> goto dead
				fi
			:: else
			fi;
			atomic { !sleeping_waits -> sleeping = false }
		fi
	od;
dead:
	atomic {
		deaths++;
		asleep = false;
		sleeping_waits = false
	}
#ifdef FORGED_WORDS
	if
	:: skip
	:: select (contents : 0 .. HAPPEN + 1); read_word = contents
	:: read_word = WORDS - 1
	:: select (contents : 0 .. HAPPEN + 1); told_word = contents
	fi;
#endif
	goto alive
}

/* When no process can make a step. */
proctype Judge() {
	byte n, missing = 0;
	atomic {
		(all_happened && asleep) ->
#ifndef FORGED_WORDS
		assert(!(told_twice));
		assert(!(torn));
#endif
		lost_wake_up = (published[PLACE(next)] == next + 1);
		assert(!(lost_wake_up));
		stands_still = (next != written);
		assert(!(stands_still));
#ifndef FORGED_WORDS
		for (n : 0 .. HAPPEN) {
			if
			:: n < written && told[written_as[n]] == 0 -> missing++
			:: else
			fi
		}
		lost_silently = (missing > deaths);
		assert(!(lost_silently));
#endif
	}
}

init {
	atomic {
		run Drain();
		run Shim();
		run Reader();
		run Judge()
	}
}
