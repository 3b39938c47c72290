// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/fake_host.h"
#include "ipc/generation_spec.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace bulkhead {

FakeHost::FakeHost(ShimLink& link, ChannelId channel, uint32_t generation, TestDriver driver)
    : link_(link), channel_(channel), generation_(generation), driver_(std::move(driver)) {}

absl::StatusOr<std::unique_ptr<FakeHost>> FakeHost::Start(ShimLink& link, ChannelId channel,
                                                          uint32_t generation, TestDriver driver,
                                                          uint32_t workers,
                                                          const bh_callback_set& callbacks,
                                                          uint64_t content_version) {
  absl::StatusOr<ChannelDescriptors> regions = link.Descriptors(channel);
  if (!regions.ok()) return regions.status();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  UniqueFd shim_end(ends[0]);
  UniqueFd host_end(ends[1]);

  std::unique_ptr<FakeHost> host(new FakeHost(link, channel, generation, std::move(driver)));
  HostPortOptions options;
  options.generation = generation;
  options.workers = workers;
  absl::StatusOr<std::unique_ptr<HostPort>> port =
      HostPort::Attach(std::move(regions->call_region), std::move(regions->reply_region),
                       std::move(host_end), options);
  if (!port.ok()) return port.status();
  host->port_ = *std::move(port);
  for (uint32_t worker = 0; worker < workers; ++worker) {
    host->threads_.emplace_back([host = host.get(), worker] { host->Work(worker); });
  }
  absl::Status begun = link.BeginGeneration(
      channel, GenerationSpec(generation, callbacks, callbacks, content_version),
      std::move(shim_end));
  if (!begun.ok()) {
    host->dead_ = true;  // the shim does not have this generation
    host->port_->StopTaking();
    for (std::thread& thread : host->threads_) thread.join();
    host->threads_.clear();
    return begun;
  }
  return host;
}

FakeHost::~FakeHost() {
  if (!dead_) Die(BH_END_STOPPED).IgnoreError();
}

absl::Status FakeHost::Die(bh_end cause) {
  dead_ = true;
  dying_.store(true);
  port_->StopTaking();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return link_.EndGeneration(channel_, generation_, cause).status();
}

void FakeHost::Work(uint32_t worker) {
  while (std::optional<TakenCall> taken = port_->Take(worker, kForeverNs)) {
    FakeHostCall call;
    call.callback = taken->callback;
    std::memcpy(&call.file, taken->args, sizeof(call.file));
    absl::StatusOr<CallDetails> details = port_->Details(*taken);
    if (details.ok()) {
      call.path = std::string(details->payload_text());
      call.attempt = details->attempt;
    }
    if ((taken->flags & BH_CALL_HAS_DESCRIPTOR) != 0) {
      absl::StatusOr<UniqueFd> file = port_->ReceiveDescriptor(*taken);
      if (file.ok()) {
        call.has_descriptor = true;
        std::array<char, 64> bytes;
        const ssize_t n = pread(file->get(), bytes.data(), bytes.size(), 0);
        if (n > 0) call.content.assign(bytes.data(), static_cast<size_t>(n));
      }
    }
    port_->BeginDriver(*taken);
    const TestAnswer answer = driver_(call);
    calls_.fetch_add(1);
    if (answer == TestAnswer::kDropped || dying_.load()) continue;
    if (answer == TestAnswer::kDecline) {
      port_->Decline(*taken);
      continue;
    }
    bh_verdict_reply reply = {};
    reply.verdict = answer == TestAnswer::kDeny ? BH_VERDICT_DENY : BH_VERDICT_ALLOW;
    reply.cacheability = answer == TestAnswer::kAllowCacheable ? BH_CACHE_OBJECT : BH_CACHE_NOT;
    std::array<uint8_t, sizeof(reply)> bytes;
    std::memcpy(bytes.data(), &reply, sizeof(reply));
    port_->Reply(*taken, BH_REPLY_DONE, bytes);
  }
}

}  // namespace bulkhead
