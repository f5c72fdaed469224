// SPDX-License-Identifier: GPL-2.0-only

//! What a namespace has to do where it may sleep.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::{bindings, Net};
use kernel::{prelude::*, types::Opaque};

/// What is to be done.
pub(super) trait Job: 'static {
    /// Called where it may sleep, once or more after [`Work::schedule`].
    fn run(net: &Net);
}

/// Something to be done in a namespace.
///
/// # Invariants
///
/// `inner` is a work item whose function takes it for a part of a `Work`; `net` is valid until the work is
/// cancelled for good.
#[pin_data]
#[repr(C)]
pub(super) struct Work {
    #[pin]
    inner: Opaque<bindings::work_struct>,
    net: *mut bindings::net,
}

// SAFETY: The kernel's work items may be used on any CPU.
unsafe impl Send for Work {}
// SAFETY: As above, by several at a time.
unsafe impl Sync for Work {}

/// # Safety
///
/// To be called by the kernel only, as the function of a [`Work`] of `T`.
unsafe extern "C" fn work<T: Job>(work: *mut bindings::work_struct) {
    // SAFETY: `inner` is the first field, and the namespace is valid by the invariant.
    let net = unsafe { Net::from_raw((*work.cast::<Work>()).net) };
    T::run(net);
}

impl Work {
    /// Work for `net`, by `T`.
    ///
    /// # Safety
    ///
    /// [`Work::cancel`] must be called before `net`, or the value, goes, when nobody schedules it any more.
    pub(super) unsafe fn new<T: Job>(net: *mut bindings::net) -> impl PinInit<Self> {
        // INVARIANT: The caller sees to the namespace.
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::work_struct| {
                // SAFETY: The slot is valid, and pinned.
                unsafe { bindings::rust_helper_init_work(slot, Some(work::<T>)) }
            }),
            net,
        })
    }

    /// Has it done soon, from any context.
    pub(super) fn schedule(&self) {
        // SAFETY: By the invariant.
        unsafe { bindings::rust_helper_schedule_work(self.inner.get()) };
    }

    /// Waits for it to end if it runs, and keeps it from running if it was to.
    pub(super) fn cancel(&self) {
        // SAFETY: By the invariant; the caller may sleep.
        unsafe { bindings::cancel_work_sync(self.inner.get()) };
    }
}
