# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034 # variables for the tests
#
# The stage of the selftests, and how they speak.
#
#         client                    fw                    server
#     +------------+     +----------------------+     +------------+
#     |         c0 |-----| eth0            eth1 |-----| s0         |
#     |   10.0.1.2 |     | 10.0.1.1    10.0.2.1 |     | 10.0.2.2   |
#     |  fd00:1::2 |     | fd00:1::1  fd00:2::1 |     | fd00:2::2  |
#     |         .9 |     |                      |     |            |
#     | curl, ssh, |     | rules, dpi-http,     |     | nginx on   |
#     | raw.py     |     | xt_SYNPROXY          |     | 80 and 81  |
#     +------------+     +----------------------+     +------------+
#
# Each box is a network namespace. No kernel answers for 10.0.1.9 and fd00:1::9:
# these are the addresses of raw.py, which makes its packets itself.
#
# Both families are always there, and FAMILY says which one a file is to test.
# What a family has of its own is found here only, so that one file does for both.
#
# A test file sources this, calls "set_up" and ends with "finish". It speaks TAP
# on its standard output, and logs on the other one what it does. Every
# connection has a client port of its own, so one capture serves a whole file.
# Time proves nothing here: tests wait until something can be seen.

set -euo pipefail

# The form of iptables: nft or legacy. The version of IP: 4 or 6.
BACKEND=${BACKEND:-nft}
FAMILY=${FAMILY:-4}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tmp=$(mktemp -d /tmp/selftest.XXXXXX)
chmod 755 "$tmp"
www=$tmp/www
: >"$tmp/said"
spawned=()
capturing=()
count=0
failed=0

### What the families have of their own

# raw_client is raw.py, and no one has the address "nobody". The filters of
# tcpdump are for segments with data, with SYN alone, and so on; "tcp[...]" is for
# IPv4 only. The MSS is what a client proposes.
case $FAMILY in
4)
	client=10.0.1.2 raw_client=10.0.1.9 gateway=10.0.1.1 server=10.0.2.2 nobody=10.0.2.77
	iptables=iptables in_tree=ipt_SYNPROXY l3=ipv4 mss=1460
	TCP='ip proto 6'
	LENGTH='(ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2))'
	FLAGS='tcp[13]'
	;;
6)
	client=fd00:1::2 raw_client=fd00:1::9 gateway=fd00:1::1 server=fd00:2::2 nobody=fd00:2::77
	iptables=ip6tables in_tree=ip6t_SYNPROXY l3=ipv6 mss=1440
	TCP='ip6 proto 6'
	LENGTH='(ip6[4:2] - ((ip6[52] & 0xf0) >> 2))'
	FLAGS='ip6[53]'
	;;
*)
	echo "FAMILY=$FAMILY: expected 4 or 6" >&2
	exit 2
	;;
esac
DATA="($LENGTH != 0)"
SYN="($FLAGS & (tcp-syn | tcp-ack) == tcp-syn)"
SYN_ACK="($FLAGS & (tcp-syn | tcp-ack) == tcp-syn | tcp-ack)"
RST="($FLAGS & tcp-rst != 0)"

# Whom "page" and "raw" ask.
address=$server

# host ADDRESS: as it stands in front of a port. url PATH, or url :PORT/PATH.
host() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac }
url() { echo "http://$(host "$address")$1"; }

# The client's ports, from lines of tcpdump that show what it has sent.
client_port() { sed -E 's/.* IP6? [^ ]+\.([0-9]+) > .*/\1/'; }

### What is said

# ok NAME COMMAND...: a test. It is passed if the command succeeds.
ok() {
	local name=$1
	shift
	count=$((count + 1))
	if "$@" >"$tmp/said" 2>&1; then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name"
		failed=1
		sed 's/^/# /' "$tmp/said"
		explain "$@" >&2 || :
	fi
	cat "$tmp/said" >&2
}

# is NAME GOT WANTED: a test that two strings are the same.
is() { ok "$1" equal "$2" "$3"; }
equal() { [ "$1" = "$2" ] || { echo "got '$1', wanted '$2'" && false; }; }
not() { ! "$@"; }

# KASAN, kmemleak and the like: slow, and keeps for a while what is freed.
is_debug_kernel() { [ -e /sys/kernel/debug/kmemleak ]; }

skip() {
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

# All that one wants to see when COMMAND was no success; for the log.
explain() {
	local side
	echo "=== failed: $*"
	[ ! -d /out/tap ] || (cd "$tmp" && for side in client server; do
		cp $side.pcap "/out/tap/$(basename "$0" .t)-$BACKEND-$FAMILY-$side.pcap"
	done)
	echo "--- rules"
	ipt_save -c | grep -v '^#'
	echo "--- conntrack"
	tracked
	echo "--- dpi-http"
	tail -n 20 "$tmp/dpi.log"
	for side in client server; do
		echo "--- capture: $side"
		seen "$side" tcp >"$tmp/lines"
		head -n 40 "$tmp/lines"
		echo ...
		tail -n 20 "$tmp/lines"
	done
	echo "--- dmesg"
	dmesg | tail -n 10
}

# wait_for [-t SECONDS] COMMAND...: until the command succeeds.
wait_for() {
	local limit=60
	if [ "$1" = -t ]; then
		limit=$2
		shift 2
	fi
	limit=$((SECONDS + limit))
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $limit ]; then
			echo "waited in vain for: $*" >&2
			return 1
		fi
		sleep 0.1
	done
}

### What is done

in_ns() {
	local ns=$1
	shift
	echo "# $SECONDS s, $ns: $*" >&2
	ip netns exec "$ns" "$@"
}
client() { in_ns client "$@"; }
fw() { in_ns fw "$@"; }
server() { in_ns server "$@"; }
ipt() { fw "$iptables-$BACKEND" "$@"; }
ipt_save() { fw "$iptables-$BACKEND-save" "$@"; }
ipt_restore() { fw "$iptables-$BACKEND-restore"; }

# stock COMMAND...: has iptables use the libraries that it came with. One of ours hides
# one of these, but not in the sandbox below this machine's root.
stock() {
	mountpoint -q /mnt || mount -t virtiofs -o ro root /mnt 2>/dev/null ||
		mount -t hostfs -o ro root /mnt
	XTABLES_LIBDIR=/mnt$(pkg-config --variable=xtlibdir xtables) "$@"
}

# raw SCENARIO PORT: raw.py asks $address.
raw() { CLIENT=$raw_client SERVER=$address client "$here/raw.py" "$@"; }

# spawn NAMESPACE COMMAND...: in the background, as process $pid.
spawn() {
	echo "# $SECONDS s, $1: ${*:2} &" >&2
	ip netns exec "$@" &
	pid=$!
	spawned+=("$pid")
}

stop() {
	kill "$1" 2>/dev/null || :
	wait "$1" 2>/dev/null || :
}

set_up() {
	local ns
	trap broke_off EXIT
	for ns in client fw server; do
		ip netns add "$ns"
		ip -n "$ns" link set lo up
		# An address that is still being checked cannot ask for a neighbour.
		in_ns "$ns" sysctl -qw net.ipv6.conf.{all,default}.accept_dad=0
	done
	ip -batch - <<-END
		link add c0 address 02:00:00:00:01:02 netns client type veth peer name eth0 address 02:00:00:00:01:01 netns fw
		link add s0 netns server type veth peer name eth1 netns fw
	END
	ip -n client -batch - <<-END
		addr add 10.0.1.2/24 dev c0
		addr add fd00:1::2/64 dev c0 nodad
		link set c0 up
		route add default via 10.0.1.1
		route add default via fd00:1::1
	END
	ip -n fw -batch - <<-END
		addr add 10.0.1.1/24 dev eth0
		addr add 10.0.2.1/24 dev eth1
		addr add fd00:1::1/64 dev eth0 nodad
		addr add fd00:2::1/64 dev eth1 nodad
		link set eth0 up
		link set eth1 up
		neigh add 10.0.1.9 lladdr 02:00:00:00:01:02 dev eth0
		neigh add fd00:1::9 lladdr 02:00:00:00:01:02 dev eth0
	END
	ip -n server -batch - <<-END
		addr add 10.0.2.2/24 dev s0
		addr add fd00:2::2/64 dev s0 nodad
		link set s0 up
		route add default via 10.0.2.1
		route add default via fd00:2::1
	END
	fw sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	# What is held comes again every second, or the tests would take long, and for
	# long enough: a busy machine needs its time to start an engine. (From 64 on the
	# kernel shifts its timeout out of 64 bits, and UBSAN says so.)
	client sysctl -qw net.ipv4.tcp_rto_max_ms=1000 net.ipv4.tcp_retries2=60
	# As on a real wire: checksums are in the packets, and are verified.
	offload off

	mkdir "$www"
	head -c 65536 /dev/urandom >"$www/64k"
	head -c 1048576 /dev/urandom >"$www/1M"
	head -c 4194304 /dev/urandom >"$www/4M"
}

offload() {
	local at
	for at in client:c0 fw:eth0 fw:eth1 server:s0; do
		in_ns "${at%:*}" ethtool -K "${at#*:}" tx "$1" >/dev/null
	done
}

# start_nginx NAMESPACE: it tells a client, in a header, who talks to whom.
start_nginx() {
	cat >"$tmp/nginx.conf" <<-END
		daemon off;
		master_process off;
		pid $tmp/nginx.pid;
		error_log $tmp/nginx.log;
		events {
			worker_connections 1000;
		}
		http {
			access_log off;
			keepalive_timeout 0;
			add_header Seen "\$remote_addr \$remote_port \$server_addr \$server_port";
			server {
				listen 80 backlog=1000;
				listen [::]:80 backlog=1000;
				listen 81;
				listen [::]:81;
				root $www;
				# Says what the request has said.
				location = /said {
					return 200 "\$http_x_said";
				}
			}
			include $tmp/*.nginx;
		}
	END
	spawn "$1" nginx -c "$tmp/nginx.conf"
	nginx=$pid
	wait_for test -s "$tmp/nginx.pid"
}

# start_dpi OPTION...
start_dpi() {
	spawn fw dpi-http "$@" >"$tmp/dpi.log" 2>&1
	dpi=$pid
	wait_for grep "listening on queue" "$tmp/dpi.log"
}

# An FTP server behind fw.
start_ftp() {
	# Its user's home is to be there, too, and is hidden in a sandbox.
	mkdir -p /var/run/vsftpd/empty ~ftp
	cat >"$tmp/vsftpd.conf" <<-END
		background=NO
		listen=NO
		listen_ipv6=YES
		anonymous_enable=YES
		no_anon_password=YES
		anon_root=$www
		secure_chroot_dir=/var/run/vsftpd/empty
		connect_from_port_20=YES
		xferlog_enable=NO
		isolate=NO
		isolate_network=NO
		seccomp_sandbox=NO
		vsftpd_log_file=$tmp/vsftpd.log
	END
	chmod 600 "$tmp/vsftpd.conf"
	spawn server vsftpd "$tmp/vsftpd.conf"
	wait_for listens server 21
}

# listens NAMESPACE PORT
listens() { in_ns "$1" ss -Hltn "sport = $2" | grep -q .; }

# file PORT OPTION...: fetches a file; control and data connection have ports from
# PORT on.
file() {
	client curl -sS --max-time 60 --local-port "$1-$(($1 + 8))" "${@:2}" -o "$tmp/file.$1" \
		"ftp://$(host "$address")/64k" &&
		cmp "$tmp/file.$1" "$www/64k"
}

gate() { ipt_restore <"$here/../examples/synproxy.rules"; }

# The conntrack entries of the family; those of a client port.
tracked() { fw conntrack -L -f "$l3" "$@" 2>/dev/null; }
entries() { tracked -p tcp --sport "$1"; }
no_entries() { [ -z "$(entries "$1")" ]; }

# counted COLUMN [PROXY]: what fw has counted, over all CPUs.
counted() {
	local names fields i sum=0
	{
		read -ra names
		while read -ra fields; do
			for i in "${!names[@]}"; do
				[ "${names[i]}" != "$1" ] || sum=$((sum + 16#${fields[i]}))
			done
		done
	} < <(ip netns exec fw cat "/proc/net/stat/${2-xt_synproxy}")
	echo "$sum"
}

### What is seen

# capture: on both wires, until the end or until it is called again.
capture() {
	local at
	end_capture
	for at in client:c0 server:s0; do
		spawn "${at%:*}" tcpdump -Uni "${at#*:}" -s 200 --immediate-mode \
			-w "$tmp/${at%:*}.pcap" "$TCP or udp port 9" 2>"$tmp/tcpdump.${at%:*}"
		capturing+=("$pid")
		wait_for grep "listening on" "$tmp/tcpdump.${at%:*}"
	done
}

end_capture() {
	for pid in "${capturing[@]}"; do
		stop "$pid"
	done
	capturing=()
}

# Waits until all that fw has sent so far is in the captures.
settle() {
	local mark=up-to-here-$EPOCHREALTIME
	fw bash -c "echo $mark >/dev/udp/$client/9; echo $mark >/dev/udp/$server/9"
	wait_for grep -q "$mark" "$tmp/client.pcap"
	wait_for grep -q "$mark" "$tmp/server.pcap"
}

# seen SIDE FILTER: the packets, with absolute numbers and times.
seen() { tcpdump -nnSttr "$tmp/$1.pcap" "$2" 2>/dev/null; }
seen_count() { seen "$@" | wc -l; }
# The first of them; sed reads on, so that tcpdump does not die of SIGPIPE.
seen_first() { seen "$@" | sed -n 1p; }

# heard_after_data PORT: the server's wire saw nothing of a client's port before the client
# had sent data.
heard_after_data() {
	local data heard
	settle
	data=$(seen_first client "tcp src port $1 and $DATA")
	heard=$(seen_first server "tcp port $1")
	awk -v data="${data%% *}" -v heard="${heard%% *}" 'BEGIN { exit !(data > 0 && data < heard) }'
}

# How many TCP packets of a client port the server's wire saw. "tcp" as a filter
# would not see fragments.
server_packets() {
	settle
	seen_count server "$TCP and (tcp port $1)"
}

# insists PORT: the client has sent its data three times.
insists() { [ "$(seen_count client "tcp src port $1 and $DATA")" -ge 3 ]; }

# answered PORT: the client got a SYN,ACK.
answered() { [ "$(seen_count client "tcp dst port $1 and $SYN_ACK")" -ge 1 ]; }

# held NAME PORT: three tests that a client with data to send waits, in vain, and
# that the server has not heard of it.
held() {
	ok "$1: the client sends its data again and again" wait_for insists "$2"
	ok "$1: it got a SYN,ACK" answered "$2"
	is "$1: no packet at the server" "$(server_packets "$2")" 0
}

# page PORT [PATH [OPTION...]]: fetches a page and compares it.
page() {
	local port=$1 path=${2:-/1M}
	client curl -sS --max-time 60 --local-port "$port" "${@:3}" -o "$tmp/page.$port" \
		"$(url "$path")" &&
		cmp "$tmp/page.$port" "$www$path"
}

# slow PORT [RATE]: a page that takes its time, in the background; it has begun. whole PID PORT:
# it has come to its end.
slow() {
	spawn client curl -sS --speed-time 120 --limit-rate "${2:-500k}" --local-port "$1" \
		-o "$tmp/slow.$1" "$(url /4M)"
	wait_for begun "$1"
}
begun() { [ "$(stat -c %s "$tmp/slow.$1")" -gt 10000 ]; }
whole() { wait "$1" && cmp "$tmp/slow.$2" "$www/4M"; }

# closed NAME PORT: two tests that a client that asks a server without a
# listener is reset, with the number that it expects.
closed() {
	local syn_ack rst number='s/.* seq ([0-9]+),.*/\1/p' status=0
	client curl -sS --max-time 60 --local-port "$2" "$(url /64k)" >/dev/null || status=$?
	ok "$1: curl is refused ($status)" grep -qw $status <<<'7 56'
	settle
	syn_ack=$(seen_first client "tcp dst port $2 and $SYN_ACK" | sed -nE "$number")
	rst=$(seen_first client "tcp dst port $2 and $RST" | sed -nE "$number")
	is "$1: by a reset with the right number" "$rst" $(((syn_ack + 1) & 0xffffffff))
}

### What is left

# Namespaces end only after their last conntrack entry, and rmmod waits for
# them: so it shows that no entry has leaked. A rule that is left, wherever it
# is, would keep a reference on the module.
tear_down() {
	local pid ns clean=0
	for pid in "${spawned[@]}"; do
		stop "$pid"
	done
	spawned=()
	for ns in client fw server; do
		ip netns list | grep -qw "$ns" || continue
		[ -z "$(ip netns pids "$ns")" ] || {
			echo "processes are left in $ns: $(ip netns pids "$ns" | xargs ps -f)"
			clean=1
		}
		ip netns del "$ns"
	done
	[ -z "$(ip netns list)" ] || {
		echo "namespaces are left: $(ip netns list)"
		clean=1
	}
	unload || clean=1
	return $clean
}

unused() { [ "$(cat /sys/module/xt_SYNPROXY/refcnt)" = 0 ]; }
unload() {
	[ -d /sys/module/xt_SYNPROXY ] || return 0
	wait_for unused && rmmod xt_SYNPROXY && [ ! -d /sys/module/xt_SYNPROXY ]
}

broke_off() {
	echo "not ok $((count + 1)) - broke off, see the log"
	trap - EXIT
	set +e
	explain "$BASH_COMMAND" >&2
	tear_down >&2
	rm -rf "$tmp"
	exit 1
}

finish() {
	ok "nothing is left behind" tear_down
	trap - EXIT
	rm -rf "$tmp"
	echo "1..$count"
	exit "$failed"
}
