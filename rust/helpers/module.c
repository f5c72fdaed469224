// SPDX-License-Identifier: GPL-2.0-only

#include <linux/module.h>

/* The module! macro of the kernel crate has no field for it. */
MODULE_VERSION("0.1.0");
