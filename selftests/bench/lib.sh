# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The stage of what is measured packet by packet, and the variants: what stands in the
# packets' way. "make bench" runs this in a virtual machine whose clock counts
# instructions, and in User-mode Linux, where it is time that is measured.
#
#     198.18.0.0/15 --- 10.0.1.1 eth0 [fw] eth1 10.0.2.1 --- 10.0.2.2
#
# Both are dummy devices. inject/ has packets received by them, as if a driver had
# read them from a wire. What leaves is counted and gone: dummy devices ask for no
# neighbours, need no checksums, and have no queue.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
bench=$(dirname "${BASH_SOURCE[0]}")
workload=$(basename "$0")
# Time is measured in turns: what else the machine does is not to meet one variant only.
rounds=1
if grep -q '^vendor_id.*User Mode Linux' /proc/cpuinfo; then
	[ "$workload" = smp ] || workload+=-native
	rounds=${ROUNDS:-4}
fi
# Not in /out: the clock runs on while one waits for a file of the machine below.
log=$tmp/log
# Conntrack entries of others.
others=0

in_tree_file=/usr/lib/modules/$(uname -r)/kernel/net/$l3/netfilter/$in_tree.ko
options=(--sack-perm --timestamp --wscale 7 --mss 1460)
case $FAMILY in
4) table=ip ;;
6) table=ip6 ;;
esac

### What stands in CHAIN

# What a client sends, and a server.
start_drop() {
	ipt -t raw -A "$1" -i eth0 -p tcp --dport 80 -j DROP
	ipt -t raw -A "$1" -i eth1 -p tcp --sport 80 -j DROP
}
stop_drop() { :; }

# A listener, which answers by cookies of the stack, and resets who comes without one;
# or a firewall that knows its connections.
start_none() {
	if [ "$1" = FORWARD ]; then
		ipt -A FORWARD -i eth0 -p tcp --dport 80 -m state --state INVALID -j DROP
	else
		fw sysctl -qw net.ipv4.tcp_syncookies=2
		spawn fw socat "TCP$FAMILY-LISTEN:80" OPEN:/dev/null
		listener=$pid
		wait_for listens
	fi
}
listens() { ip netns exec fw ss -ltn | grep -q ':80 '; }
stop_none() { [ "$1" = FORWARD ] || stop "$listener"; }

# Those of the kernel's manual. modprobe would load ours by that name.
start_in-tree() {
	modprobe -a nf_synproxy_core x_tables
	insmod "$in_tree_file"
	stock proxy "$1"
}
stop_in-tree() { wait_for rmmod "$in_tree"; }

start_nft() {
	untracked
	fw nft -f - <<-END
		table $table bench {
			chain proxy {
				type filter hook ${1,,} priority filter
				iifname eth0 tcp dport 80 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
			}
		}
	END
}
stop_nft() { wait_for modprobe -r nft_synproxy; }

# That of the kernel's selftests, as one of these has it: in front of the in-tree one, to
# which it leaves ACKs with a valid cookie. A dummy device has no XDP of its own: this
# is the generic one. What it sends passes no tap, so that to look at it takes a device
# on top of another.
start_xdp() {
	start_in-tree "$1"
	ip -n fw -batch - <<-END
		link add below0 type dummy
		link add look0 link below0 type macvlan mode private
		link set below0 addrgenmode none up
		link set look0 addrgenmode none up
	END
	look=(look0 below0)
	local device
	for device in eth0 look0; do
		fw "build/xdp/$(uname -r)/xdp_synproxy" --iface $device --single \
			--ports 80 --mss4 1460 --mss6 1460 --wscale 7 --ttl 64 >&2
		fw ip link show $device | grep -w xdpgeneric >&2
	done
}
stop_xdp() { stop_in-tree; }
start_xdp-room() {
	start_xdp "$1"
	headroom=192 # and 64 that each driver leaves
}
stop_xdp-room() { stop_xdp; }

start_ours() {
	modprobe xt_SYNPROXY
	proxy "$1"
}
stop_ours() { unload; }

# Wherever it goes from there.
start_one-rule() {
	modprobe xt_SYNPROXY
	ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 -j SYNPROXY "${options[@]}"
}
stop_one-rule() { unload; }

# The gate, with a rule in place of an engine.
start_gate() {
	modprobe xt_SYNPROXY
	ipt -A "$1" -m conntrack --ctstate RELATED,ESTABLISHED -m spstate ! --in-progress -j ACCEPT
	ipt -A "$1" -p tcp --dport 80 -m length --length 100: -m spstate --in-progress -j SYNPROXY "${options[@]}"
	ipt -A "$1" -p tcp --dport 80 -m spstate --none -j SYNPROXY "${options[@]}"
}
stop_gate() { unload; }

untracked() {
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
	ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
}
proxy() {
	untracked
	ipt -A "$1" -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY "${options[@]}"
}

# conduct VARIANT: what it does with a connection, by the name that connections.py has for it.
conduct() {
	case $1 in
	drop | none | gate) echo "$1" ;;
	*) echo proxy ;;
	esac
}

# counts VARIANT: the file in which it counts them, if it does.
counts() {
	case $1 in
	in-tree | nft | xdp*) echo /proc/net/stat/synproxy ;;
	ours | one-rule | gate) echo /proc/net/stat/xt_synproxy ;;
	esac
}

### What is done

# begin TITLE
begin() {
	echo "$1, IPv$FAMILY, iptables-$BACKEND"
	exec 3>&2 2>"$log"
	trap 'tail "$log" >&3; cp "$log" "/out/$workload.log"; echo "bench: broke off; build/bench/$workload.log has more"' EXIT
	modprobe -a nf_conntrack dummy
	insmod "${MODULES:-build}/inject/synproxy_inject.ko"
}

# stage NAMESPACE
stage() {
	ip netns add "$1"
	in_ns "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	ip -n "$1" -batch - <<-END
		link add eth0 type dummy
		link add eth1 type dummy
		addr add 10.0.1.1/24 dev eth0
		addr add fd00:1::1/64 dev eth0 nodad
		addr add 10.0.2.1/24 dev eth1
		addr add fd00:2::1/64 dev eth1 nodad
		link set eth0 up
		link set eth1 up
		route add 198.18.0.0/15 via 10.0.1.2
		route add 2001:2::/48 via fd00:1::2
	END
}

# with VARIANT CHAIN COMMAND [ARG...]: COMMAND VARIANT CHAIN ARG... on a stage of its own: no
# hook and no route of the one before is in the way.
with() {
	local variant=$1 chain=$2
	[ $rounds != 1 ] || echo "  $variant, $chain"
	stage fw
	# By which devices SYNs come and answers go when these are looked at, and what else
	# the driver of eth0 does.
	look=(eth0 eth0) headroom=0
	"start_$variant" "$chain"
	"$3" "$variant" "$chain" "${@:4}"
	ip netns del fw
	"stop_$variant" "$chain"
}

# flooded VARIANT CHAIN KIND...: by packets of each kind.
flooded() {
	local variant=$1 chain=$2 to=$gateway kind leaving meeting=1 looked=(--look "${look[@]}") cell
	[ "$chain" != FORWARD ] || to=$server
	case $variant in
	drop) looked=() ;;
	# Nothing gets through to the one behind it.
	xdp*) meeting=0 ;;
	esac
	for kind in "${@:3}"; do
		leaving=0
		case $variant/$kind in
		drop/*) ;;
		none/* | */syn) leaving=1 ;;
		esac
		cell=$(fw "$bench/flood.py" --to "$to" --kind "$kind" --leaving $leaving \
			--counts "$(counts "$variant")" --meeting $meeting \
			--headroom $headroom "${looked[@]}")
		echo "$variant $chain $others $cell" >>"$tmp/samples"
	done
	# The server has heard of none of it.
	equal "$(fw cat /sys/class/net/eth1/statistics/tx_packets)" 0 >&2
}

# talked VARIANT CHAIN WHAT: connections.py does WHAT.
talked() {
	local cell
	cell=$(fw "$bench/connections.py" "$3" --to "$server" --conduct "$(conduct "$1")" \
		--counts "$(counts "$1")" --look "${look[@]}")
	echo "$1 $2 $others $cell" >>"$tmp/samples"
}

# abreast VARIANT CHAIN: SYNs on one CPU, and on two.
abreast() {
	local leaving=1 cell
	[ "$1" != drop ] || leaving=0
	cell=$(fw "$bench/smp.py" --to "$gateway" --leaving $leaving --counts "$(counts "$1")")
	echo "$1 $2 $others $cell" >>"$tmp/samples"
}

# measure COMMAND ARG... -- VARIANT:CHAIN...: COMMAND with each, in turns.
measure() {
	local command=() round variant
	while [ "$1" != -- ]; do
		command+=("$1")
		shift
	done
	shift
	for ((round = 1; round <= rounds; round++)); do
		[ $rounds = 1 ] || echo "  turn $round of $rounds"
		for variant in "$@"; do
			# User-mode Linux has no XDP.
			case $variant/$workload in
			xdp*-native) continue ;;
			esac
			with "${variant%:*}" "${variant#*:}" "${command[@]}"
		done
	done
}

# end: says what was measured.
end() {
	rmmod synproxy_inject
	exec 2>&3
	trap - EXIT
	cp "$log" "/out/$workload.log"
	"$bench/cost.py" --workload "$workload" --family "$FAMILY" --backend "$BACKEND" \
		--json "/out/$workload-ipv$FAMILY.json" <"$tmp/samples"
	rm -rf "$tmp"
}
