// SPDX-License-Identifier: GPL-2.0-only

#include <net/ip.h>

#include "helpers.h"

u8 rust_helper_ip_default_ttl(const struct net *net)
{
	return READ_ONCE(net->ipv4.sysctl_ip_default_ttl);
}
