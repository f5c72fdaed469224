#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# nDPI and Suricata decide. One port for HTTP, TLS and SSH; they are told apart by
# what clients send, and whom the configuration names is let through.

. "$(dirname "$0")/lib.sh"

# Three servers behind port 80: by their own ports clients say whom they want, of
# which the engines know nothing.
#     4000-4099 HTTP    4100-4199 TLS    4200-4299 SSH
start_servers() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server \
		-keyout "$tmp/key.pem" -out "$tmp/cert.pem" 2>/dev/null
	cat >"$tmp/tls.nginx" <<-END
		server {
			listen 443 ssl;
			listen [::]:443 ssl;
			ssl_certificate $tmp/cert.pem;
			ssl_certificate_key $tmp/key.pem;
			root $www;
		}
	END
	start_nginx server
	# It goes as far as to take the begin of a key exchange.
	cat >"$tmp/ssh.server" <<-END
		#!/bin/sh
		printf 'SSH-2.0-stage\\r\\n'
		exec cat >$tmp/ssh.got
	END
	chmod +x "$tmp/ssh.server"
	spawn server socat TCP6-LISTEN:22,ipv6only=0,fork,reuseaddr "EXEC:$tmp/ssh.server"
	wait_for listens server 22
	server "$iptables-$BACKEND-restore" <<-END
		*nat
		-A PREROUTING -p tcp --dport 80 --sport 4100:4199 -j REDIRECT --to-ports 443
		-A PREROUTING -p tcp --dport 80 --sport 4200:4299 -j REDIRECT --to-ports 22
		COMMIT
	END
}

# engine ndpi|suricata PROTOCOL...: these may pass.
engine() { "start_$1" "${@:2}" && engine=$pid; }

start_ndpi() {
	local allow=$*
	: >"$tmp/fast.log"
	spawn fw dpi-ndpi --verbose --allow "${allow// /,}" --deny-mark 0x0d >"$tmp/dpi.log" 2>&1
	wait_for grep "listening on queue" "$tmp/dpi.log"
}

# With the example's rules; for other protocols, with rules of the same form.
start_suricata() {
	local examples=$here/../examples/suricata rules=$tmp/rules protocol sid=1000
	cp "$examples/synproxy-suricata.rules" "$rules"
	if [ "$*" != "http tls" ]; then
		for protocol; do
			sed -n "s/HTTP may pass/$protocol may pass/; s/:http;/:$protocol;/; s/sid:1;/sid:$((sid++));/p" \
				"$examples/synproxy-suricata.rules"
		done >"$rules"
		sed -n "s/app-layer.*!tls;/$(printf 'app-layer-protocol:!%s; ' "$@")/p" \
			"$examples/synproxy-suricata.rules" >>"$rules"
	fi
	: >"$tmp/fast.log"
	spawn fw suricata -c "$examples/suricata.yaml" -S "$rules" -q 0 -l "$tmp" >"$tmp/dpi.log" 2>&1
	wait_for grep "Engine started" "$tmp/dpi.log"
}

# decided PORT PATTERN: what the engine says of it.
decided() { cat "$tmp/dpi.log" "$tmp/fast.log" | grep ":$1 " | grep -i "$2"; }

### The three clients: each succeeds if it is served whole.

http_client() { page "$1" /64k; }
tls_client() {
	client curl -sSk --max-time 60 --local-port "$1" -o "$tmp/page.$1" "https://$(host "$server"):80/64k" &&
		cmp "$tmp/page.$1" "$www/64k"
}
# It comes to an end only if it is not served.
ssh_client() {
	local ssh
	: >"$tmp/ssh.got"
	spawn client ssh -v -p 80 -o BatchMode=yes -o ConnectTimeout=60 \
		-o ProxyCommand="socat - TCP:$(host "$server"):80,sourceport=$1" "$server" >"$tmp/ssh" 2>&1
	ssh=$pid
	wait_for ssh_has_come_far_enough "$ssh"
	stop "$ssh"
	cat "$tmp/ssh"
	ssh_is_served
}
ssh_has_come_far_enough() { ssh_is_served || ! kill -0 "$1"; }
ssh_is_served() {
	grep "software version stage" "$tmp/ssh" && grep -a '^SSH-2.0-OpenSSH' "$tmp/ssh.got" &&
		grep -a curve25519 "$tmp/ssh.got"
}

is_reset() { ! "$@" >"$tmp/out" 2>&1 && grep -i "reset by peer" "$tmp/out"; }

### What is asked of an engine

declare -A port=([http]=4000 [tls]=4100 [ssh]=4200)

# try ENGINE ALLOWED...: of the three, these are let through and no other.
try() {
	local protocol allowed="${*:2}" name="$1, ${*:2}"
	engine "$@"
	for protocol in http tls ssh; do
		port[$protocol]=$((port[$protocol] + 1))
		if [[ " $allowed " = *" $protocol "* ]]; then
			ok "$name: $protocol is served" "${protocol}_client" "${port[$protocol]}"
			ok "$name: the engine calls it $protocol" decided "${port[$protocol]}" "$protocol"
		else
			ok "$name: $protocol is reset" is_reset "${protocol}_client" "${port[$protocol]}"
		fi
	done
	settle
	for protocol in http tls ssh; do
		if [[ " $allowed " = *" $protocol "* ]]; then
			is "$name: the server got one SYN for $protocol" "$(syns "${port[$protocol]}")" 1
		else
			is "$name: nothing at the server for $protocol" "$(at_server "${port[$protocol]}")" 0
			ok "$name: though its client got a SYN,ACK" answered "${port[$protocol]}"
		fi
	done
}
syns() { seen_count server "tcp src port $1 and $SYN"; }
at_server() { seen_count server "$TCP and (tcp port $1)"; }

# misled ENGINE PORT: it is not. Five connections from PORT on.
misled() {
	ok "$1: clients that try to mislead it" raw misled "$2"
	settle
	is "$1: a request below the start of a stream opens nothing" "$(at_server "$2")" 0
	is "$1: nor does one behind the start" "$(at_server $(($2 + 1)))" 0
	is "$1: nor an earlier connection of the same ports" "$(syns $(($2 + 2)))" 1
	is "$1: nor one behind a SYN in the middle" "$(at_server $(($2 + 3)))" 0
	is "$1: nor one behind an ACK from nowhere" "$(at_server $(($2 + 4)))" 0
}

set_up
start_servers
gate
ipt -I FORWARD -p tcp --dport 80 -m mark --mark 0x0d -m spstate --in-progress \
	-j REJECT --reject-with tcp-reset
capture

try ndpi http tls
misled ndpi 5001
# Which only an engine that waits for the rest can tell.
printf 'GET /64k HTTP/1.0\r\n\r\n' |
	client socat -b1 -t60 - "TCP:$(host "$server"):80,sourceport=4090,nodelay" >"$tmp/bytes" || :
ok "ndpi: a request in pieces of one byte is served" cmp "$www/64k" <(tail -c 65536 "$tmp/bytes")
stop "$engine"
try ndpi ssh
stop "$engine"

try suricata http tls
misled suricata 5011
stop "$engine"
try suricata ssh
stop "$engine"

start_dpi --verbose --deny-mark 0x0d
misled dpi-http 5021
stop "$dpi"

ok "a ClientHello took two segments" \
	[ "$(seen client "tcp src port 4101 and $DATA" | sed -nE 's/.* seq ([0-9]+):.*/\1/p' | sort -u | wc -l)" -ge 2 ]

finish
