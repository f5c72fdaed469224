// SPDX-License-Identifier: GPL-2.0-only

#include <linux/if_vlan.h>
#include <net/ip6_checksum.h>
#include <net/tcp.h>

#include "helpers.h"

unsigned int rust_helper_max_tcp_header(void)
{
	return MAX_TCP_HEADER;
}

u8 rust_helper_tcp_syn_retries(const struct net *net)
{
	return READ_ONCE(net->ipv4.sysctl_tcp_syn_retries);
}

u16 rust_helper_tcp_v6_pseudo_sum(unsigned int len, const struct in6_addr *saddr,
				  const struct in6_addr *daddr)
{
	return (__force u16)~tcp_v6_check(len, saddr, daddr, 0);
}

u16 rust_helper_tcp_v4_pseudo_sum(unsigned int len, __be32 saddr, __be32 daddr)
{
	return (__force u16)~tcp_v4_check(len, saddr, daddr, 0);
}

/*
 * Both headers are in place: what is left of them, and of a packet with a TCP
 * header and nothing else, is said here.
 */
static __always_inline void put_tcp(struct sk_buff *skb, unsigned int ip_len,
				    unsigned int tcp_len)
{
	struct tcphdr *th = (struct tcphdr *)(skb->data + ip_len);

	skb->len = ip_len + tcp_len;
	skb_set_tail_pointer(skb, skb->len);
	skb_reset_network_header(skb);
	skb_set_transport_header(skb, ip_len);
	if (skb->protocol == htons(ETH_P_IP)) {
		struct iphdr *iph = ip_hdr(skb);

		iph->tot_len = htons(skb->len);
		iph->check = 0;
		iph->check = ip_fast_csum(iph, sizeof(*iph) / 4);
		th->check = ~tcp_v4_check(tcp_len, iph->saddr, iph->daddr, 0);
	} else {
		struct ipv6hdr *ip6h = ipv6_hdr(skb);

		ip6h->payload_len = htons(tcp_len);
		th->check = ~tcp_v6_check(tcp_len, &ip6h->saddr, &ip6h->daddr, 0);
	}
	skb_gso_reset(skb);
	skb->ip_summed = CHECKSUM_PARTIAL;
	skb->csum_start = skb_transport_header(skb) - skb->head;
	skb->csum_offset = offsetof(struct tcphdr, check);
	skb->csum_level = 0;
}

/* It may have come in fragments, but does not leave in any. */
void rust_helper_skb_put_tcp(struct sk_buff *skb, unsigned int ip_len, unsigned int tcp_len)
{
	put_tcp(skb, ip_len, tcp_len);
	if (skb->protocol == htons(ETH_P_IP)) {
		IPCB(skb)->frag_max_size = 0;
		IPCB(skb)->flags &= ~IPSKB_FRAG_PMTU;
	} else {
		IP6CB(skb)->frag_max_size = 0;
	}
}

/*
 * The same of a packet that this host makes, too: what was known of it as one that
 * came in is forgotten.
 */
void rust_helper_skb_finish_tcp(struct sk_buff *skb, unsigned int ip_len, unsigned int tcp_len)
{
	put_tcp(skb, ip_len, tcp_len);
	skb_scrub_packet(skb, true);
	/* Also a departure time, of a container for instance. */
	skb_set_delivery_time(skb, 0, SKB_CLOCK_REALTIME);
	skb_orphan(skb);
	skb_clear_hash(skb);
	skb_init_secmark(skb);
	__vlan_hwaccel_clear_tag(skb);
	memset(IPCB(skb), 0, max(sizeof(struct inet_skb_parm), sizeof(struct inet6_skb_parm)));
	skb->priority = 0;
	skb->encapsulation = 0;
}

/* What needs no more than a look: the packet lies in one piece, and nobody has summed it. */
bool rust_helper_skb_tcp_sum_is_right(const struct sk_buff *skb, unsigned int thoff)
{
	unsigned int len = skb->len - thoff;
	__wsum sum;

	if (skb_is_nonlinear(skb) || skb->ip_summed != CHECKSUM_NONE || thoff > skb->len)
		return false;
	sum = csum_partial(skb->data + thoff, len, 0);
	if (skb->protocol == htons(ETH_P_IP))
		return !tcp_v4_check(len, ip_hdr(skb)->saddr, ip_hdr(skb)->daddr, sum);
	return !tcp_v6_check(len, &ipv6_hdr(skb)->saddr, &ipv6_hdr(skb)->daddr, sum);
}
