// SPDX-License-Identifier: GPL-2.0-only

#include <net/ipv6.h>

#include "helpers.h"

u8 rust_helper_ipv6_default_hop_limit(const struct net *net)
{
	return READ_ONCE(net->ipv6.devconf_all->hop_limit);
}
