#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# The firewall is a bridge: client and server are in one network, and br_netfilter
# shows what is bridged to iptables. So that the proxy's own packets find a way,
# the bridge has an address in that network.

. "$(dirname "$0")/lib.sh"

set_up
modprobe br_netfilter
ip -n fw -batch - <<-END
	link add br0 type bridge forward_delay 0
	addr flush dev eth0
	addr flush dev eth1
	link set eth0 master br0
	link set eth1 master br0
	addr add 10.0.1.1/24 dev br0
	addr add fd00:1::1/64 dev br0 nodad
	link set br0 up
END
ip -n server -batch - <<-END
	addr flush dev s0
	addr add 10.0.1.3/24 dev s0
	addr add fd00:1::3/64 dev s0 nodad
END
fw sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
case $FAMILY in
4) server=10.0.1.3 ;;
6) server=fd00:1::3 ;;
esac
address=$server
start_nginx server
# Until the bridge's own packets are known on both sides.
fw ping -qc1 "$client" >&2
fw ping -qc1 "$server" >&2
capture

ipt -t raw -A PREROUTING -p tcp --dport 80 --syn -j CT --notrack
ipt -A FORWARD -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 7
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
ok "no gate: a page comes" page 4001
settle
is "no gate: by one SYN" "$(seen_count server "tcp src port 4001 and $SYN")" 1
ok "no gate: which was the proxy's" [ "$(seen_first client "tcp src port 4001 and $SYN" | cut -d ' ' -f 1)" != \
	"$(seen_first server "tcp src port 4001 and $SYN" | cut -d ' ' -f 1)" ]
offload on
ok "no gate: with offload of checksums a page comes, too" page 4002
offload off

ipt -t raw -F
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
gate
start_dpi --verbose
ok "the gate: a page comes" page 4011
spawn client curl -sS -X HELLO --local-port 4012 "$(url /)"
held "the gate, another protocol" 4012
offload on
ok "the gate: with offload of checksums a page comes, too" page 4013

# What the client says first is brought to the gate once more, when it has let it in.
for neighbour in fw:br0 server:s0; do
	ip -n "${neighbour%:*}" neigh replace "$raw_client" lladdr 02:00:00:00:01:02 dev "${neighbour#*:}"
done
learnt() { ip netns exec fw bridge fdb show br br0 dynamic | cut -d ' ' -f 1 | sort -u; }
known=$(learnt)
ok "the gate: of a client whose request is the handshake's last ACK" raw hasty 5011
is "the gate: and the bridge has learnt no address by that" "$(learnt)" "$known"

# One rule in PREROUTING: packets that are bridged are not turned round.
stop "$dpi"
ipt_restore <<-END
	*raw
	-A PREROUTING -p tcp --dport 80 -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 7
	COMMIT
	*mangle
	-A OUTPUT -p tcp --sport 80 --tcp-flags SYN,ACK SYN,ACK
	COMMIT
	*filter
	:FORWARD DROP
	-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
	COMMIT
END
passed() { ipt_save -t mangle -c | sed -nE 's/^\[([0-9]+):.* SYN,ACK$/\1/p'; }
ok "one rule: a page comes" page 4021
settle
is "one rule: by one SYN" "$(seen_count server "tcp src port 4021 and $SYN")" 1
ok "one rule: its answer was sent by the bridge" [ "$(passed)" -ge 1 ]
ok "one rule: and was the proxy's" grep -q 'win 0,' <(seen client "tcp dst port 4021 and $SYN_ACK")
offload on
ok "one rule: with offload of checksums a page comes, too" page 4022
offload off
ok "one rule: ACKs without a good cookie are met with silence" raw bogus 5021
is "one rule: and do not come to the server" "$(server_packets 5021)" 0

finish
