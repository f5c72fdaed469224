#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft legacy
#
# Rules that no iptables would make, handed to the kernel by blobs.py: it takes those
# that are valid, and has an error for all others.
#
# $BLOBS and $BLOBS_SEED are as there.

. "$(dirname "$0")/lib.sh"

export BACKEND FAMILY BLOBS BLOBS_SEED

blobs() { fw "$here/blobs.py" "$@"; }
hooks() { fw nft list hooks | grep xt_SYNPROXY; }

set_up
start_nginx server
modprobe xt_SYNPROXY
case $BACKEND in
nft)
	modprobe nft_compat
	;;
legacy)
	for table in filter mangle raw nat security; do
		ipt -t $table -S >&2 || :
	done
	;;
esac
for table in $(blobs prepare); do
	skip "rules in table $table" "the kernel has none"
done
has_hooks=$(fw nft list hooks || :)
modprobe=$(sysctl -n kernel.modprobe)
# Or each unknown name would start it.
sysctl -qw kernel.modprobe=

ok "bad parameters are refused" blobs bad
if [ -n "$has_hooks" ]; then
	ok "and leave no hooks" not hooks
else
	skip "and leave no hooks" "the kernel does not list them"
fi
ok "nor references" unused
ok "good parameters are taken" blobs good
if [ -n "$has_hooks" ]; then
	ok "and bring hooks" hooks
else
	skip "and bring hooks" "the kernel does not list them"
fi
ok "sizes, names, revisions, protocols, chains, and all at random" blobs shapes random aborted revisions kinds
# From here on lines of the log are not counted.
ok "any bytes changed" blobs wild
case $BACKEND in
nft)
	ok "netlink attributes" blobs malformed
	ok "families, types of chains, ways to a chain" blobs places
	;;
legacy)
	config=/usr/lib/modules/$(uname -r)/build/.config
	if ! [ -e /proc/sys/abi/vsyscall32 ]; then
		skip "rules of a 32-bit program" "the kernel has no 32-bit system calls"
	elif grep -q '^# CONFIG_NETFILTER_XTABLES_COMPAT is not set' "$config"; then
		ok "rules of a 32-bit program are refused" blobs compat32
		skip "or translated" "CONFIG_NETFILTER_XTABLES_COMPAT is not set"
	else
		ok "rules of a 32-bit program have a test" false
	fi
	;;
esac
ok "nothing holds the module" wait_for unused

# liar TABLE CHAIN REVISION PORT: a rule that says it is for TCP, and does not look.
liar() {
	blobs lie "$1" "$2" "$3"
	ok "$1 $2, revision $3: what is not TCP is not answered" raw foreign "$4"
	is "$1 $2, revision $3: nor does the server hear of it" "$(heard "$4")" 0
	fw nft flush table "$l3_table" "$1"
}
heard() {
	settle
	seen_count server "tcp portrange $1-$(($1 + 9))"
}
if [ "$BACKEND" = nft ]; then
	l3_table=ip
	[ "$FAMILY" = 4 ] || l3_table=ip6
	capture
	liar filter FORWARD 0 20000
	liar filter FORWARD 1 20100
	liar raw PREROUTING 0 20200
	liar raw PREROUTING 1 20300
	end_capture
fi

# The kernel's own target beside ours.
blobs verdicts "$tmp/ours"
unload
modprobe -C /dev/null "$in_tree"
blobs verdicts "$tmp/in-tree"
ok "rules of revision 0 are taken as in-tree, but for known reasons" blobs differ "$tmp/ours" "$tmp/in-tree"
ok "nothing holds the kernel's module" wait_for rmmod "$in_tree"

sysctl -qw kernel.modprobe="$modprobe"
[ "$BACKEND" = legacy ] || fw nft flush ruleset
ipt -t raw -A PREROUTING -i eth0 -p tcp --dport 80 -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
ok "a page comes by a good rule" page 4001 /64k
ok "and by the proxy" [ "$(counted cookie_valid)" -ge 1 ]
ipt -t raw -F

finish
