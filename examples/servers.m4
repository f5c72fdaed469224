# SPDX-License-Identifier: GPL-2.0-only
#
# The table raw of a firewall whose servers are kept by one rule each, written by macros
# instead of a loop that calls iptables. What it says replaces that table as a whole, at
# once or not at all:
#
#     m4 -P servers.m4 >raw.rules && iptables-restore --test raw.rules
#     iptables-apply -t 60 raw.rules
#
m4_define(`SERVER', `-A PREROUTING -i eth0 -d $1 -p tcp -m multiport --dports $2 -j SYNPROXY $3')m4_dnl
# What servers offer, as "xt-synproxy probe" says: most Linux ones.
m4_define(`LINUX', `--mss 1460 --sack-perm --timestamp --wscale 7')m4_dnl
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
SERVER(`192.0.2.10', `80,443', `LINUX')
SERVER(`192.0.2.11', `25', `--mss 1460')
# One that may get 1,000 SYN,ACKs a second.
SERVER(`192.0.2.12', `8080', `LINUX --rate 1000')
COMMIT
