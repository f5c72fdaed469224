// SPDX-License-Identifier: GPL-2.0-only

//! Devices and what they receive: all of the injector's `unsafe`.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
use kernel::{
    bindings::{
        self, alloc_skb_with_frags, net_device, sk_buff, sk_skb_reason_drop,
        skb_drop_reason_SKB_DROP_REASON_NOT_SPECIFIED, skb_partial_csum_set, skb_put,
        skb_shared_info, skb_store_bits, SKB_GSO_TCPV4, SKB_GSO_TCPV6,
    },
    ffi,
    prelude::*,
    types::NotThreadSafe,
};

/// The length of an Ethernet header in bytes.
const ETH_HLEN: u16 = 14;
/// The least length of a TCP header, and where the checksum is in it.
const TCP_HLEN: u16 = 20;
const TCP_CHECK: u16 = 16;
/// What a driver leaves before a frame, for whoever is to put another header there.
const HEADROOM: u16 = 66;

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
    fn rust_helper_skb_reserve(skb: *mut sk_buff, len: ffi::c_int);
    fn rust_helper_skb_shinfo(skb: *mut sk_buff) -> *mut skb_shared_info;
    fn rust_helper_local_bh_disable();
    fn rust_helper_local_bh_enable();
    fn rust_helper_cond_resched();
}

/// A device that is up, or was a moment ago.
///
/// # Invariants
///
/// A reference on the device is held as long as the value lives.
pub(crate) struct Device {
    dev: NonNull<net_device>,
    /// What its driver leaves before a frame beyond that.
    headroom: u16,
}

impl Device {
    /// Finds the device by its index in the namespace of the caller. It is one whose driver leaves so
    /// many bytes more than it has to before a frame.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none, `ENETDOWN` when it is down.
    pub(crate) fn get(ifindex: i32, headroom: u16) -> Result<Self> {
        // SAFETY: May be called by every process that is not about to end.
        let dev = unsafe { rust_helper_dev_get_by_index(ifindex) };
        let dev = NonNull::new(dev).ok_or(ENODEV)?;
        // INVARIANT: The reference is ours.
        let device = Self { dev, headroom };
        // SAFETY: By the invariant.
        if !unsafe { rust_helper_netif_running(device.dev.as_ptr()) } {
            // 7.2 has no name for it.
            return Err(Error::from_errno(-(bindings::ENETDOWN as i32)));
        }
        Ok(device)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { rust_helper_dev_put(self.dev.as_ptr()) }
    }
}

/// Of what TCP segments a frame consists, as offsets from its start.
#[derive(Clone, Copy)]
pub(crate) struct Merged {
    /// How many bytes of data each has; the last may have less.
    pub(crate) segment: u16,
    /// The TCP header.
    pub(crate) transport: u16,
    /// What follows the headers.
    pub(crate) headers: u16,
}

/// An Ethernet frame that a device is to receive.
///
/// # Invariants
///
/// Points to an skb that nobody else knows, of a device that outlives `'a`.
pub(crate) struct Frame<'a>(NonNull<sk_buff>, PhantomData<&'a Device>);

impl<'a> Frame<'a> {
    /// Makes a frame of the bytes, as a driver does that copies small packets.
    ///
    /// # Errors
    ///
    /// `EINVAL` when this is less than a header, or too much; `ENOMEM`.
    pub(crate) fn new(device: &'a Device, bytes: &[u8]) -> Result<Self> {
        let len = u16::try_from(bytes.len())?;
        if len < ETH_HLEN {
            return Err(EINVAL);
        }
        let dev = device.dev.as_ptr();
        let room = u32::from(device.headroom) + u32::from(len);
        // SAFETY: By the invariant of `device`.
        let skb = unsafe { rust_helper_netdev_alloc_skb_ip_align(dev, room) };
        // INVARIANT: Fresh from the allocator.
        let frame = Self(NonNull::new(skb).ok_or(ENOMEM)?, PhantomData);
        // SAFETY: The skb is empty and has room for both. Then it is valid as the device is, and has a
        // header.
        unsafe {
            rust_helper_skb_reserve(skb, device.headroom.into());
            frame.put(bytes);
            rust_helper_eth_type_trans(skb, dev);
        }
        Ok(frame)
    }

    /// Makes a frame of the bytes that is like one that receive offload has made of TCP segments:
    /// headers, and data in pages. The TCP checksum is that of the pseudo header.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is no such frame; `ENOMEM`.
    pub(crate) fn merged(device: &'a Device, bytes: &[u8], merged: Merged) -> Result<Self> {
        let Merged {
            segment,
            transport,
            headers,
        } = merged;
        let (head, data) = bytes.split_at_checked(headers.into()).ok_or(EINVAL)?;
        let data_len = u16::try_from(data.len())?;
        let tcp_len = headers.checked_sub(transport).ok_or(EINVAL)?;
        if transport <= ETH_HLEN || tcp_len < TCP_HLEN || segment == 0 || data_len <= segment {
            return Err(EINVAL);
        }
        let headroom = ffi::c_int::from(HEADROOM) + ffi::c_int::from(device.headroom);
        let room = headroom as usize + usize::from(headers);
        let mut error = 0;
        // SAFETY: `error` can be written to.
        let skb = unsafe {
            alloc_skb_with_frags(room, data_len.into(), 0, &mut error, bindings::GFP_KERNEL)
        };
        // INVARIANT: Fresh from the allocator.
        let frame = Self(NonNull::new(skb).ok_or(ENOMEM)?, PhantomData);
        // SAFETY: The skb is empty, and has room for both.
        unsafe {
            rust_helper_skb_reserve(skb, headroom);
            frame.put(head);
        }
        let gso_type = match head.get(usize::from(ETH_HLEN)).map(|byte| byte >> 4) {
            Some(4) => SKB_GSO_TCPV4,
            Some(6) => SKB_GSO_TCPV6,
            _ => return Err(EINVAL),
        };
        // SAFETY: The skb has pages for `data_len` bytes, which become part of it before they are
        // written. It has a TCP header where the checksum is said to be, and is ours alone, as what
        // it shares is.
        unsafe {
            (*skb).len += u32::from(data_len);
            (*skb).data_len = data_len.into();
            if skb_store_bits(skb, headers.into(), data.as_ptr().cast(), data_len.into()) != 0
                || !skb_partial_csum_set(skb, transport, TCP_CHECK)
            {
                return Err(EINVAL);
            }
            let shared = rust_helper_skb_shinfo(skb);
            (*shared).gso_size = segment;
            (*shared).gso_segs = data_len.div_ceil(segment);
            (*shared).gso_type = gso_type as u32;
            rust_helper_eth_type_trans(skb, device.dev.as_ptr());
        }
        Ok(frame)
    }

    /// Appends the bytes.
    ///
    /// # Safety
    ///
    /// The skb has room for them, and no pages.
    unsafe fn put(&self, bytes: &[u8]) {
        // SAFETY: By the caller's word, which also says that their number fits. What is new in the skb
        // is not a part of `bytes`.
        unsafe {
            let end = skb_put(self.0.as_ptr(), bytes.len() as ffi::c_uint).cast::<u8>();
            end.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
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

/// Lets others have the CPU if they wait for it.
///
/// May sleep.
pub(crate) fn cond_resched() {
    // SAFETY: The caller may sleep.
    unsafe { rust_helper_cond_resched() }
}
