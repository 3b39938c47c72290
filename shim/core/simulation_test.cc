// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Random histories: a host that works, errs, lies and dies, generations that come and go, callers
// that step, sleep and give up. Whatever happens, every call ends once, by its deadline, legally,
// and the statistics add up. A history is its seed: BH_SEED=n runs that one alone.
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

constexpr uint32_t kHistories = 3000;
constexpr int kSteps = 300;

class History
{
      public:
	explicit History(uint64_t seed) : random(seed)
	{
		bh_shim_init(&shim, &platform.c);
		const uint32_t count = 1 + Pick(3);
		for (uint32_t i = 0; i < count; i++) {
			bh_channel_config config = TestConfig();
			config.spec.geometry = {1 + Pick(3), 1 + Pick(3), Pick(4), Pick(3)};
			config.spec.altitude = Pick(10);
			config.spec.cache_entries = Pick(2) ? 0 : 4;
			config.poison_crashes = 1 + Pick(3);
			if (Pick(2) != 0)
				config.descriptor_callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
			for (uint32_t reason = 0; reason < BH_REASON_COUNT; reason++)
				SetRule(&config.spec.policy, reason,
					Pick(3) ? uint32_t{BH_ACTION_HOLD} : 1 + Pick(4),
					1 + Pick(2));
			worlds.push_back({std::make_unique<FakeChannel>(&platform, config), 0});
			bh_shim_add(&shim, worlds.back().channel->c);
		}
		calls.resize(1 + Pick(8));
	}

	void Run()
	{
		for (int step = 0; step < kSteps && !::testing::Test::HasFailure(); step++) {
			platform.now_ns += Pick(60);
			platform.cpu = Pick(4);
			platform.send_result = -static_cast<int>(Pick(8) ? 0 : Pick(3));
			World &world = worlds[Pick(static_cast<uint32_t>(worlds.size()))];
			Pick(3) ? Host(&world) : Supervisor(&world);
			for (Caller &caller : calls)
				if (Pick(2))
					Move(&caller);
		}
		platform.now_ns += 100000;
		for (Caller &caller : calls)
			if (caller.running)
				StepOnce(&caller);
		for (Caller &caller : calls)
			EXPECT_FALSE(caller.running);
		Check();
	}

      private:
	struct World {
		std::unique_ptr<FakeChannel> channel;
		uint32_t generation;
	};
	struct Caller {
		bh_call call;
		bh_wait wait;
		bool running = false;
		char reply[5000];
	};

	uint32_t Pick(uint32_t below)
	{
		return static_cast<uint32_t>(random() % below);
	}

	void Host(World *world)
	{
		FakeChannel &channel = *world->channel;
		const uint32_t slot = Pick(bh_slot_count(&channel.config.spec.geometry));
		const uint32_t worker = Pick(BH_WORKERS_MAX);
		bh_reply_slot *reply = channel.Reply(slot);
		switch (Pick(12)) {
		case 0:
			channel.Begin(slot);
			break;
		case 1: // or what it has begun before, or will begin
			bh_store_relaxed(&reply->begun, channel.Call(slot)->ticket + Pick(3) - 1);
			break;
		case 2: // bytes at random over everything it may write, but the pool
			if (Pick(4))
				break;
			for (int i = 0; i < 200; i++) {
				const size_t bytes = bh_reply_pool_offset(
					&channel.config.spec.geometry);
				static_cast<uint8_t *>(
					channel.reply_region
						.get())[random() %
							bytes] = static_cast<uint8_t>(random());
			}
			break;
		case 3: // right ticket, garbage answer
			if (Pick(4))
				break;
			reply->status = Pick(4);
			reply->reply_bytes = static_cast<uint16_t>(Pick(2) ? 8 : random());
			reply->payload_bytes = random();
			bh_store_release(&reply->ticket, channel.Call(slot)->ticket);
			break;
		case 4: // stale ticket
			bh_store_release(&reply->ticket, channel.Call(slot)->ticket - 1);
			break;
		case 5:
			channel.Decline(slot);
			break;
		case 6:
			reply->bell += Pick(3);
			channel.Host()->sleeping[worker] = Pick(3);
			break;
		default:
			reply->payload_bytes = Pick(5);
			channel.Answer(slot, 1 + Pick(2), Pick(2));
			break;
		}
	}

	void Supervisor(World *world)
	{
		bh_channel *c = world->channel->c;
		switch (Pick(8)) {
		case 0:
		case 1:
		case 2:
			EXPECT_EQ(world->channel->BeginGeneration(++world->generation), 0);
			break;
		case 3:
		case 4:
			bh_channel_end_generation(c, world->generation, Pick(5));
			break;
		case 5:
			Pick(4) ? bh_channel_set_draining(c, Pick(2) != 0)
				: bh_channel_set_quarantined(c, Pick(2) != 0);
			break;
		case 6:
			world->channel->SetContent(Pick(3));
			break;
		default:
			bh_channel_set_policy(c, &world->channel->config.spec.policy);
			break;
		}
	}

	void Move(Caller *caller)
	{
		if (!caller->running) {
			caller->call = FileCall(Pick(6), platform.now_ns + Pick(2000),
						Pick(2) ? BH_CALLBACK_FILE_OPEN
							: BH_CALLBACK_FILE_EXEC);
			caller->call.reissue = Pick(4) == 0;
			caller->call.descriptor = static_cast<int>(Pick(2)) - 1;
			if (!Pick(3)) {
				caller->call.payload = payload;
				caller->call.payload_bytes = Pick(sizeof(payload));
			} else if (!Pick(3)) {
				caller->call.payload_bytes = 1 + Pick(sizeof(payload));
				caller->call.payload = bh_loan_take(
					worlds[Pick(static_cast<uint32_t>(worlds.size()))]
						.channel->c,
					caller->call.payload_bytes);
			}
			if (!Pick(3)) {
				caller->call.reply_payload = caller->reply;
				caller->call.reply_capacity = Pick(sizeof(caller->reply));
			}
			bh_call_start(&shim, &caller->call);
			caller->running = true;
		}
		if (!Pick(40)) {
			bh_call_cancel(&caller->call, platform.now_ns);
			Ended(caller);
			return;
		}
		StepOnce(caller);
		if (caller->running && Pick(2)) {
			bh_call_will_sleep(&caller->call, &caller->wait);
			if (Pick(2))
				bh_call_awake(&caller->call);
		}
	}

	void StepOnce(Caller *caller)
	{
		if (bh_call_step(&caller->call, platform.now_ns, &caller->wait)) {
			Ended(caller);
			return;
		}
		EXPECT_EQ(caller->call.outcome, BH_OUTCOME_PENDING);
		// Not a step past the deadline, unless it has just moved to where it must look
		// again.
		EXPECT_LT(platform.now_ns, caller->call.visit_deadline_ns);
		EXPECT_LE(caller->wait.until_ns, caller->call.visit_deadline_ns);
		EXPECT_LE(caller->call.visit_deadline_ns, caller->call.deadline_ns);
		EXPECT_NE(caller->wait.word, nullptr);
	}

	void Ended(Caller *caller)
	{
		const bh_call &call = caller->call;
		caller->running = false;
		ended++;
		EXPECT_GT(call.outcome, uint32_t{BH_OUTCOME_PENDING});
		EXPECT_LE(call.outcome, uint32_t{BH_OUTCOME_UNKNOWN});
		EXPECT_NE(call.outcome, uint32_t{BH_OUTCOME_UNASKED});
		EXPECT_TRUE(call.verdict == BH_VERDICT_ALLOW || call.verdict == BH_VERDICT_DENY);
		EXPECT_LT(call.reason, uint32_t{BH_REASON_COUNT});
		EXPECT_EQ(call.ended_ns, platform.now_ns);
		EXPECT_TRUE(call.outcome != BH_OUTCOME_UNKNOWN ||
			    call.reissue == BH_REISSUE_IF_UNBEGUN);
		EXPECT_TRUE(call.outcome != BH_OUTCOME_ANSWERED || call.issues >= 1);
		const bh_call before = call;
		bh_wait wait;
		EXPECT_EQ(bh_call_step(&caller->call, platform.now_ns + 1, &wait), 1);
		EXPECT_EQ(before.outcome, caller->call.outcome);
		EXPECT_EQ(before.ended_ns, caller->call.ended_ns);
	}

	void Check()
	{
		for (World &world : worlds) {
			const bh_channel_config &config = world.channel->config;
			// The last generation ends: everything that was lent comes back.
			EXPECT_EQ(world.channel->BeginGeneration(++world.generation), 0);
			const bh_statistics statistics = world.channel->Statistics();
			EXPECT_EQ(statistics.calls, EndedVisits(statistics));
			EXPECT_EQ(statistics.in_flight, 0u);
			EXPECT_LE(statistics.poisoned, statistics.by_policy[BH_REASON_POISON]);
			EXPECT_LE(statistics.denied, statistics.calls);
			EXPECT_GE(platform.Count(BH_EVENT_VIOLATION), statistics.violations);
			bh_shim alone;
			bh_shim_init(&alone, &platform.c);
			bh_shim_add(&alone, world.channel->c);
			platform.send_result = 0;
			std::vector<bh_call> all(bh_slot_count(&config.spec.geometry));
			for (bh_call &call : all) {
				call = FileCall(999, platform.now_ns + 1000);
				if (&call == &all[0]) { // takes the whole pool
					call.payload = payload;
					call.payload_bytes = config.spec.geometry.call_chunks *
							     size_t{BH_POOL_CHUNK_BYTES};
				}
				bh_call_start(&alone, &call);
				EXPECT_EQ(bh_call_step(&call, platform.now_ns, &last), 0);
				EXPECT_EQ(call.issues, 1u);
			}
		}
	}

	std::mt19937_64 random;
	FakePlatform platform;
	bh_shim shim;
	bh_wait last{};
	std::vector<World> worlds;
	std::vector<Caller> calls;
	uint64_t ended = 0;
	const char payload[3 * BH_POOL_CHUNK_BYTES] = {};
};

TEST(Simulation, EveryCallEndsOnceByItsDeadlineAndIsCounted)
{
	const char *only = std::getenv("BH_SEED");
	uint64_t seed = only ? std::strtoull(only, nullptr, 10) : 1;
	const uint64_t last = only ? seed : kHistories;
	for (; seed <= last && !HasFailure(); seed++) {
		SCOPED_TRACE("BH_SEED=" + std::to_string(seed));
		History(seed).Run();
	}
}

} // namespace
} // namespace bulkhead
