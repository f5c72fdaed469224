// SPDX-License-Identifier: GPL-2.0-only

#include <net/netfilter/nf_conntrack_core.h>

#include "helpers.h"

/* Its events are not to be delivered with softirqs on, as they are after NFQUEUE. */
int rust_helper_nf_conntrack_confirm(struct sk_buff *skb)
{
	int verdict;

	local_bh_disable();
	verdict = nf_conntrack_confirm(skb);
	local_bh_enable();
	return verdict;
}

void rust_helper_nf_ct_set_timeout(struct nf_conn *ct, u32 jiffies)
{
	__nf_ct_set_timeout(ct, jiffies);
}
