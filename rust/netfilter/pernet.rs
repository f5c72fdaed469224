// SPDX-License-Identifier: GPL-2.0-only

//! Data for each network namespace.
//!
//! C header: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h)

use super::{
    bindings,
    conntrack::Use,
    hook, neighbours,
    percpu::{Counters, Key},
    proc::{File, Show},
    sync::Glance,
    timer::{Tick, Timer},
    work::{Job, Work},
    Family, Net,
};
use core::mem::MaybeUninit;
use kernel::{
    error::to_result,
    ffi, new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed, Release},
        Mutex,
    },
    types::Opaque,
};

/// A purpose for which a namespace has hooks, of one version of IP; best an `enum`.
pub trait Purpose: Copy + 'static {
    /// How many there are; [`MAX_PURPOSES`] at most.
    const ALL: &'static [Self];

    /// The number of this one, from 0.
    fn index(self) -> usize;

    /// Adds its hooks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn add(self, ops: &mut hook::Ops) -> Result;
}

/// See [`Purpose::ALL`].
pub const MAX_PURPOSES: usize = 4;

/// What a namespace has once a rule of ours for one version of IP was inserted there: conntrack and
/// our hooks, for each purpose once there is one.
///
/// They stay until the namespace or the module goes, not until the last rule does: `iptables -F`
/// followed by `iptables-restore` must not tear open connections.
#[derive(Default)]
struct Active {
    // Dropped in this order: no hook of ours runs without conntrack.
    hooks: [Option<hook::Registration>; MAX_PURPOSES],
    conntrack: Option<Use>,
}

#[derive(Default)]
struct ByFamily {
    ipv4: Active,
    ipv6: Active,
    /// The namespace goes.
    closed: bool,
}

/// The bit of hooks for a purpose, and a version of IP.
fn bit<P: Purpose>(family: Family, purpose: P) -> u32 {
    let shift = match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => MAX_PURPOSES,
    };
    1u32.checked_shl(shift.wrapping_add(purpose.index()) as u32)
        .unwrap_or(0)
}

#[pin_data]
struct Data<T: Subsystem> {
    // Dropped in this order: whoever counts, or reads the file, finds the counters.
    #[pin]
    active: Mutex<ByFamily>,
    /// Which hooks there are, and which are to be, as soon as possible.
    ready: Atomic<u32>,
    wanted: Atomic<u32>,
    #[pin]
    hook: Work,
    #[pin]
    timer: Timer,
    neighbours: neighbours::Seen,
    #[pin]
    state: T::State,
    _file: File,
    counters: Counters<T::Counter>,
}

/// What is kept for each namespace, and what happens when it goes.
pub trait Subsystem: Tick {
    /// What hooks are for.
    type Purpose: Purpose;

    /// What a namespace has, with or without a rule.
    type State: Send + Sync;

    /// What is counted.
    type Counter: Key;

    /// The file that shows it.
    type File: Show;

    /// What a new namespace has.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new(net: &Net) -> impl PinInit<Self::State, Error>;

    /// The number that net_generic() knows the data by.
    fn id() -> &'static Id;

    /// Called when a namespace goes, or the module does. The timer does not run any more, nor will.
    fn stop(state: &Self::State);

    /// Called when a namespace that had our hooks goes, or the module does. No hook of ours runs any
    /// more, nor will; conntrack still does.
    fn cleanup(net: &Net);
}

/// The number of a subsystem, given by the kernel when it is registered.
pub struct Id(Atomic<u32>);

impl Id {
    /// For a `static`.
    #[expect(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }
}

/// A registered subsystem.
///
/// # Invariants
///
/// `ops` is registered as long as the value lives.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Subsystem> {
    #[pin]
    ops: Opaque<bindings::pernet_operations>,
    _subsystem: core::marker::PhantomData<T>,
}

// SAFETY: The kernel registers and unregisters on any CPU.
unsafe impl<T: Subsystem> Send for Registration<T> {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl<T: Subsystem> Sync for Registration<T> {}

/// The memory that the kernel keeps for `T` in a namespace, from before `init` until after `exit`.
///
/// # Safety
///
/// `net` must have the subsystem `T`.
unsafe fn slot<T: Subsystem>(net: *mut bindings::net) -> *mut Data<T> {
    // SAFETY: The caller's promise.
    unsafe { bindings::rust_helper_net_generic(net, T::id().0.glance()).cast() }
}

/// As [`slot`], without an RCU section of its own.
///
/// # Safety
///
/// As there; and to be called in an RCU section, or with softirqs off.
#[inline]
unsafe fn slot_rcu<T: Subsystem>(net: *mut bindings::net) -> *mut Data<T> {
    // SAFETY: The caller's promise.
    unsafe { bindings::rust_helper_net_generic_rcu(net, T::id().0.glance()).cast() }
}

/// # Safety
///
/// `net` must have a subsystem `T` whose `init` has run and whose `exit` has not.
unsafe fn data<'a, T: Subsystem>(net: *mut bindings::net) -> &'a Data<T> {
    // SAFETY: The caller's promise.
    unsafe { &*slot::<T>(net) }
}

/// # Safety
///
/// To be called by the kernel only, as an operation of a registered subsystem.
unsafe extern "C" fn init<T: Subsystem>(net: *mut bindings::net) -> ffi::c_int {
    // SAFETY: The namespace lives.
    let namespace = unsafe { Net::from_raw(net) };
    // SAFETY: `exit` shuts it down.
    let timer = unsafe { Timer::new::<T>(net) };
    // SAFETY: `exit` cancels it.
    let hook = unsafe { Work::new::<Wanted<T>>(net) };
    // Initialised in the order written: the file can be read before the rest of the world knows that
    // there is a namespace. After an error, what was made is dropped.
    let init = try_pin_init!(Data::<T> {
        counters: Counters::new()?,
        active <- new_mutex!(ByFamily::default()),
        ready: Atomic::new(0),
        wanted: Atomic::new(0),
        hook <- hook,
        timer <- timer,
        neighbours: neighbours::Seen::new(),
        state <- T::new(namespace),
        // SAFETY: `exit` drops it before the namespace goes, and before the counters.
        _file: unsafe { File::new::<T::File>(namespace) }?,
    }? Error);
    // SAFETY: The kernel has allocated `size` bytes for us, which nobody reads before, but for
    // `counters` and through the file, and which do not move.
    let slot: &'static mut MaybeUninit<Data<T>> = unsafe { &mut *slot::<T>(net).cast() };
    match slot.write_pin_init(init) {
        Ok(_) => 0,
        Err(err) => err.to_errno(),
    }
}

/// # Safety
///
/// As for [`init`], which has run.
unsafe extern "C" fn pre_exit<T: Subsystem>(net: *mut bindings::net) {
    // The kernel waits for an RCU grace period between this and `exit`, after which no CPU is in a
    // hook any more.
    // SAFETY: `init` has run.
    let data = unsafe { data::<T>(net) };
    let mut active = data.active.lock();
    active.closed = true;
    let ByFamily { ipv4, ipv6, .. } = &mut *active;
    for active in [ipv4, ipv6] {
        for hooks in active.hooks.iter_mut().flatten() {
            hooks.unregister();
        }
    }
}

/// # Safety
///
/// As for [`init`], which has run.
unsafe extern "C" fn exit<T: Subsystem>(net: *mut bindings::net) {
    // SAFETY: `init` has run, and the namespace is still valid.
    let (data, namespace) = unsafe { (data::<T>(net), Net::from_raw(net)) };
    data.timer.shut_down();
    // No rule is at work that could have it done once more.
    data.hook.cancel();
    T::stop(&data.state);
    let active = core::mem::take(&mut *data.active.lock());
    if active.ipv4.conntrack.is_some() || active.ipv6.conntrack.is_some() {
        T::cleanup(namespace);
    }
    drop(active);
    // SAFETY: `init` has made the value, and this is its end; the kernel frees the memory.
    unsafe { core::ptr::drop_in_place(slot::<T>(net)) }
}

impl<T: Subsystem> Registration<T> {
    /// Registers the subsystem; every namespace, present and future, gets its data.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            ops <- Opaque::try_ffi_init(|slot: *mut bindings::pernet_operations| {
                let ops = bindings::pernet_operations {
                    init: Some(init::<T>),
                    pre_exit: Some(pre_exit::<T>),
                    exit: Some(exit::<T>),
                    id: T::id().0.as_ptr(),
                    size: core::mem::size_of::<Data<T>>(),
                    ..Default::default()
                };
                // SAFETY: The slot is valid, and pinned until it is unregistered.
                unsafe {
                    slot.write(ops);
                    to_result(bindings::register_pernet_subsys(slot))
                }
            }),
            _subsystem: core::marker::PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: Subsystem> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant.
        unsafe { bindings::unregister_pernet_subsys(self.ops.get()) }
    }
}

/// Sees to it that conntrack and the hooks for `purpose` run in `net` for `family`. To be called with a rule
/// of ours, which keeps the module, and with it the subsystem, registered.
///
/// # Errors
///
/// What registering them says; else, whether they were the first for this purpose.
pub fn activate<T: Subsystem>(net: &Net, family: Family, purpose: T::Purpose) -> Result<bool> {
    // SAFETY: Rules are checked, and work is done, in namespaces that live, while the module is there.
    let data = unsafe { data::<T>(net.as_raw()) };
    let mut active = data.active.lock();
    if active.closed {
        return Err(ENODEV);
    }
    let active = match family {
        Family::Ipv4 => &mut active.ipv4,
        Family::Ipv6 => &mut active.ipv6,
    };
    let slot = active.hooks.get_mut(purpose.index()).ok_or(EINVAL)?;
    if slot.is_some() {
        return Ok(false);
    }
    // SAFETY: `exit` drops both before the namespace goes.
    unsafe {
        if active.conntrack.is_none() {
            active.conntrack = Some(Use::new(net, family)?);
        }
        *slot = Some(hook::Registration::new(net, family, |ops| {
            purpose.add(ops)
        })?);
    }
    // With the lock held.
    let ready = data.ready.load(Relaxed) | bit(family, purpose);
    // Who sees it sees the hooks.
    data.ready.store(ready, Release);
    Ok(true)
}

/// Whether there are hooks in `net` for `purpose`; if not, they will be soon. To be called as [`state`].
#[inline]
pub fn request<T: Subsystem>(net: &Net, family: Family, purpose: T::Purpose) -> bool {
    // SAFETY: As for `state`.
    let data = unsafe { &*slot_rcu::<T>(net.as_raw()) };
    let bit = bit(family, purpose);
    if data.ready.glance_acquire() & bit != 0 {
        return true;
    }
    // Another CPU's may get lost: it will come again.
    data.wanted.store(data.wanted.load(Relaxed) | bit, Relaxed);
    data.hook.schedule();
    false
}

/// The hooks that were requested.
struct Wanted<T>(core::marker::PhantomData<T>);

impl<T: Subsystem> Job for Wanted<T> {
    fn run(net: &Net) {
        // SAFETY: `exit` cancels the work first.
        let wanted = unsafe { data::<T>(net.as_raw()) }.wanted.load(Relaxed);
        for family in [Family::Ipv4, Family::Ipv6] {
            for purpose in T::Purpose::ALL {
                if wanted & bit(family, *purpose) != 0 {
                    // They will be requested again.
                    let _ = activate::<T>(net, family, *purpose);
                }
            }
        }
    }
}

/// What `net` has. To be called where a rule or a hook of ours is at work in it, or its timer, as all that
/// follows: in an RCU section, or with softirqs off.
pub fn state<T: Subsystem>(net: &Net) -> &T::State {
    // SAFETY: Rules keep the module; hooks and the timer end before `exit`.
    unsafe { &(*slot_rcu::<T>(net.as_raw())).state }
}

/// Has the timer of `net` fire in `ms` milliseconds at the latest.
pub fn within<T: Subsystem>(net: &Net, ms: u32) {
    // SAFETY: As for `state`.
    unsafe { (*slot_rcu::<T>(net.as_raw())).timer.within(ms) }
}

/// The counters of `T` in `net`; for its file, too, in an RCU section.
#[inline]
pub fn counters<T: Subsystem>(net: &Net) -> &Counters<T::Counter> {
    // SAFETY: Rules, hooks, the timer and the file are there only while the counters are, and so is
    // whoever they lend `net` to. To make a reference to all of it would be wrong: the file is read while
    // `init` still fills that.
    unsafe { &(*slot_rcu::<T>(net.as_raw())).counters }
}

/// Who else was seen at the hooks of `net`.
pub fn neighbours<T: Subsystem>(net: &Net) -> &neighbours::Seen {
    // SAFETY: As for `state`.
    unsafe { &(*slot_rcu::<T>(net.as_raw())).neighbours }
}
