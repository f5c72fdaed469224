#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Random packets, see fuzz/. The same ones through two firewalls at a time, of which fw
# has this proxy and fw2 the kernel's own: what comes out may differ as fuzz/src/differ.rs
# says, and no otherwise. PACKETS=N through each of them, SEED=N.

. "$(dirname "$0")/lib.sh"

program=$here/../build/cargo/release/synproxy-fuzz
packets=${PACKETS:-20000}
seed=${SEED:-1}
# By port, from 80 on.
option_sets=(
	"--sack-perm --timestamp --mss 1480 --wscale 7 --ecn"
	"--sack-perm --timestamp --mss 1460 --wscale 14"
	"--sack-perm --mss 536 --wscale 3"
	"--timestamp --mss 1460"
	"--sack-perm --timestamp --wscale 0"
	""
)

# Another firewall between the same two namespaces, like fw in all.
second_firewall() {
	ip netns add fw2
	ip -n fw2 link set lo up
	in_ns fw2 sysctl -qw net.ipv6.conf.{all,default}.accept_dad=0
	ip -batch - <<-END
		link add c1 netns client type veth peer name eth0 netns fw2
		link add s1 netns server type veth peer name eth1 netns fw2
	END
	ip -n client link set c1 up
	ip -n server link set s1 up
	ip -n fw2 -batch - <<-END
		addr add 10.0.1.1/24 dev eth0
		addr add 10.0.2.1/24 dev eth1
		addr add fd00:1::1/64 dev eth0 nodad
		addr add fd00:2::1/64 dev eth1 nodad
		link set eth0 up
		link set eth1 up
	END
	in_ns fw2 sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	local at
	for at in client:c1 fw2:eth0 fw2:eth1 server:s1; do
		in_ns "${at%:*}" ethtool -K "${at#*:}" tx off >/dev/null
	done
}

# Clients and servers that only the fuzzer speaks for, and no limits to what is random. No
# kernel is to look at what it sends: it goes to a link-layer address of nobody's.
hosts() {
	local at
	for at in 1:eth0 2:eth1; do
		ip -n "$1" neigh replace "10.0.${at%:*}.9" lladdr 02:00:00:00:00:99 dev "${at#*:}"
		ip -n "$1" neigh replace "fd00:${at%:*}::9" lladdr 02:00:00:00:00:99 dev "${at#*:}"
		ip -n "$1" neigh replace "10.0.${at%:*}.77" lladdr 02:00:00:00:00:99 dev "${at#*:}"
		ip -n "$1" neigh replace "fd00:${at%:*}::77" lladdr 02:00:00:00:00:99 dev "${at#*:}"
	done
	ip -n "$1" route add 10.128.0.0/9 via 10.0.1.9 dev eth0
	ip -n "$1" route add fd00:9::/32 via fd00:1::9 dev eth0
	in_ns "$1" sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=1000000 \
		net.ipv6.icmp.ratelimit=0 net.ipv4.ipfrag_high_thresh=100000000 \
		net.netfilter.nf_conntrack_frag6_high_thresh=100000000
}

# protect NAMESPACE COMMAND...: the rules of both chains.
protect() {
	local chain number
	in_ns "$1" "${@:2}" -t raw -A PREROUTING -i eth0 -p tcp --dport 80:85 --syn -j CT --notrack
	for number in "${!option_sets[@]}"; do
		for chain in FORWARD INPUT; do
			# shellcheck disable=SC2086 # several options
			in_ns "$1" "${@:2}" -A $chain -i eth0 -p tcp --dport $((80 + number)) -m state \
				--state UNTRACKED,INVALID -j SYNPROXY ${option_sets[number]}
		done
	done
	in_ns "$1" sh -c 'echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose'
}

set_up
second_firewall
modprobe -C /dev/null -a ipt_SYNPROXY ip6t_SYNPROXY
stock protect fw2 "$iptables-$BACKEND"
modprobe xt_SYNPROXY
protect fw "$iptables-$BACKEND"
for firewall in fw fw2; do
	hosts $firewall
done
shared=$(sysctl net.netfilter.nf_conntrack_max net.core.netdev_max_backlog)
sysctl -qw net.netfilter.nf_conntrack_max=1000000 net.core.netdev_max_backlog=100000

# fuzz VERB OPTION...: what it says is in $tmp/report, and its tables are printed.
fuzz() {
	in_ns fw taskset -c 0 "$program" "$1" --family "$FAMILY" --seed "$seed" \
		--packets "$packets" --ours fw:c0:s0 ${ONLY:+--only "$ONLY"} "${@:2}" >"$tmp/report"
}
# Those differences and leaks that are not listed, with the packets that show them.
explain() { sed -n '/^unlisted/,$p' "$tmp/report" | head -n 500; }
table() {
	sed -n '/^listed\|^unlisted/q; s/^/# /p' "$tmp/report"
	[ ! -d /out/tap ] || cp "$tmp/report" "/out/tap/fuzz-$1-$FAMILY.txt"
}
# In a short run, not all that is listed comes by.
is_long() { [ "$packets" -ge 300000 ]; }

ok "compared: no other difference than those that are listed" \
	fuzz compare --in-tree fw2:c1:s1
table compare
while IFS=$'\t' read -r _ name times reason; do
	# IPv6 has none; that takes a neighbour 3 s.
	case $FAMILY-$name in
	6-filled-in-options | ?-unreachable) continue ;;
	esac
	! is_long || ok "compared: $name ($times): $reason" [ "$times" != 0 ]
done < <(grep ^listed "$tmp/report")

# The rules and connections of the kernel's own go with its firewall.
ip netns del fw2

# What nothing is compared with.
no_rules() {
	local table
	for table in filter raw mangle; do
		ipt -t $table -F
	done
	fw conntrack -F 2>/dev/null
}
# serves NAME OPTION...: after all that, a page still comes.
serves() { ok "$1: a page comes" page "$2" /64k -H "Padding: $(printf %0250d 0)"; }

packets=$((packets / 4))
start_nginx server
no_rules
ipt -P FORWARD DROP
ipt -A FORWARD -p udp --dport 9 -j ACCEPT
ipt -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -m spstate ! --in-progress -j ACCEPT
ipt -t mangle -A FORWARD -p tcp -m spstate --in-progress -m length --length 300:420 -j MARK --set-mark 0x0b
for number in "${!option_sets[@]}"; do
	# shellcheck disable=SC2086 # several options
	for state in "-m mark --mark 0x0b -m spstate --in-progress" "-m spstate --none" "-m conntrack --ctstate UNTRACKED,INVALID"; do
		ipt -A FORWARD -i eth0 -p tcp --dport $((80 + number)) $state -j SYNPROXY --defer ${option_sets[number]}
	done
done
ok "gate: nothing of a client's comes out before the verdict" fuzz alone --until length
table gate
serves gate 4001

no_rules
ipt -A FORWARD -p udp --dport 9 -j ACCEPT
ipt -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ipt -A FORWARD -i eth0 -p tcp --dport 80:85 -m conntrack --ctstate NEW -j ACCEPT
for number in "${!option_sets[@]}"; do
	# shellcheck disable=SC2086 # several options
	ipt -t raw -A PREROUTING -i eth0 -p tcp --dport $((80 + number)) -j SYNPROXY ${option_sets[number]}
done
ok "one rule: nothing of a client's comes out before the cookie" fuzz alone --until cookie
table one
serves "one rule" 4002

for module in ipt_SYNPROXY ip6t_SYNPROXY; do
	ok "without rules, $module goes" wait_for rmmod $module
done
sysctl -qp - <<<"$shared"
finish
