// SPDX-License-Identifier: Apache-2.0
#include "bench/fanotify_responder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "bench/watchdog.h"
#include "host/attachment/place.h"

namespace bulkhead {

absl::StatusOr<std::unique_ptr<FanotifyResponder>> FanotifyResponder::Start(
    const std::string& folder) {
  absl::StatusOr<UniqueFd> directory = OpenGuardedDirectory(folder);
  if (!directory.ok()) return directory.status();
  const absl::StatusOr<MarkKind> kind = ChooseMarkKind(directory->get(), folder);
  if (!kind.ok()) return kind.status();
  absl::StatusOr<FanotifyGroup> group = FanotifyGroup::Create();
  if (!group.ok()) return group.status();
  if (fcntl(group->fd(), F_SETFL, 0) != 0) {
    return absl::ErrnoToStatus(errno, "can't make the group's reads wait");
  }
  if (absl::Status status = group->Mark(directory->get(), *kind, GuardSpec().callbacks, folder);
      !status.ok()) {
    return status;
  }
  std::unique_ptr<FanotifyResponder> made(new FanotifyResponder(*std::move(group), folder));
  // Signals are for the thread that opens: this one must not leave an opener waiting.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  made->thread_.Start([responder = made.get()] { responder->Answer(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return made;
}

FanotifyResponder::~FanotifyResponder() {
  Watchdog watchdog;
  const Watchdog::Section section = watchdog.Watch("the fanotify responder's last answer");
  stop_.store(true);
  const UniqueFd wakes_it(open(last_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  thread_.Join("the fanotify responder's end");
  unlink(last_.c_str());
}

void FanotifyResponder::Answer() {
  alignas(fanotify_event_metadata) char buffer[4096];
  // It ends behind the destructor's open, not when it sees stop_: an opener is woken before write
  // returns, and may be in the destructor by then.
  for (bool last = false; !last;) {
    // When it fails the kernel has denied the open itself, and the opener counts it.
    ssize_t bytes = read(group_.fd(), buffer, sizeof(buffer));
    auto* event = reinterpret_cast<fanotify_event_metadata*>(buffer);
    for (; FAN_EVENT_OK(event, bytes); event = FAN_EVENT_NEXT(event, bytes)) {
      const UniqueFd object(event->fd);
      last = last || (stop_.load() && event->pid == getpid());
      const fanotify_response answer = {.fd = event->fd, .response = FAN_ALLOW};
      answered_.fetch_add(1);  // first: after the answer the opener may ask
      (void)!write(group_.fd(), &answer, sizeof(answer));
    }
  }
}

}  // namespace bulkhead
