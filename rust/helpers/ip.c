// SPDX-License-Identifier: GPL-2.0-only

#include <net/ip.h>

#include "helpers.h"

const struct iphdr *rust_helper_ip_hdr(const struct sk_buff *skb)
{
	return ip_hdr(skb);
}

u8 rust_helper_ip_default_ttl(const struct net *net)
{
	return READ_ONCE(net->ipv4.sysctl_ip_default_ttl);
}
