// SPDX-License-Identifier: GPL-2.0-only

#include <linux/jiffies.h>

#include "helpers.h"

unsigned int rust_helper_hz(void)
{
	return HZ;
}

u32 rust_helper_clock_ms(void)
{
	return jiffies64_to_msecs(get_jiffies_64() - INITIAL_JIFFIES);
}
