#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# The proxy's SYN to the server is lost, or has no answer, or is refused on its way.

. "$(dirname "$0")/lib.sh"

syns() { settle && seen_count server "tcp src port $1 and $SYN"; }
syns_are() { [ "$(syns "$1")" -ge "$2" ]; }
isn() { sed -nE 's/.*, seq ([0-9]+),.*/\1/p'; }

# lost_syn NAME PORT: the server comes up only after the first SYN.
lost_syn() {
	server $iptables-nft -A INPUT -p tcp --syn -j DROP
	spawn client curl -sS --max-time 60 --local-port "$2" -o "$tmp/page.$2" "$(url /1M)"
	local curl=$pid
	ok "$1: the server gets a SYN" wait_for syns_are "$2" 1
	server $iptables-nft -F
	ok "$1: and another, so that the page comes" wait "$curl"
	ok "$1: whole" cmp "$tmp/page.$2" "$www/1M"
	is "$1: all SYNs are alike" "$(seen server "tcp src port $2 and $SYN" | isn | sort -u | wc -l)" 1
}

# Seconds between the SYNs of a port, rounded.
gaps() {
	seen server "tcp src port $1 and $SYN" |
		awk 'NR > 1 { printf "%s%d", sep, $1 - last + 0.5; sep = " " } { last = $1 }'
}

# reset_once NAME PORT: the client was reset, at the number that it expects.
reset_once() {
	settle
	is "$1: the client gets one reset" "$(seen_count client "tcp dst port $2 and $RST")" 1
	is "$1: with the number that it expects" \
		"$(seen client "tcp dst port $2 and $RST" | isn)" \
		$((($(seen_first client "tcp dst port $2 and $SYN_ACK" | isn) + 1) & 0xffffffff))
	ok "$1: its entry is gone" no_entries "$2"
}

# no_answer NAME PORT
no_answer() {
	local status=0
	fw sysctl -qw net.ipv4.tcp_syn_retries=2
	client curl -sS --max-time 60 --local-port "$2" "$(url /1M)" || status=$?
	fw sysctl -qw net.ipv4.tcp_syn_retries=6
	ok "$1: curl is reset ($status)" grep -qw $status <<<'7 56'
	reset_once "$1" "$2"
}

set_up
start_nginx server
capture
# Who does not answer is there, or the firewall would say so.
fw ip neigh add $nobody lladdr "$(server cat /sys/class/net/s0/address)" dev eth1

gate
start_dpi --verbose
lost_syn gate 4001
address=$nobody
no_answer "gate, no answer" 4002
is "gate, no answer: the server got three SYNs, ever later" "$(gaps 4002)" "1 2"

ipt -F
ipt -t mangle -F
ipt -P FORWARD ACCEPT
ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
ipt -A FORWARD -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss $mss --wscale 7
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
address=$server
lost_syn "no gate" 4011
address=$nobody
# Shorter than the proxy has patience: the entry must not end before.
fw sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_syn_sent=2
no_answer "no gate, no answer" 4012
is "no gate, no answer: the server got three SYNs, ever later" "$(gaps 4012)" "1 2"

finish
