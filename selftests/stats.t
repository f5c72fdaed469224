#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What /proc/net/stat/xt_synproxy counts.

. "$(dirname "$0")/lib.sh"

file=/proc/net/stat/xt_synproxy
columns="entries syn_received cookie_invalid cookie_valid cookie_retrans conn_reopened in_progress opened refused gate_timeouts held syn_retrans icmp_errors hold_full gate_full contradictions rate_limited"
zeros=$(sed -E "s/[a-z_]+/0/g" <<<"$columns")
proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"

# look NAMESPACE: reads the sums over all CPUs into $now, by column.
declare -A now=() last=()
look() {
	local names fields i
	now=()
	{
		read -ra names
		while read -ra fields; do
			for i in "${!names[@]}"; do
				now[${names[i]}]=$((${now[${names[i]}]-0} + 16#${fields[i]}))
			done
		done
	} < <(ip netns exec "$1" cat $file)
}
# total NAMESPACE COLUMN...
total() {
	local column sums=()
	look "$1"
	for column in "${@:2}"; do
		sums+=("${now[$column]}")
	done
	echo "${sums[*]}"
}
# since COLUMN...: what fw has counted since "remember".
since() {
	local column sums=()
	look fw
	for column; do
		sums+=($((now[$column] - last[$column])))
	done
	echo "${sums[*]}"
}
remember() {
	local column
	look fw
	for column in "${!now[@]}"; do
		last[$column]=${now[$column]}
	done
}
reached() { [ "$(total fw "$1")" -ge "$2" ]; }

# All SYNs that came to fw.
syns() { settle && seen_count client "tcp dst port 80 and $SYN"; }
port() { seen client "src host $client and tcp dst port 80 and $SYN" | tail -n 1 | client_port; }
life() { entries "$1" | awk '{ print $3 }'; }
too_late() { [ "$(life "$1")" -lt 120 ]; }
cpus() {
	local range
	range=$(cat /sys/devices/system/cpu/possible)
	echo $((${range#*-} - ${range%-*} + 1))
}
reads() { while cat $file; do :; done; }

set_up
ok "there is no file" [ ! -e $file ]
start_nginx server
gate
capture

is "the columns" "$(fw head -n 1 $file | tr -s '\t' ' ')" "$columns"
is "a line for each CPU" "$(fw cat $file | wc -l)" $((1 + $(cpus)))
is "of eight digits a column" "$(fw sed 1d $file | grep -cxE "[0-9a-f]{8}(	[0-9a-f]{8}){$(($(wc -w <<<"$columns") - 1))}")" "$(cpus)"
# shellcheck disable=SC2086 # words
is "all are 0" "$(total fw $columns)" "$zeros"
is "the file can only be read" "$(stat -c %a $file)" 444
ok "the kernel's own can be loaded, too" modprobe nf_synproxy_core
ok "and has the first columns" grep -q "^$(fw head -n 1 /proc/net/stat/synproxy)	" $file
ok "and can be unloaded" rmmod nf_synproxy_core
ok "ours is still there" [ -e $file ]

# A client that has nothing to say for the time being, and will come too late.
spawn client bash -c "exec 3<>/dev/tcp/$server/80
	until [ -e '$tmp/late' ]; do sleep 0.1; done
	printf 'GET /64k HTTP/1.0\r\n\r\n' >&3
	exec cat <&3" >/dev/null
late=$pid
ok "a client waits" wait_for reached in_progress 1
late_port=$(port)
is "its cookie was good" "$(total fw cookie_valid cookie_invalid opened)" "1 0 0"
is "each SYN is counted" "$(total fw syn_received)" "$(syns)"

remember
ok "200 SYNs of a flood" raw flood 20000
ok "come" wait_for reached syn_received $((last[syn_received] + 200))
is "and are counted, and nothing else" "$(since syn_received cookie_valid cookie_invalid in_progress)" "200 0 0 0"

remember
ok "four ACKs without a good cookie, two SYNs" raw bogus 5001
is "are counted" "$(since syn_received cookie_invalid cookie_valid in_progress)" "2 4 0 0"

remember
ok "an ACK with a good one, and twice more" raw acks 5002
is "makes a client wait once" "$(since cookie_invalid cookie_valid in_progress cookie_retrans)" "0 1 1 0"

start_dpi --verbose
remember
ok "a page comes" page 4001 /64k
is "and counts as opened, with a request that was held" "$(since in_progress opened refused held)" "1 1 0 1"

wait_for too_late "$late_port"
remember
touch "$tmp/late"
ok "a client with its first data after 30 s" wait_for not kill -0 "$late"
is "is refused, and nothing is opened" "$(since refused opened in_progress)" "1 0 0"

stop "$nginx"
remember
closed "a closed port" 4002
is "which counts as refused, and not as opened" "$(since in_progress opened refused)" "1 0 1"

# Without a gate, and with a server that does not answer.
ipt_restore <<END
*raw
-A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
COMMIT
*mangle
COMMIT
*filter
-A FORWARD -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j $proxy
COMMIT
END
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
ip -n fw neigh add "$nobody" lladdr 02:00:00:00:02:77 dev eth1
remember
address=$nobody
ok "an ACK again while the server does not answer" raw acks 5003
address=$server
is "is counted: the server gets the SYN again" "$(since cookie_valid cookie_retrans in_progress opened)" "3 2 0 0"

# Another namespace with a rule.
# shellcheck disable=SC2086 # words
is "another namespace has counted nothing" "$(total server $columns)" "$zeros"
start_nginx server
server "$iptables-$BACKEND-restore" <<END
*raw
-A PREROUTING -p tcp --dport 81 --syn -j CT --notrack
COMMIT
*filter
-A INPUT -p tcp --dport 81 -m state --state UNTRACKED,INVALID -j $proxy
COMMIT
END
server sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
remember
ok "a page of a proxy in the server's namespace" fw curl -sS --max-time 60 -o "$tmp/page" "$(url :81/64k)"
is "counts there" "$(total server syn_received opened refused)" "1 1 0"
is "and not here" "$(since syn_received cookie_valid opened)" "0 0 0"

# The module goes while the file is read, and while it is open.
server "$iptables-$BACKEND-restore" <<<$'*raw\nCOMMIT\n*filter\nCOMMIT'
ipt_restore <<<$'*raw\nCOMMIT\n*mangle\nCOMMIT\n*filter\nCOMMIT'
exec 5<$file
reads >"$tmp/read" 2>&1 &
reader=$!
wait_for test -s "$tmp/read"
ok "the module can be unloaded while the file is read" unload
ok "then it cannot be read any more" wait_for not kill -0 $reader
ok "nor by who had it open" not cat <&5
exec 5<&-
ok "it is gone, in every namespace" [ ! -e $file ]
ok "there, too" not fw cat $file

finish
