// SPDX-License-Identifier: GPL-2.0-only

#include <net/netfilter/nf_conntrack_extend.h>

#include "helpers.h"

void *rust_helper_nf_ct_ext_find(const struct nf_conn *ct, unsigned int id)
{
	return nf_ct_ext_find(ct, id);
}

bool rust_helper_nf_ct_ext_exist(const struct nf_conn *ct, unsigned int id)
{
	return nf_ct_ext_exist(ct, id);
}

/* An extension of an entry that has another one, too. */
void *rust_helper_nf_ct_ext_find_beside(const struct nf_conn *ct, unsigned int id,
					unsigned int other)
{
	return nf_ct_ext_exist(ct, other) ? nf_ct_ext_find(ct, id) : NULL;
}
