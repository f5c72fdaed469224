#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# A transparent proxy behind this one: TPROXY hands it the connections of clients, it accepts
# them on the servers' addresses, and connects to servers from the clients' addresses. With
# one rule, and behind a gate. The rules of TPROXY are those of the kernel's documentation.

. "$(dirname "$0")/lib.sh"

options=(--sack-perm --timestamp --wscale 7 --mss 1401)

### The transparent proxies

start_proxy() {
	spawn fw "$here/../build/cargo/release/transparent-proxy" --verbose >"$tmp/proxy.log" 2>&1
	wait_for grep -q "listening on port 3129" "$tmp/proxy.log"
}

start_squid() {
	mkdir -p "$tmp/squid"
	chown proxy "$tmp/squid"
	cat >"$tmp/squid.conf" <<-END
		http_port 3128
		http_port 3130 tproxy
		http_access allow all
		cache deny all
		via off
		forwarded_for transparent
		pid_filename none
		netdb_filename none
		pinger_enable off
		cache_log $tmp/squid/cache.log
		access_log stdio:$tmp/squid/access.log
		coredump_dir $tmp/squid
		shutdown_lifetime 0 seconds
	END
	spawn fw squid -N -f "$tmp/squid.conf"
	wait_for listens fw 3130
}

# What both are given, by port: those of the servers and of the proxy.
hand_over() {
	ipt -t mangle -A PREROUTING -i eth0 -p tcp --dport "$1" -j TPROXY --on-port "$2" --tproxy-mark 0x100/0x100
}

### The connections

# silent PORT: a client that says nothing, and waits.
silent() { spawn client socat -u "TCP:$(host "$server"):80,sourceport=$1" OPEN:/dev/null,wronly; }

proxied() { grep -qF "$client:$1 -> " <(tr -d '[]' <"$tmp/proxy.log"); }
by_squid() { grep -q " $client TCP_MISS/200 .* ORIGINAL_DST/" "$tmp/squid/access.log"; }
# The server has seen its client's address, and another port of it.
server_saw_proxy() {
	local seen
	seen=$(sed -n 's/^Seen: \([^\r]*\).*/\1/p' "$tmp/head")
	[[ $seen == "$client "*" $server "* && $seen != "$client $1 "* ]] || { echo "got '$seen'" && false; }
}
offered() { grep -q 'mss 1401' <(seen client "tcp dst port $1 and $SYN_ACK"); }
# How many SYNs have got to the transparent proxy.
let_in() { ipt_save -c | sed -nE 's/^\[([0-9]+):.* -A INPUT .*--ctstate NEW -j ACCEPT/\1/p'; }
knocks() { seen_count server "tcp[tcpflags] & (tcp-syn | tcp-ack) == tcp-syn or ip6[53] & 18 == 2"; }

# visit PORT DPORT: fetches a page and compares it.
visit() {
	client curl -sS --max-time 60 --local-port "$1" -D "$tmp/head" -o "$tmp/page.$1" "$(url ":$2/1M")" &&
		cmp "$tmp/page.$1" "$www/1M"
}

# passes NAME PORT [DPORT BY]: a page comes, by the proxy, and another one on the same port.
passes() {
	ok "$1: a page comes" visit "$2" "${3-80}"
	# The client may have been the first to close.
	client ss -HK state time-wait "sport = $2" >&2
	ok "$1: and once more, from the same port" visit "$2" "${3-80}"
	ok "$1: the proxy was in between" "${4-proxied}" "$2"
	ok "$1: the server sees the client's address" server_saw_proxy "$2"
}

# reset_by_gate WORDS: whoever says that.
reset_by_gate() {
	local status=0
	client timeout 30 bash -c "exec 3<>/dev/tcp/$server/80; echo '$1' >&3; cat <&3" || status=$?
	[ "$status" = 1 ] || { echo "exit status $status" && false; }
}

no_rules() {
	ipt -t mangle -F INPUT
	printf '%s\n' '*raw' COMMIT '*filter' ':INPUT ACCEPT' ':FORWARD DROP' COMMIT | ipt_restore
}

set_up
if ! ipt -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 3129; then
	skip "TPROXY" "the kernel has none"
	finish
fi
ipt -t mangle -F
start_nginx server
capture
start_proxy
start_squid
modprobe -C /dev/null -a "$in_tree"
fw ip -"$FAMILY" rule add fwmark 0x100/0x100 lookup 100
fw ip -"$FAMILY" route add local default dev lo table 100
ipt -t mangle -N DIVERT
ipt -t mangle -A DIVERT -j MARK --set-mark 0x100/0x100
ipt -t mangle -A DIVERT -j ACCEPT
# A SYN on ports whose socket is in TIME_WAIT is for the listener, as TPROXY knows.
hand_over 80 3129
hand_over 81 3130
hand_over 21 3129
ipt -t mangle -A PREROUTING -p tcp -m socket --transparent -j DIVERT
ipt -P FORWARD DROP
passes "no SYN proxy" 4001

# In-tree the SYN leaves by OUTPUT, and there is no TPROXY.
ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
stock in_ns fw "$iptables-$BACKEND" -A INPUT -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY "${options[@]}"
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
ok "in-tree: no page comes" not client curl -sS --max-time 5 --local-port 4002 "$(url /64k)" -o /dev/null
ok "in-tree: the proxy was not asked" not proxied 4002
no_rules
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
wait_for rmmod "$in_tree"

modprobe xt_SYNPROXY

### Behind a gate

start_dpi --verbose --deny-mark 0x0d
ipt -P INPUT DROP
ipt -t mangle -A INPUT -i eth0 -p tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0
ipt -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -m spstate ! --in-progress -j ACCEPT
ipt -A INPUT -i eth0 -p tcp --dport 80 -m mark --mark 0x0b -m spstate --in-progress -j SYNPROXY "${options[@]}"
ipt -A INPUT -i eth0 -p tcp --dport 80 -m mark --mark 0x0d -m spstate --in-progress -j REJECT --reject-with tcp-reset
ipt -A INPUT -i eth0 -p tcp --dport 80 -m spstate --none -j SYNPROXY "${options[@]}"
# Our SYN, for a client that has got so far.
ipt -A INPUT -i eth0 -p tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT
[ "$FAMILY" = 4 ] || ipt -A INPUT -p icmpv6 -j ACCEPT
passes "gate" 4051
settle
ok "gate: the client has met the SYN proxy" offered 4051
ok "gate: what the client sent meanwhile has come in" [ "$(counted held)" -ge 1 ]
settle
before=$(knocks) lines=$(grep -c . "$tmp/proxy.log") entered=$(let_in)
ok "gate: who says something else is reset" reset_by_gate "SSH-2.0-x"
settle
is "gate: and no server has heard of it" "$(knocks)" "$before"
is "gate: nor has the proxy" "$(grep -c . "$tmp/proxy.log")" "$lines"
is "gate: no packet has been let in to it" "$(let_in)" "$entered"
no_rules

### Without a gate

fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
ipt -A INPUT -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY "${options[@]}"
passes "two rules" 4011
settle
ok "two rules: the client has met the SYN proxy" offered 4011
no_rules
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1

ipt -t raw -A PREROUTING -i eth0 -d "$server" -p tcp -m multiport --dports 21,80,81 -j SYNPROXY "${options[@]}"
passes "one rule" 4021
settle
ok "one rule: the client has met the SYN proxy" offered 4021
passes "one rule, squid" 4022 81 by_squid

# The proxy does not get our ACK, and answers once more.
ipt -t mangle -A INPUT -p tcp --dport 80 --tcp-flags ALL ACK -m limit --limit 1/hour --limit-burst 1 -j DROP
silent 4023
ok "one rule: the proxy's answer comes again, and is acknowledged" wait_for proxied 4023
settle
is "one rule: not by way of the server" "$(seen_count server "tcp src port 4023")" 0
ipt -t mangle -F INPUT
# Of that connection the client knows nothing any more.
client "$iptables-$BACKEND" -A OUTPUT -p tcp --tcp-flags RST RST -j DROP
client ss -HK state established "sport = 4023" >&2
client "$iptables-$BACKEND" -F OUTPUT
ipt_restore <<-END
	*filter
	:INPUT DROP
	$([ "$FAMILY" = 4 ] || echo "-A INPUT -p icmpv6 -j ACCEPT")
	-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	-A INPUT -i eth0 -p tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT
	COMMIT
END
passes "one rule, the proxy has an older connection" 4023
settle
is "one rule: the server has not heard of it" "$(seen_count server "tcp src port 4023")" 0

# The rule for what is redirected, where nothing else may come in.
ipt_restore <<-END
	*filter
	:INPUT DROP
	$([ "$FAMILY" = 4 ] || echo "-A INPUT -p icmpv6 -j ACCEPT")
	-A INPUT -p tcp -m socket --transparent --nowildcard -j ACCEPT
	COMMIT
END
passes "one rule, INPUT accepts what is redirected" 4024
ipt -P INPUT ACCEPT

# FTP: the proxy listens on the client's address, and connects from the server's.
start_ftp
[ "$FAMILY" = 6 ] || ok "one rule: active FTP" file 4030 -P - --disable-eprt
ok "one rule: active FTP, EPRT" file 4040 -P -
no_rules

finish
