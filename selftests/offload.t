#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What network devices do in the kernel's place: checksums, segmentation, and
# putting segments together. On, the firewall sees packets of up to 64 KiB and
# checksums that nobody has computed yet.

. "$(dirname "$0")/lib.sh"

# features CHECKSUMS SEGMENTS: each on or off, everywhere.
features() {
	local at tso=off
	[ "$1 $2" != "on on" ] || tso=on
	for at in client:c0 fw:eth0 fw:eth1 server:s0; do
		in_ns "${at%:*}" ethtool -K "${at#*:}" tx "$1" gso "$2" gro "$2" tso $tso >&2
	done
}
# large PORT: packets came that no wire carries.
large() { [ "$(seen_count client "tcp dst port $1 and greater 1600")" -ge 1 ]; }

# each PORT WHERE...: a page with all features, from "gateway" or "server".
each() {
	local port=$1 checksums segments where name
	for checksums in on off; do
		for segments in on off; do
			features "$checksums" "$segments"
			for where in "${@:2}"; do
				address=${!where}
				name="$mode, $where, checksums $checksums, segments $segments"
				ok "$name: a page comes" page "$port"
				settle
				if [ "$segments" = on ]; then
					ok "$name: in large packets" large "$port"
				else
					ok "$name: in small packets" not large "$port"
				fi
				port=$((port + 1))
			done
		done
	done
}

set_up
start_nginx server
rm -f "$tmp/nginx.pid"
start_nginx fw
capture

ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
for chain in INPUT FORWARD; do
	ipt -A $chain -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 7
done
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
mode="no gate"
each 4001 gateway server

ipt -t raw -F
ipt -F INPUT
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
gate
start_dpi --verbose
mode="the gate"
each 4011 server

finish
