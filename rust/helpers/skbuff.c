// SPDX-License-Identifier: GPL-2.0-only

#include <linux/ip.h>
#include <linux/random.h>
#include <linux/skbuff.h>
#include <net/checksum.h>
#include <net/dst.h>
#include <net/tcp.h>

#include "helpers.h"

struct sk_buff *rust_helper_alloc_skb(unsigned int size)
{
	return alloc_skb(size, GFP_ATOMIC);
}

void rust_helper_skb_reserve(struct sk_buff *skb, unsigned int len)
{
	skb_reserve(skb, len);
}

void rust_helper_skb_reset_network_header(struct sk_buff *skb)
{
	skb_reset_network_header(skb);
}

unsigned int rust_helper_skb_network_offset(const struct sk_buff *skb)
{
	return skb_network_offset(skb);
}

struct dst_entry *rust_helper_skb_dst(const struct sk_buff *skb)
{
	return skb_dst(skb);
}

u16 rust_helper_skb_gso_size(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->gso_size;
}

bool rust_helper_skb_is_unicast(const struct sk_buff *skb)
{
	return skb->pkt_type != PACKET_BROADCAST && skb->pkt_type != PACKET_MULTICAST;
}

int rust_helper_skb_iif(const struct sk_buff *skb)
{
	return skb->skb_iif;
}

/* Not of a packet that a transparent socket sends. */
bool rust_helper_skb_is_for_transparent(const struct sk_buff *skb)
{
	return skb->sk && skb->skb_iif && inet_sk_transparent(skb->sk);
}

/* 0 of a packet that no transparent socket sends, or that IPsec is to have first. */
int rust_helper_skb_transparent_oif(const struct sk_buff *skb)
{
	return skb->sk && !skb->skb_iif && skb->dev && sk_is_inet(skb->sk) &&
		       inet_sk_transparent(skb->sk) ?
		       skb->dev->ifindex : 0;
}

/* A mark that goes with TPROXY leads to the proxy: the kernel's own answers do not have it. */
u32 rust_helper_skb_mark(const struct sk_buff *skb)
{
	return rust_helper_skb_is_for_transparent(skb) ? 0 : skb->mark;
}

void rust_helper_skb_set_mark(struct sk_buff *skb, u32 mark)
{
	skb->mark = mark;
}

/* That belong together: otherwise, a packet of ours has no identification. */
void rust_helper_skb_allow_fragments(struct sk_buff *skb)
{
	skb->ignore_df = 1;
	if (skb->protocol == htons(ETH_P_IP))
		ip_hdr(skb)->id = htons(get_random_u16());
}

u16 rust_helper_skb_protocol(const struct sk_buff *skb)
{
	return ntohs(skb->protocol);
}

void rust_helper_skb_set_protocol(struct sk_buff *skb, u16 protocol)
{
	skb->protocol = htons(protocol);
}

void rust_helper_inet_proto_csum_replace4(__sum16 *sum, struct sk_buff *skb,
					  u32 from, u32 to)
{
	inet_proto_csum_replace4(sum, skb, cpu_to_be32(from), cpu_to_be32(to), false);
}

/* Has it linear, ours alone, and @len bytes long. */
bool rust_helper_skb_resize(struct sk_buff *skb, unsigned int len)
{
	int missing;

	if (skb_linearize(skb))
		return false;
	missing = (int)len - (int)skb->len - skb_tailroom(skb);
	if ((missing > 0 || skb_cloned(skb)) &&
	    pskb_expand_head(skb, 0, max(missing, 0), GFP_ATOMIC))
		return false;
	__skb_set_length(skb, len);
	return true;
}
