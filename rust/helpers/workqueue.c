// SPDX-License-Identifier: GPL-2.0-only

#include <linux/workqueue.h>

#include "helpers.h"

void rust_helper_init_work(struct work_struct *work, void (*func)(struct work_struct *))
{
	INIT_WORK(work, func);
}

void rust_helper_schedule_work(struct work_struct *work)
{
	schedule_work(work);
}
