# SPDX-License-Identifier: Apache-2.0
# The steps of system_test.py, in the guest. Each fails with the first command that does.
# HAS_MODULE: the second disk has bulkhead.ko.
set -eu -o pipefail
files=/mnt
guarded=/srv/guarded
config=/etc/bulkhead/bulkhead.toml

say_and_fail() {
  echo "$1"
  systemctl --no-pager --full status bulkhead.service || true
  journalctl --no-pager -u bulkhead.service | tail -40 || true
  bulkhead status || true
  return 1
}

# errexit does not see a command after '!'.
not() { ! "$@"; }

opens() { cat "$1" >/dev/null 2>&1; }
must_open() { opens "$1" || say_and_fail "$1 was refused"; }
must_be_refused() { ! opens "$1" || say_and_fail "$1 was opened"; }

# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || say_and_fail "still not after a while: $*"
    sleep 0.2
  done
}

main_pid() { systemctl show --property MainPID --value bulkhead.service; }
# pids_of PROGRAM: of those that outlive the service.
pids_of() {
  local pid
  while read -r pid; do
    [[ ! /proc/$pid/exe -ef /usr/bin/$1 ]] || echo "$pid"
  done < <(find /sys/fs/cgroup/system.slice/bulkhead-hosts.scope -name cgroup.procs -exec cat {} + 2>/dev/null)
}
host_pid() { # of the scanner
  local pids
  pids=$(pids_of bulkhead-host)
  [ -n "$pids" ] && head -1 <<<"$pids"
}
# Threads of the shim in the class SCHED_RR, which is 2: the 41st number of stat, of which two stand before the name's end.
real_time_threads() {
  local pid
  for pid in $(pids_of bulkhead-shim-fanotify); do
    sed 's/.*) //' /proc/"$pid"/task/*/stat | awk '$39 == 2'
  done
}
# metric NAME [LABEL]: the sum of its samples, which a monitor would fetch.
metric() {
  local line
  exec 9<>/dev/tcp/127.0.0.1/9464
  printf 'GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:9464\r\n\r\n' >&9
  while read -r line; do echo "${line%$'\r'}"; done <&9 >/run/metrics
  exec 9>&-
  awk -v name="$1{" -v label="${2:-}" 'index($0, name) == 1 && (label == "" || index($0, label)) { sum += $NF } END { print sum + 0 }' /run/metrics
}
# Whether what is read has a line like that. Not grep -q alone, which goes at the first one: its writer would
# end by SIGPIPE, and with it the pipeline.
has() {
  local text
  text=$(cat)
  grep -q "$1" <<<"$text"
}
quarantined() { bulkhead status | has '^  scanner .*: quarantined'; }

# The EICAR test string, in two parts: this script is no infected file.
write_eicar() {
  printf '%s%s' 'X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-' 'ANTIVIRUS-TEST-FILE!$H+H*' >"$1"
}

settled() { # is-system-running --wait needs D-Bus
  case $(systemctl is-system-running) in running | degraded) ;; *) return 1 ;; esac
}

step_booted() {
  local failed
  eventually 180 settled
  failed=$(systemctl list-units --failed --plain --no-legend)
  [ -z "$failed" ] || say_and_fail "units have failed: $failed"
  systemd-analyze time
}

# All that a package can leave: files, users, groups, mounts, modules, profiles, units, processes.
state() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /mnt \
    -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache/apt -o -path /var/log \
    -o -path /var/cache/debconf -o -path /var/cache/ldconfig -o -path /root \
    -o -path /var/lib/systemd/timers -o -path /var/lib/systemd/random-seed \) -prune -o -print |
    sed 's/^/file /'
  find /run /tmp -iname '*bulkhead*' ! -path '/run/bulkhead-test*' ! -name 'bulkhead-test-agent*' | sed 's/^/file /'
  sed 's/^/user /' /etc/passwd
  sed 's/^/group /' /etc/group
  awk '/bulkhead/ {print "mount", $5}' /proc/self/mountinfo
  awk '/bulkhead/ {print "module", $1}' /proc/modules
  sed 's/^/profile /' /sys/kernel/security/apparmor/profiles
  systemctl list-units --all --plain --no-legend 'bulkhead*' | awk '!/bulkhead-test/ {print "unit", $1}'
  systemctl list-unit-files --no-legend 'bulkhead*' | awk '!/bulkhead-test/ {print "unit file", $1}'
  find /proc -mindepth 2 -maxdepth 2 -path '/proc/[0-9]*/exe' -lname '*/bulkhead*' -printf 'process %h\n' 2>/dev/null || true
}

step_remember() {
  mkdir -p /root/state
  state | sort >/root/state/before
  wc -l </root/state/before
}

step_install() {
  apt-get install --yes --quiet=2 --no-install-recommends $files/bulkhead.deb
  systemctl is-enabled bulkhead.service
  # Nothing is configured: it waits for that, and nothing has failed.
  [ "$(systemctl is-active bulkhead.service)" = inactive ]
  getent group bulkhead-readers bulkhead-admins
  grep '^bulkhead (' /sys/kernel/security/apparmor/profiles
  [ -f /usr/share/man/man1/bulkhead.1.gz ]
  bulkhead --version
}

step_configure() {
  insmod $files/overlay.ko  # which an installation has beside its kernel
  mkdir -p $guarded
  write_eicar $guarded/eicar
  chmod +x $guarded/eicar
  echo clean >$guarded/clean
  cat >>$config <<'TOML'

[[guard]]
folder = "/srv/guarded"
events = ["open", "exec"]
deadline = "20s"
TOML
  sed -i 's/^#metrics = /metrics = /' $config
  start_with ''
  # A user could mount an overlay, as the kernel has them now. What the unit and AppArmor keep from the service must not hide it.
  eventually 30 bulkhead status
  not bulkhead status --check >/run/status
  grep overlay /run/status || say_and_fail "it does not see that users can mount overlays"
  # fanotify can't hold these two, which this operator accepts.
  start_with 'overlays,new-folders'
  eventually 30 bulkhead status --check
  grep -q '^bulkhead (enforce)' "/proc/$(main_pid)/attr/current" || say_and_fail "AppArmor does not confine it"
  # Nor may they keep a host from its sandbox, or the shim's completer from its priority.
  bulkhead status | has '^ *sandbox full' || say_and_fail "its host has less than a full sandbox"
  [ -n "$(real_time_threads)" ] || say_and_fail "no thread of the shim is in the real-time class"
}

start_with() { # ACCEPTED LIMITS
  sed -i "/^accept = /d; s/^attachment = .*/&\naccept = [$(sed 's/[^,]\+/"&"/g' <<<"$1")]/" $config
  bulkhead check-config
  systemctl restart bulkhead.service || say_and_fail "it does not start"
}

step_refuse() {
  must_open $guarded/clean
  must_be_refused $guarded/eicar
  not $guarded/eicar 2>/dev/null
  cp $guarded/clean $guarded/copy
  must_open $guarded/copy
}

step_watch() {
  bulkhead status --json /run/status.json
  grep -q /srv/guarded /run/status.json
  # Six opens and executions were asked about so far, and perhaps a daemon's.
  [ "$(metric bulkhead_calls_ended_total)" -ge 6 ] || say_and_fail "metrics do not count the calls: $(head -5 /run/metrics; grep calls_ended /run/metrics)"
  bulkhead events | has "guards\|ready" || say_and_fail "it has no event of its start"
  journalctl --no-pager -u bulkhead.service | has scanner
  # No access but root's own to what it knows.
  [ "$(stat -c %a /run/bulkhead)" = 700 ]
}

step_reload() {
  echo one-of-ours >$guarded/ours
  must_open $guarded/ours
  cat >/etc/bulkhead/rules/ours.yar <<'YARA'
rule ours { strings: $ours = "one-of-ours" condition: $ours }
YARA
  systemctl reload bulkhead.service
  eventually 30 not opens $guarded/ours
  must_be_refused $guarded/eicar
  must_open $guarded/clean
  bulkhead status --check
}

# The driver falls again and again, over nothing in particular: it is quarantined, and a monitor sees it.
step_crash_loop() {
  local end=$((SECONDS + 60)) host
  until quarantined; do
    [ $SECONDS -lt $end ] || say_and_fail "its driver is not in quarantine"
    for _ in {1..5}; do
      host=$(host_pid) && kill -SEGV "$host" 2>/dev/null || true
      sleep 0.05
    done
  done
  not bulkhead status --check >/dev/null
  bulkhead events | grep -i quarantine | tail -1
  [ "$(metric bulkhead_events_total 'event="Quarantined"')" = 1 ] || say_and_fail "no metric tells of it"
  bulkhead release --driver scanner
  eventually 30 bulkhead status --check
  must_be_refused $guarded/eicar
}

# As dkms leaves it; what it needs to build one (compiler, headers) is not in this guest.
step_module() {
  local folder
  folder=/lib/modules/$(uname -r)/updates/dkms
  mkdir -p "$folder"
  cp $files/bulkhead.ko "$folder"
  touch "/lib/modules/$(uname -r)/modules.order" "/lib/modules/$(uname -r)/modules.builtin"
  depmod
  systemctl restart bulkhead.service
  systemctl is-active bulkhead-module.service
  [ -c /dev/bulkhead ]
  eventually 30 bulkhead status --check
  bulkhead status | has module || say_and_fail "it does not use the module"
  must_be_refused $guarded/eicar
  must_open $guarded/clean
}

# Opens go on in the background from here to end_opens, one after the other.
begin_opens() {
  rm -f /run/opened /run/stop
  (
    infected=0 refused=0 opened=0
    while [ ! -e /run/stop ]; do
      if opens $guarded/eicar; then infected=$((infected + 1)); fi
      if opens $guarded/clean; then opened=$((opened + 1)); else refused=$((refused + 1)); fi
    done
    echo "$infected $refused $opened" >/run/opened
  ) &
  opener=$!
}
end_opens() { # and each of them has had its verdict
  local infected refused opened
  touch /run/stop
  wait $opener
  rm /run/stop
  read -r infected refused opened </run/opened
  echo "opened meanwhile: $opened clean, $infected infected; $refused clean refused"
  [ "$infected" = 0 ] && [ "$refused" = 0 ] && [ "$opened" -gt 0 ] || say_and_fail "there was a gap"
}
another_serves() { # than PID
  local pid
  pid=$(main_pid)
  [ "$pid" != 0 ] && [ "$pid" != "$1" ] && bulkhead status --check
}

# The service dies: hosts and guards do not, and the next one, which systemd starts, goes on with them.
step_killed() {
  local service host
  host=$(host_pid) || say_and_fail "its host is not in bulkhead-hosts.scope"
  begin_opens
  for _ in 1 2 3; do
    service=$(main_pid)
    kill -KILL "$service"
    must_be_refused $guarded/eicar
    eventually 30 another_serves "$service"
    [ "$(host_pid)" = "$host" ] || say_and_fail "its host was $host"
  done
  # So does one that stops with the wish to leave them.
  service=$(main_pid)
  bulkhead stop --pid "$service" --keep
  eventually 30 another_serves "$service"
  [ "$(host_pid)" = "$host" ] || say_and_fail "its host was $host"
  end_opens
}

step_upgrade() {
  local service
  service=$(main_pid)
  begin_opens
  dpkg --install $files/upgraded.deb
  eventually 30 another_serves "$service"
  end_opens
}

step_before_reboot() {
  # What a login could do at the first moment that there is one.
  cat >/etc/systemd/system/first-login.service <<'UNIT'
[Unit]
After=systemd-user-sessions.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'if cat /srv/guarded/eicar; then echo opened; else echo refused; fi >/root/first-login'

[Install]
WantedBy=multi-user.target
UNIT
  systemctl enable first-login.service
  systemctl --no-block reboot
}

step_after_reboot() {
  eventually 30 test -s /root/first-login
  cat /root/first-login
  [ "$(tail -1 /root/first-login)" = refused ]
  local service sessions
  service=$(systemctl show --property ActiveEnterTimestampMonotonic --value bulkhead.service)
  sessions=$(systemctl show --property ActiveEnterTimestampMonotonic --value systemd-user-sessions.service)
  echo "guarded $((service / 1000)) ms after the kernel's start, logins from $((sessions / 1000)) ms"
  [ "$service" -gt 0 ]
  [ "$service" -lt "$sessions" ]
  bulkhead status --check
  must_be_refused $guarded/eicar
}

step_remove() {
  apt-get remove --yes --quiet=2 bulkhead
  opens $guarded/eicar || say_and_fail "its guard is still there"
  [ -f $config ]
  [ ! -e /run/bulkhead ]
  [ ! -e /sys/fs/cgroup/system.slice/bulkhead-hosts.scope ]
  [ ! -c /dev/bulkhead ]
  [ ! -e /lib/systemd/system/bulkhead.service ]
}

step_purge() {
  apt-get purge --yes bulkhead
  # What this test has made itself.
  rm -rf $guarded /etc/bulkhead/rules/ours.yar "/lib/modules/$(uname -r)"
  rmdir --ignore-fail-on-non-empty /lib/modules
  rmdir --ignore-fail-on-non-empty /etc/bulkhead/rules /etc/bulkhead 2>/dev/null || true
  systemctl disable first-login.service
  rm /etc/systemd/system/first-login.service
  systemctl daemon-reload
  state | sort >/root/state/after
  diff /root/state/before /root/state/after
}
