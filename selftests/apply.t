#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
# family: 4
#
# Changing rules from afar: examples/servers.m4, and iptables-apply, which puts the old ones
# back unless somebody who can still connect says that all is well. The lines are those of
# docs/operating.md.

. "$(dirname "$0")/lib.sh"

apply=$iptables-apply
loose=net.netfilter.nf_conntrack_tcp_loose

# The example, with the test's addresses.
template() {
	sed "s/192\.0\.2\.10/$server/; s/192\.0\.2\.11/$nobody/; s/192\.0\.2\.12/$gateway/" "$here/../examples/servers.m4"
}
rules_without_counters() { fw "$iptables-save" | sed '/^#/d; s/\[.*\]//'; }
# As they were before: $tmp/rules and $tmp/sysctl.
as_before() { diff "$tmp/rules" <(rules_without_counters) && diff "$tmp/sysctl" <(fw sysctl "$loose"); }
# try FILE ANSWER...: the recipe, with somebody who says that, or who says nothing for long.
try() {
	fw sysctl -qw "$loose"=0
	# shellcheck disable=SC2016 # words of the other shell
	"${@:2}" | fw sh -c '"$1" -t 4 "$2" || { sysctl -qp "$3"; exit 1; }' sh "$apply" "$1" "$tmp/sysctl"
}
says_nothing() { sleep 60 & }
proxied() { [ "$(counted opened)" -gt "$1" ]; }

set_up
start_nginx server
capture
ipt_restore <<-END
	*filter
	:FORWARD DROP
	-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	-A FORWARD -i eth0 -p tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT
	COMMIT
END
fw sysctl "$loose" >"$tmp/sysctl"
ok "a page comes, without a proxy" page 4001 /64k

template | m4 -P >"$tmp/raw.rules"
ok "the template makes rules" fw "$iptables-restore" --test "$tmp/raw.rules"
is "the template makes a rule for each server" "$(grep -c SYNPROXY "$tmp/raw.rules")" 3
is "and nothing that m4 left over" "$(grep -v '^#' "$tmp/raw.rules" | grep -c 'SERVER\|LINUX\|m4_')" 0

fw "$iptables" -t raw -P PREROUTING ACCEPT
rules_without_counters >"$tmp/rules"

ok "nobody says yes: that is an error" not try "$tmp/raw.rules" says_nothing
ok "nobody says yes: all is as before" as_before
ok "nobody says yes: a page comes" page 4002 /64k
ok "nobody says yes: the module can go" unload
ok "somebody says no: that is an error" not try "$tmp/raw.rules" echo n
ok "somebody says no: all is as before" as_before

sed 's/--mss 1460/--mss 70000/' "$tmp/raw.rules" >"$tmp/bad.rules"
ok "a bad rule: that is an error" not try "$tmp/bad.rules" echo y
ok "a bad rule: all is as before" as_before

ok "somebody says yes" try "$tmp/raw.rules" echo y
ok "somebody says yes: the rules are there" [ "$(fw "$iptables-save" -t raw | grep -c SYNPROXY)" = 3 ]
is "somebody says yes: the sysctl, too" "$(fw sysctl -n "$loose")" 0
before=$(counted opened)
ok "somebody says yes: a page comes" page 4003 /64k
ok "somebody says yes: by the proxy" proxied "$before"
ok "the same once more" try "$tmp/raw.rules" echo y
is "is the same" "$(fw "$iptables-save" -t raw | grep -c SYNPROXY)" 3

rules_without_counters >"$tmp/rules"
fw sysctl "$loose" >"$tmp/sysctl"
slow 4004 400k
download=$pid
sed 's/-j SYNPROXY .*/-j DROP/' "$tmp/raw.rules" >"$tmp/shut.rules"
ok "rules that shut everybody out: nobody can say yes" not try "$tmp/shut.rules" says_nothing
ok "rules that shut everybody out: all is as before" as_before
ok "rules that shut everybody out: a page comes after that" page 4005 /64k
ok "rules that shut everybody out: a connection has waited, and goes on" whole "$download" 4004

finish
