// SPDX-License-Identifier: GPL-2.0-only

#include <linux/netdevice.h>
#include <net/dst.h>

#include "helpers.h"

struct dst_entry *rust_helper_skb_dst_get(struct sk_buff *skb)
{
	return skb_dst_force(skb) ? dst_clone(skb_dst(skb)) : NULL;
}

bool rust_helper_skb_dst_is_loopback(const struct sk_buff *skb)
{
	return skb_dst_dev(skb)->flags & IFF_LOOPBACK;
}

void rust_helper_dst_hold(struct dst_entry *dst)
{
	dst_hold(dst);
}
