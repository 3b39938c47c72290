// SPDX-License-Identifier: Apache-2.0
#include "host/store/descriptor_store.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host/store/store_message.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

using Kind = StoreMessage::Kind;

constexpr int kServiceFd = 3;
constexpr uint64_t kAnswersWithinNs = 5 * kNanosecondsPerSecond;
// The store takes in a message as soon as it runs.
constexpr uint64_t kTakesWithinNs = kNanosecondsPerSecond / 4;
// A service that was killed closes its descriptors one after another.
constexpr uint64_t kFormerEndsWithinNs = kNanosecondsPerSecond;
constexpr int kAgainMs = 5;
constexpr uint64_t kLeftEndsWithinNs = 6 * kNanosecondsPerSecond;
constexpr char kStorePrefix[] = "store-";

std::vector<int> NumbersOf(const std::vector<UniqueFd>& descriptors) {
  std::vector<int> numbers;
  for (const UniqueFd& descriptor : descriptors) numbers.push_back(descriptor.get());
  return numbers;
}

// System calls only, between fork and exec. The store is no child of the service's: it needs no
// wait, and its parent's death is nothing to it.
[[noreturn]] void BecomeStore(const char* program, const char* path, int service, int null,
                              int group) {
  if (group >= 0) (void)!write(group, "0", 1);
  setsid();
  if (chdir("/") != 0) _exit(127);
  if (getpriority(PRIO_PROCESS, 0) < 0) (void)setpriority(PRIO_PROCESS, 0, 0);
  const pid_t pid = _Fork();
  if (pid != 0) _exit(pid < 0 ? 1 : 0);
  const int high = fcntl(service, F_DUPFD, 10);
  if (high < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
      dup2(high, kServiceFd) < 0) {
    _exit(127);
  }
  syscall(SYS_close_range, kServiceFd + 1, ~0U, 0);
  const char* const words[] = {program, "--service-fd", "3", path, nullptr};
  execv(program, const_cast<char* const*>(words));
  _exit(127);
}

}  // namespace

std::string StorePath(const std::string& run_folder, const std::string& config_path) {
  // FNV-1a: the path of a socket has room for 107 bytes.
  uint64_t hash = 0xcbf29ce484222325;
  for (const char letter : config_path) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  }
  return absl::StrCat(run_folder, "/", kStorePrefix, absl::StrFormat("%016x", hash));
}

absl::StatusOr<std::unique_ptr<DescriptorStore>> DescriptorStore::Open(Options options) {
  std::unique_ptr<DescriptorStore> store(new DescriptorStore(std::move(options)));
  const MutexLock lock(store->mutex_);
  if (absl::Status status = store->Connect(store->items_); !status.ok()) return status;
  return store;
}

DescriptorStore::~DescriptorStore() = default;

void DescriptorStore::Log(const std::string& text) const {
  if (options_.log) options_.log(text);
}

absl::Status DescriptorStore::Connect(std::map<std::string, Item>& items) {
  const uint64_t until_ns = MonotonicAfterNs(kFormerEndsWithinNs);
  for (;;) {
    absl::StatusOr<ControlSocket> there = ControlSocket::Connect(options_.path);
    if (absl::IsNotFound(there.status())) break;
    if (!there.ok()) return there.status();
    if (absl::StatusOr<PeerCredentials> peer = there->Peer();
        !peer.ok() || peer->uid != geteuid()) {
      return absl::PermissionDeniedError(
          absl::StrCat(options_.path, " is not this user's: remove it"));
    }
    socket_ = there->Release();
    absl::Status taken = Take(items);
    if (taken.ok()) return taken;
    socket_.reset();
    // Unavailable: it ended in this moment.
    const bool again = absl::IsUnavailable(taken) || absl::IsAlreadyExists(taken);
    if (!again || MonotonicNowNs() > until_ns) return taken;
    poll(nullptr, 0, kAgainMs);
  }
  if (absl::Status launched = Launch(); !launched.ok()) return launched;
  return Take(items);  // from here on the next service finds it
}

absl::Status DescriptorStore::Launch() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "the store's socket");
  }
  socket_.reset(ends[0]);
  const UniqueFd theirs(ends[1]);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return absl::ErrnoToStatus(errno, "/dev/null");
  if (access(options_.program.c_str(), X_OK) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(options_.program, ": is it installed?"));
  }
  const UniqueFd group(group_.empty() ? -1 : open(group_.c_str(), O_WRONLY | O_CLOEXEC));
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "can't start the store");
  if (pid == 0) {
    BecomeStore(options_.program.c_str(), options_.path.c_str(), theirs.get(), null.get(),
                group.get());
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return absl::OkStatus();
}

absl::Status DescriptorStore::Take(std::map<std::string, Item>& items) {
  absl::Status sent =
      SendStoreMessage(socket_.get(), {.kind = Kind::kTake}, {}, MonotonicAfterNs(kTakesWithinNs));
  if (!sent.ok() && !absl::IsUnavailable(sent)) return sent;
  items.clear();
  const uint64_t until_ns = MonotonicAfterNs(kAnswersWithinNs);
  for (;;) {
    absl::StatusOr<StoreMessage> message = ReceiveStoreMessage(socket_.get(), until_ns);
    if (!message.ok()) return message.status();
    switch (message->kind) {
      case Kind::kItem:
        items[message->name] = {std::move(message->bytes), std::move(message->descriptors)};
        break;
      case Kind::kEnd:
        left_ns_ = message->number;
        return absl::OkStatus();
      case Kind::kBusy:
        return absl::AlreadyExistsError(absl::StrCat(
            "a service with this configuration runs already, as process ", message->number));
      default:
        return absl::InternalError("the store sent what it does not send");
    }
  }
}

std::optional<DescriptorStore::Item> DescriptorStore::Get(const std::string& name) const {
  const MutexLock lock(mutex_);
  const auto found = items_.find(name);
  if (found == items_.end()) return std::nullopt;
  Item copy = {.bytes = found->second.bytes, .descriptors = {}};
  for (const UniqueFd& descriptor : found->second.descriptors) {
    absl::StatusOr<UniqueFd> duplicate = descriptor.Duplicate();
    if (!duplicate.ok()) return std::nullopt;
    copy.descriptors.push_back(*std::move(duplicate));
  }
  return copy;
}

std::vector<std::string> DescriptorStore::Names(const std::string& prefix) const {
  const MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (auto item = items_.lower_bound(prefix); item != items_.end(); ++item) {
    if (!item->first.starts_with(prefix)) break;
    names.push_back(item->first);
  }
  return names;
}

absl::StatusOr<pid_t> DescriptorStore::Process() const {
  // The other end of a socket pair has this process's id; that of its path has the store's.
  absl::StatusOr<ControlSocket> socket = ControlSocket::Connect(options_.path);
  if (!socket.ok()) return socket.status();
  const absl::StatusOr<PeerCredentials> peer = socket->Peer();
  if (!peer.ok()) return peer.status();
  return peer->pid;
}

void DescriptorStore::SetGroup(std::string members) {
  const MutexLock lock(mutex_);
  group_ = std::move(members);
}

absl::Status DescriptorStore::Send(const std::string& name, const Item& item) {
  return SendStoreMessage(socket_.get(), {.kind = Kind::kPut, .name = name, .bytes = item.bytes},
                          NumbersOf(item.descriptors), MonotonicAfterNs(kTakesWithinNs));
}

void DescriptorStore::Put(const std::string& name, std::string bytes,
                          absl::Span<const int> descriptors) {
  if (forgotten()) return;
  std::string trouble;
  if (bytes.size() > StoreMessage::kBytesMax) trouble = "it is too large";
  Item item = {.bytes = std::move(bytes), .descriptors = {}};
  for (const int descriptor : descriptors) {
    item.descriptors.emplace_back(fcntl(descriptor, F_DUPFD_CLOEXEC, 3));
    if (!item.descriptors.back().valid()) trouble = std::strerror(errno);
  }
  if (!trouble.empty()) {
    Log(absl::StrCat("the next service will miss ", name, ": ", trouble));
    return Remove(name);
  }
  const MutexLock lock(mutex_);
  if (forgotten_) return;
  Item& kept = items_[name];
  kept = std::move(item);
  if (!socket_.valid()) return;  // Check() gives it everything
  if (absl::Status status = Send(name, kept); !status.ok()) Drop(status);
}

void DescriptorStore::Remove(const std::string& name) {
  const MutexLock lock(mutex_);
  if (items_.erase(name) == 0 || forgotten_ || !socket_.valid()) return;
  absl::Status status = SendStoreMessage(socket_.get(), {.kind = Kind::kRemove, .name = name}, {},
                                         MonotonicAfterNs(kTakesWithinNs));
  if (!status.ok()) Drop(status);
}

void DescriptorStore::Check() { (void)Holds(); }

bool DescriptorStore::Holds() {
  const MutexLock lock(mutex_);
  if (forgotten_) return false;
  // It sends nothing by itself: what can be read is its end.
  if (socket_.valid() && PollUntil(socket_.get(), POLLIN, 0))
    Drop(absl::UnavailableError("it died"));
  if (!socket_.valid()) Repair();
  return socket_.valid();
}

void DescriptorStore::Drop(const absl::Status& why) {
  socket_.reset();
  why_ = std::string(why.message());
}

void DescriptorStore::Repair() {
  // One that is only stopped must not be connected to again: it sees that its path is another's.
  unlink(options_.path.c_str());
  std::map<std::string, Item> none;
  absl::Status status = Connect(none);
  for (auto item = items_.begin(); status.ok() && item != items_.end(); ++item) {
    status = Send(item->first, item->second);
  }
  if (status.ok())
    return Log(absl::StrCat("the store for the next service was started again: ", why_));
  Drop(status);
  Log(absl::StrCat("nothing is kept for the next service: ", why_));
}

void DescriptorStore::Forget() {
  const MutexLock lock(mutex_);
  if (std::exchange(forgotten_, true)) return;
  items_.clear();
  if (!socket_.valid()) return;
  const absl::Status sent = SendStoreMessage(socket_.get(), {.kind = Kind::kForget}, {},
                                             MonotonicAfterNs(kTakesWithinNs));
  // Its end closes the socket.
  if (sent.ok()) {
    (void)ReceiveStoreMessage(socket_.get(), MonotonicAfterNs(kNanosecondsPerSecond));
  }
  socket_.reset();
}

std::vector<LeftStore> LeftStores(const std::string& run_folder) {
  std::vector<LeftStore> left;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run_folder, error)) {
    if (!entry.path().filename().string().starts_with(kStorePrefix)) continue;
    const absl::StatusOr<ControlSocket> socket = ControlSocket::Connect(entry.path());
    if (!socket.ok()) continue;
    const uint64_t until_ns = MonotonicAfterNs(kTakesWithinNs);
    if (!SendStoreMessage(socket->fd(), {.kind = Kind::kLook}, {}, until_ns).ok()) continue;
    const absl::StatusOr<StoreMessage> state = ReceiveStoreMessage(socket->fd(), until_ns);
    if (!state.ok() || state->kind != Kind::kState || state->number == 0) continue;
    left.push_back({.config_path = state->bytes, .left_ns = state->number});
  }
  return left;
}

absl::Status EndLeft(DescriptorStore& store, bool shim_too) {
  std::vector<UniqueFd> ending;
  for (const std::string& name : store.Names("host/")) {
    std::optional<DescriptorStore::Item> host = store.Get(name);
    if (!host || host->descriptors.empty()) continue;
    syscall(SYS_pidfd_send_signal, host->descriptors.front().get(), SIGKILL, nullptr, 0);
    ending.push_back(std::move(host->descriptors.front()));
  }
  std::optional<DescriptorStore::Item> shim = store.Get(kShimItem);
  if (shim_too && shim && !shim->descriptors.empty()) {
    ending.push_back(std::move(shim->descriptors.front()));
  }
  store.Forget();
  const uint64_t until_ns = MonotonicAfterNs(kLeftEndsWithinNs);
  for (const UniqueFd& process : ending) {
    if (PollUntil(process.get(), POLLIN, until_ns)) continue;
    return absl::UnavailableError(
        "a process that the service before has left does not end: it hangs in the kernel");
  }
  return absl::OkStatus();
}

}  // namespace bulkhead
