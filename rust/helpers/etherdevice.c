// SPDX-License-Identifier: GPL-2.0-only

#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/netdevice.h>

#include "helpers.h"

/*
 * From one machine to this one, over Ethernet. Neither a tunnel, a bridge or IPsec
 * has left anything on it, nor is it several in one.
 */
bool rust_helper_skb_is_from_neighbour(struct sk_buff *skb)
{
	const struct net_device *dev = skb->dev;

	return dev->type == ARPHRD_ETHER && !netif_is_l3_master(dev) &&
	       skb->pkt_type == PACKET_HOST &&
	       !skb->_skb_refdst && !skb_has_extensions(skb) && !skb_is_gso(skb) &&
	       skb_mac_header_was_set(skb) && skb_mac_offset(skb) == -ETH_HLEN &&
	       is_valid_ether_addr(eth_hdr(skb)->h_source);
}

void rust_helper_skb_return_to_neighbour(struct sk_buff *skb)
{
	struct ethhdr *eth = __skb_push(skb, ETH_HLEN);

	skb_reset_mac_header(skb);
	ether_addr_copy(eth->h_dest, eth->h_source);
	ether_addr_copy(eth->h_source, skb->dev->dev_addr);
	dev_queue_xmit(skb);
}
