#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# A client waits at the gate, the engine says yes, and it is served.

. "$(dirname "$0")/lib.sh"

# What a SYN proposes, from a line of tcpdump.
proposal() {
	sed -E 's/.*, seq ([0-9]+),.*options \[(.*)\].*/isn \1,\2/; s/TS val [0-9]+ ecr 0/TS/; s/,(nop|eol)//g' |
		tr , '\n' | sort | paste -sd,
}
proposed() { seen_first "$1" "tcp src port $2 and $SYN" | proposal; }

# sent_by server|client PORT SIDE: numbers and timestamps in the packets, counted
# from the SYN,ACK that SIDE has seen.
sent_by() {
	local start fields
	start=$(seen_first "$3" "tcp dst port $2 and $SYN_ACK" | sed -nE 's/.* seq ([0-9]+),.*TS val ([0-9]+) .*/\1 \2/p')
	case $1 in
	server) fields='s/.*\.80 > .* seq ([0-9]+):.*TS val ([0-9]+) .*/\1 \2/p' ;;
	client) fields='s/.*\.80: .* ack ([0-9]+),.*TS val ([0-9]+) ecr ([0-9]+).*/\1 \3 \2/p' ;;
	esac
	seen "$3" "tcp port $2" | sed -nE "$fields" | awk -v start="$start" '
		function since(number, start) { return (number - start + 2 ^ 32) % 2 ^ 32 }
		BEGIN { split(start, at) }
		{ print since($1, at[1]), since($2, at[2]), $3 }' | sort -u
}

# What one side sends comes to the other, with all numbers shifted by the same.
translated() {
	sent_by server "$1" server >"$tmp/sent"
	sent_by client "$1" server >"$tmp/got"
	[ "$(wc -l <"$tmp/sent")" -gt 100 ] && [ "$(wc -l <"$tmp/got")" -gt 10 ] &&
		diff "$tmp/sent" <(sent_by server "$1" client) &&
		[ -z "$(comm -23 "$tmp/got" <(sent_by client "$1" client))" ]
}

checksums_are_right() {
	local side
	for side in client server; do
		tcpdump -nnvr "$tmp/$side.pcap" "tcp and $1 and not $DATA" 2>/dev/null >"$tmp/sums"
		grep -q correct "$tmp/sums" && ! grep -B1 incorrect "$tmp/sums" || return 1
	done
}

entry_life() { entries "$1" | awk '{ print $3 }'; }

set_up
start_nginx server
gate
capture

# No engine is there yet.
spawn client curl -sS --max-time 100 --local-port 4001 -o "$tmp/held" "$(url /1M)"
curl=$pid
ok "the client gets a SYN,ACK" wait_for answered 4001
ok "the client has an entry while it waits" wait_for not no_entries 4001
life=$(entry_life 4001)
held "no verdict yet" 4001
is "there is one entry" "$(entries 4001 | wc -l)" 1
later=$(entry_life 4001)
ok "which lives longer than a cookie ($life s)" [ "$life" -gt 120 ]
ok "and is not extended by what the client sends ($later s left)" [ "$later" -lt "$life" ]

start_dpi --verbose
ok "with a verdict the page comes" wait "$curl"
ok "whole" cmp "$tmp/held" "$www/1M"
settle
is "the server got one SYN" "$(seen_count server "tcp src port 4001 and $SYN")" 1
is "with the client's numbers and options" "$(proposed server 4001)" "$(proposed client 4001)"
ok "which include all that there are" grep -qE "^TS,isn [0-9]+,mss $mss,sackOK,wscale [0-9]+\$" <(proposed server 4001)
ok "numbers and times are translated, in both directions" translated 4001
ok "every checksum is right" checksums_are_right "port 4001"

ok "with the engine running a page comes at once" page 4002
ok "the server heard of it only after the client's data" heard_after_data 4002

# socat reads and sends byte by byte.
printf 'GET /64k HTTP/1.0\r\n\r\n' |
	client socat -b1 -t60 - "TCP:$(host "$server"):80,sourceport=4003,nodelay" >"$tmp/bytes" || :
ok "a request in pieces of one byte is served" cmp "$www/64k" <(tail -c 65536 "$tmp/bytes")
settle
ok "it was in pieces" [ "$(seen client "tcp src port 4003" | grep -c 'length 1\b')" -ge 10 ]

client sysctl -qw net.ipv4.tcp_timestamps=0
ok "without timestamps a page comes, too" page 4004
settle
is "without them on either side" "$(seen client 'tcp port 4004' | grep -c TS || :)$(seen server 'tcp port 4004' | grep -c TS || :)" 00
ok "every checksum is right there" checksums_are_right "port 4004"
client sysctl -qw net.ipv4.tcp_timestamps=1

# A server that refuses.
stop "$nginx"
closed "a closed port" 4005
ok "the server did hear of it" [ "$(seen_count server "tcp src port 4005 and $SYN")" -ge 1 ]

finish
