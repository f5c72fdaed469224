#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# The same packets through the kernel's own SYNPROXY and through this one: what
# comes out on both sides is compared field by field. What differs is listed
# here, with the reason. Neither an unlisted difference may occur, nor may a
# listed one fail to. A strange timestamp is echoed only if it is a later one: by chance.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/packets.sh"

# SCENARIO PLACE REASON, the first two as patterns of bash. A place is the number
# of the look at the wires, the side, the flags of the packet, the field; it ends
# with "packet" if the packets are not alike. "ends": how the script ended.
differences() {
	sed '/^$/d' <<-'END'
		* *.server.S*.ack the SYN's field without a meaning is 0, in-tree it shows the server the proxy's ISN
		* *.server.S*.TSecr as RFC 7323 says it is 0 without an ACK, in-tree it is the proxy's timestamp
		* *.server.S*.window a SYN's window is not scaled, so what the client can take is written out
		* *.server.A.TSecr the proxy's ACK echoes the server's timestamp, in-tree it is shifted twice
		data_while_opening 4.client.A.TSecr in-tree the client's data makes another SYN, here a timer does
		data_while_opening 4.server.A.TSval in-tree the client's data makes another SYN, here a timer does
		syn_ack_again @(4.client.packet|5.server.PA.TSecr) the server's SYN,ACK once more is answered here, in-tree the client gets it
		syn_ack_again 4.server.packet the server's SYN,ACK once more is answered here, in-tree the client gets it
		probe_first_* ends in-tree a client that only probes gets no connection, or one with a wrong number
		probe_first_* *.packet in-tree a client that only probes gets no connection, or one with a wrong number
		probe_first_* 2.server.S.seq a probe's number is not taken for that of the first byte
		probe_first_* 2.server.S.MSS a probe's cookie is not taken for that of another MSS
		port_again_* *.packet in-tree the new connection's SYN gets lost in the old entry
		port_again_* *.client.PA.* in-tree the new connection's numbers are not translated
		port_again_after_reboot ends in-tree the client gets no new connection
		server_has_an_older_connection 3.*.packet in-tree the challenge goes to the client, with the server's number
		server_has_an_older_connection [4-7].* in-tree the challenge has left its timestamp behind
		window_scales_14_None 3.server.A.window a server that does not scale is told the client's window unscaled
		padded_odd *.sums a timestamp at an odd offset, in-tree the checksum is wrong
		padded_odd_after_sack *.sums a block or timestamp at an odd offset, in-tree the checksum is wrong
		malformed_sum @(9.client.packet|10.server.PA.TSecr) what is malformed is dropped, in-tree it passes with the server's numbers
		server_window_1_14 3.client.A.window an open window does not look closed
		traffic_class *.tos what the proxy makes has the traffic class of what it answers
		packet_too_big_for_client_tcp *.icmp.quote what an ICMP error quotes is translated
		packet_too_big_for_server_* *.icmp.quote what an ICMP error quotes is translated
		unreachable_host 3.client.packet an error about the proxy's SYN resets the client
	END
}

# Of edges.py's scenarios those in which a proxy says or changes something.
chosen='close_by_client|closed_port|reset_by_the_client_while_opening|syn_again|syn_ack_again|data_while_opening'
chosen+='|probe_first_(1460|1400)_True_0|keepalive_1|port_again_after_(close_by_client|reset_by_server|reboot)'
chosen+='|server_has_an_older_connection|client_mss_(1400|None)|window_scales_14_None|offers_.*|no_timestamps_False'
chosen+='|server_without_timestamps|padded_odd(_after_sack)?|malformed_sum|bad_options_beyond_the_end|fragments_client'
chosen+='|extension_headers_both|server_window_1_14|wrap_(0|4294967295)_4294967295|traffic_class'
chosen+='|packet_too_big_for_(client|server)_(short|tcp)|unreachable_host'

scenarios() {
	order list >"$tmp/list"
	grep -xE "$chosen" "$tmp/list" | grep -E "${ONLY-.}"
}

record_all() {
	local name
	order set "$FAMILY" FORWARD immediate "$PROXY"
	protect FORWARD
	scenarios >"$tmp/scenarios"
	for name in $(<"$tmp/scenarios"); do
		order record "$name" >"$tmp/record" || cat "$tmp/record" >&2
		{ echo "=== $PROXY $name" && cat "$tmp/record"; } >&2
	done
	no_rules
}

# same NAME: nothing differs but what is listed; what is used of the list is noted.
same() {
	local place in_tree ours status=0
	order differ "$1" >"$tmp/differ"
	while IFS=$'\t' read -r place in_tree ours; do
		listed "$1" "$place" || {
			echo "$place: in-tree $in_tree, here $ours"
			status=1
		}
	done <"$tmp/differ"
	return "$status"
}

listed() {
	local scenario place reason number=0
	while read -r scenario place reason; do
		number=$((number + 1))
		# shellcheck disable=SC2053 # patterns
		if [[ $1 == $scenario && $2 == $place ]]; then
			echo "$number" >>"$tmp/used"
			return 0
		fi
	done <"$tmp/differences"
	return 1
}

set_up
set_up_packets
differences >"$tmp/differences"
: >"$tmp/used"
start_edges

load in-tree
record_all
cp "$tmp/scenarios" "$tmp/both"
unload_in_tree
load ours
record_all
# What the kernel's own knows nothing of is not compared.
for name in $(<"$tmp/both"); do
	ok "$name: no other difference than those that are listed" same "$name"
done

number=0
while read -r scenario place reason; do
	number=$((number + 1))
	ok "$scenario $place: differs, $reason" grep -qx $number "$tmp/used"
done <"$tmp/differences"

stop_edges
finish
