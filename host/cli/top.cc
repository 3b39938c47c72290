// SPDX-License-Identifier: Apache-2.0
#include "host/cli/top.h"

#include <curses.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "host/cli/event_follower.h"
#include "host/cli/instances.h"
#include "host/cli/top_screen.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kLookEveryNs = kNanosecondsPerSecond;
constexpr int kKeyWithinMs = 100;  // Ctrl-C is seen as fast
constexpr int kEscape = 27;

attr_t AttributesOf(TopStyle style) {
  switch (style) {
    case TopStyle::kPlain:
      return A_NORMAL;
    case TopStyle::kHeading:
      return A_REVERSE;
    case TopStyle::kGood:
    case TopStyle::kWarning:
    case TopStyle::kBad:
      break;
  }
  // A terminal without colours shows what is not full in bold.
  if (!has_colors()) return style == TopStyle::kGood ? A_NORMAL : A_BOLD;
  return static_cast<attr_t>(COLOR_PAIR(static_cast<int>(style)));
}

void BeginColors() {
  if (!has_colors()) return;
  start_color();
  use_default_colors();
  init_pair(static_cast<short>(TopStyle::kGood), COLOR_GREEN, -1);
  init_pair(static_cast<short>(TopStyle::kWarning), COLOR_YELLOW, -1);
  init_pair(static_cast<short>(TopStyle::kBad), COLOR_RED, -1);
}

void Draw(const TopScreen& screen) {
  erase();
  const auto rows = static_cast<size_t>(LINES), columns = static_cast<size_t>(COLS);
  const std::vector<TopLine> lines = screen.Lines(rows > 0 ? rows - 1 : 0, columns);
  for (size_t row = 0; row < lines.size(); ++row) {
    attrset(static_cast<int>(AttributesOf(lines[row].style)));
    mvaddstr(static_cast<int>(row), 0, lines[row].text.c_str());
  }
  attrset(static_cast<int>(A_REVERSE));
  const std::string help = " q quits; `bulkhead status` has every number ";
  mvaddnstr(LINES - 1, 0, help.c_str(), COLS - 1);
  attrset(static_cast<int>(A_NORMAL));
  refresh();
}

void Look(TopScreen& screen, EventFollower& events) {
  const Instances found = LookForInstances();
  std::vector<StatusFields> answered;
  for (const auto& [path, status] : found.answered) answered.push_back(status);
  // Those of others are of no interest beside one's own.
  screen.Add(answered, answered.empty() && found.silent.empty() ? found.refused : found.silent,
             MonotonicNowNs());
  events.Look([&screen](const std::string&, const EventFields& event) {
    screen.Add(event);
    return true;
  });
}

int ShowTop(const Program& program) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) {
    return Complain(absl::FailedPreconditionError(
        "top needs a terminal; `bulkhead status --json -` is for programs"));
  }
  std::setlocale(LC_ALL, "");
  SCREEN* terminal = newterm(nullptr, stdout, stdin);
  if (terminal == nullptr) {
    const char* name = getenv("TERM");
    return Complain(absl::FailedPreconditionError(
        absl::StrCat("top can't use the terminal '", name == nullptr ? "" : name,
                     "'; set TERM to what it is, or use `bulkhead status`")));
  }
  const absl::Cleanup restore = [terminal] {
    endwin();
    delscreen(terminal);
  };
  noecho();
  curs_set(0);
  keypad(stdscr, TRUE);
  timeout(kKeyWithinMs);
  BeginColors();
  TopScreen screen;
  EventFollower events(0);
  uint64_t next_ns = 0;
  while (!program.interrupted->load()) {
    if (MonotonicNowNs() >= next_ns) {
      next_ns = MonotonicAfterNs(kLookEveryNs);
      Look(screen, events);
      Draw(screen);
    }
    const int key = getch();
    if (key == 'q' || key == 'Q' || key == kEscape) break;
    if (key == KEY_RESIZE) Draw(screen);
    // The terminal is gone, and with it its reader.
    if (key == ERR && isatty(STDIN_FILENO) != 1) break;
  }
  return kExitOk;
}

}  // namespace

void AddTop(CLI::App& app, const Program& program, std::function<int()>* run) {
  CLI::App* command =
      app.add_subcommand("top", "What runs, live: protection, drivers, rates, events; q quits");
  command->callback([&program, run] { *run = [&program] { return ShowTop(program); }; });
}

}  // namespace bulkhead
