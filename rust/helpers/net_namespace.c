// SPDX-License-Identifier: GPL-2.0-only

#include <net/net_namespace.h>

#include "helpers.h"

struct proc_dir_entry *rust_helper_proc_net_stat(const struct net *net)
{
	return net->proc_net_stat;
}
