#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft legacy
#
# Rules that make no sense are refused, with a reason, and leave nothing.

. "$(dirname "$0")/lib.sh"

# refused NAME REASON RULE...: the rule is refused, and iptables or the kernel says
# REASON.
refused() { ok "$1" refuses "$2" "${@:3}"; }
refuses() {
	dmesg --clear
	! ipt "${@:2}" >"$tmp/error" 2>&1 || return 1
	dmesg >>"$tmp/error"
	cat "$tmp/error"
	grep -v '^# ' "$tmp/error" | grep -q -e "$1"
}

# not_loaded PARAMETER=VALUE RANGE: the module is not loaded, and says why.
not_loaded() {
	dmesg --clear
	! modprobe xt_SYNPROXY "$1" || return 1
	dmesg | tee /dev/stderr | grep -qF "xt_SYNPROXY: $1: expected $2"
}

set_up
ok "gate_share=0" not_loaded gate_share=0 "1 to 100"
ok "gate_share=101" not_loaded gate_share=101 "1 to 100"
ok "held_kib=127" not_loaded held_kib=127 "128 to 1048576"
ok "held_total_kib=4194305" not_loaded held_total_kib=4194305 "128 to 4194304"
ok "with parameters in range it is" modprobe xt_SYNPROXY gate_share=100 held_kib=128 held_total_kib=128
unload
modprobe xt_SYNPROXY

refused "spstate without a state" "spstate: one of --none, --in-progress, --finish is required" -A FORWARD -m spstate
refused "spstate with two states" 'option "--none" cannot be used together with "--finish"' -A FORWARD -m spstate --none --finish
for protocol in "" "-p udp" "! -p tcp"; do
	# shellcheck disable=SC2086 # two words
	refused "SYNPROXY with '$protocol' for a protocol" "only valid for protocol 6" -A FORWARD $protocol -j SYNPROXY
done
for place in "filter OUTPUT" "mangle POSTROUTING"; do
	refused "SYNPROXY in $place" "used from hooks ${place#* }, but only usable from PREROUTING/INPUT/FORWARD" \
		-t "${place% *}" -A "${place#* }" -p tcp -j SYNPROXY
done
for table in mangle nat; do
	refused "SYNPROXY in $table PREROUTING" "PREROUTING: expected the table raw" \
		-t "$table" -A PREROUTING -p tcp -j SYNPROXY
done
for values in "mss 1 65535 0 70000 -1 abc 1460x 08 4294968756" "wscale 0 14 15 256 -1" "window 1 65535 0 65536" \
	"timeout 1 3600 0 3601 4294967297" "rate 1 10000000 0 10000001"; do
	read -r option min max values <<<"$values"
	for value in "" $values; do
		refused "--$option '$value'" "SYNPROXY: --$option \"$value\": expected a number from $min to $max" \
			-A FORWARD -p tcp -j SYNPROXY "--$option" "$value"
	done
	refused "--$option without a value" "option .*$option.* requires an argument" -A FORWARD -p tcp -j SYNPROXY "--$option"
	refused "--$option twice" "SYNPROXY: option \"--$option\" can only be used once" \
		-A FORWARD -p tcp -j SYNPROXY "--$option" "$max" "--$option" "$max"
	refused "! --$option" "SYNPROXY: option \"--$option\" cannot be inverted" \
		-A FORWARD -p tcp -j SYNPROXY ! "--$option" "$max"
done
refused "an option that there is not" 'unknown option "--mark"' -A FORWARD -p tcp -j SYNPROXY --mark 1
# The library that comes with iptables leaves it to the kernel.
stock refused "--wscale 15 by the stock library" "wscale 15: expected 0 to 14" -A FORWARD -p tcp -j SYNPROXY --wscale 15
stock refused "--mss 0 by the stock library" "mss 0: expected 1 to 65535" -A FORWARD -p tcp -j SYNPROXY --mss 0

# Through a user chain, in both orders; the kernel gives no better reason.
ipt -N user
ipt -A user -p tcp -j SYNPROXY
refused "a jump from OUTPUT to SYNPROXY" "nvalid argument" -A OUTPUT -j user
ipt -F user
ipt -A OUTPUT -j user
refused "SYNPROXY where OUTPUT jumps to" "nvalid argument" -A user -p tcp -j SYNPROXY

ipt -F
ipt -X user
ok "nothing holds the module" wait_for unused

finish
