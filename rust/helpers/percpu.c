// SPDX-License-Identifier: GPL-2.0-only

#include <linux/percpu.h>

#include "helpers.h"

u32 __percpu *rust_helper_alloc_percpu_u32(unsigned int count)
{
	return __alloc_percpu(array_size(count, sizeof(u32)), __alignof__(u32));
}

void rust_helper_this_cpu_inc_u32(u32 __percpu *array, unsigned int index)
{
	this_cpu_inc(array[index]);
}

u32 rust_helper_per_cpu_u32(const u32 __percpu *array, unsigned int index, unsigned int cpu)
{
	return READ_ONCE(per_cpu_ptr(array, cpu)[index]);
}
