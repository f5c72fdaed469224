/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
#ifndef _XT_SYNPROXY_H
#define _XT_SYNPROXY_H

#include <linux/types.h>

/*
 * Options of the target "SYNPROXY". The first five are those of revision 0, whose
 * parameters are a struct nf_synproxy_info (linux/netfilter/nf_synproxy.h).
 */
#define XT_SYNPROXY_OPT_MSS		0x01
#define XT_SYNPROXY_OPT_WSCALE		0x02
#define XT_SYNPROXY_OPT_SACK_PERM	0x04
#define XT_SYNPROXY_OPT_TIMESTAMP	0x08
#define XT_SYNPROXY_OPT_ECN		0x10
#define XT_SYNPROXY_OPT_DEFER		0x20
#define XT_SYNPROXY_OPT_WINDOW		0x40
#define XT_SYNPROXY_OPT_TIMEOUT		0x80
#define XT_SYNPROXY_OPT_MASK		0xff

/* How long a client may wait, in seconds; the default is 30. */
#define XT_SYNPROXY_TIMEOUT_MAX		3600

/* SYN,ACKs and resets a second; by default there is no limit. */
#define XT_SYNPROXY_RATE_MAX		10000000

/**
 * struct xt_synproxy_info - the target "SYNPROXY", revision 1
 * @options: bits XT_SYNPROXY_OPT_*
 * @wscale: window scale of the server, 0 to 14
 * @mss: MSS of the server in bytes, 1 to 65535
 * @window: window shown to a client that is to wait, in bytes, 1 to 65535
 * @reserved0: 0
 * @timeout: how long it may wait for a verdict, in seconds, 1 to
 *	XT_SYNPROXY_TIMEOUT_MAX
 * @rate: how many SYN,ACKs and resets a second all rules of the namespace that
 *	have a rate may send to clients, 1 to XT_SYNPROXY_RATE_MAX; 0: no limit
 * @reserved: 0, for options to come
 *
 * All in host byte order; what a clear bit is about is ignored. It begins like
 * struct nf_synproxy_info, so that programs that know revision 0 only show of a
 * rule what they know.
 */
struct xt_synproxy_info {
	__u8 options;
	__u8 wscale;
	__u16 mss;
	__u16 window;
	__u16 reserved0;
	__u32 timeout;
	__u32 rate;
	__u32 reserved[4];
};

#endif /* _XT_SYNPROXY_H */
