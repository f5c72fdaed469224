// SPDX-License-Identifier: GPL-2.0-only

#include <linux/ratelimit.h>

#include "helpers.h"

static DEFINE_RATELIMIT_STATE(xt_synproxy_log, DEFAULT_RATELIMIT_INTERVAL,
			      DEFAULT_RATELIMIT_BURST);

bool rust_helper_may_log(void)
{
	return __ratelimit(&xt_synproxy_log);
}
