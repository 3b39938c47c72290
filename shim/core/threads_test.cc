// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Callers, host workers and a supervisor as threads of one process: what ThreadSanitizer can see.
// The host keeps the protocol (races on purpose are the simulation's); its generations die at any
// point, and its workers with them.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

constexpr uint32_t kCallers = 4;
constexpr uint32_t kWorkers = 2;
constexpr uint32_t kCallsEach = 3000;

uint64_t NowNs()
{
	return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
					     std::chrono::steady_clock::now().time_since_epoch())
					     .count());
}

// Futexes made of one condition variable: what is sleeping on which word does not matter.
class Threads
{
      public:
	Threads()
	{
		c.context = this;
		c.now_ns = [](void *) { return NowNs(); };
		c.coarse_ns = c.now_ns;
		c.wait = [](void *self, uint32_t *word, uint32_t expected, int, uint64_t until_ns) {
			static_cast<Threads *>(self)->Wait(word, expected, until_ns);
			return 0;
		};
		c.wake = [](void *self, uint32_t *, int, int) {
			static_cast<Threads *>(self)->Wake();
		};
		c.send_descriptor = [](void *, void *, uint32_t, uint64_t, const bh_call *) {
			return 0;
		};
		c.event = [](void *self, void *, uint32_t event, uint32_t, uint32_t, uint64_t) {
			static_cast<Threads *>(self)->events[event]++;
		};
		c.cpu = [](void *) { return cpu; };
	}
	void Wait(uint32_t *word, uint32_t expected, uint64_t until_ns)
	{
		std::unique_lock<std::mutex> lock(mutex);
		while (bh_load(word) == expected) {
			const uint64_t now_ns = NowNs();
			if (now_ns >= until_ns)
				return;
			changed.wait_for(lock, std::chrono::nanoseconds(until_ns - now_ns));
		}
	}
	void Wake()
	{
		std::lock_guard<std::mutex> lock(mutex);
		changed.notify_all();
	}

	bh_platform c{};
	std::atomic<uint64_t> events[4] = {};
	static thread_local uint32_t cpu;

      private:
	std::mutex mutex;
	std::condition_variable changed;
};
thread_local uint32_t Threads::cpu = 0;

class Host
{
      public:
	Host(Threads *its_platform, FakeChannel *its_channel)
	    : platform(its_platform), channel(its_channel)
	{
	}
	void Start(uint32_t number)
	{
		generation = number;
		stop = false;
		for (auto &claimed : claims)
			claimed = 0;
		for (uint32_t worker = 0; worker < kWorkers; worker++)
			threads.emplace_back([this, worker] { Work(worker); });
	}
	// As abrupt as a thread can: calls in hand are not answered.
	void Kill()
	{
		stop = true;
		for (uint32_t worker = 0; worker < kWorkers; worker++)
			bh_store_release(&channel->Host()->sleeping[worker], 0u);
		platform->Wake();
		for (std::thread &thread : threads)
			thread.join();
		threads.clear();
	}

      private:
	// A ticket that is not answered and not in another worker's hand. The claim is read first:
	// a worker held up in between must not claim what another has answered since.
	uint64_t Take(uint32_t slot)
	{
		uint64_t seen = claims[slot];
		const uint64_t ticket = bh_load_acquire(&channel->Call(slot)->ticket);
		if (bh_ticket_generation(ticket) != generation || seen == ticket)
			return 0;
		return claims[slot].compare_exchange_strong(seen, ticket) ? ticket : 0;
	}
	bool Serve()
	{
		bool served = false;
		for (uint32_t slot = 0; slot < bh_slot_count(&channel->config.spec.geometry);
		     slot++) {
			const uint64_t ticket = Take(slot);
			if (!ticket)
				continue;
			served = true;
			bh_file_args args;
			std::memcpy(&args, channel->Call(slot)->args, sizeof(args));
			bh_store_relaxed(&channel->Reply(slot)->begun, ticket);
			if (stop)
				return true;
			channel->AnswerTicket(slot, ticket,
					      args.inode % 2 ? BH_VERDICT_DENY : BH_VERDICT_ALLOW,
					      BH_CACHE_NOT);
			bh_fence();
			if (bh_load(&channel->Call(slot)->caller_sleeps)) {
				bh_add_fetch(&channel->Reply(slot)->bell, 1u);
				platform->Wake();
			}
		}
		return served;
	}
	void Work(uint32_t worker)
	{
		uint32_t *word = &channel->Host()->sleeping[worker];
		while (!stop) {
			if (Serve())
				continue;
			bh_exchange(word, 1u);
			bh_fence();
			if (!stop && !Serve())
				platform->Wait(word, 1, NowNs() + 1'000'000'000);
			bh_store_release(word, 0u);
		}
	}

	Threads *platform;
	FakeChannel *channel;
	uint32_t generation = 0;
	std::atomic<bool> stop{false};
	std::atomic<uint64_t> claims[64] = {};
	std::vector<std::thread> threads;
};

TEST(CoreThreads, CallsEndOnceAndRightThroughDyingHosts)
{
	Threads platform;
	bh_channel_config config = TestConfig();
	config.spec.geometry = {2, 1, 4, 0}; // fewer slots than callers: they wait for room too
	config.spec.spin_ns = 2000;
	config.poison_kills = 1000000;
	FakePlatform unused;
	FakeChannel channel(&unused, config);
	channel.Init(&platform.c);
	bh_shim shim;
	bh_shim_init(&shim, &platform.c);
	bh_shim_add(&shim, channel.c);

	std::atomic<uint32_t> callers{kCallers};
	std::atomic<uint64_t> cancelled{0}, wrong{0};
	std::vector<std::thread> threads;
	for (uint32_t caller = 0; caller < kCallers; caller++) {
		threads.emplace_back([&, caller] {
			std::mt19937 random(caller);
			const std::vector<char> payload(BH_POOL_CHUNK_BYTES + 1, 'x');
			Threads::cpu = caller;
			for (uint32_t i = 0; i < kCallsEach; i++) {
				bh_call call = FileCall(random(), NowNs() + 60'000'000'000);
				bh_file_args args;
				std::memcpy(&args, call.args, sizeof(args));
				if (random() % 4 == 0) {
					call.payload = payload.data();
					call.payload_bytes = payload.size();
				}
				if (random() % 64 == 0) {
					bh_call_start(&shim, &call);
					if (!bh_call_run_until(&call, NowNs() + 20'000)) {
						bh_call_cancel(&call, NowNs());
						cancelled++;
						continue;
					}
				} else {
					bh_call_run(&shim, &call);
				}
				wrong += call.outcome != BH_OUTCOME_ANSWERED ||
					 call.verdict != (args.inode % 2 ? BH_VERDICT_DENY
									 : BH_VERDICT_ALLOW);
			}
			callers--;
		});
	}

	Host host(&platform, &channel);
	std::mt19937 random(99);
	uint32_t generation = 0;
	while (callers) {
		host.Start(++generation);
		ASSERT_EQ(channel.BeginGeneration(generation), 0);
		// A life lasts so many answers, or until no thread calls any more.
		const uint64_t until = channel.Statistics().answered + 1 + random() % 400;
		while (callers && channel.Statistics().answered < until)
			std::this_thread::yield();
		host.Kill();
		ASSERT_EQ(bh_channel_end_generation(channel.c, generation, BH_END_KILLED), 0);
	}
	for (std::thread &thread : threads)
		thread.join();

	EXPECT_EQ(wrong, 0u);
	EXPECT_GT(generation, 5u);
	const bh_statistics statistics = channel.Statistics();
	EXPECT_EQ(statistics.calls, uint64_t{kCallers} * kCallsEach);
	EXPECT_EQ(EndedVisits(statistics), statistics.calls);
	EXPECT_EQ(statistics.cancelled, cancelled);
	EXPECT_EQ(statistics.violations, 0u);
	EXPECT_EQ(statistics.overdue, 0u);
	EXPECT_EQ(statistics.in_flight, 0u);
	EXPECT_EQ(statistics.generations, generation);
}

} // namespace
} // namespace bulkhead
