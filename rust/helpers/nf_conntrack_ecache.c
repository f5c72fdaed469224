// SPDX-License-Identifier: GPL-2.0-only

#include <net/netfilter/nf_conntrack_ecache.h>

#include "helpers.h"

void rust_helper_nf_conntrack_event_cache(unsigned int event, struct nf_conn *ct)
{
	nf_conntrack_event_cache(event, ct);
}

bool rust_helper_nf_ct_ecache_ext_add(struct nf_conn *ct)
{
	return nf_ct_ecache_ext_add(ct, 0, 0, GFP_ATOMIC);
}

void rust_helper_nf_conntrack_event_new(struct nf_conn *ct)
{
	nf_conntrack_event(IPCT_NEW, ct);
}
