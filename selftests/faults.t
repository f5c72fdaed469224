#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Allocations fail, each one in its turn: those on a packet's way, for a rule, for a
# namespace, and for the module. What is lost is no more than a packet on the wire:
# whoever has sent it sends it again, and is served. faults.py has it happen.
#
# SCENARIOS=REGEX does some of that.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/packets.sh"

failslab=/sys/kernel/debug/failslab
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
if [ ! -e $failslab/require-start ]; then
	skip "allocations fail" "this kernel has no $failslab with a filter for stacks: scripts/uml debug"
	echo "1..$count"
	exit
fi

# Those in which the module allocates something that the others do not.
forward='close_by_client|data_while_opening|syn_again|syn_ack_again|no_timestamps_False|closed_port|port_again_after_(close_by_client|reset_by_server)'
forward+='|server_has_an_older_connection|reset_by_the_client_while_opening|fragments_client|offers_False_True'
gate='keepalive_0|data_while_opening|fin_while_opening|syn_again|closed_port|second_segment_before_first|data_before_ack|reset_by_client'

# faulty CHAIN MODE SCENARIOS
faulty() {
	local name
	order set "$FAMILY" "$1" "$2" ours
	order list >"$tmp/list"
	grep -xE "$3" "$tmp/list" | grep -E "${SCENARIOS-.}" >"$tmp/scenarios" || :
	for name in $(<"$tmp/scenarios"); do
		ok "$1, $2: $name" order fault "$name"
		echo "# $(sed -n 1p "$tmp/said")"
	done
}

# commands NAME: scripts "act", "undo" and "whole" from the standard input, each up to a
# line "---".
commands() {
	local script line
	rm -rf "$tmp/commands"
	mkdir "$tmp/commands"
	for script in act undo whole; do
		{
			echo "#!/bin/bash"
			while IFS= read -r line && [ "$line" != --- ]; do
				echo "$line"
			done
		} >"$tmp/commands/$script"
		chmod +x "$tmp/commands/$script"
	done
	[[ $1 =~ ${SCENARIOS-} ]] || return 0
	ok "$1" order fault-command "$tmp/commands"
	echo "# $(sed -n 1p "$tmp/said")"
}

spawn_faults() {
	mkfifo "$tmp/orders" "$tmp/answers"
	# Not by ip-netns, which hides debugfs; it goes there by itself.
	"$here/faults.py" "$tmp/orders" "$tmp/answers" &
	edges=$!
	spawned+=("$edges")
	exec 3>"$tmp/orders" 4<"$tmp/answers"
}

# What an allocation that failed had been counted as is not lost: a client gets all the room
# that there is, when those before are gone.
room() {
	local before
	fw conntrack -F >/dev/null 2>&1
	before=$(counted hold_full)
	raw greedy 5500 && [ "$(counted hold_full)" = "$before" ]
}

set_up
set_up_packets
modprobe xt_SYNPROXY held_kib=128 held_total_kib=128
spawn_faults

protect FORWARD
faulty FORWARD immediate "$forward"
no_rules

start_dpi --verbose
gate_packets
faulty FORWARD deferred "$gate"
ok "all room for what is held is there" wait_for room
no_rules
stop "$dpi"

commands "a namespace and a rule in it" <<-END
	ip netns add faulty &&
	ip netns exec faulty $iptables-nft -A FORWARD -p tcp --dport 80 -m spstate --none -j SYNPROXY --defer
	---
	ip netns del faulty 2>/dev/null
	---
	ip netns exec faulty $iptables-nft-save 2>&1 | grep SYNPROXY
	---
END
ok "without a rule the module goes" unload
commands "the module" <<-END
	modprobe xt_SYNPROXY
	---
	rmmod xt_SYNPROXY 2>/dev/null
	---
	grep SYNPROXY /proc/net/ip_tables_targets /proc/modules
	---
END

stop_edges
finish
