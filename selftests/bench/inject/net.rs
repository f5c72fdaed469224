// SPDX-License-Identifier: GPL-2.0-only

//! Devices and what they receive: all of the injector's `unsafe`.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use core::{marker::PhantomData, mem::ManuallyDrop, mem::MaybeUninit, ptr::NonNull};
use kernel::{
    bindings::{
        net_device, sk_buff, sk_skb_reason_drop, skb_drop_reason_SKB_DROP_REASON_NOT_SPECIFIED,
        skb_put,
    },
    ffi,
    iov::IovIterSource,
    prelude::*,
    types::NotThreadSafe,
};

/// The length of an Ethernet header in bytes.
const ETH_HLEN: u16 = 14;

// The bindings of the kernel crate have none of these.
extern "C" {
    fn netif_receive_skb(skb: *mut sk_buff) -> ffi::c_int;

    fn rust_helper_dev_get_by_index(ifindex: ffi::c_int) -> *mut net_device;
    fn rust_helper_dev_put(dev: *mut net_device);
    fn rust_helper_netif_running(dev: *const net_device) -> bool;
    fn rust_helper_netdev_alloc_skb_ip_align(
        dev: *mut net_device,
        len: ffi::c_uint,
    ) -> *mut sk_buff;
    fn rust_helper_eth_type_trans(skb: *mut sk_buff, dev: *mut net_device);
    fn rust_helper_local_bh_disable();
    fn rust_helper_local_bh_enable();
}

/// A device that is up, or was a moment ago.
///
/// # Invariants
///
/// A reference on the device is held as long as the value lives.
pub(crate) struct Device(NonNull<net_device>);

impl Device {
    /// Finds the device by its index in the namespace of the caller.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none, `ENETDOWN` when it is down.
    pub(crate) fn get(ifindex: i32) -> Result<Self> {
        // SAFETY: May be called by every process that is not about to end.
        let dev = unsafe { rust_helper_dev_get_by_index(ifindex) };
        // INVARIANT: The reference is ours.
        let dev = Self(NonNull::new(dev).ok_or(ENODEV)?);
        // SAFETY: By the invariant.
        if !unsafe { rust_helper_netif_running(dev.0.as_ptr()) } {
            return Err(ENETDOWN);
        }
        Ok(dev)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { rust_helper_dev_put(self.0.as_ptr()) }
    }
}

/// An Ethernet frame that a device is to receive.
///
/// # Invariants
///
/// Points to an skb that nobody else knows, of a device that outlives `'a`.
pub(crate) struct Frame<'a>(NonNull<sk_buff>, PhantomData<&'a Device>);

impl<'a> Frame<'a> {
    /// Makes a frame of the next `len` bytes, as a driver does that copies small packets.
    ///
    /// # Errors
    ///
    /// `EINVAL` when this is less than a header, or more than there is; `ENOMEM`.
    pub(crate) fn read(device: &'a Device, len: u16, from: &mut IovIterSource<'_>) -> Result<Self> {
        if len < ETH_HLEN {
            return Err(EINVAL);
        }
        // SAFETY: By the invariant of `device`.
        let skb = unsafe { rust_helper_netdev_alloc_skb_ip_align(device.0.as_ptr(), len.into()) };
        // INVARIANT: Fresh from the allocator.
        let frame = Self(NonNull::new(skb).ok_or(ENOMEM)?, PhantomData);
        // SAFETY: The skb is empty and has room for `len` bytes, which nobody has written yet.
        let data = unsafe {
            let data = skb_put(skb, len.into()).cast::<MaybeUninit<u8>>();
            core::slice::from_raw_parts_mut(data, len.into())
        };
        if from.copy_from_iter_raw(data).len() != usize::from(len) {
            return Err(EINVAL);
        }
        // SAFETY: Both are valid, and the frame has a header.
        unsafe { rust_helper_eth_type_trans(skb, device.0.as_ptr()) };
        Ok(frame)
    }

    /// Hands the frame to the network stack, where its way ends before this returns, unless it is
    /// left to a softirq.
    pub(crate) fn receive(self, _softirqs: &SoftirqsOff) {
        let skb = ManuallyDrop::new(self).0;
        // SAFETY: The skb is ours, and given away. Softirqs are off and interrupts on, as in the poll
        // of a driver.
        unsafe { netif_receive_skb(skb.as_ptr()) };
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant nobody else frees it.
        unsafe {
            sk_skb_reason_drop(
                core::ptr::null(),
                self.0.as_ptr(),
                skb_drop_reason_SKB_DROP_REASON_NOT_SPECIFIED,
            );
        }
    }
}

/// Softirqs are off on this CPU as long as the value lives; those that came up meanwhile run at its
/// end.
pub(crate) struct SoftirqsOff(NotThreadSafe);

impl SoftirqsOff {
    pub(crate) fn new() -> Self {
        // SAFETY: May be called in process context; `drop` is the counterpart, on the same CPU.
        unsafe { rust_helper_local_bh_disable() };
        Self(NotThreadSafe)
    }
}

impl Drop for SoftirqsOff {
    fn drop(&mut self) {
        // SAFETY: `new` has switched them off.
        unsafe { rust_helper_local_bh_enable() }
    }
}
