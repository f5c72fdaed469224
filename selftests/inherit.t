#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What the proxy sends has mark, type of service and zone of the packet on whose
# account it is sent, and so the route that policy routing has for it.

. "$(dirname "$0")/lib.sh"

case $FAMILY in
4) TOS='ip[1]' ;;
6) TOS='((ip6[0:2] >> 4) & 0xff)' ;;
esac
# tos SIDE FILTER VALUE: all these packets have that type of service, and there are
# some.
tos() { [ "$(seen_count "$1" "tcp $2")" -ge 1 ] && [ "$(seen_count "$1" "tcp $2 and $TOS != $3")" = 0 ]; }
# tos_of SIDE FILTER N: that of the Nth packet.
tos_of() {
	tcpdump -nnSvr "$tmp/$1.pcap" "tcp $2" 2>/dev/null |
		sed -nE 's/.*(\(tos |, class |\(class )(0x[0-9a-f]+).*/\2/p' | sed -n "$3p"
}

# A rule that counts what the proxy sends, and how much it has counted. The words
# are those of iptables-save.
count() { ipt -t mangle -A "$@"; }
counted() {
	ipt_save -c | sed -nE 's/^\[([0-9]+):[0-9]+\] (.*)/\1 \2/p' >"$tmp/counters"
	sed -n "s/ -A $* *$//p" "$tmp/counters"
}
some() { [ "$(counted "$@")" -ge 1 ]; }
none() { [ "$(counted "$@")" = 0 ]; }
to_server="-p tcp -m tcp --dport 80 --tcp-flags FIN,SYN,RST,ACK"
to_client="-p tcp -m tcp --sport 80 --tcp-flags FIN,SYN,RST,ACK"

set_up
start_nginx server
capture
# A second way to the client, for packets with a mark.
ip -batch - <<-END
	link add c1 netns client type veth peer name eth2 netns fw
END
ip -n client -batch - <<-END
	addr add 10.0.3.2/24 dev c1
	addr add fd00:3::2/64 dev c1 nodad
	link set c1 up
END
ip -n fw -batch - <<-END
	addr add 10.0.3.1/24 dev eth2
	addr add fd00:3::1/64 dev eth2 nodad
	link set eth2 up
	route add 10.0.1.2 via 10.0.3.2 table 7
	route add fd00:1::2 via fd00:3::2 table 7
END
client sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.c1.rp_filter=0

# The bits of ECN are the transport's own; the rest is the network's.
marks() {
	ipt -t mangle -A PREROUTING -i eth0 -p tcp -j MARK --set-mark 0x7
	ipt -t mangle -A PREROUTING -i eth0 -p tcp -j TOS --set-tos 0x4b/0xff
	ipt -t mangle -A PREROUTING -i eth1 -p tcp -j MARK --set-mark 0x9
	ipt -t mangle -A PREROUTING -i eth1 -p tcp -j TOS --set-tos 0x87/0xff
	# shellcheck disable=SC2086 # words of rules
	{
		count OUTPUT $to_client SYN,ACK -m mark --mark 0x7
		count OUTPUT $to_server SYN -m mark --mark 0x7
		count OUTPUT $to_server ACK -m mark --mark 0x7
		count OUTPUT $to_client ACK -m mark --mark 0x9
		count OUTPUT -p tcp -m mark --mark 0x0
		count POSTROUTING -o eth2 $to_client SYN,ACK
		count POSTROUTING $to_client SYN,ACK -m mark --mark 0x9
	}
}

ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
ipt -A FORWARD -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 7
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
marks
ok "no gate: a page comes" page 4001 /64k
settle
ok "no gate: SYN,ACK: the client's mark" some "OUTPUT $to_client SYN,ACK -m mark --mark 0x7"
ok "no gate: SYN: the client's mark" some "OUTPUT $to_server SYN -m mark --mark 0x7"
ok "no gate: ACK: the client's mark" some "OUTPUT $to_server ACK -m mark --mark 0x7"
# Behind POSTROUTING it is the window update.
ok "no gate: server's SYN,ACK: its own mark" some "POSTROUTING $to_client SYN,ACK -m mark --mark 0x9"
ok "no gate: nothing without a mark" none "OUTPUT -p tcp -m mark --mark 0x0"
ok "no gate: SYN,ACK: the client's type of service" tos client "dst port 4001 and $SYN_ACK" 0x48
ok "no gate: SYN: the client's type of service" tos server "src port 4001 and $SYN" 0x48
is "no gate: ACK: the client's type of service" "$(tos_of server "src port 4001" 2)" 0x48
is "no gate: window update: the server's type of service" "$(tos_of client "dst port 4001" 2)" 0x84
ok "no gate: other packets keep theirs" tos client "dst port 4001 and $DATA" 0x87

ipt -t raw -F
ipt -t mangle -F
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
gate
marks
# The packet that opens has the mark of the engine, 0x0b.
count OUTPUT -p tcp -m mark --mark 0xb
start_dpi --verbose
ok "the gate: a page comes" page 4011 /64k
settle
ok "the gate: SYN,ACK: the client's mark" some "OUTPUT $to_client SYN,ACK -m mark --mark 0x7"
ok "the gate: SYN, ACK: the engine's mark" [ "$(counted "OUTPUT -p tcp -m mark --mark 0xb")" -ge 2 ]
ok "the gate: window update: the server's mark" some "OUTPUT $to_client ACK -m mark --mark 0x9"
ok "the gate: nothing without a mark" none "OUTPUT -p tcp -m mark --mark 0x0"
ok "the gate: SYN,ACK: the client's type of service" tos client "dst port 4011 and $SYN_ACK" 0x48
ok "the gate: SYN: the client's type of service" tos server "src port 4011 and $SYN" 0x48
is "the gate: ACK: the client's type of service" "$(tos_of server "src port 4011" 2)" 0x48
is "the gate: window update: the server's type of service" "$(tos_of client "dst port 4011 and not $SYN_ACK" 1)" 0x84

in_ns fw ip "-$FAMILY" rule add fwmark 7 table 7
ok "policy routing: no SYN,ACK went that way" none "POSTROUTING -o eth2 $to_client SYN,ACK"
ok "policy routing: a page comes" page 4012 /64k
ok "policy routing: the SYN,ACK takes the way of its mark" some "POSTROUTING -o eth2 $to_client SYN,ACK"
in_ns fw ip "-$FAMILY" rule del fwmark 7 table 7

ipt -t mangle -F PREROUTING
ipt -t raw -A PREROUTING -i eth0 -p tcp -j CT --zone 7
ipt -t raw -A PREROUTING -i eth1 -p tcp -j CT --zone 7
ok "a zone by devices: a page comes" page 4013
settle
is "a zone by devices: by one SYN" "$(seen_count server "tcp src port 4013 and $SYN")" 1
is "a zone by devices: and one SYN,ACK" "$(seen_count client "tcp dst port 4013 and $SYN_ACK")" 1
ok "a zone by devices: the entry is there" grep -q zone=7 <(entries 4013)
is "a zone by devices: and nowhere else" "$(entries 4013 | grep -vc zone=7)" 0

finish
