#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# One SYN proxy in a namespace: the kernel's own, by nftables or by its module for
# iptables, before ours and after it.

. "$(dirname "$0")/lib.sh"

refusal="the kernel's own SYN proxy has rules in this namespace"
warning="the kernel's own SYN proxy has come to a namespace"
table=ip
[ "$FAMILY" = 4 ] || table=ip6
# modprobe would load ours by that name.
in_tree_file=/usr/lib/modules/$(uname -r)/kernel/net/$l3/netfilter/$in_tree.ko

with=()
rule() { "${with[@]}" ipt "$1" FORWARD -p tcp --dport 80 -m state --state UNTRACKED,INVALID -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 7; }
# refused NAME: two tests that a rule of ours is, and that the log has the reason.
refused() {
	dmesg --clear
	ok "$1: our rule is refused" not rule -A
	ok "$1: with the reason in the log" logged 1 "$refusal"
}
# logged TIMES WHAT
logged() { equal "$(dmesg | grep -c "xt_SYNPROXY: $2")" "$1"; }

# nft_synproxy NAMESPACE: on a port that is none of ours, so that it is the hooks
# that meet.
nft_synproxy() {
	in_ns "$1" nft -f - <<-END
		table $table other {
			chain forward {
				type filter hook forward priority 10
				tcp dport 82 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
			}
		}
	END
}
# nft destroys rules after it has said that they are gone.
without_nft_synproxy() {
	in_ns "$1" nft delete table "$table" other
	wait_for users nft_synproxy 0
}
# users MODULE COUNT: so many of its rules there are.
users() { equal "$(cat "/sys/module/$1/refcnt")" "$2"; }

# try PORT: a connection of which nobody knows what becomes, up to our SYN.
try() {
	spawn client curl -sS --local-port "$1" -o /dev/null "$(url /64k)"
	wait_for connects "$1"
	stop "$pid"
}
connects() { [ "$(seen_count server "tcp src port $1 and $SYN")" -ge 1 ]; }

set_up
start_nginx server
capture
ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 --syn -j CT --notrack
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
modprobe xt_SYNPROXY

nft_synproxy fw
refused "nft synproxy first"
ok "and nothing holds our module" unused
without_nft_synproxy fw
ok "without it our rule is accepted" wait_for rule -A
ok "and a page comes" page 4001 /64k

dmesg --clear
nft_synproxy fw
try 4002
ok "nft synproxy afterwards: a warning" logged 1 "$warning"
try 4003
ok "only one" logged 1 "$warning"
without_nft_synproxy fw
ok "without it a page comes again" page 4004 /64k
nft_synproxy fw
try 4005
ok "when it comes back: another warning" logged 2 "$warning"
without_nft_synproxy fw

dmesg --clear
nft_synproxy server
rule -D
ok "nft synproxy in another namespace: our rule is accepted" rule -A
ok "a page comes" page 4006 /64k
ok "and nothing is logged" logged 0 .
without_nft_synproxy server

# The target that was registered last gets the rules of revision 0: those of the stock
# library.
rule -D
with=(stock)
unload
modprobe nf_synproxy_core
insmod "$in_tree_file"
rule -A
ok "the kernel's module alone has the rule" users "$in_tree" 1
ok "and serves a page" page 4011 /64k
modprobe xt_SYNPROXY
refused "the kernel's module first, with a rule"
rule -D
ok "without that rule ours is accepted" rule -A
ok "which is ours" not unused
ok "and not the kernel's" users "$in_tree" 0
ok "a page comes" page 4012 /64k
rmmod "$in_tree"

dmesg --clear
insmod "$in_tree_file"
ok "the kernel's module afterwards: a page still comes by our rule" page 4013 /64k
ok "and nothing is logged" logged 0 .
rule -I
# The legacy form looks up the targets of the whole table with each change.
ok "a new rule is the kernel's" users "$in_tree" "$([ "$BACKEND" = legacy ] && echo 2 || echo 1)"
# Timestamps are translated twice: depending on the clocks, it works or does not.
client curl -sS --max-time 10 --local-port 4014 -o /dev/null "$(url /64k)" || :
ok "which is logged when a connection ends" wait_for logged 1 "$warning"
ipt -F FORWARD
with=()
ok "a rule of revision 1 is accepted" wait_for rule -A
ok "and is ours" users "$in_tree" 0
ipt -F FORWARD
unload
rule -A
ok "without our module the kernel's serves a page" page 4015 /64k
ipt -F FORWARD
rmmod "$in_tree"
ok "nothing of the kernel's own is left for the next test" wait_for modprobe -r nft_synproxy

finish
