#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What clients cost that wait and have said nothing, how many of them there may be,
# and that they go.

. "$(dirname "$0")/lib.sh"

clients=10000

# Bytes of all objects that the kernel has handed out, by kind.
memory() { awk 'NR > 2 && /^(nf_conntrack|kmalloc)/ { bytes += $2 * $4 } END { printf "%.0f\n", bytes }' /proc/slabinfo; }
each() { echo $((($(memory) - before) / clients)); }
entry_count() { fw conntrack -C; }
none_left() { [ -z "$(tracked -p tcp)" ] && [ "$(entry_count)" -lt 10 ]; }
is_back() { [ "$(each)" -lt 20 ]; }
is_an_entry() { [ "$1" -ge 256 ] && [ "$1" -lt 400 ]; }
# has_bytes TEXT COMMAND...: a test of that, where what is freed can be seen to be.
has_bytes() {
	if is_debug_kernel; then
		skip "$1" "a debug kernel keeps for a while what is freed"
	else
		ok "$@"
	fi
}
# How many clients wait longer than they may.
too_long() { tracked -p tcp | awk '$3 > 121' | wc -l; }

set_up
start_nginx server
gate
ipt -R FORWARD 3 -p tcp --dport 80 -m spstate --none -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --timeout 1
ipt -A FORWARD -p tcp --dport 81 -j ACCEPT

# The first ones have the caches filled.
ok "600 clients wait" raw few 10000
ok "and leave" raw leave 10000
ok "all of them" wait_for none_left
before=$(memory)
ok "$clients clients wait" raw crowd 20000
is "each has an entry" "$(tracked -p tcp | wc -l)" $clients
bytes=$(each)
has_bytes "which takes $bytes bytes, and is all that there is of it" is_an_entry "$bytes"
is "none of them for longer than its time and the life of its cookie" "$(too_long)" 0

# In one family only: it takes its time.
if [ "$FAMILY" = 6 ]; then
	ok "all time out" wait_for -t 240 none_left
	has_bytes "and nothing is left of them ($(each) bytes each)" wait_for -t 120 is_back
else
	fw conntrack -F >/dev/null 2>&1
	has_bytes "without them nothing is left of them ($(each) bytes each)" wait_for -t 120 is_back
fi
# They are counted for as long as they would have lived, and a little longer.
ipt_restore <<<$'*mangle\nCOMMIT\n*filter\nCOMMIT'
ok "the module goes" unload

# Half of the table is for them.
gate
ipt -A FORWARD -p tcp --dport 81 -j ACCEPT
max=$(sysctl -n net.netfilter.nf_conntrack_max)
sysctl -qw net.netfilter.nf_conntrack_max=1000
in_progress=$(counted in_progress)
ok "one client comes and goes 600 times" raw come_and_go 29999
is "and has waited each time" "$(($(counted in_progress) - in_progress))" 600
in_progress=$(counted in_progress)
ok "600 clients come" raw few 30000
is "half of 1000 wait" "$(($(counted in_progress) - in_progress))" 500
ok "the others are counted" [ "$(counted gate_full)" -ge 100 ]
ok "who does not wait passes" client curl -sS --max-time 60 --local-port 4001 -o /dev/null "$(url :81/64k)"
ok "they leave" raw leave 30000
start_dpi --verbose
ok "and there is room for another" page 4002 /64k
sysctl -qw net.netfilter.nf_conntrack_max="$max"

finish
