// SPDX-License-Identifier: GPL-2.0-only

#include <linux/bitops.h>

#include "helpers.h"

void rust_helper_set_bit(unsigned int nr, unsigned long *addr)
{
	/* Who sees the bit sees all that was written before it. */
	smp_mb__before_atomic();
	set_bit(nr, addr);
}
