// SPDX-License-Identifier: GPL-2.0-only

#include <linux/jiffies.h>

#include "helpers.h"

unsigned int rust_helper_hz(void)
{
	return HZ;
}
