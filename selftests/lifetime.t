#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Rules, the module and the namespace go while connections are in every state.

. "$(dirname "$0")/lib.sh"

# One connection that waits, one that opens, and two that are open, the second
# without timestamps.
every_state() {
	local port=$1
	spawn client curl -sS -X HELLO --local-port "$port" "$(url /)"
	spawn client curl -sS --local-port $((port + 1)) "http://$(host "$nobody")/"
	slow $((port + 2)) 200k
	client sysctl -qw net.ipv4.tcp_timestamps=0
	slow $((port + 3))
	client sysctl -qw net.ipv4.tcp_timestamps=1
	wait_for state "$port" ESTABLISHED
	wait_for state $((port + 1)) SYN_SENT
}
state() { [[ $(entries "$1") == *" $2 "* ]]; }

# No rule of ours any more; what is open may go on.
ordinary_rules() {
	ipt_restore <<-END
		*mangle
		COMMIT
		*filter
		:FORWARD DROP
		-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
		COMMIT
	END
}

in_use() { ! rmmod xt_SYNPROXY && [ -d /sys/module/xt_SYNPROXY ]; }

set_up
# To stay without an answer: an unreachable neighbour is an answer.
ip -n fw neigh add "$nobody" lladdr 02:00:00:00:02:77 dev eth1
start_nginx server
gate
start_dpi --verbose
capture

ok "rmmod is refused while there are rules" in_use

slow 4001
ipt -F
ipt -t mangle -F
gate
ok "rules go and come back: what is open survives" whole "$pid" 4001

every_state 4010
plain=$pid
ordinary_rules
ok "without rules the module can be unloaded" unload
ok "what waited is gone" no_entries 4010
ok "what was opening is gone" no_entries 4011
ok "what needs its timestamps translated is gone" no_entries 4012
ok "what does not is still there" not no_entries 4013
ok "and goes on to its end without the module" whole "$plain" 4013

gate
ok "with the module back a page comes" page 4002 /64k

for round in 1 2 3 4 5 6 7 8 9 10; do
	gate
	slow $((4100 + round))
	ordinary_rules
	unload || break
	stop "$pid"
done
ok "it went and came back ten times with traffic" [ ! -d /sys/module/xt_SYNPROXY ]
is "that is, ten times" "$round" 10

# What keeps a namespace is its processes.
gate
every_state 4200
stop "$dpi"
ip netns del fw
ok "the firewall goes, with connections in every state" wait_for not ip -n client link show c0
ok "and leaves nothing that holds the module" unload

finish
