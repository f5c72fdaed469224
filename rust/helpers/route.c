// SPDX-License-Identifier: GPL-2.0-only

#include <linux/ipv6.h>
#include <net/ip.h>
#include <net/ip6_route.h>
#include <net/l3mdev.h>
#include <net/route.h>
#include <net/xfrm.h>

#include "helpers.h"

bool rust_helper_skb_route_input(struct sk_buff *skb)
{
	if (skb->protocol == htons(ETH_P_IP)) {
		const struct iphdr *iph = ip_hdr(skb);

		return !ip_route_input_noref(skb, iph->daddr, iph->saddr, ip4h_dscp(iph), skb->dev);
	}
	ip6_route_input(skb);
	return !skb_dst(skb)->error;
}

static struct dst_entry *route_v4(struct net *net, const struct sk_buff *skb,
				  const struct net_device *near)
{
	const struct iphdr *iph = ip_hdr(skb);
	const struct tcphdr *th = (const struct tcphdr *)(iph + 1);
	struct flowi4 fl4 = {
		.flowi4_l3mdev = l3mdev_master_ifindex((struct net_device *)near),
		.flowi4_mark = skb->mark,
		.flowi4_dscp = ip4h_dscp(iph),
		.flowi4_proto = IPPROTO_TCP,
		/* It may be another host's: we speak for it. */
		.flowi4_flags = FLOWI_FLAG_ANYSRC,
		.saddr = iph->saddr,
		.daddr = iph->daddr,
		.fl4_sport = th->source,
		.fl4_dport = th->dest,
	};
	struct rtable *rt = ip_route_output_flow(net, &fl4, NULL);

	return IS_ERR(rt) ? ERR_CAST(rt) : &rt->dst;
}

static struct dst_entry *route_v6(struct net *net, const struct sk_buff *skb,
				  const struct net_device *near)
{
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	const struct tcphdr *th = (const struct tcphdr *)(ip6h + 1);
	struct flowi6 fl6 = {
		.flowi6_l3mdev = l3mdev_master_ifindex((struct net_device *)near),
		.flowi6_mark = skb->mark,
		.flowi6_uid = sock_net_uid(net, NULL),
		.flowi6_proto = IPPROTO_TCP,
		.flowlabel = ip6_flowinfo(ip6h),
		.saddr = ip6h->saddr,
		.daddr = ip6h->daddr,
		.fl6_sport = th->source,
		.fl6_dport = th->dest,
	};
	struct dst_entry *dst;

	if (ipv6_addr_type(&ip6h->daddr) & IPV6_ADDR_LINKLOCAL)
		fl6.flowi6_oif = near->ifindex;
	dst = ip6_route_output(net, NULL, &fl6);
	return dst->error ? dst : xfrm_lookup(net, dst, flowi6_to_flowi(&fl6), NULL, 0);
}

/* Has @skb, an IP header without options and a TCP header, know its way; @near tells the VRF. */
int rust_helper_skb_route_output(struct net *net, struct sk_buff *skb,
				 const struct dst_entry *near)
{
	struct dst_entry *dst;
	int err;

	dst = skb->protocol == htons(ETH_P_IP) ? route_v4(net, skb, near->dev) :
						 route_v6(net, skb, near->dev);
	if (IS_ERR(dst))
		return PTR_ERR(dst);
	err = dst->error;
	if (err) {
		dst_release(dst);
		return err;
	}
	skb_dst_set(skb, dst);
	skb->dev = NULL;
	skb_unset_mac_header(skb);
	return 0;
}

void rust_helper_skb_local_out(struct net *net, struct sk_buff *skb)
{
	if (skb->protocol == htons(ETH_P_IP))
		ip_local_out(net, NULL, skb);
	else
		ip6_local_out(net, NULL, skb);
}
