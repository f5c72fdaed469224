// SPDX-License-Identifier: GPL-2.0-only

#include <linux/rcupdate.h>
#include <net/netns/generic.h>

#include "helpers.h"

void *rust_helper_net_generic(const struct net *net, unsigned int id)
{
	return net_generic(net, id);
}

/* For who is in an RCU section already, or has softirqs off. */
void *rust_helper_net_generic_rcu(const struct net *net, unsigned int id)
{
	return rcu_dereference_check(net->gen, rcu_read_lock_bh_held())->ptr[id];
}
