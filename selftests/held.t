#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What a client sends while it waits is held: the server gets it, all of it and in
# order, without the client's sending anything twice. It could not even: up to where
# wires are made worse, its retransmission timeout is longer than its patience.

. "$(dirname "$0")/lib.sh"

# With timestamps.
payload=$((mss - 12))

# words BYTES: so many, and never the same.
words() { head -c "$1" /dev/urandom | base64 -w 0 | head -c "$1"; }

# request SEGMENTS: header lines that make it so many segments; "expected" is what the
# server says that it was told. Each has less than the 8 kB that nginx takes.
request() {
	local left=$((($1 - 1) * payload + 400)) part
	: >"$tmp/headers"
	while [ $left -gt 0 ]; do
		part=$((left > 3000 ? 3000 : left))
		left=$((left - part))
		echo "X-Said: $(words $part)"
	done >"$tmp/headers"
	sed 's/^X-Said: //' "$tmp/headers" | paste -sd, | sed 's/,/, /g' | tr -d '\n' >"$tmp/expected"
}

# ask PORT SEGMENTS: a request, and whether it got there whole.
ask() {
	request "$2"
	client curl -sS --max-time 60 --local-port "$1" -H "@$tmp/headers" -o "$tmp/answer" \
		"$(url /said)" && cmp "$tmp/answer" "$tmp/expected"
}

# stream SIDE PORT: from where to where in the stream each segment reaches.
stream() {
	local isn
	isn=$(seen_first "$1" "tcp src port $2 and $SYN" | sed -nE 's/.* seq ([0-9]+),.*/\1/p')
	seen "$1" "tcp src port $2 and $DATA" | sed -nE 's/.* seq ([0-9]+):([0-9]+),.*/\1 \2/p' |
		awk -v start="$((isn + 1))" '
			{ print ($1 - start + 2 ^ 32) % 2 ^ 32, ($2 - start + 2 ^ 32) % 2 ^ 32 }'
}
# Each begins where the one before it ends.
in_order() { awk '$1 != at { exit 1 } { at = $2 } END { exit !at }'; }
# once SIDE PORT SEGMENTS
once() {
	stream "$1" "$2" >"$tmp/stream"
	cat "$tmp/stream"
	equal "$(wc -l <"$tmp/stream")" "$3" && in_order <"$tmp/stream"
}

# delivered NAME PORT SEGMENTS: tests of what the wires have seen.
delivered() {
	settle
	ok "$1: the client has sent each segment once" once client "$2" "$3"
	ok "$1: and the server got each once, in order" once server "$2" "$3"
}

# segments_sent PORT COUNT
segments_sent() { [ "$(stream client "$1" | wc -l)" -ge "$2" ]; }
# How many packets the engine has been given.
queued() { fw awk '{ print $8 }' /proc/net/netfilter/nfnetlink_queue; }

### No retransmission

set_up
start_nginx server
gate
# Nor are lost tails probed for: a probe goes out as soon as the answer takes longer
# than the handshake did.
client sysctl -qw net.ipv4.tcp_rto_max_ms=120000 net.ipv4.tcp_early_retrans=0
ip -n client -"$FAMILY" route replace default via "$gateway" rto_min 120s
capture

start_dpi --verbose
port=4000
for segments in 1 2 10; do
	port=$((port + 1))
	before=$(counted held)
	ok "$segments segments, a verdict on the first: a request arrives" ask $port $segments
	delivered "$segments segments, a verdict on the first" $port $segments
	held=$(($(counted held) - before))
	ok "$segments segments, a verdict on the first: held was what had come ($held)" \
		[ $held -ge 1 ] && [ $held -le $segments ]
done

# The server answers when all has been sent.
ipt -t raw -A PREROUTING -i eth1 -p tcp --sport 80 --tcp-flags SYN,ACK SYN,ACK -j DROP
before=$(counted held)
ask 4010 10 &
asking=$!
ok "a slow server: the client sends ten segments" wait_for segments_sent 4010 10
settle
is "a slow server: which does not get them yet" "$(stream server 4010)" ""
ipt -t raw -F
ok "a slow server: the request arrives" wait $asking
delivered "a slow server" 4010 10
is "a slow server: all were held" $(($(counted held) - before)) 10
stop "$dpi"

port=4020
for segments in 2 10; do
	port=$((port + 1))
	start_dpi --verbose --bytes $(((segments - 1) * payload + 1))
	before=$(counted held)
	ok "$segments segments, a verdict on the last: a request arrives" ask $port $segments
	delivered "$segments segments, a verdict on the last" $port $segments
	is "$segments segments, a verdict on the last: all were held" $(($(counted held) - before)) $segments
	stop "$dpi"
done

finish
