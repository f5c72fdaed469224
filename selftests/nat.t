#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# The nat table in front of the gate and behind it. Each connection is made once
# without the proxy and once through the gate, and both are translated alike.

. "$(dirname "$0")/lib.sh"

# The networks of client and server, and addresses that no route leads to: the nat
# table alone knows what they mean.
near=${client%2} far=${server%2}
case $FAMILY in
4) virtual=10.0.9. bits=24 ;;
6) virtual=fd00:9:: bits=64 ;;
esac

### The rules

# What is to be restored into the nat table.
nat=()
# dnat ADDRESS PORT TARGET...
dnat() { nat+=("-A PREROUTING -d $1 -p tcp --dport $2 -j ${*:3}"); }
# snat ADDRESS TARGET...: by the address that the client has asked for.
snat() { nat+=("-A POSTROUTING -p tcp -m conntrack --ctorigdst $1 -j ${*:2}"); }
load_nat() {
	printf '%s\n' "*nat" "${nat[@]}" COMMIT | fw "$iptables-$BACKEND-restore" -n
	nat=()
}

# The gate, on both ports of the server, for what is forwarded and for what is local.
gates() {
	sed -E '/^-A FORWARD/{p;s/FORWARD/INPUT/}' "$here/../examples/synproxy.rules" |
		sed 's/--dport 80/-m multiport --dports 80,81/' | ipt_restore
}
no_rules() {
	printf '%s\n' '*raw' COMMIT '*mangle' COMMIT '*nat' COMMIT \
		'*filter' ':FORWARD ACCEPT' COMMIT | ipt_restore
}

# What Docker (28) makes for a container that publishes port 8080, but for the chains
# that are empty.
docker() {
	ipt_restore <<-END
		*raw
		-A PREROUTING -d $server ! -i docker0 -j DROP
		COMMIT
		*nat
		:DOCKER -
		-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
		-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
		-A POSTROUTING -s ${far}0/$bits ! -o docker0 -j MASQUERADE
		-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination $(host "$server"):80
		COMMIT
		*mangle
		COMMIT
		*filter
		:FORWARD DROP
		:DOCKER -
		:DOCKER-BRIDGE -
		:DOCKER-CT -
		:DOCKER-FORWARD -
		:DOCKER-USER -
		-A FORWARD -j DOCKER-USER
		-A FORWARD -j DOCKER-FORWARD
		-A DOCKER-FORWARD -j DOCKER-CT
		-A DOCKER-FORWARD -j DOCKER-BRIDGE
		-A DOCKER-FORWARD -i docker0 -j ACCEPT
		-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		-A DOCKER-BRIDGE -o docker0 -j DOCKER
		-A DOCKER -d $server ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
		-A DOCKER ! -i docker0 -o docker0 -j DROP
		COMMIT
	END
}

### The connections

# connection NAME ADDRESS PORT [FROM [OWN-PORT]]: the client's own port is counted up
# from that of the phase, unless two are to have the same. 40 is for those that ask
# from one address, too.
names=() to=() port=() from=() own=()
connection() {
	names+=("$1")
	to+=("$2")
	port+=("$3")
	from+=("${4:-$client}")
	own+=("${5:-${#names[@]}}")
}

connections() {
	local n v=$virtual f=$far out=${far}100
	connection "DNAT" "${v}1" 80
	dnat "${v}1" 80 DNAT --to-destination "${f}3"
	# Not for what is forwarded, although our SYN passes there.
	nat+=("-A OUTPUT -p tcp -d ${v}1 -j DNAT --to-destination $nobody")
	connection "DNAT to another port" "${v}1" 90
	dnat "${v}1" 90 DNAT --to-destination "$(host "${f}3"):81"
	for n in 2 11 12 13; do
		connection "DNAT to a range, client .$n" "${v}2" 80 "$near$n"
	done
	dnat "${v}2" 80 DNAT --to-destination "${f}4-${f}7"
	connection "REDIRECT" "${v}3" 80
	dnat "${v}3" 80 REDIRECT --to-ports 81
	connection "REDIRECT, and SNAT for what leaves" "${v}4" 80
	dnat "${v}4" 80 REDIRECT --to-ports 81
	snat "${v}4" MASQUERADE
	connection "SNAT" "${f}8" 80
	snat "${f}8" SNAT --to-source "$out"
	connection "SNAT to a port range" "${f}9" 80
	snat "${f}9" SNAT --to-source "$(host "$out"):5000-5003"
	connection "SNAT --random" "${f}10" 80
	snat "${f}10" SNAT --to-source "$out" --random
	connection "MASQUERADE" "${f}11" 80
	snat "${f}11" MASQUERADE
	connection "DNAT and SNAT" "${v}5" 80
	dnat "${v}5" 80 DNAT --to-destination "${f}3"
	snat "${v}5" SNAT --to-source "$out"
	connection "SNAT by CONNMARK" "${v}8" 80
	nat+=("-A PREROUTING -d ${v}8 -j CONNMARK --set-mark 0x77")
	dnat "${v}8" 80 DNAT --to-destination "${f}3"
	nat+=("-A POSTROUTING -m connmark --mark 0x77 -j SNAT --to-source $out")
	connection "hairpin" "$gateway" 80
	dnat "$gateway" 80 DNAT --to-destination "${near}3"
	snat "$gateway" MASQUERADE
	# Of two alike, one gets another port.
	connection "one port, two addresses for one server" "${v}6" 80 "$client" 40
	connection "one port, two addresses for one server" "${v}7" 80 "$client" 40
	dnat "${v}6" 80 DNAT --to-destination "${f}12"
	dnat "${v}7" 80 DNAT --to-destination "${f}12"
	connection "one port, two clients behind one address" "${f}11" 80 "$client" 41
	connection "one port, two clients behind one address" "${f}11" 80 "${near}11" 41
}

# socat_from PORT ADDRESS: curl does not share its port.
socat_from() {
	client socat -t60 - \
		"TCP:$(host "$2"):80,bind=$(host "$client"):$1,reuseaddr,shut-none"
}

# fetch_all PHASE: all at once; what the server says, head and body, into files.
fetch_all() {
	local n sport command=(client curl -Z --parallel-immediate)
	fetching=()
	for n in "${!names[@]}"; do
		sport=$(($1 + own[n]))
		if [ "${own[n]}" = 40 ]; then
			printf 'GET /64k HTTP/1.0\r\n\r\n' | socat_from "$sport" "${to[n]}" >"$tmp/head.$1.$n" &
			fetching+=($!)
		else
			[ "$n" = 0 ] || command+=(--next)
			command+=(-sS --max-time 60 --interface "${from[n]}" --local-port "$sport"
				-D "$tmp/head.$1.$n" -o "$tmp/body.$1.$n" "http://$(host "${to[n]}"):${port[n]}/64k")
		fi
	done
	"${command[@]}" &
	fetching+=($!)
}
# fetched PHASE: all pages have come.
fetched() {
	local n status=0
	for n in "${fetching[@]}"; do
		wait "$n" || status=1
	done
	for n in "${!names[@]}"; do
		[ "${own[n]}" != 40 ] || tail -c 65536 "$tmp/head.$1.$n" >"$tmp/body.$1.$n"
		cmp "$tmp/body.$1.$n" "$www/64k" || {
			echo "${names[n]}: no page"
			status=1
		}
	done
	return "$status"
}
closed() { ! tracked -p tcp | grep -E 'SYN|ESTABLISHED|FIN_WAIT|CLOSE_WAIT|LAST_ACK'; }

### What is seen

# translations PHASE: what each connection became, as conntrack and the server say.
# Ports that are taken at random are not told apart.
translations() {
	local n sport became header entries
	entries=$(tracked -p tcp)
	for n in "${!names[@]}"; do
		sport=$(($1 + own[n])) became=
		[[ ! $entries =~ "src=${from[n]} dst=${to[n]} sport=$sport dport=${port[n]} "[^$'\n']*(src=[^$'\n']*dport=[0-9]+) ]] ||
			became="${BASH_REMATCH[1]} "
		while IFS=$' \r' read -ra header && [ ${#header[@]} != 0 ]; do
			[ "${header[0]}" != Seen: ] ||
				became+="seen src=${header[1]} sport=${header[2]} dst=${header[3]} dport=${header[4]} "
		done <"$tmp/head.$1.$n"
		echo "${names[n]}: ${became//port=$sport /port=own }"
	done | sed -E 's/port=500[0-3]\b/port=range/g; s/port=[0-9]{4,}/port=another/g' | sort
}

# since TIME SIDE FILTER: there were such packets, none of them before that time.
since() {
	local first
	first=$(seen_first "$2" "$3")
	echo "since $1: $first"
	[ -n "$first" ] && [[ ! ${first%% *} < $1 ]]
}

# How many connections have sent their data more than once.
insisting() {
	seen client "$DATA and tcp dst portrange 80-90" |
		sed -E 's/.* IP6? ([^ ]+ > [^ ]+): .*/\1/' | sort | uniq -c | awk '$1 > 1' | wc -l
}
all_insist() { [ "$(insisting)" = ${#names[@]} ]; }

set_up
printf "addr add $near%d/$bits dev c0\n" 3 11 12 13 | ip -n client -batch -
printf "addr add $far%d/$bits dev s0\n" {3..12} | ip -n server -batch -
ip -n fw addr add "${far}100/$bits" dev eth1
for n in client fw server; do
	rm -f "$tmp/nginx.pid"
	start_nginx $n
done
connections
load_nat

fetch_all 4100
ok "without the proxy the pages come" fetched 4100
without=$(translations 4100)
is "without the proxy all translations are seen" "$(grep -cE ': src=.* seen src=' <<<"$without")" ${#names[@]}
wait_for closed

gates
capture
spawn fw tcpdump -Uni lo --immediate-mode -w "$tmp/lo.pcap" "$TCP" 2>"$tmp/tcpdump.lo"
wait_for grep "listening on" "$tmp/tcpdump.lo"
fetch_all 4200
ok "no verdict yet: each client sends its data again" wait_for all_insist
engine=$EPOCHREALTIME
start_dpi --verbose
ok "with a verdict the pages come" fetched 4200
with=$(translations 4200)
echo "$with" >&2
settle
ok "before it, no packet was at the server" since "$engine" server "$TCP"
ok "nor at that of the client's network" since "$engine" client "$TCP and host ${near}3"
ok "nor at that of the firewall" since "$engine" lo "$TCP"
while read -r got <&3 && read -r wanted <&4; do
	is "${got%%: *}: is translated as without the proxy" "$got" "$wanted"
done 3<<<"$with" 4<<<"$without"

# One more on a port that the server knows: from a client that waits.
echo HELLO >"$tmp/hello"
spawn client socat -u "OPEN:$tmp/hello,ignoreeof" \
	"TCP:$(host "${virtual}6"):80,bind=$(host "$client"):4340,reuseaddr"
waiting=$pid
ok "one port, and one of two waits: it has an entry" wait_for not no_entries 4340
printf 'GET /64k HTTP/1.0\r\n\r\n' | socat_from 4340 "${virtual}7" >"$tmp/reply" || :
ok "one port, and one of two waits: the other one's page comes" cmp <(tail -c 65536 "$tmp/reply") "$www/64k"
stop "$waiting"

late=${virtual}11 gone=${virtual}12 split=${virtual}13 random=${virtual}14
dnat "$late" 80 DNAT --to-destination "${far}3"
dnat "$gone" 80 DNAT --to-destination "$nobody"
snat "$gone" MASQUERADE
dnat "$split" "80 --syn" DNAT --to-destination "${far}5"
dnat "$split" 80 DNAT --to-destination "${far}4"
dnat "$random" "80 -m statistic --mode random --probability 0.5" DNAT --to-destination "${far}4"
dnat "$random" 80 DNAT --to-destination "${far}5"
load_nat

address=$gone
server "$iptables-$BACKEND" -A INPUT -p tcp -d "${far}3" --syn -j DROP
spawn client curl -sS --max-time 60 --local-port 4301 -o "$tmp/late" "$(address=$late && url /64k)"
curl=$pid
came_again() { [ "$(seen_count server "tcp src port 4301 and $SYN")" -ge 2 ]; }
ok "DNAT to a server that is late: our SYN comes again" wait_for came_again
server "$iptables-$BACKEND" -F INPUT
status=0
client curl -sS --max-time 60 --local-port 4302 "$(url /64k)" >/dev/null || status=$?
ok "DNAT and SNAT to a server that is not there: the client is reset ($status)" grep -qw $status <<<'7 56'
ok "DNAT to a server that is late: it answers" wait $curl
ok "DNAT to a server that is late: the page is whole" cmp "$tmp/late" "$www/64k"

address=$split
ok "another server for the ACK than for the SYN: the page comes" page 4303 /64k
ok "another server for the ACK than for the SYN: from that of the ACK" grep -q "src=${far}4 " <(entries 4303)
address=$random
client curl -Z --parallel-immediate -sS --max-time 60 --local-port 4311-4330 \
	-o "$tmp/random.#1" "$(url '/64k?[1-20]')" || :
is "a server at random for each packet: 20 pages come" \
	"$(sha256sum "$tmp"/random.* "$www/64k" | cut -d' ' -f1 | uniq -c | awk '{ print $1 }')" 21

ip -n fw addr flush dev eth1
ip -n fw -batch - <<-END
	link add docker0 type bridge
	link set eth1 master docker0
	addr add ${far}1/$bits dev docker0
	link set docker0 up
END
docker
names=() to=() port=() from=() own=()
connection "Docker" "$gateway" 8080
fetch_all 4400
ok "Docker: without the proxy the page comes" fetched 4400
without=$(translations 4400)
ok "Docker: without the proxy its translation is seen" grep -q "src=$server .* seen src=" <<<"$without"
options="--sack-perm --timestamp --wscale 7 --mss 1460"
fw "$iptables-$BACKEND-restore" -n <<-END
	*mangle
	-A FORWARD -o docker0 -p tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0
	COMMIT
	*filter
	-A DOCKER-USER -o docker0 -p tcp --dport 80 -m mark --mark 0x0b -m spstate --in-progress -j SYNPROXY $options
	-A DOCKER-USER -o docker0 -p tcp --dport 80 -m spstate --none -j SYNPROXY $options
	COMMIT
END
fetch_all 4410
ok "Docker: through the gate the page comes" fetched 4410
is "Docker: is translated as without the proxy" "$(translations 4410)" "$without"
address=$gateway
spawn client curl -sS -X HELLO --local-port 4421 "$(url :8080/)"
held "Docker, another protocol" 4421

# The rules of the in-tree target, for an address of the firewall's: there is no entry
# before the one of our SYN, so OUTPUT is where DNAT finds the connection.
no_rules
address=${virtual}15
ip -n fw addr add "$address" dev lo
fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
ipt_restore <<-END
	*raw
	-A PREROUTING -p tcp -d $address --syn -j CT --notrack
	COMMIT
	*nat
	-A OUTPUT -p tcp -d $address -j DNAT --to-destination $server
	COMMIT
	*filter
	-A INPUT -p tcp -d $address -m state --state UNTRACKED,INVALID -j SYNPROXY $options
	COMMIT
END
ok "no gate, DNAT in OUTPUT: the page comes" page 4501 /64k
ok "no gate, DNAT in OUTPUT: from the server" grep -q "src=$server " <(entries 4501)

finish
