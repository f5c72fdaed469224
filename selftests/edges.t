#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What a kernel as a client or a server hardly ever does, packet by packet. The
# scenarios are in edges.py. PROXY=in-tree plays them to the kernel's own proxy;
# ONLY=REGEX plays some of them.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/packets.sh"

# play_all CHAIN MODE
play_all() {
	local name names
	order set "$FAMILY" "$@" "$PROXY"
	order list >"$tmp/list"
	mapfile -t names <"$tmp/list"
	for name in "${names[@]}"; do
		[[ ! $name =~ ${ONLY-} ]] || ok "$1, $2: $name" order play "$name"
	done
}

set_up
set_up_packets
load "${PROXY:-ours}"
start_edges

for chain in FORWARD INPUT; do
	protect $chain
	play_all $chain immediate
	no_rules
done

if [ "$PROXY" = ours ]; then
	start_dpi --verbose
	gate_packets
	play_all FORWARD deferred
	no_rules
fi

stop_edges
[ "$PROXY" = ours ] || unload_in_tree
finish
