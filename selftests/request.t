#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# backend: nft
#
# A gate without a rule of spstate or --defer: its hooks come when the first client
# is to wait.

. "$(dirname "$0")/lib.sh"

proxy="SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"

set_up
start_nginx server
ipt_restore <<-END
	*filter
	:FORWARD DROP
	-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	-A FORWARD -p tcp --dport 80 -m length --length 100: -j $proxy
	-A FORWARD -p tcp --dport 80 -m length --length :99 -j $proxy
	COMMIT
END
ok "a page comes" page 4001
ok "of a client that has waited" [ "$(counted in_progress)" -ge 1 ]
ok "and once more" page 4002

finish
