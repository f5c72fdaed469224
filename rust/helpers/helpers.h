/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inline functions and macros of the kernel, made callable from Rust. bindgen
 * reads this file, and each helper file checks its definitions against it.
 */
#ifndef XT_SYNPROXY_HELPERS_H
#define XT_SYNPROXY_HELPERS_H

#include <linux/netfilter.h>
#include <linux/netfilter/x_tables.h>
#include <linux/seq_file.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/net_namespace.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_extend.h>

/* linux/jiffies.h: libclang takes HZ for that of userspace. */
unsigned int rust_helper_hz(void);
u32 rust_helper_clock_ms(void);

/* linux/ratelimit.h */
bool rust_helper_may_log(void);

/* linux/bitops.h */
void rust_helper_set_bit(unsigned int nr, unsigned long *addr);

/* linux/bottom_half.h */
void rust_helper_local_bh_disable(void);
void rust_helper_local_bh_enable(void);

/* linux/timekeeping.h */
u64 rust_helper_ktime_get_ns(void);

/* linux/timer.h */
void rust_helper_timer_setup(struct timer_list *timer, void (*func)(struct timer_list *));

/* linux/workqueue.h */
void rust_helper_init_work(struct work_struct *work, void (*func)(struct work_struct *));
void rust_helper_schedule_work(struct work_struct *work);

/* linux/percpu.h */
u32 __percpu *rust_helper_alloc_percpu_u32(unsigned int count);
void rust_helper_this_cpu_inc_u32(u32 __percpu *array, unsigned int index);
u32 rust_helper_per_cpu_u32(const u32 __percpu *array, unsigned int index, unsigned int cpu);

/* linux/seq_file_net.h */
struct net *rust_helper_seq_file_single_net(struct seq_file *seq);

/* linux/skbuff.h */
struct sk_buff *rust_helper_alloc_skb(unsigned int size);
void rust_helper_skb_reserve(struct sk_buff *skb, unsigned int len);
void rust_helper_skb_reset_network_header(struct sk_buff *skb);
unsigned int rust_helper_skb_network_offset(const struct sk_buff *skb);
struct dst_entry *rust_helper_skb_dst(const struct sk_buff *skb);
u16 rust_helper_skb_gso_size(const struct sk_buff *skb);
bool rust_helper_skb_is_unicast(const struct sk_buff *skb);
int rust_helper_skb_iif(const struct sk_buff *skb);
bool rust_helper_skb_is_for_transparent(const struct sk_buff *skb);
int rust_helper_skb_transparent_oif(const struct sk_buff *skb);
u32 rust_helper_skb_mark(const struct sk_buff *skb);
void rust_helper_skb_set_mark(struct sk_buff *skb, u32 mark);
void rust_helper_skb_allow_fragments(struct sk_buff *skb);
u16 rust_helper_skb_protocol(const struct sk_buff *skb);
void rust_helper_skb_set_protocol(struct sk_buff *skb, u16 protocol);
bool rust_helper_skb_resize(struct sk_buff *skb, unsigned int len);
void rust_helper_inet_proto_csum_replace4(__sum16 *sum, struct sk_buff *skb,
					  u32 from, u32 to);

/* net/route.h, net/ip6_route.h */
bool rust_helper_skb_route_input(struct sk_buff *skb);
void rust_helper_skb_local_out(struct net *net, struct sk_buff *skb);
int rust_helper_skb_route_output(struct net *net, struct sk_buff *skb,
				 const struct dst_entry *near);

/* linux/etherdevice.h */
bool rust_helper_skb_is_from_neighbour(struct sk_buff *skb);
void rust_helper_skb_return_to_neighbour(struct sk_buff *skb);

/* linux/netfilter.h: of NFPROTO_IPV4 or NFPROTO_IPV6. */
const struct nf_hook_entries *rust_helper_nf_hook_entries(const struct net *net, u8 pf,
							  unsigned int hook);

/* net/ip.h */
u8 rust_helper_ip_default_ttl(const struct net *net);

/* net/ipv6.h */
u8 rust_helper_ipv6_default_hop_limit(const struct net *net);

/* net/dst.h */
struct dst_entry *rust_helper_skb_dst_get(struct sk_buff *skb);
bool rust_helper_skb_dst_is_loopback(const struct sk_buff *skb);
u32 rust_helper_dst_cookie(const struct dst_entry *dst);
bool rust_helper_dst_is_good(struct dst_entry *dst, u32 cookie);
void rust_helper_skb_set_route(struct sk_buff *skb, struct dst_entry *dst);
void rust_helper_dst_hold(struct dst_entry *dst);

/* linux/netdevice.h */
bool rust_helper_skb_dev_is_l3_master(const struct sk_buff *skb);
bool rust_helper_nf_hook_sees_once(const struct sk_buff *skb, const struct nf_hook_state *state);
bool rust_helper_nf_hook_out_is_l3_master(const struct nf_hook_state *state);
/* Takes the packet over. */
void rust_helper_netif_rx(struct sk_buff *skb, const struct sk_buff *like);
void rust_helper_netif_receive_skb(struct sk_buff *skb, const struct sk_buff *like);
bool rust_helper_netif_rx_by(struct net *net, struct sk_buff *skb, int ifindex);

/* net/tcp.h */
unsigned int rust_helper_max_tcp_header(void);
u8 rust_helper_tcp_syn_retries(const struct net *net);
u16 rust_helper_tcp_v4_pseudo_sum(unsigned int len, __be32 saddr, __be32 daddr);
bool rust_helper_skb_tcp_sum_is_right(const struct sk_buff *skb, unsigned int thoff);
void rust_helper_skb_put_tcp(struct sk_buff *skb, unsigned int ip_len, unsigned int tcp_len);
void rust_helper_skb_finish_tcp(struct sk_buff *skb, unsigned int ip_len, unsigned int tcp_len);
u16 rust_helper_tcp_v6_pseudo_sum(unsigned int len, const struct in6_addr *saddr,
				  const struct in6_addr *daddr);

/* net/net_namespace.h */
struct proc_dir_entry *rust_helper_proc_net_stat(const struct net *net);

/* net/netns/generic.h */
void *rust_helper_net_generic(const struct net *net, unsigned int id);
void *rust_helper_net_generic_rcu(const struct net *net, unsigned int id);

/* net/netfilter/nf_conntrack.h */
struct nf_conn *rust_helper_nf_ct_get(const struct sk_buff *skb, unsigned int *ctinfo);
void rust_helper_nf_reset_ct(struct sk_buff *skb);
void rust_helper_nf_ct_set(struct sk_buff *skb, struct nf_conn *ct, unsigned int ctinfo);
void rust_helper_nf_ct_set_info(struct sk_buff *skb, unsigned int ctinfo);
void rust_helper_nf_conntrack_get(struct nf_conn *ct);
void rust_helper_nf_ct_put(struct nf_conn *ct);
struct net *rust_helper_nf_ct_net(const struct nf_conn *ct);
void rust_helper_nf_ct_refresh(struct nf_conn *ct, u32 jiffies);
unsigned long rust_helper_nf_ct_expires(const struct nf_conn *ct);
bool rust_helper_nf_is_loopback_packet(const struct sk_buff *skb);
struct nf_conn *rust_helper_nf_ct_tuplehash_to_ctrack(const struct nf_conntrack_tuple_hash *hash);
/* NULL when there is no room. */
struct nf_conn *rust_helper_nf_conntrack_alloc(struct net *net,
					       const struct nf_conntrack_zone *zone,
					       const struct nf_conntrack_tuple *orig,
					       const struct nf_conntrack_tuple *reply);
const struct nf_conntrack_zone *rust_helper_nf_ct_zone_dflt(void);
void rust_helper_nf_ct_zone_tmpl(const struct nf_conn *tmpl, const struct sk_buff *skb,
				 struct nf_conntrack_zone *zone);
bool rust_helper_tcp_loose(const struct net *net);

/* net/netfilter/nf_conntrack_core.h */
int rust_helper_nf_conntrack_confirm(struct sk_buff *skb);
void rust_helper_nf_ct_set_timeout(struct nf_conn *ct, u32 jiffies);

/* net/netfilter/nf_conntrack_extend.h */
void *rust_helper_nf_ct_ext_find(const struct nf_conn *ct, unsigned int id);
bool rust_helper_nf_ct_ext_exist(const struct nf_conn *ct, unsigned int id);
void *rust_helper_nf_ct_ext_find_beside(const struct nf_conn *ct, unsigned int id,
					unsigned int other);

/* net/netfilter/nf_conntrack_ecache.h */
void rust_helper_nf_conntrack_event_cache(unsigned int event, struct nf_conn *ct);
bool rust_helper_nf_ct_ecache_ext_add(struct nf_conn *ct);
void rust_helper_nf_conntrack_event_new(struct nf_conn *ct);

/* What gcc makes of the types that libclang has laid out. */
struct xt_synproxy_layout {
	size_t nf_conn;
	size_t nf_conn_status;
	size_t nf_conn_proto;
	size_t nf_ct_iter_data;
	size_t nf_hook_ops;
	size_t nf_hook_state;
	size_t nf_nat_range2;
	size_t pernet_operations;
	size_t xt_action_param;
	size_t xt_match;
	size_t xt_mtchk_param;
	size_t xt_target;
	size_t xt_tgchk_param;
};

extern const struct xt_synproxy_layout xt_synproxy_layout;

#endif
