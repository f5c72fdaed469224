#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Clients that do not do as kernels do, at a gate as it should be.

. "$(dirname "$0")/lib.sh"

syns() { settle && seen_count server "tcp src port $1 and $SYN"; }
isn() { sed -nE '$s/.*, seq ([0-9]+),.*/\1/p'; }

set_up
start_nginx server
gate
start_dpi --verbose
capture

ok "a request in the middle of a stream" raw middle 5001
ok "the engine takes it for one" grep -q ":5001 .*mark 0xb" "$tmp/dpi.log"
is "but nothing comes to the server" "$(server_packets 5001)" 0

ok "a new connection on the ports of one that waits is served" raw again 5002
is "the server got one SYN" "$(syns 5002)" 1
is "of the new connection" "$(seen server "tcp src port 5002 and $SYN" | isn)" "$(seen client "tcp src port 5002 and $SYN" | isn)"

ok "SYN and ACK come once more, and the connection is served" raw repeated 5003
is "the server got one SYN" "$(syns 5003)" 1

ok "two verdicts, and the connection is served" raw twice 5004
is "the server got one SYN" "$(syns 5004)" 1

ok "ACKs without a good cookie are met with silence" raw bogus 5005
ok "and make no entry" no_entries 5005
is "nor anything at the server" "$(server_packets 5005)" 0

ok "a client that resets, and comes back" raw reset 5006
is "nothing of it comes to the server" "$(server_packets 5006)" 0
ok "it is refused" [ "$(seen_count client "tcp dst port 5006 and $RST")" -ge 3 ]

ok "a client whose first segments are lost is served all the same" raw late 5009
is "the server got one SYN" "$(syns 5009)" 1

ok "a client that has lost its connection gets a new one on its ports" raw reboot 5007
is "the server got two SYNs" "$(syns 5007)" 2

ok "a client whose server has not noticed gets a new connection" raw stale 5008
ok "the server got the new SYN twice" [ "$(syns 5008)" -ge 3 ]
second=$(seen server "tcp src port 5008 and $SYN" | sed -n 2p)
after_second() { seen server "$1" | awk -v from="${second%% *}" '$1 > from'; }
ok "its old connection was reset in between" [ -n "$(after_second "tcp src port 5008 and $RST")" ]
is "at the number that it expects" \
	"$(after_second "tcp src port 5008 and $RST" | isn)" \
	"$(after_second "tcp dst port 5008" | sed -nE '1s/.*, ack ([0-9]+),.*/\1/p')"

finish
