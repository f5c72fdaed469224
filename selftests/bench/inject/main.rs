// SPDX-License-Identifier: GPL-2.0-only

//! Feeds packets to a device's receive path, and measures what the kernel does with them.
//!
//! It is for the virtual machine of "make bench" only, and never installed.
//!
//! A write to `/dev/synproxy-inject` is a batch: the index of a device in the writer's namespace in
//! 32 bits, and in 16 how many bytes of headroom its driver leaves beyond what the kernel has it leave;
//! and frames, each behind four numbers of 16 bits, all in the machine's byte order: its length, and,
//! if it is to be like one that receive offload has merged of TCP segments, how much data each of them
//! had, where the TCP header starts, and where the data do; otherwise 0. The frames are received like
//! those of one poll of a driver's, when all of them have been made. A read gives the nanoseconds which
//! that took, in 64 bits.

use kernel::{
    fs::{File, Kiocb},
    iov::{IovIterDest, IovIterSource},
    miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    time::{Instant, Monotonic},
};

mod net;

use net::{Device, Frame, Merged, SoftirqsOff};

/// What a driver may receive at once, `NAPI_POLL_WEIGHT`.
const MAX_BATCH: usize = 64;

module! {
    type: Injector,
    name: "synproxy_inject",
    authors: ["The xt_SYNPROXY developers"],
    description: "Feeds packets to a device's receive path, to measure what becomes of them",
    license: "GPL v2",
}

#[pin_data]
struct Injector {
    #[pin]
    device: MiscDeviceRegistration<Session>,
}

impl kernel::InPlaceModule for Injector {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"synproxy-inject",
            }),
        })
    }
}

/// What is kept for each who has the file open.
struct Session {
    /// Of the last batch.
    nanoseconds: Atomic<i64>,
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        let nanoseconds = Atomic::new(0);
        Ok(KBox::new(Self { nanoseconds }, GFP_KERNEL)?)
    }

    fn write_iter(kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterSource<'_>) -> Result<usize> {
        let len = iov.len();
        let (ifindex, headroom) = (take(iov)?, take(iov)?);
        let device = Device::get(i32::from_ne_bytes(ifindex), u16::from_ne_bytes(headroom))?;
        let mut batch = KVec::with_capacity(MAX_BATCH, GFP_KERNEL)?;
        while !iov.is_empty() {
            if batch.len() == MAX_BATCH {
                return Err(E2BIG);
            }
            batch.push(frame(&device, iov)?, GFP_KERNEL)?;
        }
        let nanoseconds = receive(batch);
        kiocb.file().nanoseconds.store(nanoseconds, Relaxed);
        Ok(len)
    }

    fn read_iter(kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        let nanoseconds = kiocb.file().nanoseconds.load(Relaxed);
        Ok(iov.copy_to_iter(&nanoseconds.to_ne_bytes()))
    }
}

fn frame<'a>(device: &'a Device, iov: &mut IovIterSource<'_>) -> Result<Frame<'a>> {
    let len = u16::from_ne_bytes(take(iov)?);
    let merged = Merged {
        segment: u16::from_ne_bytes(take(iov)?),
        transport: u16::from_ne_bytes(take(iov)?),
        headers: u16::from_ne_bytes(take(iov)?),
    };
    if merged.segment == 0 {
        Frame::read(device, len, iov)
    } else {
        Frame::read_merged(device, len, merged, iov)
    }
}

fn take<const N: usize>(from: &mut IovIterSource<'_>) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    if from.copy_from_iter(&mut bytes) != N {
        return Err(EINVAL);
    }
    Ok(bytes)
}

/// Says how many nanoseconds it takes, with what is left to softirqs.
fn receive(batch: KVec<Frame<'_>>) -> i64 {
    let start = Instant::<Monotonic>::now();
    {
        let softirqs = SoftirqsOff::new();
        for frame in batch {
            frame.receive(&softirqs);
        }
    }
    start.elapsed().as_nanos()
}
