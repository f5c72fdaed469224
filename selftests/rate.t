#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# --rate: clients get no more SYN,ACKs and resets than that, by whatever rule; what is
# open goes on. How long a test takes is part of what it allows.

. "$(dirname "$0")/lib.sh"

proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"
notrack="--syn -j CT --notrack"
untracked="-m conntrack --ctstate UNTRACKED,INVALID -j $proxy"
verdict="-m spstate --in-progress -j $proxy"

# rules LOOSE RAW FILTER...: nf_conntrack_tcp_loose, what PREROUTING has, and FORWARD.
rules() {
	{
		echo "*raw"
		[ -z "$2" ] || echo "-A PREROUTING -i eth0 -p tcp --dport 80 $2"
		printf '%s\n' COMMIT "*filter" ":FORWARD ACCEPT"
		printf -- '-A FORWARD -i eth0 -p tcp --dport 80 %s\n' "${@:3}"
		echo COMMIT
	} | ipt_restore
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose="$1"
}
reached() { [ "$(counted "$1")" -ge "$2" ]; }
# How many packets of a kind have come to the client's ports FROM to TO.
got() {
	settle
	seen_count client "host $raw_client and tcp dst portrange $1-$2 and $3"
}

# noise NAME PORT: two tests that 500 SYNs come, from these ports on. How many of them
# were answered is in $answers, and in $limited how many were not, for their rate.
noise() {
	local received
	received=$(counted syn_received) limited=$(counted rate_limited)
	ok "$1: 500 SYNs" raw noise "$2"
	ok "$1: come" wait_for reached syn_received $((received + 500))
	answers=$(got "$2" $(($2 + 499)) "$SYN_ACK")
	limited=$(($(counted rate_limited) - limited))
}
# limited NAME PORT: of 500 SYNs no more are answered than one, and one a second.
limited() {
	local start=$SECONDS
	noise "$1" "$2"
	ok "$1: $answers are answered" [ "$answers" -le $((SECONDS - start + 2)) ]
	is "$1: all others are counted" "$limited" $((500 - answers))
}

set_up
start_nginx server
capture

rules 0 "$notrack" "$untracked"
noise "no rate" 10000
is "no rate: all are answered" "$answers $limited" "500 0"

rules 0 "$notrack" "$untracked --rate 1"
limited "a rate" 11000
ok "a rate: at least one is" [ "$answers" -ge 1 ]
ok "a rate: who asks again is served" page 4001 /64k

rules 0 "$notrack" "$verdict" "$untracked --defer --rate 1"
limited "--defer" 12000
ok "--defer: who asks again is served" page 4002 /64k

rules 1 "" "$verdict" "-m spstate --none -j $proxy --rate 1"
limited "a gate" 13000
ok "a gate: who asks again is served" page 4003 /64k

rules 0 "-j $proxy --rate 1"
limited "one rule in PREROUTING" 14000
ok "one rule in PREROUTING: who asks again is served" page 4004 /64k

# Both have the burst of one.
rules 0 "$notrack" "--sport 20000:20999 $untracked --rate 1" \
	"--sport 21000:21999 $untracked --rate 1" "$untracked"
ok "two rules share a rate" raw turns 20000
noise "a third one without" 15000
is "a third one without: answers all" "$answers $limited" "500 0"

# It is open when the flood comes.
rules 0 "$notrack" "$untracked --rate 1"
opened=$(counted opened)
spawn client bash -c "exec 3<>/dev/tcp/$server/80
	until [ -e '$tmp/ask' ]; do sleep 0.1; done
	printf 'GET /4M HTTP/1.0\r\n\r\n' >&3
	exec cat <&3" >"$tmp/answer"
asking=$pid
ok "a connection is open" wait_for reached opened $((opened + 1))
touch "$tmp/ask"
limited "meanwhile" 16000
ok "it goes on" wait "$asking"
ok "and brings what it is to" cmp <(tail -c 4194304 "$tmp/answer") "$www/4M"

# A verdict that comes too late.
rules 1 "" "$verdict --rate 1" "-m spstate --none -j $proxy --timeout 1 --rate 1"
life() { entries "$1" | awk '{ print $3 }'; }
too_late() { [ "$(life "$1")" -lt 120 ]; }
refused=$(counted refused) limited=$(counted rate_limited)
GO=$tmp/go raw overdue 5001 &
waiting=$!
ok "a client waits" wait_for not no_entries 5001
ok "too long" wait_for too_late 5001
start=$SECONDS
touch "$tmp/go"
ok "and says 100 times more" wait $waiting
ok "which is refused" wait_for reached refused $((refused + 100))
resets=$(got 5001 5001 "$RST")
ok "$resets resets tell it" [ "$resets" -le $((SECONDS - start + 2)) ]
is "all others are counted" $(($(counted rate_limited) - limited)) $((100 - resets))
is "the server has heard nothing" "$(server_packets 5001)" 0

finish
