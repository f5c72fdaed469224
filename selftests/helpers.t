#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Helpers: FTP through the proxy. Conntrack's helper reads, and with NAT rewrites,
# the control connection, whose numbers are translated; it lets the data
# connection through.
#
# The helper is given to the proxy's SYN in OUTPUT, by nftables: the target CT sees
# in the table raw that the SYN has an entry already.

. "$(dirname "$0")/lib.sh"

table=ip
[ "$FAMILY" = 4 ] || table=ip6

# The old commands have addresses in them, and IPv6 has the new ones only.
old=()
[ "$FAMILY" = 6 ] || old=(--disable-epsv --disable-eprt)

# both NAME PORT: the client makes the data connection, or the server does.
both() {
	ok "$1: passive FTP" file "$2" "${old[@]}"
	ok "$1: the control connection has the helper" grep -q helper=ftp <(entries "$2")
	ok "$1: active FTP" file $(($2 + 10)) "${old[@]}" -P -
	[ "$FAMILY" = 6 ] || {
		ok "$1: passive FTP, EPSV" file $(($2 + 20))
		ok "$1: active FTP, EPRT" file $(($2 + 30)) -P -
	}
	settle
	ok "$1: the control connection was the proxy's" grep -q 'mss 1401' <(seen client "tcp dst port $2 and $SYN_ACK")
}

set_up
start_ftp
start_nginx server
capture
modprobe nf_nat_ftp
ip -n fw -batch - <<-END
	addr add 10.0.2.100/24 dev eth1
	addr add fd00:2::100/64 dev eth1 nodad
END

fw nft -f - <<-END
	table $table helpers {
		ct helper ftp {
			type "ftp" protocol tcp
		}
		chain output {
			type filter hook output priority 0
			tcp dport 21 ct state new ct helper set "ftp"
		}
	}
END
ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 21 --syn -j CT --notrack
ipt -P FORWARD DROP
ipt -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
for chain in INPUT FORWARD; do
	ipt -A $chain -i eth0 -p tcp --dport 21 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1401 --wscale 7
done
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0

ok "without a helper's word no other connection passes" not client curl -sS --max-time 3 --local-port 4001 "$(url :81/64k)" -o /dev/null
both "no NAT" 4100
# An address of another length moves what follows in the stream.
case $FAMILY in
4) ipt -t nat -A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 10.0.2.100 ;;
6) ipt -t nat -A POSTROUTING -o eth1 -p tcp -j SNAT --to-source fd00:2::100 ;;
esac
both "source NAT" 4200
ipt -t nat -F
# What conntrack has not seen is translated by nobody: the SYN is for the firewall.
ipt -t nat -A OUTPUT -p tcp -d "$gateway" --dport 21 -j DNAT --to-destination "$server"
ipt -t nat -A PREROUTING -p tcp -d "$gateway" --dport 21 -j DNAT --to-destination "$server"
address=$gateway
both "destination NAT" 4300

ipt -t nat -F
fw nft delete table "$table" helpers
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
ipt -t raw -F
gate
start_dpi --verbose
address=$server
ok "the gate: a page comes" page 4401 /64k
ipt -t raw -A PREROUTING -p tcp --dport 80 -j CT --helper ftp
spawn client curl -sS --local-port 4402 "$(url /64k)" -o /dev/null
held "the gate, with a helper" 4402
ok "the gate, with a helper: there is no entry" no_entries 4402

finish
