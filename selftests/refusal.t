#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: legacy
#
# A client that is no HTTP client: no verdict, or a verdict of no. The server
# does not hear of it.

. "$(dirname "$0")/lib.sh"

ssh_client() {
	spawn client ssh -p 80 -o BatchMode=yes -o ConnectTimeout=100 "$server" >"$tmp/ssh" 2>&1
	ssh=$pid
}
# The port of the youngest connection.
port() { seen client "tcp dst port 80 and $SYN" | tail -n 1 | client_port; }
syns() { [ "$(seen_count client "tcp dst port 80 and $SYN")" -ge "$1" ]; }

set_up
start_nginx server
gate
start_dpi --verbose --deny-mark 0x0d
capture

ssh_client
ok "ssh comes" wait_for syns 1
held "ssh, no rule for a no" "$(port)"
ok "the engine has looked at it" grep -q '"SSH-2.0' "$tmp/dpi.log"
ok "ssh is still waiting" kill -0 "$ssh"
stop "$ssh"

ipt -I FORWARD -p tcp --dport 80 -m mark --mark 0x0d -m spstate --in-progress \
	-j REJECT --reject-with tcp-reset
ssh_client
ok "a rule for a no: ssh ends" wait_for not kill -0 "$ssh"
ok "because it was reset" grep -qi "reset by peer" "$tmp/ssh"
settle
ok "it got a SYN,ACK before" answered "$(port)"
is "one reset" "$(seen_count client "tcp src port 80 and dst port $(port) and $RST")" 1

is "the server has seen nothing at all" "$(seen_count server "$TCP")" 0
ok "while a page gets through" page 4001 /64k
settle
ok "and is seen" [ "$(seen_count server "tcp port 4001")" -gt 5 ]

finish
