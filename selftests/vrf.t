#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Both devices of the firewall belong to a VRF. Rules see its device, and what a
# server on the firewall itself sends passes POST_ROUTING twice.

. "$(dirname "$0")/lib.sh"

# The main table has no routes to the other boxes.
settle() {
	local mark=up-to-here-$EPOCHREALTIME to
	for to in "$client" "$server"; do
		fw socat -u - "UDP:$(host "$to"):9,so-bindtodevice=vrf0" <<<"$mark" || : # refused before it has ended
	done
	wait_for grep -q "$mark" "$tmp/client.pcap"
	wait_for grep -q "$mark" "$tmp/server.pcap"
}
timestamps() { seen_first client "tcp dst port $1 and $SYN_ACK" | grep -q 'TS val'; }
ours() { seen client "tcp dst port $1 and $SYN_ACK" | grep -q 'mss 1401'; }

protect() {
	ipt -t raw -A PREROUTING -p tcp --dport 80 --syn -j CT --notrack
	ipt -A "$1" -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1401 --wscale 7
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
}

set_up
modprobe vrf
# Addresses of IPv6 go when a device changes its VRF.
ip -n fw -batch - <<-END
	link add vrf0 type vrf table 10
	link set vrf0 up
	route add table 10 unreachable default metric 4278198272
	route add table 10 unreachable ::/0 metric 4278198272
	link set eth0 master vrf0
	link set eth1 master vrf0
	addr replace fd00:1::1/64 dev eth0 nodad
	addr replace fd00:2::1/64 dev eth1 nodad
END
fw sysctl -qw net.ipv4.tcp_l3mdev_accept=1
start_nginx server
web=$pid
capture
ok "without rules a page comes" page 4000 /64k

protect FORWARD
ok "forwarded, no gate: a page comes" page 4001
settle
ok "forwarded, no gate: by the proxy" ours 4001
ok "forwarded, no gate: with timestamps" timestamps 4001

ipt -t raw -F
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
gate
start_dpi --verbose
ok "forwarded, the gate: a page comes" page 4011
ok "forwarded, the gate: with timestamps" timestamps 4011
spawn client curl -sS -X HELLO --local-port 4012 "$(url /)"
held "forwarded, the gate, another protocol" 4012

stop "$web"
rm -f "$tmp/nginx.pid"
start_nginx fw
address=$gateway
ipt -F FORWARD
ipt -t mangle -F
ok "local: without rules a page comes" page 4020 /64k
protect INPUT
ok "local, no gate: a page comes" page 4021
settle
ok "local, no gate: by the proxy" ours 4021
ok "local, no gate: with timestamps" timestamps 4021

ipt -t raw -F
ipt -F INPUT
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
sed 's/-A FORWARD/-A INPUT/' "$here/../examples/synproxy.rules" | ipt_restore
ok "local, the gate: a page comes" page 4031
ok "local, the gate: with timestamps" timestamps 4031

# one DEVICE NAME PORT: one rule in PREROUTING, which sees packets of both devices. That of the VRF comes
# last, when conntrack knows them.
one() {
	ipt_restore <<-END
		*raw
		-A PREROUTING -i $1 -p tcp --dport 80 -j SYNPROXY --sack-perm --timestamp --mss 1401 --wscale 7
		COMMIT
		*mangle
		COMMIT
		*filter
		:FORWARD DROP
		-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
		COMMIT
	END
	ok "$2, one rule for $1: a page comes" page "$3"
	settle
	ok "$2, one rule for $1: by the proxy" ours "$3"
	ok "$2, one rule for $1: with timestamps" timestamps "$3"
	ok "$2, one rule for $1: ACKs without a good cookie are met with silence" raw bogus $(($3 + 1000))
	ok "$2, one rule for $1: and make no entry" no_entries $(($3 + 1000))
}
one eth0 local 4041
one + local 4042
stop "$nginx"
rm -f "$tmp/nginx.pid"
start_nginx server
address=$server
one eth0 forwarded 4051
one + forwarded 4052

finish
