#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# No way around: what a client, or somebody on the way, can come up with so that a
# server hears something before the engine has said yes, or something else than it
# has judged. In the first part, played packet by packet from edges.py, the engine
# is a rule that says yes to whatever packet has GET in it (ONLY=REGEX plays some of
# that). In the second it is dpi-http.

. "$(dirname "$0")/lib.sh"
explain=$(declare -f explain)
. "$(dirname "$0")/packets.sh"

by_content=(-p tcp --dport 80 -m spstate --in-progress -m string --algo kmp --string GET -j MARK --set-mark 0x0b)

set_up
set_up_packets
modprobe xt_SYNPROXY
start_edges
gate_packets
ipt -t mangle -R FORWARD 1 "${by_content[@]}"
order set "$FAMILY" FORWARD engine ours
order list >"$tmp/list"
mapfile -t names <"$tmp/list"
for name in "${names[@]}"; do
	[[ ! $name =~ ${ONLY-} ]] || ok "$name" order play "$name"
done
stop_edges
eval "$explain"

### An engine on NFQUEUE

# What is in the engine's hands.
queued() { [ "$(fw cat /proc/net/netfilter/nfnetlink_queue | awk '$1 == 0 { print $3 }')" -ge "$1" ]; }
asleep() { grep -q '^State:.*T' "/proc/$dpi/status"; }
# The engine goes to sleep, and wakes up.
sleeps() { kill -STOP "$dpi" && wait_for asleep; }
wakes() { kill -CONT "$dpi"; }
# It has said yes to the client of a port.
judged() { grep -q ":$1 .*mark 0xb" "$tmp/dpi.log"; }
# It is killed, with what it has in its hands.
killed() {
	kill -KILL "$1"
	wait "$1" 2>/dev/null || :
}

# unheard NAME PORT: a yes comes, too late, and the server does not hear of it.
unheard() {
	wakes
	ok "$1: a yes comes" wait_for judged "$2"
	is "$1: no packet at the server" "$(server_packets "$2")" 0
}
# asks SCENARIO PORT: while the engine sleeps.
asks() {
	sleeps
	raw "$@"
	wait_for queued 1
}
syn_seen() { [ "$(seen_count server "tcp src port $1 and $SYN")" -ge 1 ]; }
too_late() { [ "$(entries "$1" | awk '{ print $3 }')" -lt 120 ]; }

start_nginx server
gate
capture
# To stay without an answer: an unreachable neighbour is an answer.
ip -n fw neigh add "$nobody" lladdr 02:00:00:00:02:77 dev eth1
export GO=$tmp/go
start_dpi --verbose
CLIENT=$raw_client SERVER=$address spawn client "$here/raw.py" outlived 6001
outlived=$pid

asks speak 5001
is "late: no packet at the server before" "$(server_packets 5001)" 0
wakes
ok "late, in time: the server gets a SYN" wait_for syn_seen 5001

ipt -R FORWARD 3 -p tcp --dport 80 -m spstate --none -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --timeout 2
asks speak 5002
wait_for too_late 5002
unheard "after the client's time" 5002
ok "after the client's time: it is reset" [ "$(seen_count client "tcp dst port 5002 and $RST")" -ge 1 ]
gate

asks speak 5003
fw conntrack -D -f "$l3" -p tcp --sport 5003 >/dev/null 2>&1
unheard "after conntrack -D" 5003

raw murmur 5011
address=$nobody raw speak 5012
spawn client curl -sS --max-time 300 --limit-rate 10k --local-port 4013 -o /dev/null "$(url /1M)"
curl=$pid
gets() { [ "$(seen_count client "tcp dst port $1 and $DATA")" -ge 5 ]; }
wait_for syn_seen 5012
ok "conntrack -F: one waits, one has its SYN on the way, one is open" wait_for gets 4013
fw conntrack -F 2>/dev/null
before=$(server_packets 5012)
address=$nobody raw speak 5014
repeated() { [ "$(seen_count server "tcp src port $1 and $SYN")" -ge 3 ]; }
wait_for repeated 5014
stop "$curl"
hung_up() { [ "$(seen_count "$1" "tcp src port 4013 and $FLAGS & (tcp-fin | tcp-rst) != 0")" -ge 1 ]; }
ok "conntrack -F: the client with the open connection hangs up" wait_for hung_up client
is "conntrack -F: no packet of the one that waits" "$(server_packets 5011)" 0
is "conntrack -F: no further one of that with the SYN" "$(server_packets 5012)" "$before"
ok "conntrack -F: nor is the other's end heard" not hung_up server

asks replaced 5004
wakes
ok "after another SYN: a yes is for the first" wait_for syn_seen 5004

asks speak 5005
ipt -F FORWARD
ipt -t mangle -F
ipt -P FORWARD ACCEPT
unheard "after iptables -F" 5005
gate

# It dies.
sleeps
spawn client curl -sS --max-time 100 --local-port 4006 -o "$tmp/held" "$(url /1M)"
curl=$pid
raw speak 5006
wait_for queued 2
killed "$dpi"
held "the engine dies" 4006
is "the engine dies: no packet of what it had" "$(server_packets 5006)" 0
start_dpi --verbose
ok "another one comes: the page comes" wait "$curl"
ok "whole" cmp "$tmp/held" "$www/1M"

ipt -t mangle -R FORWARD 1 -p tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0 --queue-bypass
asks speak 5007
killed "$dpi"
raw speak 5008
spawn client curl -sS --max-time 100 --local-port 4008 -o "$tmp/held" "$(url /1M)"
curl=$pid
held "the engine dies, --queue-bypass" 4008
is "the engine dies, --queue-bypass: no packet of what it had" "$(server_packets 5007)" 0
is "nor of what it would have got" "$(server_packets 5008)" 0
start_dpi --verbose
ok "another one comes: the page comes" wait "$curl"
gate

# The module goes.
asks speak 5009
ipt -F FORWARD
ipt -t mangle -F
ipt -P FORWARD ACCEPT
ok "the module can be unloaded" unload
ok "it was: there is no entry" no_entries 5009
unheard "after rmmod" 5009
gate
ok "with the module back a page comes" page 4009 /64k

### Two CPUs say different things for one client

# The engine is on both. The server's answers take their time: all is said before.
ipt -t mangle -R FORWARD 1 "${by_content[@]}"
server tc qdisc add dev s0 root netem delay 2s

# What the server's wire saw of a port: numbers of SYNs, or lengths of data.
versions() { seen server "tcp src port $1 and $2" | sed -E "s/.*$3 ([0-9]+).*/\1/" | sort -u; }
once_only() {
	local port
	for port in {5100..5109}; do
		echo "$port: SYN $(versions "$port" "$SYN" seq | paste -sd,), data $(versions "$port" "$DATA" ', length' | paste -sd,)"
		[ "$(versions "$port" "$SYN" seq | wc -l)" -le 1 ] &&
			[ "$(versions "$port" "$DATA" ', length' | wc -l)" -le 1 ] || return 1
	done
}
opened() { [ "$(seen server "tcp src portrange ${3-5100-5109} and $1" | client_port | sort -u | wc -l)" -ge "${2-1}" ]; }
all_released() { opened "$DATA" "$(seen server "tcp src portrange 5100-5109 and $SYN" | client_port | sort -u | wc -l)"; }

ok "two CPUs: ten clients" raw two_cpus 5100
ok "two CPUs: some of them are served" wait_for opened "$SYN"
ok "two CPUs: the servers get data" wait_for all_released
server tc qdisc del dev s0 root
ok "two CPUs: each of them one SYN, and one version of its data" once_only
gate

### The engine says yes, and says so again

server tc qdisc add dev s0 root netem delay 2s
sleeps
raw twice 5110
wait_for queued 2
wakes
ok "two verdicts: the server gets data" wait_for opened "$DATA" 1 5110
server tc qdisc del dev s0 root
settle
is "two verdicts: one SYN" "$(versions 5110 "$SYN" seq | wc -l)" 1
is "two verdicts: what the first was about, and nothing else" "$(versions 5110 "$DATA" ', length')" 21

# Meanwhile its client says something else.
sleeps
raw thrice 5111
wait_for queued 2
settle
ok "two versions: the engine is shown one" not queued 3
unheard "two versions" 5111

### Conntrack's table is full

raw listen 5201
address=$nobody raw speak 5202
wait_for syn_seen 5202
raw murmur 5203
# Its buffer is full soon, and the server has more to say.
spawn client curl -sS --max-time 300 --limit-rate 200k --local-port 4203 -o "$tmp/held" "$(url /1M)"
curl=$pid
ok "early_drop: two wait, one has its SYN on the way, one is open" wait_for gets 4203
kill -STOP "$curl"
buckets=$(sysctl -n net.netfilter.nf_conntrack_buckets) max=$(sysctl -n net.netfilter.nf_conntrack_max)
sysctl -qw net.netfilter.nf_conntrack_buckets=512 net.netfilter.nf_conntrack_max=1
crowded_out() { raw noise 20000 && no_entries 5201 && no_entries 5202; }
ok "early_drop: new ones crowd them out" wait_for crowded_out
ok "early_drop: but for one of which the engine knows" not no_entries 5203
sysctl -qw net.netfilter.nf_conntrack_buckets="$buckets" net.netfilter.nf_conntrack_max="$max"
kill -CONT "$curl"
ok "early_drop: the open one is not" wait "$curl"
ok "early_drop: and gets all of its page" cmp "$tmp/held" "$www/1M"
is "early_drop: no packet of the one" "$(server_packets 5201)" 0
is "early_drop: nothing but SYNs of the other" "$(seen_count server "tcp src port 5202 and not $SYN")" 0
ok "early_drop: the one may come again" raw speak 5201
ok "early_drop: and is heard then" wait_for syn_seen 5201

### A cookie that was good once

# Its SYNs were let through while there were no rules, and the server still answers them.
from_client() { settle && seen_count server "tcp src port 6001"; }
before=$(from_client)
touch "$GO"
ok "a cookie two minutes old is met with silence, a younger one serves" wait "$outlived"
is "two minutes old: no packet at the server" "$(from_client)" "$before"
ok "two minutes old: no entry" no_entries 6001

### The firewall goes, with something in the engine's hands and something held

raw murmur 5301
asks speak 5302
ip netns del fw
killed "$dpi"
ok "the firewall goes" wait_for not ip -n client link show c0
ok "and nothing holds the module" unload
for pid in "${capturing[@]}"; do
	stop "$pid"
done
is "no packet at the server of what was held" "$(seen_count server "tcp port 5301")" 0
is "nor of what the engine had" "$(seen_count server "tcp port 5302")" 0

finish
