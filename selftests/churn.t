#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Rules, namespaces and the module come and go in a loop, under a flood on one CPU and
# real connections on the other. What is open and should survive does, byte by byte.
#
# How often, by the environment: RULES, NAMESPACES, RELOADS.
#
# shellcheck disable=SC2086,SC2015 # $proxy is words; what fails ends its loop

. "$(dirname "$0")/lib.sh"

export rules=${RULES:-8} namespaces=${NAMESPACES:-30} reloads=${RELOADS:-4}
# Of a rule that answers at once.
export proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"
export ipt=$iptables-$BACKEND gate_rules=$here/../examples/synproxy.rules

# fetches NAME PORT: one page after the other, by the gate, until there is a file "enough".
# Refused or reset it asks again, as somebody at a browser does. A page that has come is whole,
# and there is one, in the end.
fetches() {
	local port=$2 good=0 more=10
	while [ ! -e "$tmp/enough" ] || { [ "$good" = 0 ] && [ $((more -= 1)) -ge 0 ]; }; do
		port=$(($2 + (port + 1 - $2) % 500))
		if client curl -sS --max-time 20 --local-port "$port" -o "$tmp/$1.page" "$(url /1M)"; then
			cmp "$tmp/$1.page" "$www/1M" || return 1
			good=$((good + 1))
			echo "$good" >"$tmp/$1.good"
		fi
	done 2>/dev/null
	[ "$good" -gt 0 ]
}

# survivor PORT: a page that takes as long as all of this, of a client without timestamps:
# nothing has to be translated but its numbers, which the kernel does.
survivor() {
	client sysctl -qw net.ipv4.tcp_timestamps=0
	slow "$1" "$2"
	survivor=$pid
	client sysctl -qw net.ipv4.tcp_timestamps=1
}
# It may have come to its end.
goes_on() { kill -0 "$survivor" 2>/dev/null || wait "$survivor"; }

# under_load NAME PORT FUNCTION TIMES: does it so often, with a flood and with real connections.
under_load() {
	local name=$1 loader flood
	rm -f "$tmp/enough"
	raw deluge 20000 &
	flood=$!
	fetches "$3" "$2" &
	loader=$!
	survivor $(($2 + 900)) 100k
	is "$name: $4 times" "$(churn "$3")" "$4"
	ok "$name: what was open is open" goes_on
	stop "$survivor"
	head -c "$(stat -c %s "$tmp/slow.$(($2 + 900))")" "$www/4M" >"$tmp/begin"
	ok "$name: and what it got is right" cmp "$tmp/begin" "$tmp/slow.$(($2 + 900))"
	: >"$tmp/enough"
	ok "$name: pages come, and whole" wait "$loader"
	echo "# $(cat "$tmp/$3.good") pages"
	pkill -f "raw.py deluge" || :
	wait "$flood" 2>/dev/null || :
}

# What is done in a loop is done by one shell, in the namespace: starting ip-netns is most of
# what a command costs. Each says how often it has been done.
churn() { fw bash -c "$(declare -f); $1" 2>"$tmp/churned" || sed 's/^/# /' "$tmp/churned"; }

gate_rules() { "$ipt-restore" <"$gate_rules"; }
# No rule of ours; what is open may go on.
ordinary_rules() {
	"$ipt-restore" <<-END
		*mangle
		COMMIT
		*raw
		COMMIT
		*filter
		:FORWARD DROP
		-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
		COMMIT
	END
}

rules() {
	local number
	for ((number = 0; number < rules; number++)); do
		gate_rules &&
			"$ipt" -I FORWARD 2 -p tcp --dport 81 -m state --state UNTRACKED,INVALID -j $proxy &&
			"$ipt" -t raw -A PREROUTING -p tcp --dport 81 --syn -j $proxy &&
			"$ipt" -R FORWARD 2 -p tcp --dport 81 -m state --state UNTRACKED,INVALID -j $proxy --ecn &&
			"$ipt" -t raw -F PREROUTING &&
			"$ipt" -D FORWARD 2 &&
			"$ipt" -t mangle -F FORWARD || break
	done
	gate_rules
	echo "$number"
}

# Ten at a time: each has what the module has in every namespace, and the last one a rule, and
# so our hooks and conntrack.
namespaces() {
	local number
	for ((number = 0; number < namespaces; number += 10)); do
		printf 'netns add passing%d\n' {1..10} | ip -batch - &&
			nsenter --net=/run/netns/passing10 "$ipt" -A INPUT -p tcp --dport 80 -m spstate --none -j $proxy --defer &&
			printf 'netns del passing%d\n' {1..10} | ip -batch - || break
	done
	echo "$number"
}

module() {
	local number
	for ((number = 0; number < reloads; number++)); do
		ordinary_rules && unload && modprobe xt_SYNPROXY && gate_rules || break
	done
	echo "$number"
}

set_up
start_nginx server
gate
start_dpi --verbose

under_load "rules come and go" 4000 rules "$rules"
under_load "namespaces come and go" 5000 namespaces "$namespaces"
under_load "the module comes and goes" 6000 module "$reloads"

finish
