// SPDX-License-Identifier: GPL-2.0-only

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

u32 rust_helper_tcp_clock_ms(void)
{
	return tcp_clock_ms();
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
