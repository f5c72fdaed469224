// SPDX-License-Identifier: GPL-2.0-only

//! Feeds packets to a device's receive path, and measures what the kernel does with them.
//!
//! It is for the virtual machine of "make bench" only, and never installed.
//!
//! A write to `/dev/synproxy-inject` is a batch: four numbers of 32 bits and frames, each behind four
//! numbers of 16 bits, all in the machine's byte order.
//!
//! The batch has the index of a device in the writer's namespace, how many bytes of headroom its driver leaves
//! beyond what the kernel has it leave, how many frames make a poll or 0, and how many writers are to begin
//! together. A frame has its length, and, if it is to be like one that receive offload has merged of TCP
//! segments, how much data each of them had, where the TCP header starts, and where the data do; otherwise 0.
//!
//! A read gives in 64 bits the nanoseconds that it took to receive the frames, which all have been made
//! before; or with polls to make and receive them, as many at a time as make one. It counts until all
//! who have begun together are done.

use kernel::{
    fs::{File, Kiocb},
    iov::{IovIterDest, IovIterSource},
    miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
    processor::cpu_relax,
    sync::atomic::{Acquire, Atomic, Full, Relaxed},
    time::{Delta, Instant, Monotonic},
};

mod net;

use net::{cond_resched, Device, Frame, Merged, SoftirqsOff};

/// Frames of a batch.
const MAX_BATCH: usize = 1024;
/// How long one waits for the others who are to begin together.
const PATIENCE: Delta = Delta::from_secs(10);

/// How many have come to begin together with others, ever.
static ARRIVED: Atomic<u32> = Atomic::new(0);

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
        let mut bytes = KVVec::new();
        iov.copy_from_iter_vec(&mut bytes, GFP_KERNEL)?;
        let mut from = bytes.as_slice();
        let (ifindex, headroom) = (take(&mut from)?, take(&mut from)?);
        let headroom = u16::try_from(u32::from_ne_bytes(headroom))?;
        let device = Device::get(i32::from_ne_bytes(ifindex), headroom)?;
        let poll = u32::from_ne_bytes(take(&mut from)?);
        let together = u32::from_ne_bytes(take(&mut from)?);
        let mut batch = KVVec::with_capacity(MAX_BATCH, GFP_KERNEL)?;
        while !from.is_empty() {
            if batch.len() == MAX_BATCH {
                return Err(E2BIG);
            }
            batch.push(Outline::read(&mut from)?, GFP_KERNEL)?;
        }
        let nanoseconds = if poll == 0 {
            at_once(&device, &batch, together)?
        } else {
            in_polls(&device, &batch, poll as usize, together)?
        };
        kiocb.file().nanoseconds.store(nanoseconds, Relaxed);
        Ok(bytes.len())
    }

    fn read_iter(kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        let nanoseconds = kiocb.file().nanoseconds.load(Relaxed);
        Ok(iov.copy_to_iter(&nanoseconds.to_ne_bytes()))
    }
}

/// What is said of a frame.
struct Outline<'a> {
    bytes: &'a [u8],
    merged: Merged,
}

impl<'a> Outline<'a> {
    fn read(from: &mut &'a [u8]) -> Result<Self> {
        let len = u16::from_ne_bytes(take(from)?);
        let merged = Merged {
            segment: u16::from_ne_bytes(take(from)?),
            transport: u16::from_ne_bytes(take(from)?),
            headers: u16::from_ne_bytes(take(from)?),
        };
        let (bytes, rest) = from.split_at_checked(len.into()).ok_or(EINVAL)?;
        *from = rest;
        Ok(Self { bytes, merged })
    }

    fn frame<'d>(&self, device: &'d Device) -> Result<Frame<'d>> {
        if self.merged.segment == 0 {
            Frame::new(device, self.bytes)
        } else {
            Frame::merged(device, self.bytes, self.merged)
        }
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N]> {
    let (taken, rest) = from.split_first_chunk().ok_or(EINVAL)?;
    *from = rest;
    Ok(*taken)
}

/// Returns when that many have come; the CPU does nothing else meanwhile, unless it has to.
fn meet(together: u32) -> Result {
    if together <= 1 {
        return Ok(());
    }
    let before = ARRIVED.fetch_add(1, Full);
    let wanted = together - before % together;
    let start = Instant::<Monotonic>::now();
    while ARRIVED.load(Acquire).wrapping_sub(before) < wanted {
        if start.elapsed() > PATIENCE {
            return Err(ETIMEDOUT);
        }
        // Whoever is to come may be waiting for this very CPU.
        cond_resched();
        cpu_relax();
    }
    Ok(())
}

/// Says how many nanoseconds it takes to receive them, with what is left to softirqs.
fn at_once(device: &Device, batch: &[Outline<'_>], together: u32) -> Result<i64> {
    let mut frames = KVVec::with_capacity(batch.len(), GFP_KERNEL)?;
    for outline in batch {
        frames.push(outline.frame(device)?, GFP_KERNEL)?;
    }
    meet(together)?;
    let start = Instant::<Monotonic>::now();
    receive(&mut frames);
    meet(together)?;
    Ok(start.elapsed().as_nanos())
}

/// Says how many nanoseconds it takes to make and receive them, that many in a poll.
fn in_polls(device: &Device, batch: &[Outline<'_>], poll: usize, together: u32) -> Result<i64> {
    let mut frames = KVVec::with_capacity(poll.min(batch.len()), GFP_KERNEL)?;
    meet(together)?;
    let start = Instant::<Monotonic>::now();
    for outlines in batch.chunks(poll) {
        for outline in outlines {
            frames.push(outline.frame(device)?, GFP_KERNEL)?;
        }
        receive(&mut frames);
    }
    meet(together)?;
    Ok(start.elapsed().as_nanos())
}

fn receive(frames: &mut KVVec<Frame<'_>>) {
    let softirqs = SoftirqsOff::new();
    for frame in frames.drain_all() {
        frame.receive(&softirqs);
    }
}
