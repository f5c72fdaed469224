// SPDX-License-Identifier: GPL-2.0-only

#include <linux/netfilter.h>
#include <net/net_namespace.h>

#include "helpers.h"

const struct nf_hook_entries *rust_helper_nf_hook_entries(const struct net *net, u8 pf,
							  unsigned int hook)
{
	struct nf_hook_entries __rcu *const *heads =
		pf == NFPROTO_IPV6 ? net->nf.hooks_ipv6 : net->nf.hooks_ipv4;

	return rcu_dereference(heads[hook]);
}
