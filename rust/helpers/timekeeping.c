// SPDX-License-Identifier: GPL-2.0-only

#include <linux/timekeeping.h>

#include "helpers.h"

u64 rust_helper_ktime_get_ns(void)
{
	return ktime_get_ns();
}
