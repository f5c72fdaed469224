#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Much traffic, with the offloads that network cards do: nothing is reset, stands
# still or gets lost, and conntrack finds nothing wrong with it.

. "$(dirname "$0")/lib.sh"

PAGES=1000 parallel=50 patience=1
if is_debug_kernel; then
	PAGES=100 parallel=5 patience=10
fi

proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss $mss"

# protect CHAIN: the rules against SYN floods. The last ACK of a handshake is
# INVALID by design, as loose is 0; what else is INVALID is counted.
protect() {
	ipt_restore <<-END
		*raw
		-A PREROUTING -i eth0 -p tcp -m multiport --dports 80,5201 --syn -j CT --notrack
		COMMIT
		*filter
		-A $1 -p tcp -m conntrack --ctstate INVALID -m comment --comment all
		-A $1 -p tcp -m conntrack --ctstate INVALID -m length --length 101: -m comment --comment data
		-A $1 -i eth0 -p tcp -m multiport --dports 80,5201 -m conntrack --ctstate UNTRACKED,INVALID -j $proxy --ecn
		-A $1 -p tcp -m conntrack --ctstate INVALID -m comment --comment after
		-A OUTPUT -p tcp -m conntrack --ctstate INVALID -m comment --comment output
		COMMIT
	END
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
}

# How many packets a counting rule has seen; one of the numbers of conntrack -S.
counter() { ipt_save -c -t filter | sed -nE "s/^\[([0-9]+):.*--comment $1\$/\1/p"; }
statistic() { fw conntrack -S | tr ' ' '\n' | awk -F= -v name="$1" '$1 == name { sum += $2 } END { print sum + 0 }'; }

# By their numbers: ports come again.
connections() { seen client "$SYN" | awk '{ print $3, $5, $9 }' | sort -u | wc -l; }

# troubles SIDE: a connection that was reset before both had said all, or that stood
# still for more than $patience seconds though something was on its way, or though the window
# was yet to be opened that the proxy's SYN,ACK had left shut.
#
# An endpoint's FIN that it sent once more, for nothing, can make the other one answer
# with a reset when all is over. And if there was no beat either, it was the machine
# that stood still.
troubles() {
	seen "$1" "tcp or udp port 9" | awk -v patience="$patience" '
		function is_after(a, b) { return a != b && (a - b + 2 ^ 32) % 2 ^ 32 < 2 ^ 31 }
		# The last number behind a word.
		function number(word, text) {
			if (!match($0, " " word " [0-9:]+"))
				return -1
			text = substr($0, RSTART, RLENGTH)
			sub(/.*[ :]/, "", text)
			return +text
		}
		function is_waiting(one, other) {
			return one in sent && (!(other in acked) || is_after(sent[one], acked[other]))
		}
		/ UDP, / {
			beats++
			next
		}
		{
			from = $3
			to = substr($5, 1, length($5) - 1)
			way = from " " to
			back = to " " from
			id = from < to ? way : back
			if ($7 ~ /S/ && $5 ~ /\.(80|5201):$/ && isn[id] != $9) {
				isn[id] = $9
				delete last[id]; delete over[id]; delete shut[id]
				delete sent[way]; delete acked[way]; delete closed[way]
				delete sent[back]; delete acked[back]; delete closed[back]
			}
			if (id in last && $1 - last[id] > patience && beats - beat[id] >= 3 && !(id in over) &&
			    (id in shut || is_waiting(way, back) || is_waiting(back, way)))
				print "stood still for", $1 - last[id], "s:", $0
			last[id] = $1
			beat[id] = beats

			if ($7 ~ /R/) {
				if (!(way in closed && back in closed))
					print "reset:", $0
				over[id] = 1
				next
			}
			end = number("seq")
			if ($7 ~ /[SF]/)
				end = (end + 1) % 2 ^ 32
			if ($7 ~ /F/)
				closed[way] = 1
			if (end >= 0 && (!(way in sent) || is_after(end, sent[way])))
				sent[way] = end
			ack = number("ack")
			if (ack >= 0 && (!(way in acked) || is_after(ack, acked[way])))
				acked[way] = ack
			if ($7 ~ /S/ && number("win") == 0)
				shut[id] = from
			else if (id in shut && shut[id] == from && number("win") > 0)
				delete shut[id]
		}'
}

# Five times a second, for both captures.
start_beat() {
	# shellcheck disable=SC2016 # the other bash knows
	spawn fw bash -c 'exec 3<> <(:)
		while :; do
			for to; do
				echo beat >"/dev/udp/$to/9"
			done
			read -rt 0.2 -u 3
		done' beat "$client" "$server"
}

# start_iperf NAMESPACE
start_iperf() {
	spawn "$1" iperf3 -s --forceflush >"$tmp/iperf"
	iperf=$pid
	rounds=0
}
# iperf BYTES [OPTION...]: the server takes one client at a time.
iperf() {
	rounds=$((rounds + 1))
	wait_for takes_next
	client iperf3 -c "$address" -n "$1" -f m "${@:2}"
}
takes_next() { [ "$(grep -c "Server listening" "$tmp/iperf")" -ge "$rounds" ]; }

# pages: many, 50 at a time, each by a connection of its own.
pages() {
	rm -rf "$tmp/got"
	mkdir "$tmp/got"
	client curl -sS --no-progress-meter --parallel --parallel-max "$parallel" --max-time 300 \
		-o "$tmp/got/#1" "$(url "/64k?[1-$PAGES]")"
}
all_the_same() {
	[ "$(find "$tmp/got" -type f | wc -l)" = "$PAGES" ] &&
		[ "$(md5sum "$tmp/got"/* "$www/64k" | cut -d ' ' -f 1 | sort -u | wc -l)" = 1 ]
}

# survives NAME NAMESPACE COMMAND...: an open connection outlives its rules; COMMAND
# brings them back.
survives() {
	local talker listener
	spawn "$2" socat TCP6-LISTEN:5201,ipv6only=0,reuseaddr EXEC:cat
	listener=$pid
	wait_for listens "$2" 5201
	coproc talker { ip netns exec client socat - "TCP:$(host "$address"):5201"; }
	ok "$1: a connection is open" echoes 1
	ipt -F
	ipt -t raw -F
	ok "$1: the rules go, and it goes on" echoes 2
	"${@:3}"
	ok "$1: they come back, and it goes on" echoes 3
	eval "exec ${talker[1]}>&-"
	ok "$1: and comes to its end" wait "$listener"
}
# shellcheck disable=SC2154 # of coproc
echoes() {
	local answer
	echo "$1" >&"${talker[1]}" && read -rt 60 answer <&"${talker[0]}" && equal "$answer" "$1"
}

# smooth NAME: since the last capture.
smooth() {
	local side
	settle
	for side in client server; do
		troubles $side >"$tmp/troubles"
		is "$1: nothing is reset or stands still ($side)" "$(cat "$tmp/troubles")" ""
	done
}

# immediate CHAIN NAMESPACE
immediate() {
	local invalid
	protect "$1"
	start_nginx "$2"
	start_iperf "$2"
	capture
	invalid=$(statistic invalid)
	ok "$1: 100 MiB to the server" iperf 100M
	ok "$1: 100 MiB from the server" iperf 100M -R
	ok "$1: $PAGES pages" pages
	ok "$1: all whole" all_the_same
	smooth "$1"
	is "$1: as many connections" "$(connections)" $((PAGES + 4))
	is "$1: their handshakes' ACKs are INVALID, and no other packet" "$(counter all)" $((PAGES + 4))
	is "$1: none with data" "$(counter data)" 0
	is "$1: none is left after the proxy's rule" "$(counter after)" 0
	is "$1: none of the firewall's own" "$(counter output)" 0
	is "$1: conntrack counts the same" $(($(statistic invalid) - invalid)) $((PAGES + 4))
	stop "$nginx"
	stop "$iperf"
	survives "$1" "$2" protect "$1"
}

set_up
offload on
start_beat

address=$gateway
immediate INPUT fw
address=$server
immediate FORWARD server

# The gate: an engine for each connection, and conntrack as it is by default.
ipt -t raw -F
gate
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
start_dpi --verbose
start_nginx server
capture
invalid=$(statistic invalid)
ok "gate: $PAGES pages" pages
ok "gate: all whole" all_the_same
smooth "gate"
is "gate: as many connections" "$(connections)" "$PAGES"
echo "# gate: $(($(statistic invalid) - invalid)) INVALID"
stop "$nginx"
stop "$dpi"

# The rules of the kernel's own test of its proxy, nft_synproxy.sh: only what the
# proxy has opened gets to the server.
kernels_rules() {
	ipt_restore <<-END
		*raw
		-A PREROUTING -i eth0 -p tcp --syn -j CT --notrack
		COMMIT
		*mangle
		COMMIT
		*filter
		:FORWARD ACCEPT
		-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
		$1
		-A FORWARD -m conntrack --ctstate INVALID -j DROP
		-A FORWARD -p tcp --syn -j DROP
		COMMIT
	END
}
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
start_iperf server
capture
kernels_rules ""
spawn client curl -sS --local-port 4003 "$(url :5201/)"
asks_again() { [ "$(seen_count client "tcp src port 4003 and $SYN")" -ge 2 ]; }
ok "nft_synproxy.sh: without the proxy, a client asks in vain" wait_for asks_again
is "nft_synproxy.sh: and is not heard" "$(server_packets 4003)" 0
stop "$pid"
capture
kernels_rules "-A FORWARD -i eth0 -p tcp -m conntrack --ctstate UNTRACKED,INVALID -j SYNPROXY --mss 1460 --sack-perm --timestamp"
ok "nft_synproxy.sh: with it, 1 MiB gets there" iperf 1M
smooth "nft_synproxy.sh"

finish
