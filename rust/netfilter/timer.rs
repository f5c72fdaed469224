// SPDX-License-Identifier: GPL-2.0-only

//! A timer of a namespace.
//!
//! C header: [`include/linux/timer.h`](srctree/include/linux/timer.h)

use super::{bindings, Net};
use core::ptr::addr_of_mut;
use kernel::{prelude::*, time::msecs_to_jiffies, types::Opaque};

/// What a timer does.
pub trait Tick: 'static {
    /// Called with softirqs off when the time has come; answers in how many milliseconds to be called
    /// again, if so.
    fn tick(net: &Net) -> Option<u32>;
}

/// A timer of a namespace.
///
/// # Invariants
///
/// `inner` is a timer whose function takes it for a part of a `Timer`; `net` is valid until the timer
/// is shut down.
#[pin_data]
#[repr(C)]
pub(super) struct Timer {
    #[pin]
    inner: Opaque<bindings::timer_list>,
    net: *mut bindings::net,
}

// SAFETY: The kernel's timers may be used on any CPU.
unsafe impl Send for Timer {}
// SAFETY: As above, by several at a time.
unsafe impl Sync for Timer {}

/// # Safety
///
/// To be called by the kernel only, as the function of a [`Timer`] of `T`.
unsafe extern "C" fn fire<T: Tick>(timer: *mut bindings::timer_list) {
    // SAFETY: `inner` is the first field, and the namespace is valid by the invariant.
    let (timer, net) = unsafe {
        let timer: &Timer = &*timer.cast();
        (timer, Net::from_raw(timer.net))
    };
    if let Some(ms) = T::tick(net) {
        timer.within(ms);
    }
}

impl Timer {
    /// A timer for `net` that calls `T`; not started.
    ///
    /// # Safety
    ///
    /// Once it was started, [`Timer::shut_down`] must be called before `net`, or the value, goes.
    pub(super) unsafe fn new<T: Tick>(net: *mut bindings::net) -> impl PinInit<Self> {
        // INVARIANT: The caller sees to the namespace.
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::timer_list| {
                // SAFETY: The slot is valid, and pinned.
                unsafe { bindings::rust_helper_timer_setup(slot, Some(fire::<T>)) }
            }),
            net,
        })
    }

    /// Has it fire in `ms` milliseconds at the latest; nothing happens once it is shut down.
    pub(super) fn within(&self, ms: u32) {
        // SAFETY: By the invariant; the clock is read whole.
        unsafe {
            let now = addr_of_mut!(bindings::jiffies).read_volatile();
            bindings::timer_reduce(self.inner.get(), now.wrapping_add(msecs_to_jiffies(ms)));
        }
    }

    /// Waits for its function to end, and never starts it again.
    pub(super) fn shut_down(&self) {
        // SAFETY: By the invariant; the caller may sleep.
        unsafe { bindings::timer_shutdown_sync(self.inner.get()) };
    }
}
