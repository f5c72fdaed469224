#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# The options of revision 1: --defer makes clients wait of which conntrack knows
# nothing, --window and --timeout say how much they may send, and how long.

. "$(dirname "$0")/lib.sh"

proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"

# gate_for STATES OPTION...: SYNs are UNTRACKED, and a rule for packets without an
# entry leads to the gate.
gate_for() {
	ipt_restore <<-END
		*raw
		-A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
		COMMIT
		*mangle
		-A FORWARD -p tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0
		COMMIT
		*filter
		:FORWARD DROP
		-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -m spstate ! --in-progress -j ACCEPT
		-A FORWARD -p tcp --dport 80 -m mark --mark 0x0b -m spstate --in-progress -j $proxy
		-A FORWARD -i eth0 -p tcp --dport 80 -m conntrack --ctstate UNTRACKED,INVALID -j $proxy $*
		COMMIT
	END
}
life() { entries "$1" | awk '{ print $3 }'; }
too_late() { [ "$(life "$1")" -lt 120 ]; }
# The window of the SYN,ACK that a client port got.
offered() { seen_first client "tcp dst port $1 and $SYN_ACK" | sed -nE 's/.* win ([0-9]+),.*/\1/p'; }

set_up
start_nginx server
capture

# Without --defer these rules open at once.
gate_for
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
ok "without --defer, no engine: a page comes" page 4001 /64k

gate_for --defer
spawn fw conntrack -E -e NEW -o timestamp -p tcp >"$tmp/events"
# A socket of netfilter's that is in a group.
listens() { fw grep -qE '^[0-9a-f]+ +12 +[0-9]+ +0*[1-9a-f]' /proc/net/netlink; }
wait_for listens
spawn client curl -sS --max-time 100 --local-port 4002 -o "$tmp/held" "$(url /64k)"
curl=$pid
held "--defer" 4002
is "--defer: there is one entry" "$(entries 4002 | wc -l)" 1
ok "--defer: as of a client that waits" grep -q "ESTABLISHED .*UNREPLIED" <<<"$(entries 4002)"
ok "--defer: of which listeners hear" wait_for grep -q "sport=4002 " "$tmp/events"
ok "--defer: an ACK without a good cookie" raw bogus 5001
is "--defer: makes no entry" "$(entries 5001 | wc -l)" 0
start_dpi --verbose
ok "--defer: with a verdict the page comes" wait "$curl"
ok "--defer: whole" cmp "$tmp/held" "$www/64k"
ok "--defer: with the engine running a page comes at once" page 4003
settle
is "--defer: the server got one SYN" "$(seen_count server "tcp src port 4003 and $SYN")" 1
is "--defer: the window is a first flight" "$(offered 4003)" 14600

# The server has another address: without an entry of its own for the client's
# packet, PREROUTING has no say, and OUTPUT is asked.
ipt -t nat -A OUTPUT -p tcp -d "$nobody" --dport 80 -j DNAT --to-destination "$server"
address=$nobody
ok "--defer: a destination of OUTPUT's choice" page 4004 /64k
address=$server
ipt -t nat -F

stop "$dpi"
gate_for --defer --window 2000 --timeout 2
spawn client curl -sS --max-time 100 --local-port 4005 -o /dev/null "$(url /64k)"
curl=$pid
ok "--window 2000 --timeout 2: a client waits" wait_for not no_entries 4005
is "--window 2000: is offered" "$(settle && offered 4005)" 2000
ok "--timeout 2: the entry does not live longer ($(life 4005) s)" [ "$(life 4005)" -le 122 ]
ok "--timeout 2: and refuses after that" wait_for too_late 4005
start_dpi --verbose
ok "--timeout 2: a verdict comes too late, and the client is reset" wait_for not kill -0 "$curl"
is "--timeout 2: no packet at the server" "$(server_packets 4005)" 0
ok "--timeout 2: in time a page comes" page 4006 /64k

# Next to --none, without --defer.
gate
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
ipt -t raw -F
ipt -R FORWARD 3 -p tcp --dport 80 -m spstate --none -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --window 65535
ok "--window 65535 with --none: a page comes" page 4007
is "--window 65535: is offered" "$(settle && offered 4007)" 65535

finish
