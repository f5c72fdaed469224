// SPDX-License-Identifier: GPL-2.0-only

#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <net/ip.h>
#include <net/netfilter/nf_conntrack.h>

#include "helpers.h"

bool rust_helper_skb_dev_is_l3_master(const struct sk_buff *skb)
{
	return skb->dev && netif_is_l3_master(skb->dev);
}

bool rust_helper_nf_hook_out_is_l3_master(const struct nf_hook_state *state)
{
	return state->out && netif_is_l3_master(state->out);
}

/* Unless it is on its way to a VRF's device, and to the real one then, or comes by loopback. */
bool rust_helper_nf_hook_sees_once(const struct sk_buff *skb, const struct nf_hook_state *state)
{
	return !(state->out && netif_is_l3_master(state->out)) && !nf_is_loopback_packet(skb);
}

/*
 * As a device without a link-layer header would: whatever listens to frames
 * has had this one already. What ip_local_out() would fill in is done here.
 */
static void prepare(struct sk_buff *skb, struct net_device *dev)
{
	if (skb->protocol == htons(ETH_P_IP)) {
		ip_hdr(skb)->tot_len = htons(skb->len);
		ip_send_check(ip_hdr(skb));
	} else {
		ipv6_hdr(skb)->payload_len = htons(skb->len - sizeof(struct ipv6hdr));
	}
	skb->dev = dev;
	skb->pkt_type = PACKET_HOST;
	skb_reset_mac_header(skb);
}

/* On its way through a bridge a packet has the port by which it will leave. */
static struct net_device *receiver(const struct sk_buff *like)
{
	struct net_device *dev = like->dev;

	if (netif_is_bridge_port(dev))
		dev = netdev_master_upper_dev_get_rcu(dev) ?: dev;
	return dev;
}

void rust_helper_netif_rx(struct sk_buff *skb, const struct sk_buff *like)
{
	prepare(skb, receiver(like));
	netif_rx(skb);
}

/* netif_rx() would have it wait, and RPS might give it to another CPU. */
void rust_helper_netif_receive_skb(struct sk_buff *skb, const struct sk_buff *like)
{
	local_bh_disable();
	prepare(skb, receiver(like));
	netif_receive_skb_core(skb);
	local_bh_enable();
}

bool rust_helper_netif_rx_by(struct net *net, struct sk_buff *skb, int ifindex)
{
	struct net_device *dev;

	rcu_read_lock();
	dev = dev_get_by_index_rcu(net, ifindex);
	if (dev) {
		prepare(skb, dev);
		netif_rx(skb);
	}
	rcu_read_unlock();
	return dev;
}
