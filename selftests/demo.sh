#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What "make demo" shows, inside the virtual machine: curl gets through the gate
# when the engine has recognised HTTP, and of an SSH client on the same port the
# server never hears. Status 0 if the captures say so.

. "$(dirname "$0")/lib.sh"
log=$tmp/log
url=http://10.0.2.2/1M

# Whatever the firewall logs is one capture, in the order of its events.
nflog() { echo "-j NFLOG --nflog-group 1 --nflog-size 96 --nflog-threshold 1 --nflog-prefix $1"; }

# Rules that change nothing: they say in which state a packet finds its
# connection, on its way in or when the firewall itself has made it, and which
# packet the engine has marked.
instruments() {
	cat <<-END
		*mangle
		:SPSTATE -
		-A PREROUTING -p tcp -j SPSTATE
		-A OUTPUT -p tcp -j SPSTATE
		-A SPSTATE -m conntrack --ctstate INVALID,UNTRACKED $(nflog untracked)
		-A SPSTATE -m conntrack --ctstate INVALID,UNTRACKED -j RETURN
		-A SPSTATE -m spstate --none $(nflog none)
		-A SPSTATE -m spstate --in-progress $(nflog in-progress)
		-A SPSTATE -m spstate --finish $(nflog finish)
		-A SPSTATE -m spstate ! --none -m spstate ! --in-progress -m spstate ! --finish $(nflog opening)
		COMMIT
		*filter
		-I FORWARD -m mark --mark 0x0b -m spstate --in-progress $(nflog verdict)
		COMMIT
	END
}

# record NAME NAMESPACE INTERFACE [OPTION...]
record() {
	spawn "$2" tcpdump -Uni "$3" -s 200 -w "$tmp/$1.pcap" "${@:4}" 2>"$tmp/tcpdump.$1"
}
recording() { [ "$(cat "$tmp"/tcpdump.* | grep -c "listening on")" = 3 ]; }

# Packets larger than those of a real wire, so fewer of them.
offload() { :; }

cat <<END

      client 10.0.1.2             firewall              server 10.0.2.2
     +---------------+      +------------------+      +-----------------+
     |   curl, ssh   |------|    xt_SYNPROXY   |------|  nginx, port 80 |
     +---------------+      |      dpi-http    |      +-----------------+
                            +------------------+

The client may talk to port 80 if it talks HTTP. That shows in its first data only, after
the handshake: so the firewall answers in the server's place, has dpi-http look at the
data, and opens the connection to the server when it is told to. The rules are those of
examples/synproxy.rules. Starting ...

END

# tshark takes seconds to start in an emulated machine: it does so now, and waits.
mkfifo "$tmp/captures"
read -ra fields < <("$here/ladder.py" --fields)
# shellcheck disable=SC2002 # to open a FIFO is to wait, which cat is here for
cat "$tmp/captures" |
	tshark -n -r - -T fields -E occurrence=f "${fields[@]/#/-e}" 2>"$tmp/tshark" |
	"$here/ladder.py" --dpi-log "$tmp/dpi.log" --same "$tmp/page" "$www/1M" \
		"client# curl $url" "client# ssh -p 80 10.0.2.2" &
ladder=$!

exec 3>&2 2>"$log"
set_up
trap 'tail "$log" "$tmp"/{tshark,dpi.log}; echo "demo: broke off, with this in its logs"' EXIT
{ gate && instruments | fw iptables-restore -n; } &
rules=$!
record client client c0 --immediate-mode
# An IPv6 stack talks of itself now and then.
record server server s0 --immediate-mode not ip6
record firewall fw nflog:1
# For settle.
# shellcheck disable=SC2034
fences=0
start_nginx server
start_dpi --verbose --queue-num 0 --mark 0x0b
wait $rules
wait_for recording

echo "client# curl -o page $url"
touch "$tmp/page"
client curl -sS --max-time 30 -o "$tmp/page" "$url" || echo "  no page: curl's status is $?"
echo "client# ssh -p 80 10.0.2.2"
ip netns exec client ssh -F none -T -p 80 -o BatchMode=yes -o ConnectTimeout=3 10.0.2.2 2>&1 |
	sed 's/^/  /' || :
settle

echo
mergecap -I none -w "$tmp/captures" "$tmp"/{client,server,firewall}.pcap
failed=0
wait $ladder || failed=1
cp "$tmp"/{client,server,firewall}.pcap "$tmp/dpi.log" /out
exec 2>&3
trap - EXIT
echo
if [ $failed = 0 ]; then
	echo "Shown: HTTP got through once recognised, 1 MiB intact; of the SSH client no packet left the gate."
else
	echo "FAILED: see above, and client.pcap, server.pcap and firewall.pcap in build/vm"
fi
exit $failed
