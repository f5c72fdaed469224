#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: legacy
#
# FireHOL as Debian has it, which uses the legacy form of iptables: its helper "synproxy" in
# the five cases that it documents, with the kernel's own target and with this one. Then the
# same firewall without that helper, and one rule of this target for each server.

. "$(dirname "$0")/lib.sh"

# Addresses of the firewall for a server elsewhere and for a trap, and another one of the server.
case $FAMILY in
4) public=10.0.1.100 trap=10.0.1.200 second=10.0.2.3 bits=24 ;;
6) public=fd00:1::100 trap=fd00:1::200 second=fd00:2::3 bits=64 ;;
esac
options="--sack-perm --timestamp --wscale 7 --mss 1401"

### The firewall

# What FireHOL is told: in all, and for the five cases KIND, with the helper or without.
config() {
	cat <<-END
		version 6
		FIREHOL_SYNPROXY_OPTIONS="$options"
		server_alt_ports="tcp/81"
		client_alt_ports="default"
		ipv$FAMILY ipset create trapped hash:ip
		ipv$FAMILY action TRAP iptrap trapped src 3600 next action DROP
	END
	"$1"
	cat <<-END
		ipv6 interface any v6interop proto icmpv6
			client ipv6neigh accept
			server ipv6neigh accept
			policy return
		ipv$FAMILY interface eth0 wan
			server http TRAP dst $trap
			server http accept
			server alt accept
			client all accept
		ipv$FAMILY interface eth1 lan
			client all accept
		ipv$FAMILY router wan2lan inface eth0 outface eth1
			server http accept
			server alt accept
	END
}
helper() {
	cat <<-END
		ipv$FAMILY synproxy input inface eth0 dst $gateway dport 80 accept
		ipv$FAMILY synproxy input inface eth0 dst $gateway dport 2200 redirect to 81
		ipv$FAMILY synproxy forward inface eth0 dst $server dport 80 accept
		ipv$FAMILY synproxy input inface eth0 dst $trap dport 80 action TRAP
	END
	# The helper takes what is before the first colon for the address.
	[ "$FAMILY" = 6 ] || cat <<-END
		ipv4 synproxy input inface eth0 dst $public dport 8080 dnat to $server:81
		ipv4 synproxy input inface eth0 dst $public dport 80 dnat to $server-$second
	END
}
plain() {
	cat <<-END
		ipv$FAMILY redirect to 81 inface eth0 dst $gateway proto tcp dport 2200
		ipv$FAMILY dnat to $(host "$server"):81 inface eth0 dst $public proto tcp dport 8080
		ipv$FAMILY dnat to $server-$second inface eth0 dst $public proto tcp dport 80
	END
}

# firehol KIND: starts it. Debian's does nothing before it is told that it may.
firehol() {
	echo START_FIREHOL=YES >/etc/default/firehol
	config "$1" >"$tmp/firehol.conf"
	in_ns fw firehol "$tmp/firehol.conf" start </dev/null 2>&1 | tee "$tmp/firehol.log"
	# Its exit status is 0 even when it goes back to the old rules.
	! grep FAILED "$tmp/firehol.log" && grep "ctivating new firewall.* OK" "$tmp/firehol.log"
}
# How many rules there are.
rules() { ipt_save | grep -c ^-A; }

### The five cases

# visit PORT ADDRESS DPORT: fetches a page and compares it. What the server has seen is in
# $tmp/head.PORT.
visit() {
	client curl -sS --max-time 20 --local-port "$1" -D "$tmp/head.$1" -o "$tmp/page.$1" \
		"http://$(host "$2"):$3/64k" && cmp "$tmp/page.$1" "$www/64k"
}
# Who the server has talked to, and where.
server_saw() { sed -n 's/^Seen: \([^\r]*\).*/\1/p' "$tmp/head.$1"; }
one_of() { grep -qxF -e "$2" -e "${3-$2}" <<<"$1" || { echo "got '$1'" && false; }; }

# served NAME PORT ADDRESS DPORT WHERE [OR]: a page comes from there, and the proxy has made
# the connection.
served() {
	ok "$1: a page comes" visit "$2" "$3" "$4"
	ok "$1: the server sees the client" one_of "$(server_saw "$2")" "$client $2 $5" "$client $2 ${6-$5}"
	settle
	ok "$1: it was the proxy's connection" grep -q 'mss 1401' <(seen client "tcp dst port $2 and $SYN_ACK")
}

is_trapped() { fw ipset -q test trapped "$1"; }
# A client that knocks on the trap; forged SYNs have knocked before.
screened() {
	address=$trap
	ok "$1: SYNs of nobody's knock" raw noise "$2"
	spawn client curl -sS --max-time 20 --local-port $(($2 + 700)) "http://$(host "$trap")/" -o /dev/null
	ok "$1: whoever is there is trapped" wait_for is_trapped "$client"
	ok "$1: whoever is not there is not" not is_trapped "$raw_client"
}

# cases NAME PORT [HERE]: HERE is what a redirected connection is for, as the server sees it.
cases() {
	served "$1: a server on the firewall" "$2" "$gateway" 80 "$gateway 80"
	served "$1: behind it" $(($2 + 2)) "$server" 80 "$server 80"
	if [ "$FAMILY" = 6 ] && [ "$1" != "one rule" ]; then
		skip "$1: on another port of it" "REDIRECT in OUTPUT leads to ::1, to which IPv6 lets nobody else talk"
		skip "$1: behind it, with DNAT" "FireHOL's helper does not understand an IPv6 address"
	else
		served "$1: on another port of it" $(($2 + 1)) "$gateway" 2200 "${3-$gateway} 81" "$trap 81"
		served "$1: behind it, with DNAT" $(($2 + 3)) "$public" 8080 "$server 81"
		served "$1: behind it, with DNAT to a range" $(($2 + 4)) "$public" 80 "$server 80" "$second 80"
	fi
	screened "$1: screening" $(($2 + 100))
}

type -P firehol >/dev/null || {
	skip "FireHOL" "it is not in this release of Debian"
	echo "1..$count"
	exit
}
set_up
if ! fw ipset create try hash:ip; then
	skip "FireHOL" "the kernel has no ipset"
	finish
fi
fw ipset destroy try
for at in "fw eth0 $public" "fw eth0 $trap" "server s0 $second"; do
	read -r ns device what <<<"$at"
	ip -n "$ns" addr add "$what/$bits" dev "$device"
done
for ns in server fw; do
	start_nginx $ns
	wait_for listens $ns 81
done
capture

modprobe -C /dev/null -a ipt_SYNPROXY ip6t_SYNPROXY
ok "in-tree: FireHOL starts" stock firehol helper
echo "# $(rules) rules"
cases in-tree 4000 127.0.0.1
ok "in-tree: FireHOL stops" fw firehol stop
wait_for rmmod ipt_SYNPROXY ip6t_SYNPROXY

modprobe xt_SYNPROXY
ok "FireHOL starts" firehol helper
echo "# $(rules) rules"
cases helper 6000 127.0.0.1
ipt_save >&2

ok "one rule: FireHOL starts" firehol plain
echo "# $(rules) rules"
for at in "$gateway 80" "$gateway 2200" "$server 80" "$public 8080" "$public 80" "$trap 80"; do
	# shellcheck disable=SC2086 # several options
	ipt -t raw -A PREROUTING -i eth0 -d "${at% *}" -p tcp --dport "${at#* }" -j SYNPROXY $options
done
cases "one rule" 8000
ipt_save >&2

finish
