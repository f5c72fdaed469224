/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _SYNPROXY_INJECT_HELPERS_H
#define _SYNPROXY_INJECT_HELPERS_H

#include <linux/types.h>

struct net_device;
struct sk_buff;
struct skb_shared_info;

/* In the namespace of the caller; with a reference. */
struct net_device *rust_helper_dev_get_by_index(int ifindex);
void rust_helper_dev_put(struct net_device *dev);
bool rust_helper_netif_running(const struct net_device *dev);
struct sk_buff *rust_helper_netdev_alloc_skb_ip_align(struct net_device *dev, unsigned int len);
void rust_helper_eth_type_trans(struct sk_buff *skb, struct net_device *dev);
void rust_helper_skb_reserve(struct sk_buff *skb, int len);
struct skb_shared_info *rust_helper_skb_shinfo(struct sk_buff *skb);
void rust_helper_local_bh_disable(void);
void rust_helper_local_bh_enable(void);
/* In process context, with nothing held. */
void rust_helper_cond_resched(void);

#endif
