#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# A flowtable takes established connections past all rules. Not what waits.

. "$(dirname "$0")/lib.sh"

set_up
start_nginx server
gate
ipt -A FORWARD -p tcp --dport 81 -j ACCEPT
fw nft -f - <<-END
	table inet fast {
		flowtable lane {
			hook ingress priority 0
			devices = { eth0, eth1 }
		}
		chain forward {
			type filter hook forward priority -5
			meta l4proto tcp ct state established flow add @lane
		}
	}
END
capture

spawn client curl -sS --limit-rate 500k --local-port 4001 -o /dev/null "$(url :81/4M)"
other=$pid
offloaded() { entries 4001 | grep -q OFFLOAD; }
ok "a connection that is not proxied takes the flowtable" wait_for offloaded
stop "$other"

spawn client curl -sS --max-time 100 --local-port 4002 -o "$tmp/held" "$(url /1M)"
curl=$pid
held "a connection that waits" 4002
ok "is not in the flowtable" not grep -q OFFLOAD <(entries 4002)
start_dpi --verbose
ok "with a verdict the page comes" wait "$curl"
ok "whole" cmp "$tmp/held" "$www/1M"

ipt -F FORWARD
ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
ipt -A FORWARD -i eth0 -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 7
ipt -P FORWARD ACCEPT
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
ok "no gate: a page begins to come, too" slow 4003 1M
curl=$pid
ok "no gate: not through the flowtable" not grep -q OFFLOAD <(entries 4003)
ok "no gate: and comes to its end, whole" whole "$curl" 4003

finish
