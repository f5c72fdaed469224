# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For tests that play packets by edges.py: the stage for both families, the rules,
# and the choice between this proxy and the kernel's own. Sourced after lib.sh.

# A host on the server's side that only edges.py speaks for.
set_up_packets() {
	local mac
	mac=$(ip netns exec server cat /sys/class/net/s0/address)
	ip -n fw neigh replace 10.0.2.9 lladdr "$mac" dev eth1
	ip -n fw neigh replace fd00:2::9 lladdr "$mac" dev eth1
	# A server on fw is a kernel. It is not to send again what edges.py is just about to
	# acknowledge, when the machine is busy.
	ip -n fw -4 route change 10.0.1.0/24 dev eth0 src 10.0.1.1 rto_min 1s
	ip -n fw -6 route add fd00:1::/64 dev eth0 metric 128 rto_min 1s
	fw sysctl -qw net.ipv4.tcp_early_retrans=0
}

### The player

# What edges.py says of a failure is all there is to see.
explain() { dmesg | tail -n 3; }

start_edges() {
	mkfifo "$tmp/orders" "$tmp/answers"
	spawn fw "$here/edges.py" "$tmp/orders" "$tmp/answers"
	edges=$pid
	exec 3>"$tmp/orders" 4<"$tmp/answers"
}

stop_edges() {
	exec 3>&- 4<&-
	stop "$edges"
}

# order WORD...: prints the answer; fails if it says so, or if none comes.
order() {
	local line
	echo "$*" >&3
	while IFS= read -r -t 300 line <&4; do
		case $line in
		"end "*) return "${line#end }" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done
	echo "edges.py does not answer" && false
}

### The proxy

# load in-tree|ours: from here on "-j SYNPROXY" is this one.
load() {
	PROXY=$1
	if [ "$1" = in-tree ]; then
		# By their real names: modprobe.d would make one of them ours.
		modprobe -C /dev/null -a ipt_SYNPROXY ip6t_SYNPROXY
	else
		modprobe xt_SYNPROXY
	fi
}

unload_in_tree() { wait_for rmmod ipt_SYNPROXY ip6t_SYNPROXY; }

# protect INPUT|FORWARD: the rules against SYN floods of the README.
protect() {
	ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80:81 --syn -j CT --notrack
	ipt -A "$1" -i eth0 -p tcp --dport 80:81 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1480 --wscale 7 --ecn
	fw sh -c 'echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose'
}

# gate_packets: the rules behind an engine; edges.py's probes pass.
gate_packets() {
	fw sh -c 'echo 1 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose'
	gate
	ipt -I FORWARD -p udp --dport 9 -j ACCEPT
}

no_rules() {
	local table
	ipt -P FORWARD ACCEPT
	for table in filter raw mangle; do
		ipt -t $table -F
	done
}
