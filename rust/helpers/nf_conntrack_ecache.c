// SPDX-License-Identifier: GPL-2.0-only

#include <net/netfilter/nf_conntrack_ecache.h>

#include "helpers.h"

void rust_helper_nf_conntrack_event_cache(unsigned int event, struct nf_conn *ct)
{
	nf_conntrack_event_cache(event, ct);
}
