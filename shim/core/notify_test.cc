// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The notification ring's writing side, against readers that keep the protocol and readers that
// don't.
#include <array>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

constexpr uint32_t kEntries = BH_NOTIFICATION_ENTRIES_MIN;
bh_callback_set Wanted()
{
	bh_callback_set kinds = bh_set_of(BH_NOTIFY_PROCESS_CREATED);
	bh_set_add(&kinds, BH_NOTIFY_FILE_RENAMED);
	return kinds;
}
const bh_callback_set kWanted = Wanted();

struct Ring {
	explicit Ring(FakePlatform *platform)
	    : memory(ZeroedMemory(bh_notification_region_bytes(kEntries))),
	      channel(platform, Config(memory.get()))
	{
		channel.SetNotifications(kWanted);
	}
	static bh_channel_config Config(void *region)
	{
		bh_channel_config config = TestConfig();
		config.spec.notify_entries = kEntries;
		config.notify_region = region;
		return config;
	}
	bh_notification_header *Header()
	{
		return static_cast<bh_notification_header *>(memory.get());
	}
	bh_notification_reader *Reader()
	{
		return reinterpret_cast<bh_notification_reader *>(
			static_cast<uint8_t *>(channel.reply_region.get()) +
			BH_NOTIFICATION_READER_OFFSET);
	}
	bh_notification_entry *Entry(uint64_t position)
	{
		return reinterpret_cast<bh_notification_entry *>(
			static_cast<uint8_t *>(memory.get()) +
			bh_notification_entry_offset(kEntries, position));
	}
	void Notify(uint32_t pid, uint32_t kind = BH_NOTIFY_PROCESS_CREATED)
	{
		bh_notification notification{};
		notification.kind = kind;
		notification.pid = pid;
		bh_notify(channel.c, &notification);
	}
	void Notify(uint32_t first, uint32_t last, uint32_t kind)
	{
		for (uint32_t pid = first; pid <= last; pid++)
			Notify(pid, kind);
	}
	// By the letter: the next entry, copied, then given back. False: there is none.
	bool Read(bh_notification_entry *copy)
	{
		const uint64_t position = bh_load_relaxed(&Reader()->read);
		bh_notification_entry *entry = Entry(position);
		if (bh_load_acquire(&entry->published) != position + 1)
			return false;
		std::memcpy(copy, entry, sizeof(*copy));
		bh_store_release(&Reader()->read, position + 1);
		return true;
	}

	Memory memory;
	FakeChannel channel;
};

class CoreNotify : public ::testing::Test
{
      protected:
	CoreNotify() : ring(&platform)
	{
	}
	void ExpectLost(uint64_t full, uint64_t absent, uint64_t cursor)
	{
		const bh_statistics statistics = ring.channel.Statistics();
		EXPECT_EQ(statistics.lost[BH_LOST_FULL], full);
		EXPECT_EQ(statistics.lost[BH_LOST_ABSENT], absent);
		EXPECT_EQ(statistics.lost[BH_LOST_CURSOR], cursor);
	}

	FakePlatform platform;
	Ring ring;
	bh_notification_entry entry{};
};

TEST_F(CoreNotify, TellsWhatHappenedInOrder)
{
	bh_notification told{};
	told.kind = BH_NOTIFY_FILE_RENAMED;
	told.pid = 3;
	told.parent = 2;
	told.uid = 1000;
	told.gid = 100;
	told.time_ns = 5;
	told.start_ns = 4;
	told.cgroup = 77;
	told.body.file.inode = 131;
	told.text = "/tmp/a";
	told.text_bytes = 6;
	told.text2 = "/tmp/bc";
	told.text2_bytes = 7;
	bh_notify(ring.channel.c, &told);
	ring.Notify(9);

	ASSERT_TRUE(ring.Read(&entry));
	EXPECT_EQ(entry.number, 1u);
	EXPECT_EQ(entry.missed, 0u);
	EXPECT_EQ(entry.kind, BH_NOTIFY_FILE_RENAMED);
	EXPECT_EQ(entry.pid, 3u);
	EXPECT_EQ(entry.parent, 2u);
	EXPECT_EQ(entry.uid, 1000u);
	EXPECT_EQ(entry.gid, 100u);
	EXPECT_EQ(entry.time_ns, 5u);
	EXPECT_EQ(entry.start_ns, 4u);
	EXPECT_EQ(entry.cgroup, 77u);
	bh_notify_file file;
	std::memcpy(&file, entry.body, sizeof(file));
	EXPECT_EQ(file.inode, 131u);
	const char *text = reinterpret_cast<const char *>(entry.text);
	EXPECT_EQ(std::string(text, entry.text_bytes), "/tmp/a");
	EXPECT_EQ(std::string(text + entry.text_bytes, entry.text2_bytes), "/tmp/bc");
	EXPECT_EQ(entry.flags, 0u);
	ASSERT_TRUE(ring.Read(&entry));
	EXPECT_EQ(entry.number, 2u);
	EXPECT_EQ(entry.pid, 9u);
	EXPECT_FALSE(ring.Read(&entry));
}

TEST_F(CoreNotify, CutsTextsAndSaysSo)
{
	const std::string path(1000, 'p'), line(1000, 'l');
	bh_notification told{};
	told.kind = BH_NOTIFY_FILE_RENAMED;
	told.text = path.data();
	told.text_bytes = path.size();
	told.text2 = line.data();
	for (const auto &[other, first, second] :
	     {std::array<size_t, 3>{0, 384, 0}, {10, 374, 10}, {1000, 192, 192}}) {
		told.text2_bytes = other;
		bh_notify(ring.channel.c, &told);
		ASSERT_TRUE(ring.Read(&entry));
		EXPECT_EQ(entry.text_bytes, first);
		EXPECT_EQ(entry.text2_bytes, second);
		EXPECT_EQ(entry.flags,
			  BH_NOTIFICATION_TEXT_CUT |
				  (second < other ? 0u + BH_NOTIFICATION_TEXT2_CUT : 0u));
		EXPECT_EQ(entry.text[first - 1], 'p');
	}
}

TEST_F(CoreNotify, IsSilentAboutWhatNobodyWants)
{
	ring.Notify(1, BH_NOTIFY_PROCESS_EXITED);
	ring.Notify(1, 0);
	ring.Notify(1, 0xffffffff);
	EXPECT_FALSE(ring.Read(&entry));
	EXPECT_EQ(ring.channel.Statistics().notified, 0u);

	bh_shim shim;
	bh_shim_init(&shim, &platform.c);
	bh_shim_add(&shim, ring.channel.c);
	EXPECT_TRUE(bh_shim_wants_notification(&shim, BH_NOTIFY_PROCESS_CREATED));
	EXPECT_FALSE(bh_shim_wants_notification(&shim, BH_NOTIFY_PROCESS_EXITED));
}

TEST_F(CoreNotify, HasNothingToTellWithoutARing)
{
	FakeChannel without(&platform, TestConfig());
	without.SetNotifications(bh_set_everything());
	bh_notification notification{};
	notification.kind = BH_NOTIFY_PROCESS_CREATED;
	bh_notify(without.c, &notification);
	EXPECT_EQ(without.Statistics().notified, 0u);
}

TEST_F(CoreNotify, RefusesARingOfAWrongSize)
{
	for (uint32_t entries : {1u, 63u, 100u, 2 * BH_NOTIFICATION_ENTRIES_MAX}) {
		bh_channel_config config = TestConfig();
		config.spec.notify_entries = entries;
		EXPECT_EQ(bh_channel_private_bytes(&config), 0u) << entries;
	}
}

TEST_F(CoreNotify, CountsWhatFindsNoRoomAndTellsTheNext)
{
	ASSERT_EQ(ring.channel.BeginGeneration(1), 0);
	ring.Notify(1, kEntries + 5, BH_NOTIFY_PROCESS_CREATED);
	ExpectLost(5, 0, 0);
	EXPECT_EQ(ring.channel.Statistics().unread, kEntries);
	for (uint32_t pid = 1; pid <= kEntries; pid++) {
		ASSERT_TRUE(ring.Read(&entry));
		EXPECT_EQ(entry.number, pid);
	}
	EXPECT_FALSE(ring.Read(&entry));
	ring.Notify(1000);
	ASSERT_TRUE(ring.Read(&entry));
	EXPECT_EQ(entry.number, kEntries + 6);
	EXPECT_EQ(entry.missed, 5u);
	ring.Notify(1001);
	ASSERT_TRUE(ring.Read(&entry));
	EXPECT_EQ(entry.missed, 0u);
	const bh_statistics statistics = ring.channel.Statistics();
	EXPECT_EQ(statistics.notified, kEntries + 7);
	EXPECT_EQ(statistics.unread, 0u);
}

TEST_F(CoreNotify, KeepsForTheNextHostAsMuchAsTheRingHolds)
{
	ASSERT_EQ(ring.channel.BeginGeneration(1), 0);
	ring.Notify(1);
	ASSERT_EQ(bh_channel_end_generation(ring.channel.c, 1, BH_END_CRASHED), 0);
	ring.Notify(2, kEntries + 3, BH_NOTIFY_PROCESS_CREATED);
	ExpectLost(0, 3, 0);
	ASSERT_EQ(ring.channel.BeginGeneration(2), 0);
	for (uint32_t pid = 1; pid <= kEntries; pid++) {
		ASSERT_TRUE(ring.Read(&entry));
		EXPECT_EQ(entry.pid, pid);
	}
	ring.Notify(1);
	ASSERT_TRUE(ring.Read(&entry));
	EXPECT_EQ(entry.missed, 3u);
}

TEST_F(CoreNotify, BelievesNoCursorThatCantBe)
{
	ASSERT_EQ(ring.channel.BeginGeneration(1), 0);
	ring.Notify(1, kEntries, BH_NOTIFY_PROCESS_CREATED);
	const uint64_t lies[] = {kEntries + 1, ~uint64_t{0}, uint64_t{1} << 63};
	for (uint64_t lie : lies) {
		bh_store_release(&ring.Reader()->read, lie);
		ring.Notify(1);
	}
	ExpectLost(0, 0, 3);
	EXPECT_EQ(ring.channel.Statistics().unread, kEntries);
	// What was not given back is still there.
	for (uint64_t position = 0; position < kEntries; position++)
		EXPECT_EQ(ring.Entry(position)->number, position + 1);
	// Back to the truth, and on; then behind what was said before.
	bh_store_release(&ring.Reader()->read, uint64_t{kEntries / 2});
	ring.Notify(1, kEntries / 2, BH_NOTIFY_PROCESS_CREATED);
	ExpectLost(0, 0, 3);
	bh_store_release(&ring.Reader()->read, uint64_t{1});
	ring.Notify(1);
	ExpectLost(0, 0, 4);
}

// If a host were believed right between the two, `accepted` in the header would be ahead of
// `written`, and a shim that took over just then would find fewer than no entries in its ring.
TEST_F(CoreNotify, NothingIsReadBetweenItsPlaceInTheRingAndItsPublication)
{
	ASSERT_EQ(ring.channel.BeginGeneration(1), 0);
	ring.Notify(1, kEntries - 4, BH_NOTIFY_PROCESS_CREATED);
	std::vector<bh_notification> many(10);
	for (bh_notification &one : many)
		one.kind = BH_NOTIFY_PROCESS_CREATED;
	bh_store_release(&ring.Reader()->read, uint64_t{kEntries});
	bh_notify_many(ring.channel.c, many.data(), many.size());
	EXPECT_EQ(ring.Header()->accepted, 0u);
	ExpectLost(0, 0, 6);
}

TEST_F(CoreNotify, WakesOnlyAReaderThatSleeps)
{
	uint32_t *word = &ring.Reader()->sleeping;
	ring.Notify(1);
	EXPECT_FALSE(platform.Woke(word));
	bh_store_relaxed(word, 1u);
	ring.Notify(2);
	ring.Notify(3);
	EXPECT_EQ(platform.wakes.size(), 1u);
	EXPECT_TRUE(platform.Woke(word));
	EXPECT_EQ(*word, 0u);
}

TEST_F(CoreNotify, TellsManyAndWakesOnce)
{
	std::array<bh_notification, 40> many{};
	for (uint32_t i = 0; i < many.size(); i++) {
		many[i].kind = i % 4 == 3 ? BH_NOTIFY_PROCESS_EXITED : BH_NOTIFY_PROCESS_CREATED;
		many[i].pid = i;
	}
	bh_store_relaxed(&ring.Reader()->sleeping, 1u);
	bh_notify_many(ring.channel.c, many.data(), many.size());
	EXPECT_EQ(platform.wakes.size(), 1u);
	for (uint32_t i = 0; i < many.size(); i++) {
		if (i % 4 == 3)
			continue; // no channel wants it
		ASSERT_TRUE(ring.Read(&entry));
		EXPECT_EQ(entry.pid, i);
	}
	EXPECT_FALSE(ring.Read(&entry));

	bh_store_relaxed(&ring.Reader()->sleeping, 1u);
	bh_notify_many(ring.channel.c, &many[3], 1);
	bh_notify_many(ring.channel.c, many.data(), 0);
	ring.channel.SetNotifications(bh_set_none());
	bh_notify_many(ring.channel.c, many.data(), many.size());
	EXPECT_EQ(platform.wakes.size(), 1u);
	EXPECT_EQ(ring.channel.Statistics().notified, 30u);
}

TEST_F(CoreNotify, GoesOnWhereADeadShimStopped)
{
	ASSERT_EQ(ring.channel.BeginGeneration(1), 0);
	ring.Notify(1, kEntries + 5, BH_NOTIFY_PROCESS_CREATED);
	ASSERT_TRUE(ring.Read(&entry));
	// It died between the count of another entry and the entry.
	ring.Notify(77);
	ring.Header()->written++;
	ring.channel.config.adopt = 1;
	ring.channel.Init(&platform.c);
	ring.channel.SetNotifications(kWanted);
	for (uint32_t i = 0; i < kEntries; i++)
		ASSERT_TRUE(ring.Read(&entry));
	EXPECT_EQ(entry.pid, 77u);
	EXPECT_EQ(entry.missed, 5u);
	ring.Notify(78);
	ASSERT_TRUE(ring.Read(&entry));
	EXPECT_EQ(entry.number, kEntries + 7);
	EXPECT_EQ(entry.missed, 0u);
	EXPECT_EQ(ring.channel.Statistics().notified, kEntries + 7);
}

// Producers in threads, readers that die; each number comes once or is missed once, in order.
TEST(CoreNotifyThreads, NothingIsLostSilently)
{
	constexpr uint32_t kProducers = 3;
	constexpr uint32_t kEach = 20'000;
	FakePlatform platform;
	platform.c.wake = [](void *, uint32_t *, int, int) {};
	Ring ring(&platform);
	std::atomic<uint32_t> running{kProducers};
	std::vector<std::thread> producers;
	for (uint32_t producer = 0; producer < kProducers; producer++) {
		producers.emplace_back([&, producer] {
			const std::string text(producer * 150, static_cast<char>('a' + producer));
			for (uint32_t i = 0; i < kEach; i++) {
				bh_notification told{};
				told.kind = BH_NOTIFY_PROCESS_CREATED;
				told.pid = producer;
				told.time_ns = i;
				told.text = text.data();
				told.text_bytes = text.size();
				bh_notify(ring.channel.c, &told);
				if (i % 32 == 0)
					std::this_thread::yield();
			}
			running--;
		});
	}
	std::mt19937 random(4);
	bh_notification_entry entry{};
	uint64_t number = 0, delivered = 0, missed = 0, torn = 0, disordered = 0;
	int64_t last[kProducers] = {-1, -1, -1};
	uint32_t generation = 0;
	bool more = true;
	while (more) {
		ASSERT_EQ(ring.channel.BeginGeneration(++generation), 0);
		for (uint64_t life = 1 + random() % 3000; life && more; life--) {
			const bool all_told = !running;
			if (!ring.Read(&entry)) {
				more = !all_told;
				bh_store_relaxed(&ring.Reader()->sleeping, 1u);
				std::this_thread::yield();
				continue;
			}
			disordered += entry.number != number + entry.missed + 1;
			number = entry.number;
			missed += entry.missed;
			delivered++;
			disordered += static_cast<int64_t>(entry.time_ns) <= last[entry.pid];
			last[entry.pid] = static_cast<int64_t>(entry.time_ns);
			torn += entry.text_bytes != entry.pid * 150;
			for (uint32_t i = 0; i < entry.text_bytes; i++)
				torn += entry.text[i] != 'a' + entry.pid;
		}
		ASSERT_EQ(bh_channel_end_generation(ring.channel.c, generation, BH_END_KILLED), 0);
	}
	for (std::thread &producer : producers)
		producer.join();
	const bh_statistics statistics = ring.channel.Statistics();
	uint64_t lost = 0;
	for (uint64_t by_cause : statistics.lost)
		lost += by_cause;
	EXPECT_EQ(torn, 0u);
	EXPECT_EQ(disordered, 0u);
	EXPECT_EQ(statistics.notified, uint64_t{kProducers} * kEach);
	EXPECT_EQ(delivered + lost, statistics.notified);
	EXPECT_LE(missed, lost);
	EXPECT_EQ(number + (lost - missed), statistics.notified);
	EXPECT_EQ(statistics.unread, 0u);
	EXPECT_EQ(statistics.lost[BH_LOST_CURSOR], 0u);
}

} // namespace
} // namespace bulkhead
