// SPDX-License-Identifier: GPL-2.0-only

#include <linux/netdevice.h>
#include <net/dst.h>
#include <net/ip6_fib.h>

#include "helpers.h"

/* A bridge's own is part of its device, which it does not keep. */
struct dst_entry *rust_helper_skb_dst_get(struct sk_buff *skb)
{
	if (skb_dst(skb) && skb_dst(skb)->flags & DST_FAKE_RTABLE)
		return NULL;
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

/* By which it is seen later whether it is still good. */
u32 rust_helper_dst_cookie(const struct dst_entry *dst)
{
	return dst->ops->family == AF_INET6 ? rt6_get_cookie(dst_rt6_info(dst)) : 0;
}

bool rust_helper_dst_is_good(struct dst_entry *dst, u32 cookie)
{
	return !READ_ONCE(dst->obsolete) || dst->ops->check(dst, cookie);
}

void rust_helper_skb_set_route(struct sk_buff *skb, struct dst_entry *dst)
{
	skb_dst_set(skb, dst_clone(dst));
}
