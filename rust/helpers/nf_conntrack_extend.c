// SPDX-License-Identifier: GPL-2.0-only

#include <net/netfilter/nf_conntrack_extend.h>

#include "helpers.h"

void *rust_helper_nf_ct_ext_find(const struct nf_conn *ct, unsigned int id)
{
	return nf_ct_ext_find(ct, id);
}
