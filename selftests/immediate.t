#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# The proxy without a gate: for a server on the firewall itself, and for one
# behind it. The rules are those of the kernel's own SYNPROXY, word by word.

. "$(dirname "$0")/lib.sh"

# protect CHAIN
protect() {
	ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
	ipt -A "$1" -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1480 --wscale 7 --ecn
	fw sh -c 'echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose'
}
window() { sed -E 's/.*, win ([0-9]+),.*/\1/'; }

set_up
capture

address=$gateway
start_nginx fw
protect INPUT
ok "INPUT: a page comes" page 4001
settle
is "INPUT: after a SYN,ACK with a closed window" "$(seen_first client "tcp dst port 4001 and $SYN_ACK" | window)" 0
ok "INPUT: which was the proxy's" grep -q 'mss 1480' <(seen client "tcp dst port 4001 and $SYN_ACK")
client sysctl -qw net.ipv4.tcp_timestamps=0
ok "INPUT: without timestamps a page comes, too" page 4002
client sysctl -qw net.ipv4.tcp_timestamps=1
ok "INPUT: 200 SYNs of a flood are answered" raw flood 20000
settle
is "INPUT: all of them" "$(seen_count client "host $raw_client and tcp dst portrange 20001-20200 and $SYN_ACK")" 200
is "INPUT: and leave no entry" "$(tracked -s $raw_client | wc -l)" 0
ok "INPUT: ACKs without a good cookie are met with silence" raw bogus 5001
ok "INPUT: and make no entry" no_entries 5001
stop "$nginx"
closed "INPUT: a closed port" 4003

address=$server
start_nginx server
ipt -F INPUT
ipt -t raw -F
protect FORWARD
ok "FORWARD: a page comes" page 4011
settle
is "FORWARD: after a SYN,ACK with a closed window" "$(seen_first client "tcp dst port 4011 and $SYN_ACK" | window)" 0
is "FORWARD: the server got one SYN" "$(seen_count server "tcp src port 4011 and $SYN")" 1
client sysctl -qw net.ipv4.tcp_timestamps=0
ok "FORWARD: without timestamps a page comes, too" page 4012
client sysctl -qw net.ipv4.tcp_timestamps=1
ok "FORWARD: 200 SYNs of a flood are answered" raw flood 30000
settle
is "FORWARD: all of them" "$(seen_count client "host $raw_client and tcp dst portrange 30001-30200 and $SYN_ACK")" 200
is "FORWARD: none reaches the server" "$(seen_count server "tcp and host $raw_client")" 0
is "FORWARD: and they leave no entry" "$(tracked -s $raw_client | wc -l)" 0
ok "FORWARD: ACKs without a good cookie are met with silence" raw bogus 5011
ok "FORWARD: and make no entry" no_entries 5011
is "FORWARD: nor anything at the server" "$(server_packets 5011)" 0
stop "$nginx"
closed "FORWARD: a closed port" 4013
ok "FORWARD: the server did hear of it" [ "$(seen_count server "tcp src port 4013 and $SYN")" -ge 1 ]

finish
