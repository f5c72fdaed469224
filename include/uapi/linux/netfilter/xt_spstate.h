/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
#ifndef _XT_SPSTATE_H
#define _XT_SPSTATE_H

#include <linux/types.h>

/**
 * enum xt_spstate_state - how far the SYN proxy is with a connection
 * @XT_SPSTATE_NONE: a conntrack entry that has never met the proxy
 * @XT_SPSTATE_IN_PROGRESS: the client has completed its handshake with the
 *	proxy and is held; nothing has been sent to the server
 * @XT_SPSTATE_FINISH: the server has answered, the connection is open and
 *	translated
 *
 * A packet without a conntrack entry (INVALID, UNTRACKED), and one of a
 * connection whose server has not answered yet, is in none of these.
 */
enum xt_spstate_state {
	XT_SPSTATE_NONE		= 0,
	XT_SPSTATE_IN_PROGRESS	= 1,
	XT_SPSTATE_FINISH	= 2,
};

/**
 * struct xt_spstate_info - the match "spstate", revision 0
 * @state: one of enum xt_spstate_state
 * @invert: 1 if the match is to be negated, otherwise 0
 */
struct xt_spstate_info {
	__u8 state;
	__u8 invert;
};

#endif /* _XT_SPSTATE_H */
