#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# One rule in PREROUTING of the table raw, in front of a firewall that is what it was
# without it: no rule makes packets UNTRACKED, or takes INVALID ones, and nothing is
# let out for OUTPUT's sake.

. "$(dirname "$0")/lib.sh"

proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"
case $FAMILY in
4) virtual=10.0.9. bits=32 RAW_ACK='tcp[8:4]' IP_ID='ip[4:2]' DF='(ip[6] & 0x40 != 0)' TTL='ip[8]' TOS='ip[1]' ;;
6) virtual=fd00:9:: bits=128 RAW_ACK='ip6[48:4]' IP_ID=0 DF='(0 = 0)' TTL='ip6[7]' TOS='((ip6[0:2] >> 4) & 0xff)' ;;
esac

### The firewall

# The rule, and what an ordinary firewall has: rules by devices and addresses. For
# counting, some in mangle.
firewall() {
	ipt_restore <<-END
		*raw
		-A PREROUTING -i eth0 -p tcp --dport 80 -j $proxy $*
		COMMIT
		*mangle
		-A OUTPUT -p tcp --sport 80 --tcp-flags SYN,ACK SYN,ACK -m comment --comment by_output
		COMMIT
		*nat
		COMMIT
		*filter
		:INPUT ACCEPT
		:FORWARD DROP
		-A FORWARD -i eth0 -o eth1 -s ${client%2}0/$prefix -d ${server%2}0/$prefix -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
		-A FORWARD -i eth1 -o eth0 -s ${server%2}0/$prefix -d ${client%2}0/$prefix -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		COMMIT
	END
}

# count NAME CHAIN MATCH...: a rule in mangle that counts. passed NAME: how much.
count() { ipt -t mangle -A "${@:2}" -m comment --comment "$1"; }
passed() { ipt_save -t mangle -c | sed -nE "s/^\[([0-9]+):.* --comment $1\b.*/\1/p"; }

### What is seen

syns() { settle && seen_count server "tcp src port $1 and $SYN"; }
syns_are() { [ "$(syns "$1")" -ge "$2" ]; }
isn() { sed -nE 's/.*, seq ([0-9]+),.*/\1/p'; }

# What a SYN proposes, from a line of tcpdump.
proposal() {
	sed -E 's/.*, seq ([0-9]+),.*options \[(.*)\].*/isn \1,\2/; s/TS val [0-9]+ ecr 0/TS/; s/,(nop|eol)//g' |
		tr , '\n' | sort | paste -sd,
}
proposed() { seen_first "$1" "tcp src port $2 and $SYN" | proposal; }

# correct SIDE FILTER: there are such packets, and their checksums are right.
correct() {
	tcpdump -nnvr "$tmp/$1.pcap" "tcp and $2" 2>/dev/null >"$tmp/sums"
	grep -q "cksum.*(correct)" "$tmp/sums" && ! grep -B1 -E 'incorrect|bad cksum' "$tmp/sums"
}

# Whom the server has seen: address and port of the client, and its own.
page_seen() {
	page "$1" /64k -D "$tmp/head.$1" "${@:2}" &&
		seen_by=$(sed -n 's/^Seen: \(.*\)\r$/\1/p' "$tmp/head.$1")
}

# More of it has come.
begun_more() {
	local size
	size=$(stat -c %s "$tmp/slow.$1")
	wait_for more_than "$size" "$1"
}
more_than() { [ "$(stat -c %s "$tmp/slow.$2")" -gt "$1" ]; }

# refused NAME PORT: tests that a client whose server cannot be reached is reset, once, at
# the number that it expects.
refused() {
	local status=0
	client curl -sS --max-time 60 --local-port "$2" "$(url /64k)" >/dev/null || status=$?
	ok "$1: the client is reset ($status)" grep -qw "$status" <<<'7 56'
	settle
	is "$1: at the number that it expects" \
		"$(seen client "tcp dst port $2 and $RST" | isn | head -n 1)" \
		$((($(seen_first client "tcp dst port $2 and $SYN_ACK" | isn) + 1) & 0xffffffff))
	ok "$1: nothing is left" no_entries "$2"
}

state() { [[ $(entries "$1") == *" $2 "* ]]; }

### The tests

pages() {
	firewall
	ok "a page comes" page 4001 /64k
	ok "a larger one comes" page 4002
	settle
	is "nothing of the SYN,ACK passes OUTPUT" "$(passed by_output)" 0
	is "the server gets one SYN" "$(seen_count server "tcp src port 4002 and $SYN")" 1
	is "with the client's number and options" "$(proposed server 4002)" "$(proposed client 4002)"
	ok "which include all that there are" \
		grep -qE "^TS,isn [0-9]+,mss $mss,sackOK,wscale [0-9]+\$" <(proposed server 4002)
	is "and nothing in the field for acknowledgements" \
		"$(seen_count server "tcp src port 4002 and $SYN and $RAW_ACK = 0")" 1
	ok "every checksum at the client is right" correct client "port 4002 and not $DATA"
	ok "every checksum at the server is right" correct server "port 4002 and not $DATA"
	ok "the connection was NEW once" grep -q "^tcp .* sport=4002 .*\[ASSURED\]" <(entries 4002)

	client sysctl -qw net.ipv4.tcp_timestamps=0
	ok "without timestamps a page comes, too" page 4003
	client sysctl -qw net.ipv4.tcp_timestamps=1
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
	ok "with tcp_loose=0 a page comes, too" page 4004
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
	ok "a client comes back on the ports of a connection that is closed" wait_for page 4002 /64k
}

nat() {
	firewall
	# Not for what is forwarded.
	ipt -t nat -A OUTPUT -p tcp --dport 80 -j DNAT --to-destination "$nobody"
	ipt -t nat -A PREROUTING -i eth0 -p tcp -d "${virtual}1" --dport 80 -j DNAT --to-destination "$server"
	ipt -t nat -A PREROUTING -i eth0 -p tcp -d "${virtual}2" --dport 80 -j DNAT --to-destination "$(host "$server"):81"
	ipt -t nat -A PREROUTING -i eth0 -p tcp -d "${virtual}3" --dport 80 -j REDIRECT --to-ports 81
	ipt -t nat -A PREROUTING -i eth0 -p tcp -d "${virtual}4" --dport 80 -j DNAT --to-destination "$server"
	ipt -t nat -A POSTROUTING -p tcp -m conntrack --ctorigdst "${virtual}4" -j SNAT --to-source "${server%2}100"
	ipt -t nat -A PREROUTING -i eth0 -p tcp -d "${virtual}5" --dport 80 -j DNAT --to-destination "$server"
	ipt -t nat -A POSTROUTING -p tcp -m conntrack --ctorigdst "${virtual}5" -j MASQUERADE

	address=${virtual}1
	ok "DNAT: a page comes" page_seen 4101
	is "DNAT: the server has seen the client" "$seen_by" "$client 4101 $server 80"
	address=${virtual}2
	ok "DNAT to another port: a page comes" page_seen 4102
	is "DNAT to another port: the server has seen the client" "$seen_by" "$client 4102 $server 81"
	address=${virtual}3
	ok "REDIRECT: a page comes" page_seen 4103
	is "REDIRECT: the firewall has seen the client" "$seen_by" "$client 4103 $gateway 81"
	address=${virtual}4
	ok "DNAT and SNAT: a page comes" page_seen 4104
	is "DNAT and SNAT: the server has seen that address" "$seen_by" "${server%2}100 4104 $server 80"
	address=${virtual}5
	ok "DNAT and MASQUERADE: a page comes" page_seen 4105
	is "DNAT and MASQUERADE: the server has seen the firewall" "$seen_by" "${server%2}1 4105 $server 80"
	settle
	is "NAT: nothing of a SYN,ACK passes OUTPUT" "$(passed by_output)" 0
	address=$server
}

ways() {
	firewall
	count local_new INPUT -i eth0 -p tcp -m conntrack --ctstate NEW
	address=$gateway
	ok "a server on the firewall: a page comes" page_seen 4201
	is "a server on the firewall: has seen the client" "$seen_by" "$client 4201 $gateway 80"
	ok "a server on the firewall: INPUT has seen a NEW connection" [ "$(passed local_new)" -ge 1 ]
	address=$server

	firewall
	ipt -t mangle -A PREROUTING -i eth0 -p tcp -m conntrack --ctstate NEW -j CONNMARK --set-mark 0x7
	ipt -t mangle -A PREROUTING -i eth0 -p tcp -j CONNMARK --restore-mark
	count marked FORWARD -i eth0 -p tcp --syn -m mark --mark 0x7
	count unmarked FORWARD -i eth0 -p tcp -m mark ! --mark 0x7
	ok "a mark by the device: a page comes" page 4202 /64k
	ok "a mark by the device: our SYN has it" [ "$(passed marked)" -ge 1 ]
	is "a mark by the device: as has all that is forwarded" "$(passed unmarked)" 0
	is "a mark by the device: and its entry" "$(entries 4202 | grep -c 'mark=7')" 1

	firewall
	ipt -t raw -I PREROUTING -p tcp -j CT --zone 7
	ok "a zone: a page comes" page 4203
	ok "a zone: the entry is there" grep -q zone=7 <(entries 4203)
	is "a zone: and nowhere else" "$(entries 4203 | grep -vc zone=7)" 0
	is "a zone: by one SYN" "$(syns 4203)" 1
	ipt -t raw -R PREROUTING 1 -p tcp -j CT --zone mark
	ipt -t raw -I PREROUTING -p tcp -j MARK --set-mark 8
	ok "a zone by the mark: a page comes" page 4209
	ok "a zone by the mark: the entry is there" grep -q zone=8 <(entries 4209)

	# What is tracked or not is for other rules to say.
	firewall
	ipt -t raw -I PREROUTING -i eth0 -p tcp --dport 80 -j CT --notrack
	ipt -I FORWARD -p tcp -j ACCEPT
	ok "a rule that has conntrack not see them: a page comes" page 4204 /64k
	settle
	is "a rule that has conntrack not see them: it is the server's" \
		"$(seen_first client "tcp dst port 4204 and $SYN_ACK" | isn)" \
		"$(seen_first server "tcp dst port 4204 and $SYN_ACK" | isn)"

	firewall
	ok "a client on the firewall: a page comes" \
		fw curl -sS --max-time 60 --interface "$gateway" --local-port 4205 -o /dev/null "$(address=$gateway && url /64k)"
}

# A client by two devices, for which the firewall does different things with the same server.
by_device() {
	# shellcheck disable=SC2086 # words of a rule
	ipt_restore <<-END
		*raw
		-A PREROUTING -p tcp --dport 80 ! -i eth1 -j $proxy
		COMMIT
		*mangle
		-A PREROUTING -i eth2 -m conntrack --ctstate NEW -j MARK --set-mark 3
		COMMIT
		*nat
		$1
		COMMIT
		*filter
		:INPUT ACCEPT
		:FORWARD DROP
		-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		-A FORWARD -i eth0 -o eth1 -p tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT
		$2
		COMMIT
	END
}

devices() {
	local other=${client/1./3.}
	other=${other/1::/3::}
	ip link add c1 address 02:00:00:00:03:02 netns client type veth peer name eth2 address 02:00:00:00:03:01 netns fw
	ip -n fw addr add "${other%2}1/$prefix" dev eth2 nodad
	ip -n fw link set eth2 up
	ip -n client addr add "$other/$prefix" dev c1 nodad
	ip -n client link set c1 up
	ip -n client route add default via "${other%2}1" dev c1 table 3
	ip -n client -"$FAMILY" rule add from "$other" lookup 3

	by_device "-A PREROUTING -m mark --mark 3 -p tcp --dport 80 -j DNAT --to-destination :81" \
		"-A FORWARD -i eth2 -o eth1 -p tcp --dport 81 -m mark --mark 3 -j ACCEPT"
	ok "two devices: by the one, a page comes" page_seen 4251
	is "two devices: from the port that was asked for" "$seen_by" "$client 4251 $server 80"
	ok "two devices: by the other, a page comes" page_seen 4252 --interface "$other"
	is "two devices: from the port that the rule for its mark gives" "$seen_by" "$other 4252 $server 81"

	by_device "" "-A FORWARD -i eth2 -p tcp --dport 80 -j REJECT --reject-with tcp-reset"
	ok "two devices: by the one, a page comes still" page 4253 /64k
	ok "two devices: by the other, a rule resets" is_reset 4254 --interface "$other"
	is "two devices: and the server does not hear of it" "$(server_packets 4254)" 0
	ip -n client -"$FAMILY" rule del from "$other" lookup 3
	ip -n fw link del eth2
}
is_reset() {
	local status=0
	page "$1" /64k "${@:2}" || status=$?
	# It waits to be told that it may send, or has sent already.
	grep -qw "$status" <<<'7 56'
}

# An engine that is shown every packet, our SYN with its new entry, too.
watched() {
	local chain port
	start_dpi --verbose
	for chain in PREROUTING FORWARD; do
		[ "$chain" = FORWARD ] && port=4262 || port=4261
		firewall
		ipt -t mangle -A "$chain" -p tcp -j NFQUEUE --queue-num 0
		ok "all packets queued in $chain: a page comes" page "$port"
		is "all packets queued in $chain: by one SYN" "$(syns "$port")" 1
	done
	ipt -t mangle -F
	stop "$dpi"
}

strangers() {
	local before
	firewall
	before=$(counted cookie_invalid)
	ok "ACKs without a good cookie are met with silence" raw bogus 5001
	ok "and make no entry" no_entries 5001
	is "nor anything at the server" "$(server_packets 5001)" 0
	is "and are counted" "$(($(counted cookie_invalid) - before))" 4
	ok "segments of no connection are met with silence" raw stray 5011
	ok "and make no entry" no_entries 5011
	is "nor anything at the server" "$(server_packets 5011)" 0
	ok "what has a wrong checksum is met with silence" raw spoiled 5021
	is "and makes no entry" "$(entries 5021)$(entries 5022)" ""
	is "nor anything at the server" "$(server_packets 5021)$(server_packets 5022)" 00
	ok "who cannot be one host" raw nowhere 5031
	settle
	is "gets no answer" "$(seen client "tcp dst portrange 5031-5060 and $SYN_ACK")" ""
	is "and the server does not hear of it" "$(seen_count server "tcp src portrange 5031-5060")" 0
	ok "200 SYNs of a flood are answered" raw flood 20000
	settle
	is "all of them" "$(seen_count client "host $raw_client and tcp dst portrange 20001-20200 and $SYN_ACK")" 200
	is "by none of them an entry is made" "$(tracked -s "$raw_client" | wc -l)" 0
	is "and the server does not hear of them" "$(seen_count server "tcp src portrange 20001-20200")" 0
	ok "the last ACK of a handshake, three times" raw acks 5071
	is "makes one SYN" "$(syns 5071)" 1
}

known() {
	local before during
	firewall
	ipt -t raw -F
	slow 4301
	before=$pid
	firewall
	ok "an open connection goes on when the rule comes" whole "$before" 4301
	slow 4302 200k
	during=$pid
	ipt_save >"$tmp/rules"
	ipt -t raw -F
	ipt -t mangle -F
	ok "an open connection goes on when the rule goes" begun_more 4302
	ipt_restore <"$tmp/rules"
	ok "and when it comes back" whole "$during" 4302

	ok "a client that resets an open connection" raw aborts 5101
	ok "is heard by the server" [ "$(settle && seen_count server "tcp src port 5101 and $RST")" -ge 1 ]
	ok "whose entry is closed" wait_for not state 5101 ESTABLISHED
	count resets OUTPUT -p tcp --dport 80 --tcp-flags RST RST
	ok "a client that has lost its connection gets a new one on its ports" raw returns 5102
	ok "the server got another SYN" [ "$(syns 5102)" -ge 2 ]
	ok "and was reset before" [ "$(seen_count server "tcp src port 5102 and $RST")" -ge 1 ]
	is "not by way of OUTPUT" "$(passed resets)" 0
	ok "the last ACK of a connection comes again" raw parts 5103
	is "and opens nothing" "$(syns 5103)" 1
}

# lost_syn NAME PORT: the server comes up only after the first SYN.
lost_syn() {
	local curl before
	before=$(counted syn_retrans)
	server "$iptables-$BACKEND" -A INPUT -p tcp --syn -j DROP
	spawn client curl -sS --max-time 60 --local-port "$2" -o "$tmp/page.$2" "$(url /1M)"
	curl=$pid
	ok "$1: the server gets a SYN" wait_for syns_are "$2" 1
	ok "$1: and another" wait_for syns_are "$2" 2
	server "$iptables-$BACKEND" -F
	ok "$1: so that the page comes" wait "$curl"
	ok "$1: whole" cmp "$tmp/page.$2" "$www/1M"
	is "$1: all SYNs are alike" "$(seen server "tcp src port $2 and $SYN" | proposal | sort -u | wc -l)" 1
	ok "$1: they are counted" [ $(($(counted syn_retrans) - before)) -ge $(($(syns "$2") - 1)) ]
}

# Seconds between the SYNs of a port, rounded.
gaps() {
	seen server "tcp src port $1 and $SYN" |
		awk 'NR > 1 { printf "%s%d", sep, $1 - last + 0.5; sep = " " } { last = $1 }'
}

failures() {
	firewall
	lost_syn "a server that is late" 4401
	is "a server that is late: nothing in the field for acknowledgements" \
		"$(seen_count server "tcp src port 4401 and $SYN and $RAW_ACK != 0")" 0

	# Who does not answer is there, or the firewall would say so.
	ip -n fw neigh add "$nobody" lladdr "$(server cat /sys/class/net/s0/address)" dev eth1
	address=$nobody
	fw sysctl -qw net.ipv4.tcp_syn_retries=2
	refused "no answer" 4402
	fw sysctl -qw net.ipv4.tcp_syn_retries=6
	is "no answer: three SYNs, ever later" "$(gaps 4402)" "1 2"
	ip -n fw neigh del "$nobody" dev eth1
	refused "nobody is there" 4403

	address=$server
	server "$iptables-$BACKEND" -A INPUT -p tcp --dport 80 -j REJECT
	refused "an ICMP error of the server's" 4404
	server "$iptables-$BACKEND" -F
	server "$iptables-$BACKEND" -A INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset
	refused "a reset of the server's" 4405
	server "$iptables-$BACKEND" -F
	ipt -I FORWARD -i eth0 -p tcp --dport 80 -j REJECT --reject-with tcp-reset
	refused "a rule of the firewall that resets" 4406
	ipt -R FORWARD 1 -i eth0 -p tcp --dport 80 -j REJECT
	refused "a rule of the firewall that rejects" 4407
	ipt -D FORWARD 1
	ipt -I FORWARD -i eth0 -p tcp --dport 80 -j DROP
	ok "a rule of the firewall that drops" raw acks 5111
	is "a rule of the firewall that drops: no packet at the server" "$(server_packets 5111)" 0
	ok "a rule of the firewall that drops: nothing is left" no_entries 5111
	ipt -D FORWARD 1
	address=${virtual}9
	ip -n fw route add unreachable "$address/$bits"
	refused "no route" 4408
	ip -n fw route del unreachable "$address/$bits"
	address=$server
}

gate_by_one_rule() {
	firewall --defer
	ipt -t mangle -A FORWARD -p tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0
	ipt -F FORWARD
	ipt -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -m spstate ! --in-progress -j ACCEPT
	# shellcheck disable=SC2086 # words of a rule
	ipt -A FORWARD -p tcp --dport 80 -m mark --mark 0x0b -m spstate --in-progress -j $proxy
	# shellcheck disable=SC2086
	ipt -A FORWARD -p tcp --dport 80 -m spstate --none -j $proxy
}

# Of clients whose SYN a rule drops as it comes in, nothing is left that another's entry
# could be taken for.
dropped() {
	local full number
	gate_by_one_rule
	# shellcheck disable=SC2086 # words of a rule
	ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 81 -j $proxy
	start_dpi --verbose
	full=$(counted hold_full)
	for number in {0..9}; do
		spawn client curl -sS --max-time 2 --local-port $((4540 + number)) "$(url :81/64k)" -o /dev/null
		wait_for answered $((4540 + number))
		ok "behind SYNs that are dropped: page $number comes" page $((4550 + number)) /64k
	done
	is "behind SYNs that are dropped: there was room for all" "$(counted hold_full)" "$full"
	is "and the dropped ones are nowhere" "$(settle && seen_count server "tcp src portrange 4540-4549")" 0
	stop "$dpi"
}

deferred() {
	local curl
	gate_by_one_rule
	spawn client curl -sS --max-time 100 --local-port 4501 -o "$tmp/held" "$(url /1M)"
	curl=$pid
	held "--defer, no engine" 4501
	is "--defer, no engine: there is one entry" "$(entries 4501 | wc -l)" 1
	is "--defer: the SYN,ACK has not passed OUTPUT" "$(passed by_output)" 0
	ok "--defer: crafted packets" raw crafted 5209
	is "--defer: do not come to the server" "$(server_packets 5209)" 0
	start_dpi --verbose
	ok "--defer: with a verdict the page comes" wait "$curl"
	ok "--defer: whole" cmp "$tmp/held" "$www/1M"
	is "--defer: by one SYN" "$(syns 4501)" 1
	is "--defer: with the client's number and options" "$(proposed server 4501)" "$(proposed client 4501)"
	ok "--defer: with the engine running a page comes at once" page 4502
	ok "--defer: the server heard of it only after the client's data" heard_after_data 4502
	spawn client bash -c "exec 3<>/dev/tcp/$server/80 && echo SSH-2.0-test >&3 && exec cat <&3" >/dev/null
	wait_for not same_port 4502
	held "--defer: an SSH client" "$(port)"
	stop "$pid"

	ok "--defer: the request in the handshake's last segment is not lost" raw prompt 5201
	is "--defer: it was sent once" "$(settle && seen_count client "tcp src port 5201 and $DATA")" 1
	ok "--defer: a request in the middle of a stream" raw middle 5202
	is "--defer: does not come to the server" "$(server_packets 5202)" 0
	ok "--defer: SYN and ACK come once more" raw repeated 5203
	is "--defer: and make one SYN" "$(syns 5203)" 1
	ok "--defer: ACKs without a good cookie are met with silence" raw bogus 5204
	ok "--defer: and make no entry" no_entries 5204
	is "--defer: nor anything at the server" "$(server_packets 5204)" 0
	ok "--defer: a client whose first segments are lost is served all the same" raw late 5205
	ok "--defer: a client that resets, and comes back" raw reset 5206
	is "--defer: is not heard by the server" "$(server_packets 5206)" 0
	ok "--defer: and is refused" [ "$(seen_count client "tcp dst port 5206 and $RST")" -ge 3 ]
	ok "--defer: a new connection on the ports of one that waits is served" raw again 5207
	is "--defer: the server got one SYN" "$(syns 5207)" 1
	ok "--defer: a client that has lost its connection gets a new one on its ports" raw returns 5208
	ok "--defer: what misleads an engine" raw misled 5211
	is "--defer: does not come to the server" "$(settle && seen_count server "tcp and (port 5211 or port 5212 or port 5214 or port 5215)")" 0
	is "--defer: nor as data of a new connection" "$(seen_count server "tcp src port 5213 and $LENGTH = 13")" 0

	# The destination is PREROUTING's choice here, too.
	ipt -t nat -A PREROUTING -i eth0 -p tcp -d "${virtual}1" --dport 80 -j DNAT --to-destination "$server"
	address=${virtual}1
	ok "--defer, DNAT: a page comes" page 4503 /64k
	address=$server
	stop "$dpi"
}
same_port() { [ "$(port)" = "$1" ]; }
port() { seen client "src host $client and tcp dst port 80 and $SYN" | tail -n 1 | client_port; }

# How the answer to a SYN looks, which is made of that.
in_place() {
	local filter
	firewall
	fw sysctl -qw net.ipv4.ip_default_ttl=77 net.ipv6.conf.all.hop_limit=77
	ok "in place: a SYN with a type of service" raw of_a_class 5301
	settle
	is "in place: its answer has that, without ECN's bits, and nothing else of it" \
		"$(seen_count client "tcp dst port 5301 and $SYN_ACK and $TOS = 0x48 and $TTL = 77 and $IP_ID = 0 and $DF")" 1
	ok "in place: a SYN in a short frame" raw in_a_short_frame 5302
	ok "in place: a SYN with data" raw with_data 5303
	ok "in place: a SYN without options" raw without_options 5304
	settle
	filter="tcp dst portrange 5301-5304 and $SYN_ACK"
	ok "in place: all checksums are right" correct client "$filter"
	is "in place: no answer is longer than it is" "$(seen_count client "$filter and $DATA")" 0
	is "in place: none has passed OUTPUT" "$(passed by_output)" 0
	is "in place: the server got one SYN for each" \
		"$(for port in 5301 5302 5303 5304; do syns "$port"; done | paste -sd ' ')" "1 1 1 1"
	fw sysctl -qw net.ipv4.ip_default_ttl=64 net.ipv6.conf.all.hop_limit=64

	spawn fw tcpdump -Uni eth0 --immediate-mode -w "$tmp/eth0.pcap" "$TCP" 2>"$tmp/tcpdump.eth0"
	wait_for grep "listening on" "$tmp/tcpdump.eth0"
	ok "in place, tcpdump looks on: a page comes" page 4601
	stop "$pid"
	is "in place, tcpdump looks on: it has seen the SYN as it was" \
		"$(tcpdump -nnSr "$tmp/eth0.pcap" "tcp src port 4601 and $SYN" 2>/dev/null | isn)" "$(seen client "tcp src port 4601 and $SYN" | isn)"
	offload on
	ok "in place, with offload of checksums: a page comes" page 4602
	settle
	is "in place: still nothing has passed OUTPUT" "$(passed by_output)" 0
	address=$gateway
	ok "in place, with offload of checksums: and from the firewall" page 4603
	address=$server
	offload off

	firewall
	ok "not in place: a SYN behind options" raw behind_options 5311
	settle
	ok "not in place: a SYN behind options: its answer passes OUTPUT" [ "$(passed by_output)" -ge 1 ]
	ok "not in place: it is correct" correct client "dst port 5311 and $SYN_ACK"
	ok "a SYN in fragments" raw in_fragments 5312
	settle
	ok "a SYN in fragments: its answer is correct" correct client "dst port 5312 and $SYN_ACK"
	is "a SYN in fragments: the server gets one" "$(syns 5312)" 1
}

# Where a rule may not stand.
refused_rule() {
	# shellcheck disable=SC2086 # words of a rule
	ipt -t "$1" -A "$2" -p tcp --dport 80 -j $proxy && return 1
	dmesg | tail -n 3 | grep "$3"
}
places() {
	ok "in PREROUTING of mangle it is refused" refused_rule mangle PREROUTING "expected the table raw"
	ok "in PREROUTING of nat, too" refused_rule nat PREROUTING "expected the table raw"
	ok "in OUTPUT of raw, too" refused_rule raw OUTPUT "OUTPUT"
	ok "in a user chain of raw it is not" user_chain
}
user_chain() {
	firewall
	ipt -t raw -F
	ipt -t raw -N web
	ipt -t raw -A PREROUTING -i eth0 -p tcp -j web
	# shellcheck disable=SC2086 # words of a rule
	ipt -t raw -A web -p tcp --dport 80 -j $proxy
	page 4701 /64k
}

### The end

# One connection that waits, one that opens, and two that are open, the second without
# timestamps.
every_state() {
	local port=$1
	gate_by_one_rule
	spawn client curl -sS -X HELLO --local-port "$port" "$(url /)"
	wait_for state "$port" ESTABLISHED
	firewall
	spawn client curl -sS --local-port $((port + 1)) "http://$(host "$nobody")/"
	slow $((port + 2)) 200k
	client sysctl -qw net.ipv4.tcp_timestamps=0
	slow $((port + 3))
	client sysctl -qw net.ipv4.tcp_timestamps=1
	wait_for state $((port + 1)) SYN_SENT
}
ordinary_rules() {
	ipt_restore <<-END
		*raw
		COMMIT
		*mangle
		COMMIT
		*filter
		:FORWARD DROP
		-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
		COMMIT
	END
}

lifetime() {
	local plain
	# To stay without an answer: an unreachable neighbour is an answer.
	ip -n fw neigh replace "$nobody" lladdr 02:00:00:00:02:77 dev eth1
	every_state 4810
	plain=$pid
	ordinary_rules
	ok "without rules the module can be unloaded" unload
	ok "what waited is gone" no_entries 4810
	ok "what was opening is gone" no_entries 4811
	ok "what needs its timestamps translated is gone" no_entries 4812
	ok "what does not is still there" not no_entries 4813
	ok "and goes on to its end without the module" whole "$plain" 4813
	every_state 4820
	# What keeps a namespace is its processes.
	stop "$fw_nginx"
	ip netns del fw
	ok "the firewall goes, with connections in every state" wait_for not ip -n client link show c0
	ok "and leaves nothing that holds the module" unload
}

set_up
case $FAMILY in
4) prefix=24 ;;
6) prefix=64 ;;
esac
# MASQUERADE does not choose it.
ip -n fw addr add "${server%2}100/$prefix" dev eth1 preferred_lft 0
start_nginx server
rm -f "$tmp/nginx.pid"
start_nginx fw
fw_nginx=$nginx
capture

# ONLY=REGEX: some of them.
for part in pages nat ways devices watched strangers known failures dropped deferred in_place places lifetime; do
	[[ ! $part =~ ${ONLY-} ]] || $part
done

finish
