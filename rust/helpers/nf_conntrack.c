// SPDX-License-Identifier: GPL-2.0-only

#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_l4proto.h>
#include <net/netfilter/nf_conntrack_zones.h>

#include "helpers.h"

struct nf_conn *rust_helper_nf_ct_get(const struct sk_buff *skb, unsigned int *ctinfo)
{
	enum ip_conntrack_info info;
	struct nf_conn *ct = nf_ct_get(skb, &info);

	*ctinfo = info;
	return ct;
}

void rust_helper_nf_reset_ct(struct sk_buff *skb)
{
	nf_reset_ct(skb);
}

void rust_helper_nf_ct_set(struct sk_buff *skb, struct nf_conn *ct, unsigned int ctinfo)
{
	nf_ct_set(skb, ct, ctinfo);
}

/* nf_ct_set() is for packets without an entry. */
void rust_helper_nf_ct_set_info(struct sk_buff *skb, unsigned int ctinfo)
{
	skb->_nfct = (skb->_nfct & NFCT_PTRMASK) | ctinfo;
}

void rust_helper_nf_conntrack_get(struct nf_conn *ct)
{
	nf_conntrack_get(&ct->ct_general);
}

void rust_helper_nf_ct_put(struct nf_conn *ct)
{
	nf_ct_put(ct);
}

struct net *rust_helper_nf_ct_net(const struct nf_conn *ct)
{
	return nf_ct_net(ct);
}

void rust_helper_nf_ct_refresh(struct nf_conn *ct, u32 jiffies)
{
	nf_ct_refresh(ct, jiffies);
}

unsigned long rust_helper_nf_ct_expires(const struct nf_conn *ct)
{
	return nf_ct_expires(ct);
}

bool rust_helper_nf_is_loopback_packet(const struct sk_buff *skb)
{
	return nf_is_loopback_packet(skb);
}

struct nf_conn *rust_helper_nf_ct_tuplehash_to_ctrack(const struct nf_conntrack_tuple_hash *hash)
{
	return nf_ct_tuplehash_to_ctrack(hash);
}

struct nf_conn *rust_helper_nf_conntrack_alloc(struct net *net,
					       const struct nf_conntrack_zone *zone,
					       const struct nf_conntrack_tuple *orig,
					       const struct nf_conntrack_tuple *reply)
{
	struct nf_conn *ct = nf_conntrack_alloc(net, zone, orig, reply, GFP_ATOMIC);

	return IS_ERR(ct) ? NULL : ct;
}

const struct nf_conntrack_zone *rust_helper_nf_ct_zone_dflt(void)
{
	return &nf_ct_zone_dflt;
}

bool rust_helper_tcp_loose(const struct net *net)
{
	return net->ct.nf_ct_proto.tcp.tcp_loose;
}

/* That of the packet's mark, if its template says so. */
void rust_helper_nf_ct_zone_tmpl(const struct nf_conn *tmpl, const struct sk_buff *skb,
				 struct nf_conntrack_zone *zone)
{
	struct nf_conntrack_zone tmp;

	*zone = *nf_ct_zone_tmpl(tmpl, skb, &tmp);
}
