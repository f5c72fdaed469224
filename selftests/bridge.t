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

finish
