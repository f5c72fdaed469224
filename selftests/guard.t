#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# Rules that are wrong: what waits does not pass, whatever they say.

. "$(dirname "$0")/lib.sh"

proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"

# A real client that has something to say.
talker() { spawn client bash -c "exec 3<>/dev/tcp/$server/80 && echo 'GET /64k HTTP/1.0' >&3 && exec cat <&3" >/dev/null; }
port() { seen client "src host $client and tcp dst port 80 and $SYN" | tail -n 1 | client_port; }

# kept_off NAME: a real client gets nowhere.
kept_off() {
	local before
	before=$(port)
	talker
	wait_for not same_port "$before"
	held "$1" "$(port)"
	stop "$pid"
}
same_port() { [ "$(port)" = "$1" ]; }

set_up
start_nginx server
capture

# Everything is let through, and only a SYN meets the proxy.
ipt_restore <<END
*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --dport 80 -m spstate --none -j $proxy
COMMIT
END
kept_off "policy ACCEPT"
ok "policy ACCEPT: crafted packets" raw crafted 5001
ok "policy ACCEPT: crafted packets were sent" [ "$(seen_count client "src host $raw_client and tcp src port 5001")" -ge 24 ]
is "policy ACCEPT: none of them at the server" "$(server_packets 5001)" 0
# With its entry gone, a client's next RST is a stray packet like any other.
ok "policy ACCEPT: a client that resets, and comes back" raw reset 5002
is "policy ACCEPT: nothing but a RST of it at the server" \
	"$(settle && seen_count server "tcp port 5002 and not $RST")" 0
ok "policy ACCEPT: what is not proxied passes" client curl -sS --local-port 4001 -o /dev/null "$(url :81/64k)"
settle
ok "policy ACCEPT: and is seen" [ "$(seen_count server 'tcp port 4001')" -gt 5 ]

# Nobody is on the queue.
ipt -t mangle -A FORWARD -p tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0 --queue-bypass
kept_off "--queue-bypass and no engine"
ipt -t mangle -F

# The engine's verdict leads past the rest of the chain.
start_dpi --verbose
ipt_restore <<END
*filter
:FORWARD DROP
-A FORWARD -p tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -m spstate ! --in-progress -j ACCEPT
-A FORWARD -p tcp --dport 80 -m mark --mark 0x0b -m spstate --in-progress -j $proxy
-A FORWARD -p tcp --dport 80 -m spstate --none -j $proxy
COMMIT
END
kept_off "NFQUEUE in filter"
ok "NFQUEUE in filter: the engine had said yes" grep -q -- "$(port) .*mark 0xb" "$tmp/dpi.log"

gate
ok "with the right rules a page gets through" page 4002 /64k

finish
