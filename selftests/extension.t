#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# iptables with our library for -j SYNPROXY and with the one that it came with, which
# knows no revision but 0; in front of our module, and of the kernel's own, which knows
# no other either.

. "$(dirname "$0")/lib.sh"

plain="-p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --ecn"
new="--defer --window 14600 --timeout 5 --rate 1000"

# rule -A|-C|-D RULE: in FORWARD.
# shellcheck disable=SC2086 # a rule is several words
rule() { ipt "$1" FORWARD $2; }
rules() { ipt_save -t filter | grep '^-A' || :; }
listed() { ipt -L FORWARD; }

help() { fw "$iptables-$BACKEND" -j SYNPROXY -h; }
# unknown OPTION...: refused as what nobody has heard of.
unknown() {
	local error
	! error=$(rule -A "-p tcp -j SYNPROXY $*" 2>&1) || return 1
	echo "$error"
	grep -q "unknown option \"$1\"" <<<"$error"
}

# there_and_gone RULE: four tests that a rule is found as it was added, and can be
# deleted.
there_and_gone() {
	ok "$1: is added" rule -A "$1"
	ok "and found" rule -C "$1"
	ok "and deleted" rule -D "$1"
	is "and was the only one" "$(rules)" ""
}
# alone RULE OTHER...: RULE is there, and not found by the others.
alone() {
	local other
	rule -A "$1" || return 1
	for other in "${@:2}"; do
		! rule -C "$other" || return 1
	done
	rule -D "$1"
}

set_up
modprobe xt_SYNPROXY

ok "the help has the new options" grep -q -e --defer <(help)
there_and_gone "$plain $new"
ok "with another timeout, or no window, it is another rule" alone "$plain $new" \
	"$plain --defer --window 14600 --timeout 6 --rate 1000" "$plain --defer --timeout 5 --rate 1000"
ok "or with another rate, or none" alone "$plain --rate 5" "$plain --rate 6" "$plain"
ok "so it is with a default that is given" alone "$plain --timeout 30" "$plain"
# shellcheck disable=SC2086 # a rule is several words
is "a rule is not translated to the synproxy of nft" \
	"$(fw "$iptables-translate" -A FORWARD $plain)" "nft # -A FORWARD $plain "

# From one library to the other.
ok "the stock library has no --defer" stock unknown --defer
ok "and no --rate" stock unknown --rate 1
rule -A "$plain"
rules >"$tmp/ours"
listed >"$tmp/listed"
ipt_save >"$tmp/saved"
ipt -F
ok "what ours saves the stock library restores" stock ipt_restore <"$tmp/saved"
ok "and saves alike" diff "$tmp/ours" <(stock rules)
ok "and lists alike" diff "$tmp/listed" <(stock listed)
if [ "$BACKEND" = nft ]; then
	ok "ours saves a rule of revision 0 as what it is" diff "$tmp/ours" <(rules)
	ok "and lists it" diff "$tmp/listed" <(listed)
else
	skip "ours saves a rule of revision 0 as what it is" "libxtables drops all revisions but one"
	skip "and lists it" "libxtables drops all revisions but one"
fi
stock ipt_save >"$tmp/saved"
ok "what the stock library saves ours restores" ipt_restore <"$tmp/saved"
ok "and saves alike" diff "$tmp/ours" <(rules)
ok "as revision 1" rule -D "$plain"

# The kernel's own module. modprobe would load ours by that name.
unload
modprobe -C /dev/null "$in_tree"
ok "the kernel's module has no --defer" unknown --defer
ok "and no --rate" unknown --rate 1
ok "nor has the help" not grep -q -e --defer <(help)
there_and_gone "$plain"
rule -A "$plain"
ok "a rule is saved as by the stock library" diff <(stock rules) <(rules)
ok "and listed" diff <(stock listed) <(listed)
ipt_save >"$tmp/saved"
ok "and goes round" ipt_restore <"$tmp/saved"
ok "and is the same then" diff "$tmp/ours" <(rules)
ipt -F
ok "nothing holds the kernel's module" wait_for rmmod "$in_tree"

finish
