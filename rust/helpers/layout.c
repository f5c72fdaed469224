// SPDX-License-Identifier: GPL-2.0-only

#include <linux/netfilter.h>
#include <linux/netfilter/x_tables.h>
#include <net/net_namespace.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_nat.h>

#include "helpers.h"

const struct xt_synproxy_layout xt_synproxy_layout = {
	.nf_conn		= sizeof(struct nf_conn),
	.nf_conn_status		= offsetof(struct nf_conn, status),
	.nf_conn_proto		= offsetof(struct nf_conn, proto),
	.nf_ct_iter_data	= sizeof(struct nf_ct_iter_data),
	.nf_hook_ops		= sizeof(struct nf_hook_ops),
	.nf_hook_state		= sizeof(struct nf_hook_state),
	.nf_nat_range2		= sizeof(struct nf_nat_range2),
	.pernet_operations	= sizeof(struct pernet_operations),
	.xt_action_param	= sizeof(struct xt_action_param),
	.xt_match		= sizeof(struct xt_match),
	.xt_mtchk_param		= sizeof(struct xt_mtchk_param),
	.xt_target		= sizeof(struct xt_target),
	.xt_tgchk_param		= sizeof(struct xt_tgchk_param),
};
