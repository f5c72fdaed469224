#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft legacy
#
# Rules are taken, printed, and taken again.

. "$(dirname "$0")/lib.sh"

ext=$here/../iptables-ext

# round_trip RULE: what is saved can be restored and is the same then, RULE included.
round_trip() {
	save >"$tmp/saved"
	ipt -F && ipt -t mangle -F && ipt_restore <"$tmp/saved" &&
		save | diff "$tmp/saved" - && grep -e "$1" "$tmp/saved"
}
save() { ipt_save | sed '/^#/d; s/\[.*\]/[0:0]/'; }

chains() {
	case $1 in
	filter) echo INPUT FORWARD OUTPUT user ;;
	mangle) echo PREROUTING INPUT FORWARD OUTPUT POSTROUTING user ;;
	raw) echo PREROUTING OUTPUT user ;;
	nat) echo PREROUTING INPUT OUTPUT POSTROUTING user ;;
	esac
}

# Every form of the match in every chain of every table.
every_form() {
	local table chain not state
	for table in filter mangle raw nat; do
		echo "*$table"
		echo ":user - [0:0]"
		for chain in $(chains $table); do
			for state in none in-progress finish; do
				for not in "" "! "; do
					echo "-A $chain -m spstate $not--$state"
				done
			done
			[ "$chain" = user ] || echo "-A $chain -j user"
		done
		echo COMMIT
	done
}
with_table() { awk '/^\*/ { table = $0 } /^-A/ { print table, $0 }' | sort; }
lists_every_form() { diff <(every_form | with_table) <(ipt_save | with_table); }

# own_rules EXTENSION: the rules of its own test file, as iptables' iptables-test.py
# reads it: :CHAIN,...; rule;what is saved ("=": the same);OK or FAIL. One line is one
# test.
own_rules() {
	local rule wanted result chains
	while IFS=';' read -r rule wanted result; do
		case $rule in
		:*) IFS=, read -ra chains <<<"${rule#:}" ;;
		*) if [ "$result" = OK ]; then
			ok "$rule: is taken" takes "$rule" "${wanted/#=/$rule}"
		else
			ok "$rule: is refused" refuses "$rule"
		fi ;;
		esac
	done <"$ext/libxt_$1.t"
}
takes() {
	printf -- "-A %s $1\n" "${chains[@]}" | sed '1i *filter
		$a COMMIT' | ipt_restore &&
		diff <(printf -- "-A %s $2\n" "${chains[@]}") <(ipt_save -t filter | grep ^-A)
}
# shellcheck disable=SC2086 # a rule is several words
refuses() { ! ipt -A INPUT $1; }

# own_translations EXTENSION: those of its other test file, as iptables' xlate-test.py
# reads it: a command, what it prints, an empty line.
own_translations() {
	local command wanted
	while read -r command && read -r wanted; do
		# shellcheck disable=SC2086 # a rule is several words
		is "$command" "$(fw $command)" "$wanted "
		read -r _ || :
	done <"$ext/libxt_$1.txlate"
}

set_up

first_rule() {
	unload && [ ! -e "/sys/module/$in_tree" ] && ipt -A FORWARD "$@" &&
		[ -e /sys/module/xt_SYNPROXY ] && [ ! -e "/sys/module/$in_tree" ] && ipt -F
}
ok "-j SYNPROXY loads this module, and not the kernel's own" first_rule -p tcp -j SYNPROXY
ok "with an option of revision 1 as well" first_rule -p tcp -j SYNPROXY --defer
ok "-m spstate loads it as well" first_rule -m spstate --none

ok "examples/synproxy.rules is taken" gate
ok "and goes round" round_trip 'SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460'
ipt -F
ipt -t mangle -F

every_form >"$tmp/forms"
ok "every form of spstate in every chain is taken" ipt_restore <"$tmp/forms"
ok "and listed as it was given" lists_every_form
ok "and goes round" round_trip 'POSTROUTING -m spstate ! --finish'
for table in filter mangle raw nat; do
	ipt -t $table -F
	ipt -t $table -X
done

ok "SYNPROXY in a user chain is taken" ipt_restore <<-END
	*filter
	:user - [0:0]
	-A FORWARD -j user
	-A INPUT -p tcp -j SYNPROXY
	-A user -p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --ecn --defer --window 14600 --timeout 5
	COMMIT
END
ok "and goes round" round_trip '-A user -p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --ecn --defer --window 14600 --timeout 5'
ipt -F
ipt -X user

# The rule of iptables' own libxt_SYNPROXY.t; options.t has the one that is to fail.
theirs='-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j SYNPROXY --sack-perm --timestamp --wscale 9 --mss 1460'
for chain in INPUT FORWARD; do
	# shellcheck disable=SC2086 # a rule is several words
	ok "the rule of libxt_SYNPROXY.t in $chain is taken" ipt -A $chain $theirs
	ok "and goes round" round_trip "-A $chain $theirs"
done
ipt -F

own_rules spstate
own_rules SYNPROXY
own_translations spstate
own_translations SYNPROXY

finish
