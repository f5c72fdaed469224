// SPDX-License-Identifier: GPL-2.0-only

//! Locks between packets and timers, and words that packets look at.
//!
//! C headers: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h),
//! [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use super::bindings;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic},
        LockClassKey, SpinLock,
    },
};

/// What each packet does with an [`Atomic`], without the call to C that its own methods are.
pub trait Glance<T> {
    /// As `load(Relaxed)`: `READ_ONCE()`.
    fn glance(&self) -> T;

    /// As `load(Acquire)`: `smp_load_acquire()`.
    fn glance_acquire(&self) -> T;
}

macro_rules! glance {
    ($($word:ty),*) => {$(
        impl Glance<$word> for Atomic<$word> {
            #[inline(always)]
            fn glance(&self) -> $word {
                // SAFETY: Valid and aligned; a word that is read whole.
                unsafe { self.as_ptr().read_volatile() }
            }

            #[inline(always)]
            fn glance_acquire(&self) -> $word {
                // There, all loads are.
                if cfg!(CONFIG_X86_64) {
                    let value = self.glance();
                    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Acquire);
                    value
                } else {
                    self.load(Acquire)
                }
            }
        }
    )*};
}

glance!(u32, usize);

/// A lock that is held with softirqs off, as by `spin_lock_bh()`: a rule is also met by packets that
/// NFQUEUE has brought back in a process.
#[pin_data]
pub struct LockBh<T> {
    #[pin]
    inner: SpinLock<T>,
}

/// A [`LockBh`] around a value. Each place that makes one has its own class for lockdep: some are taken
/// with another one held.
macro_rules! new_lock_bh {
    ($value:expr) => {
        $crate::netfilter::sync::LockBh::new(
            $value,
            ::kernel::optional_name!(),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_lock_bh;

impl<T: Unpin> LockBh<T> {
    /// For [`new_lock_bh`].
    pub fn new(
        value: T,
        name: &'static CStr,
        class: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- SpinLock::new(value, name, class),
        })
    }

    /// Calls `f` with the lock held.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // Given back after the lock is, in the reverse order.
        let _off = SoftirqsOff::new();
        let mut guard = self.inner.lock();
        f(&mut guard)
    }
}

/// Softirqs are off on this CPU as long as the value lives.
struct SoftirqsOff(kernel::types::NotThreadSafe);

impl SoftirqsOff {
    fn new() -> Self {
        // SAFETY: May be called in any context that is no hard interrupt.
        unsafe { bindings::rust_helper_local_bh_disable() };
        Self(kernel::types::NotThreadSafe)
    }
}

impl Drop for SoftirqsOff {
    fn drop(&mut self) {
        // SAFETY: Disabled by `new`, on the same CPU.
        unsafe { bindings::rust_helper_local_bh_enable() };
    }
}
