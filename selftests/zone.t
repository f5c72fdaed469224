#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Connections that a rule has put into another conntrack zone.

. "$(dirname "$0")/lib.sh"

set_up
start_nginx server
gate
ipt -t raw -A PREROUTING -p tcp -j CT --zone 7
start_dpi --verbose
capture

ok "a page comes" page 4001
settle
is "by one SYN" "$(seen_count server "tcp src port 4001 and $SYN")" 1
ok "and an ACK of the SYN,ACK at once" grep -q 'length 0$' <(seen server "tcp src port 4001" | sed -n 2p)
ok "in that zone" grep -q zone=7 <(entries 4001)

spawn client curl -sS -X HELLO --local-port 4002 "$(url /)"
held "another is held" 4002

finish
