/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What bindgen reads: the netfilter headers that the kernel crate's own
 * bindings leave out, and the ABI of this module.
 */
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter/nf_synproxy.h>
#include <linux/proc_fs.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/net_namespace.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_core.h>
#include <net/netfilter/nf_conntrack_ecache.h>
#include <net/netfilter/nf_conntrack_extend.h>
#include <net/netfilter/nf_conntrack_seqadj.h>
#include <net/netfilter/nf_conntrack_zones.h>
#include <net/netfilter/nf_nat.h>
#include <net/tcp.h>

#include "../../include/uapi/linux/netfilter/xt_SYNPROXY.h"
#include "../../include/uapi/linux/netfilter/xt_spstate.h"
#include "../helpers/helpers.h"
