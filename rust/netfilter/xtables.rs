// SPDX-License-Identifier: GPL-2.0-only

//! Targets and matches of x_tables.
//!
//! C header: [`include/linux/netfilter/x_tables.h`](srctree/include/linux/netfilter/x_tables.h)

use super::{bindings, hook::Verdict as HookVerdict, skb::SkBuff, Family, Net};
use core::marker::PhantomData;
use kernel::{error::to_result, ffi, prelude::*, transmute::FromBytes, types::Opaque};

/// What a target says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next rule decides.
    Continue,
    /// The packet's way ends at this rule.
    Final(HookVerdict),
}

/// Where a packet met a rule.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The namespace.
    pub net: &'a Net,
    /// The version of IP.
    pub family: Family,
    /// The hook, see [`super::hook::point`].
    pub hook: u8,
    /// Offset of the transport header in bytes.
    pub thoff: usize,
    /// The packet is a fragment other than the first.
    pub is_later_fragment: bool,
}

/// Where a rule is inserted.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    /// The namespace.
    pub net: &'a Net,
    /// The version of IP; `None` for what is neither.
    pub family: Option<Family>,
    /// The table's name, which outlives this.
    table: *const ffi::c_char,
    /// Bit mask of the hooks from which it may be reached; 0 when nobody knows, as in a user chain of nft.
    pub hooks: u32,
}

impl Spot<'_> {
    /// Whether the rule is in this table.
    pub fn is_in(&self, table: &CStr) -> bool {
        // Not by making a `CStr` of it: that counts its bytes, by an addition that can panic.
        // SAFETY: Both are strings that end.
        unsafe { kernel::bindings::strcmp(self.table, table.as_char_ptr()) == 0 }
    }
}

/// What a target and a match have in common.
pub trait Extension: 'static {
    /// The name in rules, at most 28 bytes.
    const NAME: &'static str;
    /// Revision of the parameters.
    const REVISION: u8;
    /// Which rules it is for; `None` for those of every family.
    const FAMILY: Option<Family>;
    /// Protocol that a rule must ask for with `-p`, 0 for any.
    const PROTOCOL: u16 = 0;
    /// Bit mask of the hooks from which it may be reached, 0 for any.
    const HOOKS: u32 = 0;
    /// The parameters as userspace passes them. Their layout is ABI.
    type Info: FromBytes;

    /// Checks from where a rule may be reached: before [`Extension::check`], and again when a user chain
    /// of nft comes to be reached.
    ///
    /// # Errors
    ///
    /// What iptables is to report.
    fn check_hooks(_spot: Spot<'_>) -> Result {
        Ok(())
    }

    /// Checks a rule that is about to be inserted. The rule keeps the module from being unloaded.
    ///
    /// # Errors
    ///
    /// What iptables is to report.
    fn check(spot: Spot<'_>, info: &Self::Info) -> Result;
}

/// A target, `-j`.
pub trait Target: Extension {
    /// Judges a packet.
    fn target(skb: &mut SkBuff, place: Place<'_>, info: &Self::Info) -> Verdict;
}

/// A match, `-m`.
pub trait Match: Extension {
    /// Whether the packet matches.
    fn matches(skb: &SkBuff, place: Place<'_>, info: &Self::Info) -> bool;
}

/// # Safety
///
/// `par` must be what x_tables passes with a packet.
unsafe fn place<'a>(par: *const bindings::xt_action_param) -> Place<'a> {
    // SAFETY: x_tables lends all of this to the extension while it looks at the packet.
    unsafe {
        let state = &*(*par).state;
        Place {
            net: Net::from_raw(state.net),
            family: if u32::from(state.pf) == bindings::NFPROTO_IPV6 {
                Family::Ipv6
            } else {
                Family::Ipv4
            },
            hook: state.hook,
            thoff: (*par).thoff as usize,
            is_later_fragment: (*par).fragoff != 0,
        }
    }
}

/// The last byte stays 0.
fn name(name: &str) -> [ffi::c_char; 29] {
    let mut out = [0; 29];
    let mut bytes = name.bytes();
    for to in &mut out[..28] {
        // CAST: Bytes either way.
        *to = bytes.next().map_or(0, |byte| byte as ffi::c_char);
    }
    out
}

fn family(family: Option<Family>) -> u16 {
    family.map_or(bindings::NFPROTO_UNSPEC as u16, |family| family as u16)
}

struct TargetVtable<T>(PhantomData<T>);

impl<T: Target> TargetVtable<T> {
    /// # Safety
    ///
    /// To be called by x_tables only.
    unsafe extern "C" fn target(
        skb: *mut bindings::sk_buff,
        par: *const bindings::xt_action_param,
    ) -> ffi::c_uint {
        // SAFETY: x_tables lends the packet to the target alone, and passes the parameters that
        // were checked with the rule: `targetsize` is that of `Info`.
        unsafe {
            let info = &*(*par).__bindgen_anon_2.targinfo.cast::<T::Info>();
            let place = place(par);
            match T::target(SkBuff::from_raw(skb), place, info) {
                Verdict::Continue => bindings::XT_CONTINUE,
                Verdict::Final(verdict) => verdict.into_raw(place.net, skb),
            }
        }
    }

    /// # Safety
    ///
    /// `par` must be what x_tables passes with a rule.
    unsafe fn spot<'a>(par: *const bindings::xt_tgchk_param) -> Spot<'a> {
        // SAFETY: It passes a namespace, and a table's name.
        unsafe {
            Spot {
                net: Net::from_raw((*par).net),
                family: Family::from_raw((*par).family),
                table: (*par).table,
                hooks: (*par).hook_mask,
            }
        }
    }

    /// # Safety
    ///
    /// To be called by x_tables only.
    unsafe extern "C" fn check_hooks(par: *const bindings::xt_tgchk_param) -> ffi::c_int {
        // SAFETY: By the caller's promise.
        match T::check_hooks(unsafe { Self::spot(par) }) {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }

    /// # Safety
    ///
    /// To be called by x_tables only.
    unsafe extern "C" fn check(par: *const bindings::xt_tgchk_param) -> ffi::c_int {
        // SAFETY: By the caller's promise; the parameters are of the size of `Info`.
        let checked = unsafe { T::check(Self::spot(par), &*(*par).targinfo.cast::<T::Info>()) };
        match checked {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }
}

/// A registered target.
///
/// # Invariants
///
/// `inner` is registered as long as the value lives.
#[pin_data(PinnedDrop)]
pub struct TargetRegistration<T: Target> {
    #[pin]
    inner: Opaque<bindings::xt_target>,
    _target: PhantomData<T>,
}

// SAFETY: x_tables registers and unregisters on any CPU.
unsafe impl<T: Target> Send for TargetRegistration<T> {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl<T: Target> Sync for TargetRegistration<T> {}

impl<T: Target> TargetRegistration<T> {
    /// Registers the target. Of several of one name and revision the last one registered is used.
    pub fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::xt_target| {
                let target = bindings::xt_target {
                    name: name(T::NAME),
                    revision: T::REVISION,
                    family: family(T::FAMILY),
                    proto: T::PROTOCOL,
                    hooks: T::HOOKS,
                    // CAST: A few bytes.
                    targetsize: core::mem::size_of::<T::Info>() as u32,
                    target: Some(TargetVtable::<T>::target),
                    check_hooks: Some(TargetVtable::<T>::check_hooks),
                    checkentry: Some(TargetVtable::<T>::check),
                    me: module.as_ptr(),
                    ..Default::default()
                };
                // SAFETY: The slot is valid, and pinned until it is unregistered.
                unsafe {
                    slot.write(target);
                    to_result(bindings::xt_register_target(slot))
                }
            }),
            _target: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: Target> PinnedDrop for TargetRegistration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant.
        unsafe { bindings::xt_unregister_target(self.inner.get()) }
    }
}

struct MatchVtable<T>(PhantomData<T>);

impl<T: Match> MatchVtable<T> {
    /// # Safety
    ///
    /// To be called by x_tables only.
    unsafe extern "C" fn matches(
        skb: *const bindings::sk_buff,
        par: *mut bindings::xt_action_param,
    ) -> bool {
        // SAFETY: x_tables lends the packet, and passes the parameters that were checked with the
        // rule: `matchsize` is that of `Info`.
        unsafe {
            let info = &*(*par).__bindgen_anon_2.matchinfo.cast::<T::Info>();
            T::matches(SkBuff::from_raw_const(skb), place(par), info)
        }
    }

    /// # Safety
    ///
    /// To be called by x_tables only.
    unsafe extern "C" fn check(par: *const bindings::xt_mtchk_param) -> ffi::c_int {
        // SAFETY: x_tables passes a namespace, a table's name, and parameters of the size of `Info`.
        let checked = unsafe {
            let spot = Spot {
                net: Net::from_raw((*par).net),
                family: Family::from_raw((*par).family),
                table: (*par).table,
                hooks: (*par).hook_mask,
            };
            T::check(spot, &*(*par).matchinfo.cast::<T::Info>())
        };
        match checked {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }
}

/// A registered match.
///
/// # Invariants
///
/// `inner` is registered as long as the value lives.
#[pin_data(PinnedDrop)]
pub struct MatchRegistration<T: Match> {
    #[pin]
    inner: Opaque<bindings::xt_match>,
    _match: PhantomData<T>,
}

// SAFETY: x_tables registers and unregisters on any CPU.
unsafe impl<T: Match> Send for MatchRegistration<T> {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl<T: Match> Sync for MatchRegistration<T> {}

impl<T: Match> MatchRegistration<T> {
    /// Registers the match.
    pub fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::xt_match| {
                let matcher = bindings::xt_match {
                    name: name(T::NAME),
                    revision: T::REVISION,
                    family: family(T::FAMILY),
                    proto: T::PROTOCOL,
                    hooks: T::HOOKS,
                    // CAST: A few bytes.
                    matchsize: core::mem::size_of::<T::Info>() as u32,
                    match_: Some(MatchVtable::<T>::matches),
                    checkentry: Some(MatchVtable::<T>::check),
                    me: module.as_ptr(),
                    ..Default::default()
                };
                // SAFETY: The slot is valid, and pinned until it is unregistered.
                unsafe {
                    slot.write(matcher);
                    to_result(bindings::xt_register_match(slot))
                }
            }),
            _match: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: Match> PinnedDrop for MatchRegistration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant.
        unsafe { bindings::xt_unregister_match(self.inner.get()) }
    }
}
