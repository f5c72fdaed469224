#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# xt-synproxy: it asks real servers, its rules are taken and let a page through, it finds
# what is wrong, and adds up what is counted.

. "$(dirname "$0")/lib.sh"

case $FAMILY in
4) elsewhere=198.51.100.1 bits=32 table=ip ;;
6) elsewhere=2001:db8::1 bits=128 table=ip6 ;;
esac

tool() { fw xt-synproxy "$@"; }

# What the form of iptables has no part in is seen with one.
once() { [ "$BACKEND" = nft ]; }

### Servers are asked

# answers NAME OPTIONS COMMAND...: it prints that, and nothing else.
answers() {
	local got
	got=$("${@:3}" 2>"$tmp/notes")
	cat "$tmp/notes"
	equal "$got" "$2"
}
# probes NAME OPTIONS: the server has these.
probes() { ok "probe: $1" answers "$1" "$2" tool probe "$server" 80; }
# fails TEXT COMMAND...: with status 1, and on standard error that, about host and port.
fails() {
	local status=0
	"${@:2}" >"$tmp/printed" 2>"$tmp/error" || status=$?
	cat "$tmp/error"
	equal "$status" 1 && [ ! -s "$tmp/printed" ] && grep -qF -e "$1" "$tmp/error"
}
noted() { grep -F "$1" "$tmp/notes"; }
set_server() { server sysctl -qw "$@"; }

asked() {
	local all="--mss $mss --sack-perm --timestamp --wscale 7"
	# What it is by default depends on memory.
	set_server net.ipv4.tcp_rmem="4096 131072 6291456" net.ipv4.tcp_ecn=2
	probes "all that there is" "$all --ecn"
	settle
	is "probe: by one SYN" "$(seen_count server "tcp dst port 80 and $SYN")" 1
	ok "probe: which is reset" [ "$(seen_count server "tcp dst port 80 and $RST")" -ge 1 ]
	is "probe: as tcpdump has it" \
		"$(seen_first server "tcp src port 80 and $SYN_ACK" | sed -nE 's/.*Flags (\[S\.E?\]).*\[mss ([0-9]+),sackOK,TS val [0-9]+ ecr [0-9]+,nop,wscale ([0-9]+)\].*/\1 \2 \3/p')" \
		"[S.E] $mss 7"
	set_server net.ipv4.tcp_ecn=0
	probes "no ECN" "$all"
	set_server net.ipv4.tcp_rmem="4096 131072 33554432"
	probes "a larger receive buffer" "--mss $mss --sack-perm --timestamp --wscale 10"
	set_server net.ipv4.tcp_window_scaling=0
	probes "no window scale" "--mss $mss --sack-perm --timestamp"
	set_server net.ipv4.tcp_window_scaling=1 net.ipv4.tcp_rmem="4096 131072 6291456" net.ipv4.tcp_sack=0
	probes "no SACK" "--mss $mss --timestamp --wscale 7"
	ok "probe: and says nothing more" not noted "xt-synproxy: "
	set_server net.ipv4.tcp_sack=1 net.ipv4.tcp_timestamps=0 net.ipv4.tcp_ecn=2
	probes "no timestamps, nor what needs them" "--mss $mss"
	ok "probe: and says so" noted "$server port 80: the server does no timestamps"
	set_server net.ipv4.tcp_timestamps=1
	ip -n server link set s0 mtu 1400
	probes "a smaller MTU" "--mss $((mss - 100)) --sack-perm --timestamp --wscale 7 --ecn"
	ip -n server link set s0 mtu 1500
	ip -n server route add "${server%2}1/$bits" dev s0 advmss 1000
	probes "an MSS of the route" "--mss 1000 --sack-perm --timestamp --wscale 7 --ecn"
	ip -n server route del "${server%2}1/$bits" dev s0

	mkdir -p /etc/netns/fw
	printf '%s www.example\n' 10.0.2.2 fd00:2::2 >/etc/netns/fw/hosts
	ok "probe: a name" answers - "$all --ecn" tool probe "-$FAMILY" www.example 80
	ok "probe: a name that there is not" fails "nowhere.example port 80: cannot resolve" tool probe nowhere.example 80
	rm -r /etc/netns

	ok "probe: a closed port" fails "$server port 82: connection refused" tool probe "$server" 82
	server "$iptables-$BACKEND" -A INPUT -p tcp --dport 83 -j DROP
	server "$iptables-$BACKEND" -A INPUT -p tcp --dport 84 -j REJECT
	ok "probe: a filtered one" fails "$server port 83: no answer to one SYN within 1 s" tool probe --timeout 1 "$server" 83
	settle
	is "probe: got one SYN" "$(seen_count server "tcp dst port 83 and $SYN")" 1
	ok "probe: one that is rejected" fails "$server port 84: an ICMP error came back" tool probe "$server" 84
	ok "probe: no route" fails "$elsewhere port 80: no route" tool probe "$elsewhere" 80
	ok "probe: no CAP_NET_RAW" fails "$server port 80: cannot send a SYN: this takes root, or the capability CAP_NET_RAW" \
		fw setpriv --bounding-set -net_raw --inh-caps -net_raw xt-synproxy probe "$server" 80
	ipt -A OUTPUT -p tcp --dport 85 -j DROP
	ok "probe: a firewall in its own way" fails "$server port 85: a rule of this machine's own firewall" tool probe "$server" 85
	ipt -F OUTPUT
}

### Rules are taken

# The commands say iptables, of which there are two forms.
mkdir "$tmp/bin"
for name in iptables ip6tables; do
	ln -s "$(command -v $name-"$BACKEND")" "$tmp/bin/$name"
done
a_shell() { fw env PATH="$tmp/bin:$PATH" sh; }
restore() { fw "$iptables-$BACKEND-restore" "$@"; }

# rules CASE OPTION...: for the server, as it is.
rules() {
	tool rules "$1" --server "$server" --port 80 --probe "${@:2}" >"$tmp/rules" && cat "$tmp/rules"
}
has_rules() { rules "$@" && a_shell <"$tmp/rules"; }
restores() { rules "$@" --restore && restore --noflush <"$tmp/rules"; }
# As before.
no_rules() {
	local table
	for table in raw mangle filter; do
		ipt -t $table -F
		ipt -t $table -X
	done
	ipt -P FORWARD ACCEPT
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
}
# works NAME PORT: a page comes by the proxy, and doctor has nothing to say.
works() {
	local before
	before=$(counted opened)
	ok "$1: a page comes" page "$2" /64k
	is "$1: by the proxy" "$(counted opened)" $((before + 1))
	ok "$1: doctor finds nothing" well
	no_rules
}

cases() {
	local case
	for case in flood one-rule gate "gate --defer" "gate --window 2000 --timeout 5"; do
		# shellcheck disable=SC2086 # words
		rules $case --restore --interface eth0 >&2
		ok "rules $case --restore: iptables-restore --test" restore --test <"$tmp/rules"
		is "rules $case --restore: changed nothing" "$(ipt_save | grep -c SYNPROXY)" 0
	done

	# Another server than it is.
	ok "rules flood: a shell takes them" a_shell < <(tool rules flood --server "$server" --port 80 \
		--mss 1300 --sack-perm --timestamp --wscale 5)
	ok "probe: the proxy's answer" answers - "--mss 1300 --sack-perm --timestamp --wscale 5" \
		client xt-synproxy probe "$server" 80
	ok "probe: which it takes for one" noted "it may be that of a SYN proxy"
	no_rules
	ok "rules flood --probe: a shell takes them" has_rules flood --interface eth0 --rate 10000
	works "rules flood" 4011
	rules flood --restore >&2
	ok "rules flood --restore: are taken" restore --noflush <"$tmp/rules"
	ok "rules flood --restore: and the sysctl is in it" sysctl_of_it
	works "rules flood --restore" 4012

	ok "rules one-rule: a shell takes it" has_rules one-rule
	works "rules one-rule" 4021
	ok "rules one-rule --restore: is taken" restores one-rule --rate 5000
	works "rules one-rule --restore" 4022

	start_dpi --verbose --deny-mark 0x0d
	ok "rules gate: a shell takes them" has_rules gate
	refused 4030
	works "rules gate" 4031
	ok "rules gate --restore: are taken" restores gate --timeout 5
	works "rules gate --restore" 4032
	ok "rules gate --defer: a shell takes them" has_rules gate --defer
	works "rules gate --defer" 4033
	ok "rules gate, rules one-rule --defer: a shell takes them" has_rules gate
	ok "rules gate, rules one-rule --defer: and the one before" has_rules one-rule --defer
	works "rules gate, rules one-rule --defer" 4034
	stop "$dpi"

	# The server is the firewall; its MSS is not that of its loopback device.
	address=$gateway server=$gateway
	start_nginx_here
	ok "rules flood --local: a shell takes them" a_shell < <(tool rules flood --local --server "$gateway" \
		--port 80,81 --mss "$mss" --sack-perm --timestamp --wscale 7 --interface eth0)
	works "rules flood --local" 4041
	ok "probe: a server on this machine" local_probe
	ok "probe: its MSS is said to be none for clients" noted "the server is on this machine"
	stop "$here_nginx"
	set_addresses

	ok "rules: a refused rule ends them" not a_shell < <(tool rules flood --server "$server" --port 80 --mss 1460 |
		sed 's/CT --notrack/CT --no-such-thing/')
	is "rules: and nothing follows" "$(ipt_save | grep -c SYNPROXY)" 0
}
sysctl_of_it() { sed -n 's/^# This belongs to it: //p' "$tmp/rules" | tee /dev/stderr | a_shell && [ "$(fw sysctl -n net.netfilter.nf_conntrack_tcp_loose)" = 0 ]; }
start_nginx_here() {
	sed "s|$tmp/nginx.pid|$tmp/here.pid|" "$tmp/nginx.conf" >"$tmp/here.conf"
	spawn fw nginx -c "$tmp/here.conf"
	here_nginx=$pid
	wait_for test -s "$tmp/here.pid"
}
local_probe() { tool probe "$gateway" 80 2>"$tmp/notes"; }
behind=$server
set_addresses() { server=$behind address=$behind; }

# refused PORT: two tests that one who speaks SSH is reset, and the server hears nothing.
refused() {
	local host
	host=$(host "$server")
	ok "rules gate: who speaks SSH is reset" not client socat -T 60 - "TCP$FAMILY:$host:80,sourceport=$1" <<<"SSH-2.0-x"
	settle
	ok "rules gate: by the rule for a no" [ "$(seen_count client "tcp dst port $1 and $RST")" -ge 1 ]
	is "rules gate: the server hears nothing" "$(server_packets "$1")" 0
}

### What is wrong is found

well() { doctor_says 0 0 "Nothing is wrong"; }
# doctor_says STATUS FAULTS TEXT COMMAND...: TEXT, and so many faults.
doctor_says() {
	local status=0
	"${@:4}" fw xt-synproxy doctor >"$tmp/doctor" || status=$?
	cat "$tmp/doctor"
	equal "$status" "$1" && equal "$(grep -c '^fault: ' "$tmp/doctor")" "$2" && grep -qF -e "$3" "$tmp/doctor"
}
# finds NAME TEXT COMMAND...: with that rule, or after that command, one fault; and none
# any more when it is undone.
finds() {
	"${@:3}"
	ok "doctor: $1" doctor_says 1 1 "$2"
}
gone() { ok "doctor: nothing is wrong then" well; }
rule() { ipt "$@"; }
to_port() { ipt -t "$1" "$2" "$3" -p tcp --dport "$4" "${@:5}"; }
proc() { echo "$2" >"/proc/sys/net/netfilter/nf_conntrack_$1"; }

# Before any connection was opened.
without_verdict() {
	ipt -P FORWARD DROP
	ipt -A FORWARD -p tcp --dport 80 -m spstate --none -j SYNPROXY --mss 1400 --timeout 1
	spawn client curl -sS --max-time 100 --local-port 4501 -o /dev/null "$(url /64k)"
	ok "a client waits too long" wait_for late
	ok "doctor: nobody says yes" doctor_says 1 1 "and opened 0: clients send something"
	stop "$pid"
	no_rules
}
late() { [ "$(counted gate_timeouts)" -ge 1 ]; }

found_in_rules() {
	start_dpi --deny-mark 0x0d
	has_rules gate >&2
	finds "INVALID packets dropped in mangle" "mangle FORWARD: this rule drops INVALID packets" \
		rule -t mangle -I FORWARD -m conntrack --ctstate INVALID -j DROP
	ipt -t mangle -D FORWARD 1
	finds "NFQUEUE in filter" "NFQUEUE stands in table filter" \
		to_port filter -I FORWARD 80 -m spstate --in-progress -j NFQUEUE --queue-num 0
	ipt -D FORWARD 1
	finds "ESTABLISHED accepted above" "this rule accepts what clients send that wait" \
		rule -I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	ipt -D FORWARD 1
	ipt -N early
	ipt -A early -m state --state ESTABLISHED -j ACCEPT
	finds "the same in a chain of the user's" "this rule accepts what clients send that wait" rule -I FORWARD -j early
	ipt -D FORWARD 1
	ipt -F early
	ipt -X early
	finds "the policy" "whose policy is ACCEPT" rule -P FORWARD ACCEPT
	ipt -P FORWARD DROP
	gone
}

found_elsewhere() {
	local there max buckets
	finds "tcp_loose=0 and a gate" "tcp_loose is 0" fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
	finds "an MSS beyond the MTU" "--mss 9000 is more than eth1 with its MTU of 1500 has room for, $mss" \
		rule -A FORWARD -d "$server" -p tcp --dport 88 -m spstate --none -j SYNPROXY --mss 9000
	ipt -D FORWARD -d "$server" -p tcp --dport 88 -m spstate --none -j SYNPROXY --mss 9000
	finds "no timestamps" "without --timestamp --wscale, --sack-perm, --ecn has no effect" \
		to_port filter -A FORWARD 88 -m spstate --none -j SYNPROXY --mss 1400 --wscale 7 --sack-perm --ecn
	to_port filter -D FORWARD 88 -m spstate --none -j SYNPROXY --mss 1400 --wscale 7 --sack-perm --ecn
	to_port filter -A FORWARD 88 -m spstate --none -j SYNPROXY --mss 1400 --rate 10
	finds "two rates" "--rate 10, --rate 20" \
		to_port filter -A FORWARD 89 -m spstate --none -j SYNPROXY --mss 1400 --rate 20
	to_port filter -D FORWARD 88 -m spstate --none -j SYNPROXY --mss 1400 --rate 10
	to_port filter -D FORWARD 89 -m spstate --none -j SYNPROXY --mss 1400 --rate 20
	finds "one rule for all addresses" "this rule names no destination" \
		to_port raw -A PREROUTING 88 -j SYNPROXY --mss 1400
	ipt -t raw -F
	# These two are of all namespaces.
	max=$(cat /proc/sys/net/netfilter/nf_conntrack_max)
	buckets=$(cat /proc/sys/net/netfilter/nf_conntrack_buckets)
	page 4502 /64k
	finds "a full table" "entries of 1: when it is full" proc max 1
	finds "few buckets" "entries in $buckets buckets" proc max $((buckets * 9))
	proc max "$max"
	finds "no engine" "no program listens on queue 0" stop "$dpi"
	no_rules

	ipt -t mangle -A FORWARD -m spstate --finish -j MARK --set-mark 1
	ok "doctor: spstate without the target" doctor_says 1 1 "none with -j SYNPROXY: nobody waits"
	no_rules

	has_rules flood >&2
	finds "tcp_loose=1 and the rules of the kernel's own" "tcp_loose is 1" fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1
	fw sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
	finds "INVALID packets dropped above" "filter FORWARD: this rule drops INVALID packets" \
		rule -I FORWARD -m conntrack --ctstate INVALID -j DROP
	ipt -D FORWARD 1
	finds "nothing is UNTRACKED" "makes SYNs UNTRACKED" rule -t raw -F
	no_rules
	gone

	has_rules one-rule >&2
	there=/usr/lib/modules/$(uname -r)/kernel/net/$l3/netfilter/$in_tree.ko
	finds "the kernel's own module" "$in_tree is loaded" load "$there"
	rmmod "$in_tree"
	nft_synproxy
	ok "doctor: a synproxy of nftables" doctor_says 1 1 "nftables has a synproxy"
	fw nft delete table "$table" other
	wait_for users nft_synproxy 0
	ok "SYNs that are not answered" ipt -t raw -A PREROUTING -d "$server" -p tcp --dport 90 -j SYNPROXY --mss 1400 --rate 1
	many 90
	ok "doctor: which it has a hint about" doctor_says 0 0 "hint: rate_limited is"
	no_rules

	mv /etc/modprobe.d/xt_SYNPROXY-load.conf "$tmp"
	ok "doctor: nothing in modprobe.d" doctor_says 1 2 "would load $in_tree, and not xt_SYNPROXY"
	mv "$tmp/xt_SYNPROXY-load.conf" /etc/modprobe.d
	ok "doctor: libraries that iptables came with" doctor_says 1 2 "is the one that comes with iptables" stock
	ok "doctor: without root it says that it is blind" \
		doctor_says 2 0 "it takes root" setpriv_nobody
}
# As the user nobody, in fw: "ip netns exec" itself takes root.
setpriv_nobody() {
	ip netns exec "$1" setpriv --reuid 65534 --regid 65534 --clear-groups "${@:2}"
}
# modprobe would load ours by that name.
load() { modprobe nf_synproxy_core && insmod "$1"; }
nft_synproxy() {
	fw nft -f - <<-END
		table $table other {
			chain forward {
				type filter hook forward priority 10
				tcp dport 82 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
			}
		}
	END
}
users() { equal "$(cat "/sys/module/$1/refcnt")" "$2"; }
# many PORT: SYNs to a port, in any case more than one is to be answered.
many() {
	local i
	for i in {1..5}; do
		client xt-synproxy probe --timeout 1 "$server" "$1" >/dev/null 2>&1 || :
	done
	wait_for limited
}
limited() { [ "$(counted rate_limited)" -ge 1 ]; }

### What is counted is added up

top_is_the_sum() {
	local name
	# No packet is on its way.
	settle
	tool top --count 1 >"$tmp/top"
	cat "$tmp/top"
	for name in $(fw head -n 1 /proc/net/stat/xt_synproxy); do
		grep -qE "^$name +$(counted "$name")\$" "$tmp/top" || { echo "$name: $(counted "$name")" && return 1; }
	done
	equal "$(wc -l <"$tmp/top")" $(($(fw head -n 1 /proc/net/stat/xt_synproxy | wc -w) + 1))
}
top_has_rates() {
	tool top --count 3 --interval 1 >"$tmp/top"
	cat "$tmp/top"
	equal "$(grep -c 'per second' "$tmp/top")" 2 && equal "$(grep -cE '^syn_received +[0-9]+( +[0-9.]+)?$' "$tmp/top")" 3
}
top_ends() { tool top --interval 1 | head -n 1; }

set_up
start_nginx server
capture

ok "top: without the module there is nothing to count" fails "xt_SYNPROXY is not loaded" tool top --count 1
ok "doctor: without the module and rules nothing is wrong" well
! once || asked
! once || without_verdict
cases
ok "top --count 1: the sums of the file" top_is_the_sum
ok "top --count 3: rates from the second time on" top_has_rates
ok "top: ends when nobody reads it" top_ends
found_in_rules
if once; then found_elsewhere; else stop "$dpi"; fi
ok "nothing of the kernel's own is left for the next test" wait_for modprobe -r nft_synproxy

finish
