#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What a firewall may meet with, while there are connections in every state: no route,
# a dead link, a full conntrack table, full queues. What is open goes on when it is over,
# who waits is served, and nobody gets past the engine. lifetime.t has the end of rules,
# module and namespace.

. "$(dirname "$0")/lib.sh"

asleep() { grep -q '^State:.*T' "/proc/$dpi/status"; }
sleeps() { kill -STOP "$dpi" && wait_for asleep; }
wakes() { kill -CONT "$dpi"; }
# queue EXPRESSION: how many packets are in the engine's hands ($3), or found no room in the
# queue ($6) or in its socket ($7).
queue() { fw awk "\$1 == 0 { print $1 }" /proc/net/netfilter/nfnetlink_queue; }
queued() { [ "$(queue "\$3")" -ge "$1" ]; }
syn_seen() { [ "$(seen_count server "tcp src port $1 and $SYN")" -ge 1 ]; }
waits() { [[ $(entries "$1") == *UNREPLIED* ]]; }
insisted() { [ "$(seen_count client "tcp src port $1 and $DATA")" -ge "$2" ]; }

# deaf PORT, hears PORT: whether the server takes a client's SYN.
deaf() { server "$iptables-nft" -A INPUT -p tcp --sport "$1" --syn -j DROP; }
hears() { server "$iptables-nft" -F; }

# every_state PORT: four clients. One is served, slowly; the server has not answered
# another one yet; the engine has the third one's request, and has the fourth's when it
# speaks: it waits, and has said nothing.
every_state() {
	local port=$1
	pids=()
	slow "$port" 1M
	pids+=("$pid")
	deaf $((port + 1))
	spawn client curl -sS --max-time 120 --local-port $((port + 1)) -o "$tmp/page.$((port + 1))" "$(url /64k)"
	pids+=("$pid")
	wait_for syn_seen $((port + 1))
	sleeps
	spawn client curl -sS --max-time 120 --local-port $((port + 2)) -o "$tmp/page.$((port + 2))" "$(url /64k)"
	pids+=("$pid")
	wait_for queued 1
	rm -f "$tmp/words"
	mkfifo "$tmp/words"
	# What is in the background has no standard input, but for its own.
	spawn client bash -c "exec socat -t 60 - TCP:$(host "$address"):80,sourceport=$((port + 3)) <>$tmp/words" >"$tmp/answer"
	silent=$pid
	wait_for waits $((port + 3))
}

# over NAME PORT: the calamity is.
over() {
	local name=$1 port=$2
	hears
	wakes
	printf 'GET /64k HTTP/1.0\r\n\r\n' >"$tmp/words"
	ok "$name: what is open goes on, and is whole" whole "${pids[0]}" "$port"
	ok "$name: who waited for the server is served" wait "${pids[1]}"
	ok "$name: who waited for the engine is" wait "${pids[2]}"
	ok "$name: whole" cmp "$tmp/page.$((port + 2))" "$www/64k"
	ok "$name: and who had said nothing" wait_for spoken
	stop "$silent"
	ok "$name: and the next one" page $((port + 4)) /64k
}
spoken() { cmp <(tail -c 65536 "$tmp/answer") "$www/64k"; }

# unheard NAME PORT: of a client that the engine has not judged.
unheard() { is "$1: the server hears nothing of who has not been judged" "$(server_packets "$2")" 0; }

set_up
# As with a real link: the addresses outlive it.
fw sysctl -qw net.ipv6.conf.eth1.keep_addr_on_down=1
start_nginx server
modprobe xt_SYNPROXY held_kib=128 held_total_kib=128
gate
start_dpi --verbose
capture

case $FAMILY in
4) net=10.0.2.0/24 ;;
6) net=fd00:2::/64 ;;
esac

every_state 4000
fw ip "-$FAMILY" route del "$net" dev eth1
ok "no route: clients insist" wait_for insisted 4002 4
fw ip "-$FAMILY" route add "$net" dev eth1
unheard "no route" 4002
over "no route" 4000

every_state 4100
fw ip link set eth1 down
ok "the link is down: clients insist" wait_for insisted 4102 4
fw ip link set eth1 up
unheard "the link is down" 4102
over "the link is down" 4100

every_state 4200
max=$(sysctl -n net.netfilter.nf_conntrack_max)
sysctl -qw net.netfilter.nf_conntrack_max=1
ok "conntrack's table is full: clients come" raw noise 20000
ok "conntrack's table is full: clients insist" wait_for insisted 4202 4
sysctl -qw net.netfilter.nf_conntrack_max="$max"
unheard "conntrack's table is full" 4202
over "conntrack's table is full" 4200

every_state 4300
ok "the engine's queue is full: somebody pesters" raw pester 5301
ok "the engine's queue is full: some found no room" [ "$(queue "\$6 + \$7")" -ge 50 ]
ok "the engine's queue is full: clients insist" wait_for insisted 4302 4
unheard "the engine's queue is full" 4302
over "the engine's queue is full" 4300
unheard "the engine's queue was full" 5301

no_room() { [ "$(counted hold_full)" -gt "$before" ]; }
# Once more, as often as it takes until those before are gone.
room() {
	fw conntrack -F >/dev/null 2>&1
	before=$(counted hold_full)
	raw greedy 5500 && not no_room
}

every_state 4400
wakes
# They are gone before who waits longer, or what that one says may find no room in time.
ipt -I FORWARD 3 -s "$raw_client" -p tcp --dport 80 -m spstate --none -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --timeout 10
before=$(counted hold_full)
ok "what is held takes all its memory: by greedy clients" raw many_greedy 5400
ok "what is held takes all its memory: there is no room" no_room
over "what is held takes all its memory" 4400
unheard "what is held took all its memory" 5400
ok "and all of it is free again" wait_for room

finish
