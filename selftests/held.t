#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# What a client sends while it waits is held: the server gets it, all of it and in
# order, without the client's sending anything twice. It could not even: its
# retransmission timeout is longer than its patience, up to where the wire is made bad.

. "$(dirname "$0")/lib.sh"

# With timestamps.
payload=$((mss - 12))

# words BYTES: so many, and never the same.
words() { head -c "$1" /dev/urandom | base64 -w 0 | head -c "$1"; }

# request SEGMENTS: header lines that make it so many segments; "expected" is what the
# server says that it was told. Each has less than the 8 kB that nginx takes.
request() {
	local left=$((($1 - 1) * payload + 400)) part
	: >"$tmp/headers"
	while [ $left -gt 0 ]; do
		part=$((left > 3000 ? 3000 : left))
		left=$((left - part))
		echo "X-Said: $(words $part)"
	done >"$tmp/headers"
	sed 's/^X-Said: //' "$tmp/headers" | paste -sd, | sed 's/,/, /g' | tr -d '\n' >"$tmp/expected"
}

# ask PORT SEGMENTS: a request, and whether it got there whole.
ask() {
	request "$2"
	client curl -sS --max-time 60 --local-port "$1" -H "@$tmp/headers" -o "$tmp/answer" \
		"$(url /said)" && cmp "$tmp/answer" "$tmp/expected"
}

# stream SIDE PORT: from where to where in the stream each segment reaches.
stream() {
	local isn
	isn=$(seen_first "$1" "tcp src port $2 and $SYN" | sed -nE 's/.* seq ([0-9]+),.*/\1/p')
	seen "$1" "tcp src port $2 and $DATA" | sed -nE 's/.* seq ([0-9]+):([0-9]+),.*/\1 \2/p' |
		awk -v start="$((isn + 1))" '
			{ print ($1 - start + 2 ^ 32) % 2 ^ 32, ($2 - start + 2 ^ 32) % 2 ^ 32 }'
}
# Each begins where the one before it ends.
in_order() { awk '$1 != at { gap = 1 } { at = $2 } END { exit gap || !at }'; }
# once SIDE PORT SEGMENTS
once() {
	stream "$1" "$2" >"$tmp/stream"
	cat "$tmp/stream"
	equal "$(wc -l <"$tmp/stream")" "$3" && in_order <"$tmp/stream"
}

# The same, in whichever order.
once_each() {
	stream "$1" "$2" | sort -n >"$tmp/stream"
	cat "$tmp/stream"
	equal "$(wc -l <"$tmp/stream")" "$3" && in_order <"$tmp/stream"
}

# delivered NAME PORT SEGMENTS: tests of what the wires have seen.
delivered() {
	settle
	ok "$1: the client has sent each segment once" once client "$2" "$3"
	ok "$1: and the server got each once, in order" once server "$2" "$3"
}

# connects PORT: our SYN was sent.
connects() { [ "$(seen_count server "tcp src port $1 and $SYN")" -ge 1 ]; }

# How many packets an engine has not given back yet.
queued() { equal "$(fw cat /proc/net/netfilter/nfnetlink_queue | awk '{ print $3 }')" "$1"; }
# The server's answers get lost, or do not any more.
server_is() {
	case $1 in
	slow) ipt -t raw -A PREROUTING -i eth1 -p tcp --sport 80 --tcp-flags SYN,ACK SYN,ACK -j DROP ;;
	back) ipt -t raw -F ;;
	esac
}

# started NAME PORT SEGMENTS: a request of which all is in the engine's queue when it
# starts to look.
started() {
	kill -STOP "$dpi"
	ask "$2" "$3" &
	asking=$!
	ok "$1: all of it waits for the engine" wait_for queued "$3"
	kill -CONT "$dpi"
}

set_up
start_nginx server
gate
# Nor are lost tails probed for: a probe goes out as soon as the answer takes longer
# than the handshake did.
client sysctl -qw net.ipv4.tcp_rto_max_ms=120000 net.ipv4.tcp_early_retrans=0
# Nor does it put off what is smaller than a third of its window until an ACK comes: none
# does before the server has answered.
client sysctl -qw net.ipv4.tcp_tso_win_divisor=100
ip -n client -"$FAMILY" route replace default via "$gateway" rto_min 120s
capture

start_dpi --verbose
for segments in 1 2 10; do
	name="$segments segments, a verdict on the first"
	port=$((4000 + segments))
	started "$name" $port $segments
	ok "$name: the request arrives" wait $asking
	settle
	ok "$name: the client has sent each segment once" once client $port $segments
	# What the engine still has when the server answers may be overtaken.
	ok "$name: and the server got each once" once_each server $port $segments
done

# Nor do these clients send anything twice.
whole() {
	seen server "tcp src portrange $1 and $DATA" | sed -E 's/.*\.([0-9]+) > .* length ([0-9]+).*/\1 \2/' |
		sort -u >"$tmp/stream"
	equal "$(wc -l <"$tmp/stream")" 100
}
ok "an ACK and data abreast: fifty clients" raw abreast 4100
ok "an ACK and data abreast: the server gets all of each" wait_for whole 4100-4149
ipt -t mangle -R FORWARD 1 -p tcp --dport 80 -m spstate --in-progress -m string --algo bm --string GET -j MARK --set-mark 0x0b
# The server answers when all is said.
server tc qdisc add dev s0 root netem delay 2s
ok "data close behind the data that opens: fifty clients" raw close_behind 4200
ok "data close behind the data that opens: the server gets all of each" wait_for whole 4200-4249
server tc qdisc del dev s0 root
gate

name="a slow server"
server_is slow
before=$(counted held)
started "$name" 4020 10
ok "$name: it is asked" wait_for connects 4020
wait_for queued 0
server_is back
ok "$name: the request arrives" wait $asking
delivered "$name" 4020 10
is "$name: all of it was held" $(($(counted held) - before)) 10

name="a slow server, a slow client"
server_is slow
before=$(counted held)
# slowly FILE: the rest when there is such a file.
slowly() {
	# printf alone would write by lines.
	printf 'GET /said HTTP/1.0\r\nX-Said: ' | cat
	until [ -e "$1" ]; do sleep 0.1; done
	printf 'more\r\n\r\n' | cat
}
slowly "$tmp/goes-on" | client socat -t1 -,ignoreeof "TCP:$(host "$server"):80,sourceport=4021,nodelay" >"$tmp/answer" &
asking=$!
ok "$name: the server is asked" wait_for connects 4021
touch "$tmp/goes-on"
sent_all() { [ "$(stream client "$1" | wc -l)" = "$2" ]; }
ok "$name: the client says more" wait_for sent_all 4021 2
settle
server_is back
ok "$name: the request arrives" wait $asking
is "$name: whole" "$(tail -n 1 "$tmp/answer")" more
delivered "$name" 4021 2
is "$name: all of it was held" $(($(counted held) - before)) 2

# Conntrack looks at it before the server answers, and the hook that holds when it has. The
# proxy counts on that as long as somebody is under way.
name="a segment with a long way from conntrack to the proxy"
# Who says nothing that an engine knows.
echo x >"$tmp/x"
spawn client socat -u "OPEN:$tmp/x,rdonly,ignoreeof" "TCP:$(host "$server"):80,sourceport=4022"
waiting=$pid
queued_in() { equal "$(fw awk "\$1 == $1 { print \$3 }" /proc/net/netfilter/nfnetlink_queue)" "$2"; }
spawn fw dpi-http --queue-num 1 2>"$tmp/dpi-1.log"
slow_dpi=$pid
wait_for grep "listening on queue" "$tmp/dpi-1.log"
kill -STOP "$slow_dpi"
ipt -t mangle -A FORWARD -p tcp --dport 80 -m conntrack --ctstate INVALID -j NFQUEUE --queue-num 1
server_is slow
slowly "$tmp/goes-on-late" | client socat -t1 -,ignoreeof "TCP:$(host "$server"):80,sourceport=4023,nodelay" >"$tmp/answer" &
asking=$!
ok "$name: the server is asked" wait_for connects 4023
touch "$tmp/goes-on-late"
ok "$name: it has left conntrack" wait_for queued_in 1 1
server_is back
is_open() { entries 4023 | grep -q ASSURED; }
ok "$name: the server answers" wait_for is_open
kill -CONT "$slow_dpi"
ok "$name: the request arrives" wait $asking
is "$name: whole" "$(tail -n 1 "$tmp/answer")" more
delivered "$name" 4023 2
stop "$waiting"
stop "$slow_dpi"
gate
stop "$dpi"

for segments in 2 10; do
	name="$segments segments, a verdict on the last"
	port=$((4030 + segments))
	start_dpi --verbose --bytes $(((segments - 1) * payload + 1))
	before=$(counted held)
	ok "$name: the request arrives" ask $port $segments
	delivered "$name" $port $segments
	is "$name: all of it was held" $(($(counted held) - before)) $segments
	stop "$dpi"
done

# A rule for an engine, and a ClientHello of two segments.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server \
	-keyout "$tmp/key.pem" -out "$tmp/cert.pem" 2>/dev/null
spawn server openssl s_server -quiet -www -accept "$(host "$server"):443" -cert "$tmp/cert.pem" -key "$tmp/key.pem"
tls=$pid
wait_for listens server 443
ipt -t mangle -A FORWARD -p tcp --dport 443 -m spstate --in-progress \
	-m string --algo bm --hex-string '|160301|' --to 120 -j MARK --set-mark 0x0b
ipt -A FORWARD -p tcp --dport 443 -m mark --mark 0x0b -m spstate --in-progress -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
ipt -A FORWARD -p tcp --dport 443 -m spstate --none -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
ok "TLS: a page comes" client curl -ksS --max-time 60 --local-port 4060 -o /dev/null "https://$(host "$server")/"
settle
stream client 4060 >"$tmp/stream"
is "TLS: the ClientHello was longer than a segment" "$(sed -n 1p "$tmp/stream")" "0 $payload"
ok "TLS: the client has sent each segment once" in_order <"$tmp/stream"
stop "$tls"

# Wires on which packets overtake each other and come twice, as far as to the ACK
# behind which there is a client to hold data of. What comes before it is lost.
client sysctl -qw net.ipv4.tcp_early_retrans=3
ip -n client -"$FAMILY" route replace default via "$gateway"
client tc qdisc add dev c0 root netem delay 5ms reorder 30% duplicate 30%
start_dpi --verbose --bytes $((payload * 5))
for port in 4051 4052 4053 4054 4055; do
	ok "a bad wire: a request arrives whole ($port)" ask $port 10
done
settle
bad_wire() {
	local port
	for port in 4051 4052 4053 4054 4055; do
		stream client "$port" >"$tmp/stream"
		in_order <"$tmp/stream" || return 0
	done
	false
}
ok "a bad wire: that is what it was" bad_wire

finish
