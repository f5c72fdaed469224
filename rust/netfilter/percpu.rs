// SPDX-License-Identifier: GPL-2.0-only

//! Counters, of which each CPU has its own.
//!
//! C headers: [`include/linux/percpu.h`](srctree/include/linux/percpu.h),
//! [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h)

use super::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    cpu::{nr_cpu_ids, CpuId},
    cpumask::Cpumask,
    prelude::*,
};

/// Which counter of a set; best an `enum`.
pub trait Key: Copy + 'static {
    /// How many there are.
    const COUNT: usize;

    /// The number of this one, from 0; what is not below `COUNT` counts nothing.
    fn index(self) -> usize;
}

/// A CPU that is there or may come, and so has memory of its own.
///
/// # Invariants
///
/// `cpu_possible()` is true for it.
#[derive(Clone, Copy)]
pub struct PossibleCpu(CpuId);

/// All of them: `for_each_possible_cpu()`.
pub fn possible_cpus() -> impl Iterator<Item = PossibleCpu> {
    // SAFETY: A constant after boot.
    let possible = unsafe { Cpumask::from_raw(&raw const bindings::__cpu_possible_mask) };
    (0..nr_cpu_ids())
        .filter_map(CpuId::from_u32)
        .filter(|cpu| possible.test(*cpu))
        // INVARIANT: Just looked at.
        .map(PossibleCpu)
}

/// A set of counters, all 0 at first.
///
/// They are as wide as the `unsigned int` of the kernel's own statistics, so that reading one of
/// another CPU can nowhere tear; they wrap around.
///
/// # Invariants
///
/// `base` is what `__alloc_percpu` has returned for `K::COUNT` counters. It is no address, and only
/// for C to use.
pub struct Counters<K: Key> {
    base: NonNull<u32>,
    _key: PhantomData<K>,
}

// SAFETY: What is allocated on one CPU may be freed on another.
unsafe impl<K: Key> Send for Counters<K> {}
// SAFETY: A CPU writes its own counters only, in one step that no interrupt can divide; the others
// read them whole.
unsafe impl<K: Key> Sync for Counters<K> {}

impl<K: Key> Counters<K> {
    /// Allocates the counters of all CPUs; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let count = u32::try_from(K::COUNT)?;
        // SAFETY: Any number may be asked for.
        let base = unsafe { bindings::rust_helper_alloc_percpu_u32(count) };
        // INVARIANT: Just allocated.
        Ok(Self {
            base: NonNull::new(base).ok_or(ENOMEM)?,
            _key: PhantomData,
        })
    }

    fn index(key: K) -> Option<u32> {
        let index = key.index();
        // CAST: `new` has seen that `COUNT` fits.
        (index < K::COUNT).then_some(index as u32)
    }

    /// Counts one on this CPU, in any context.
    pub fn inc(&self, key: K) {
        let Some(index) = Self::index(key) else {
            return;
        };
        // SAFETY: There are that many, by the invariant.
        unsafe { bindings::rust_helper_this_cpu_inc_u32(self.base.as_ptr(), index) }
    }

    /// What `cpu` has counted.
    pub fn read(&self, cpu: PossibleCpu, key: K) -> u32 {
        let Some(index) = Self::index(key) else {
            return 0;
        };
        // SAFETY: There are that many, by the invariant, and `cpu` has them, by its own.
        unsafe { bindings::rust_helper_per_cpu_u32(self.base.as_ptr(), index, cpu.0.as_u32()) }
    }
}

impl<K: Key> Drop for Counters<K> {
    fn drop(&mut self) {
        // SAFETY: Allocated, by the invariant, and nobody has a reference any more.
        unsafe { bindings::free_percpu(self.base.as_ptr().cast()) }
    }
}
