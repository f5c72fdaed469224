#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: legacy
#
# 200 connections, 50 at a time, with the offloads that network cards do.

. "$(dirname "$0")/lib.sh"

all_the_same() {
	local got
	[ "$(find "$tmp/got" -type f | wc -l)" = 200 ] || return 1
	for got in "$tmp"/got/*; do
		cmp "$got" "$www/64k" || return 1
	done
}
counted() { fw conntrack -S | tr ' ' '\n' | awk -F= -v name="$1" '$1 == name { sum += $2 } END { print sum }'; }

set_up
offload on
start_nginx server
gate
start_dpi --verbose
capture
mkdir "$tmp/got"

ok "200 pages" client curl -sS --no-progress-meter --parallel --parallel-max 50 --max-time 200 \
	-o "$tmp/got/#1" "$(url "/64k?[1-200]")"
ok "all whole" all_the_same
settle
# A client may use a port again, with another number.
is "in 200 connections" "$(seen server "tcp dst port 80 and $SYN" | awk '{ print $3, $9 }' | sort -u | wc -l)" 200
echo "# conntrack: $(counted invalid) invalid, $(counted insert_failed) insert_failed, $(counted drop) drop"
echo "# SYNs sent again: $(($(seen_count server "tcp dst port 80 and $SYN") - 200)) to the server, $(($(seen_count client "tcp dst port 80 and $SYN") - 200)) by the client"

finish
