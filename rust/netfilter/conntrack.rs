// SPDX-License-Identifier: GPL-2.0-only

//! Connection tracking.
//!
//! C headers: [`include/net/netfilter/nf_conntrack.h`](srctree/include/net/netfilter/nf_conntrack.h),
//! [`include/net/netfilter/nf_conntrack_extend.h`](srctree/include/net/netfilter/nf_conntrack_extend.h)

use super::{
    bindings,
    cookie::Flow,
    hook::point,
    inet_addr, nat,
    skb::{OwnedSkb, SkBuff},
    sync::Glance,
    Family, Net,
};
use crate::tcp::{ip, timestamp::Direction};
use core::{
    mem::ManuallyDrop,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Deref,
    ptr::NonNull,
};
use kernel::{
    error::to_result,
    ffi,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed, Release},
        rcu,
    },
    types::Opaque,
};

/// A zone: entries of different ones know nothing of each other.
///
/// C header: [`include/net/netfilter/nf_conntrack_zones.h`](srctree/include/net/netfilter/nf_conntrack_zones.h)
#[derive(Clone, Copy)]
pub struct Zone(bindings::nf_conntrack_zone);

impl Zone {
    /// Its number.
    pub fn id(&self) -> u16 {
        self.0.id
    }

    fn is_default(&self) -> bool {
        u32::from(self.0.id) == bindings::NF_CT_DEFAULT_ZONE_ID
    }
}

impl Default for Zone {
    /// The zone of packets that no rule has put into another.
    fn default() -> Self {
        // SAFETY: A constant of the kernel's.
        Self(unsafe { *bindings::rust_helper_nf_ct_zone_dflt() })
    }
}

/// Bits of an entry's status, `enum ip_conntrack_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The entry is in the table, or was.
    Confirmed = bindings::ip_conntrack_status_IPS_CONFIRMED_BIT,
    /// Sequence numbers are to be adjusted.
    SeqAdjust = bindings::ip_conntrack_status_IPS_SEQ_ADJUST_BIT,
    /// The entry is being deleted.
    Dying = bindings::ip_conntrack_status_IPS_DYING_BIT,
    /// No connection at all, but what a rule of the raw table wants one to be like.
    Template = bindings::ip_conntrack_status_IPS_TEMPLATE_BIT,
    /// The source has been translated, if only to itself.
    SrcNatDone = bindings::ip_conntrack_status_IPS_SRC_NAT_DONE_BIT,
    /// The destination has been translated, if only to itself.
    DstNatDone = bindings::ip_conntrack_status_IPS_DST_NAT_DONE_BIT,
    /// Packets do not extend the entry's life.
    FixedTimeout = bindings::ip_conntrack_status_IPS_FIXED_TIMEOUT_BIT,
    /// The entry does not give way to others when the table is full.
    Assured = bindings::ip_conntrack_status_IPS_ASSURED_BIT,
}

impl Status {
    const fn mask(self) -> usize {
        1 << self as u32
    }
}

/// Events for ctnetlink, `enum ip_conntrack_events`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Event {
    /// The sequence adjustment has changed.
    SeqAdj = bindings::ip_conntrack_events_IPCT_SEQADJ,
    /// The synproxy extension has changed.
    SynProxy = bindings::ip_conntrack_events_IPCT_SYNPROXY,
}

/// The extensions of an entry that matter here, `enum nf_ct_ext_id`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
enum Extension {
    Helper = bindings::nf_ct_ext_id_NF_CT_EXT_HELPER,
    SeqAdj = bindings::nf_ct_ext_id_NF_CT_EXT_SEQADJ,
    SynProxy = bindings::nf_ct_ext_id_NF_CT_EXT_SYNPROXY,
}

/// The synproxy extension, `struct nf_conn_synproxy`: `isn`, `its`, `tsoff`.
///
/// The words are shared with every CPU that has a packet of the connection, and with ctnetlink,
/// which reads them. The last one decides who may change the others: see `gate` and `relay`.
#[repr(transparent)]
pub struct SynProxy([Atomic<u32>; 3]);

impl SynProxy {
    /// The words as they are. Whoever has seen the entry's status bits sees what was stored before
    /// they were set.
    #[inline]
    pub fn load(&self) -> [u32; 3] {
        let [isn, its, tsoff] = &self.0;
        [isn.glance(), its.glance(), tsoff.glance_acquire()]
    }

    /// Stores all words, the last one last.
    pub fn store(&self, words: [u32; 3]) {
        let [isn, its, tsoff] = &self.0;
        isn.store(words[0], Relaxed);
        its.store(words[1], Relaxed);
        tsoff.store(words[2], Release);
    }

    /// Changes the last word from `old` to `new`; of several callers one succeeds.
    pub fn swap_last(&self, old: u32, new: u32) -> bool {
        self.0[2].cmpxchg(old, new, Full).is_ok()
    }
}

/// A conntrack entry, the kernel's `struct nf_conn`.
#[repr(transparent)]
pub struct Conn(Opaque<bindings::nf_conn>);

impl Conn {
    /// # Safety
    ///
    /// `ptr` must point to an entry that a reference is held on for `'a`.
    unsafe fn from_raw<'a>(ptr: *mut bindings::nf_conn) -> &'a Self {
        // SAFETY: The caller's promise; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::nf_conn {
        self.0.get()
    }

    #[inline]
    fn status(&self) -> usize {
        // SAFETY: `status` is a valid word that everybody changes atomically.
        let status = unsafe { Atomic::from_ptr(&raw mut (*self.as_raw()).status) };
        status.glance_acquire()
    }

    /// Whether a status bit is set.
    #[inline]
    pub fn is(&self, bit: Status) -> bool {
        self.status() & bit.mask() != 0
    }

    /// Whether the bits `on` are set, and the bits `off` are not, all at one time.
    #[inline]
    pub fn is_just<const ON: usize, const OFF: usize>(
        &self,
        on: [Status; ON],
        off: [Status; OFF],
    ) -> bool {
        let all = |bits: &[Status]| bits.iter().fold(0, |mask, bit| mask | bit.mask());
        let (on, off) = (all(&on), all(&off));
        self.status() & (on | off) == on
    }

    /// Sets a status bit; stores before it are seen by who sees the bit.
    pub fn set(&self, bit: Status) {
        // SAFETY: `status` is a valid word that everybody changes atomically.
        unsafe { bindings::rust_helper_set_bit(bit as u32, &raw mut (*self.as_raw()).status) }
    }

    fn extension(&self, id: Extension) -> Option<NonNull<ffi::c_void>> {
        // SAFETY: `self` is valid; its extensions do not move once it is confirmed, and nobody who
        // does not have its one packet looks at them before.
        NonNull::new(unsafe { bindings::rust_helper_nf_ct_ext_find(self.as_raw(), id as u32) })
    }

    /// The synproxy extension, where the entry has one.
    pub fn synproxy(&self) -> Option<&SynProxy> {
        let ptr = self.extension(Extension::SynProxy)?;
        // SAFETY: Three aligned words that live as long as the entry, and `Atomic` is transparent.
        Some(unsafe { ptr.cast().as_ref() })
    }

    /// The synproxy extension, where the entry has it and the seqadj extension.
    #[inline]
    pub fn translated(&self) -> Option<&SynProxy> {
        let (id, other) = (Extension::SynProxy as u32, Extension::SeqAdj as u32);
        // SAFETY: As for `extension`.
        let ptr = unsafe { bindings::rust_helper_nf_ct_ext_find_beside(self.as_raw(), id, other) };
        // SAFETY: As for `synproxy`.
        Some(unsafe { NonNull::new(ptr)?.cast().as_ref() })
    }

    /// Whether the entry has the seqadj extension.
    pub fn has_seqadj(&self) -> bool {
        // SAFETY: `self` is valid.
        unsafe { bindings::rust_helper_nf_ct_ext_exist(self.as_raw(), Extension::SeqAdj as u32) }
    }

    /// Whether the entry has a helper.
    pub fn has_helper(&self) -> bool {
        self.extension(Extension::Helper).is_some()
    }

    /// Seconds until the entry expires, rounded up.
    pub fn expires(&self) -> u32 {
        // SAFETY: `self` is valid.
        let jiffies = unsafe { bindings::rust_helper_nf_ct_expires(self.as_raw()) };
        let hz = hz() as usize;
        jiffies
            .saturating_add(hz.saturating_sub(1))
            .checked_div(hz)
            .map_or(0, |seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Sees to it that the entry lives for `seconds` at least.
    pub fn prolong(&self, seconds: u32) {
        if self.expires() < seconds {
            // SAFETY: `self` is valid.
            unsafe {
                bindings::rust_helper_nf_ct_refresh(self.as_raw(), seconds.saturating_mul(hz()));
            }
        }
    }

    /// Whether conntrack has seen the connection closed.
    pub fn is_closed(&self) -> bool {
        self.is_reset() || self.tcp_state() == bindings::tcp_conntrack_TCP_CONNTRACK_TIME_WAIT
    }

    /// Whether one side has reset the connection.
    pub fn is_reset(&self) -> bool {
        self.tcp_state() == bindings::tcp_conntrack_TCP_CONNTRACK_CLOSE
    }

    fn tcp_state(&self) -> u32 {
        // SAFETY: `self` is a valid entry of a TCP connection; a byte is read whole.
        unsafe { (&raw const (*self.as_raw()).proto.tcp.state).read_volatile() }.into()
    }

    /// What the sender of `direction` was last seen to say of itself, in its own numbers.
    pub fn seen(&self, direction: Direction) -> Seen {
        // SAFETY: `self` is a valid entry of a TCP connection. Each field is read whole; that they
        // may be from different packets does no harm.
        let (end, ack, window, scale) = unsafe {
            let both = &raw const (*self.as_raw()).proto.tcp.seen;
            let seen = match direction {
                Direction::Original => &raw const (*both)[0],
                Direction::Reply => &raw const (*both)[1],
            };
            (
                (&raw const (*seen).td_end).read_volatile(),
                (&raw const (*seen).td_maxack).read_volatile(),
                (&raw const (*seen).td_maxwin).read_volatile(),
                (&raw const (*seen).td_scale).read_volatile(),
            )
        };
        let window = window >> u32::from(scale & 0xf);
        Seen {
            end,
            ack,
            window: u16::try_from(window).unwrap_or(u16::MAX).max(1),
        }
    }

    fn tuple(&self, direction: Direction) -> &bindings::nf_conntrack_tuple {
        // SAFETY: `self` is valid, and its tuples do not change once it is in use. The list node
        // beside a tuple does, and is not touched.
        unsafe {
            let hashes = &raw const (*self.as_raw()).tuplehash;
            let tuple = match direction {
                Direction::Original => &raw const (*hashes)[0].tuple,
                Direction::Reply => &raw const (*hashes)[1].tuple,
            };
            &*tuple
        }
    }

    fn family(&self) -> Family {
        let l3num = self.tuple(Direction::Original).src.l3num;
        if u32::from(l3num) == bindings::NFPROTO_IPV6 {
            Family::Ipv6
        } else {
            Family::Ipv4
        }
    }

    fn endpoint(&self, addr: bindings::nf_inet_addr, port: u16) -> SocketAddr {
        // SAFETY: Any bytes are an address.
        let ip: IpAddr = unsafe {
            match self.family() {
                Family::Ipv4 => Ipv4Addr::from(addr.ip.to_ne_bytes()).into(),
                Family::Ipv6 => Ipv6Addr::from(addr.in6.in6_u.u6_addr8).into(),
            }
        };
        SocketAddr::new(ip, u16::from_be(port))
    }

    /// Who sends the packets of `direction`, before translation of addresses.
    pub fn source(&self, direction: Direction) -> SocketAddr {
        let src = &self.tuple(direction).src;
        // SAFETY: All members of the union are ports in the same place.
        self.endpoint(src.u3, unsafe { src.u.all })
    }

    /// Whom the packets of `direction` are for, before translation of addresses.
    pub fn destination(&self, direction: Direction) -> SocketAddr {
        let dst = &self.tuple(direction).dst;
        // SAFETY: All members of the union are ports in the same place.
        self.endpoint(dst.u3, unsafe { dst.u.all })
    }

    /// The connection as its client sees it.
    pub fn flow(&self) -> Flow {
        Flow {
            client: self.source(Direction::Original),
            server: self.destination(Direction::Original),
        }
    }

    /// The entry's mark.
    pub fn mark(&self) -> u32 {
        // SAFETY: `self` is valid; a word is read whole.
        unsafe { (&raw const (*self.as_raw()).mark).read_volatile() }
    }

    /// Sets the entry's mark.
    pub fn set_mark(&self, mark: u32) {
        // SAFETY: `self` is valid; a word is written whole.
        unsafe { (&raw mut (*self.as_raw()).mark).write_volatile(mark) }
    }

    /// From now on `offset` is added to the sequence numbers of the server, and subtracted from the
    /// client's acknowledgements.
    pub fn translate_sequence(&self, offset: u32) {
        // SAFETY: `self` is valid and has the seqadj extension, or nothing happens.
        unsafe {
            bindings::nf_ct_seqadj_init(
                self.as_raw(),
                bindings::ip_conntrack_info_IP_CT_ESTABLISHED_REPLY,
                // CAST: Modulo 2^32, both.
                offset as i32,
            );
        }
        // With an offset of 0 the function above does nothing at all.
        self.set(Status::SeqAdjust);
    }

    /// What is added to the server's sequence number `seq`.
    pub fn sequence_offset(&self, seq: u32) -> u32 {
        // SAFETY: `self` is valid.
        let offset = unsafe {
            bindings::nf_ct_seq_offset(
                self.as_raw(),
                bindings::ip_conntrack_dir_IP_CT_DIR_REPLY,
                seq,
            )
        };
        // CAST: Modulo 2^32, both.
        offset as u32
    }

    /// Tells ctnetlink's listeners.
    pub fn event(&self, event: Event) {
        // SAFETY: `self` is valid.
        unsafe {
            bindings::rust_helper_nf_conntrack_event_cache(event as u32, self.as_raw());
        }
    }

    /// Takes the entry out of the table, where it is in it.
    pub fn delete(&self) {
        if self.is(Status::Confirmed) {
            // SAFETY: `self` was in the table, and stays valid for whoever holds a reference. The
            // answer says more of ctnetlink's listeners than of the entry.
            unsafe { bindings::nf_ct_delete(self.as_raw(), 0, 0) };
        }
    }

    /// Whether it is in the table, and nobody has begun to take it out.
    pub fn is_in_use(&self) -> bool {
        self.is(Status::Confirmed) && !self.is(Status::Dying)
    }

    /// The namespace.
    pub fn net(&self) -> &Net {
        // SAFETY: `self` is valid, and no namespace goes before its last entry.
        unsafe { Net::from_raw(bindings::rust_helper_nf_ct_net(self.as_raw())) }
    }

    /// Tells entries apart that exist at the same time.
    pub fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// The entry in the table for the packets of this one, which is not in it any more.
    pub fn successor(&self) -> Option<ConnRef> {
        find(self.net(), &self.zone(), self.tuple(Direction::Original))
    }

    /// Whether both are the same entry.
    pub fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }

    /// Its zone.
    pub fn zone(&self) -> Zone {
        // SAFETY: `self` is valid; its zone does not change.
        Zone(unsafe { (*self.as_raw()).zone })
    }
}

/// What conntrack has seen of one side of a connection, `struct ip_ct_tcp_state`.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The sequence number after the last byte sent.
    pub end: u32,
    /// The highest acknowledgement sent.
    pub ack: u32,
    /// The window, scaled down to what stands in a segment; at least 1.
    pub window: u16,
}

/// Jiffies per second.
fn hz() -> u32 {
    // SAFETY: May be called at any time.
    unsafe { bindings::rust_helper_hz() }
}

/// How a packet stands to conntrack.
pub enum Tracked<'a> {
    /// Conntrack has not seen it, or could make nothing of it: INVALID.
    No,
    /// Excepted from conntrack by a rule: UNTRACKED.
    Untracked,
    /// It belongs to an entry.
    Yes {
        /// The entry.
        ct: &'a Conn,
        /// Who sends it.
        direction: Direction,
        /// It is about the connection rather than of it: an ICMP error, or a reset by REJECT. The
        /// first packets of a connection that another one has announced are told so, too.
        related: bool,
    },
}

/// What a packet has instead of an entry that is excepted from conntrack.
const UNTRACKED: usize = bindings::ip_conntrack_info_IP_CT_UNTRACKED as usize;

/// The bits of `_nfct` that say how a packet stands to the entry whose address the others are:
/// `NFCT_INFOMASK` of `include/linux/skbuff.h`.
const INFO_MASK: usize = 7;

impl SkBuff {
    /// How the packet stands to conntrack.
    #[inline]
    pub fn tracked(&self) -> Tracked<'_> {
        // SAFETY: `self` is valid.
        let nfct = unsafe { (*self.as_raw())._nfct };
        if nfct == 0 {
            return Tracked::No;
        }
        if nfct == UNTRACKED {
            return Tracked::Untracked;
        }
        let (ct, info) = (nfct & !INFO_MASK, nfct & INFO_MASK);
        if ct == 0 {
            return Tracked::No;
        }
        // SAFETY: That is where its entry is, on which the packet holds a reference as long as it is
        // borrowed.
        let ct = unsafe { Conn::from_raw(core::ptr::with_exposed_provenance_mut(ct)) };
        if ct.is(Status::Template) {
            return Tracked::No;
        }
        // CAST: Three bits.
        let info = info as u32;
        Tracked::Yes {
            ct,
            direction: if info >= bindings::ip_conntrack_info_IP_CT_IS_REPLY {
                Direction::Reply
            } else {
                Direction::Original
            },
            related: info == bindings::ip_conntrack_info_IP_CT_RELATED
                || info == bindings::ip_conntrack_info_IP_CT_RELATED_REPLY,
        }
    }

    /// Has the packet, an ICMP error from the client's side, taken for one from the server's: all
    /// that is still to come is `nf_confirm`, which would adjust the sequence numbers of a TCP packet
    /// in it.
    pub fn keep_from_adjustment(&mut self) {
        // SAFETY: `self` is valid.
        unsafe {
            bindings::rust_helper_nf_ct_set_info(
                self.as_raw(),
                bindings::ip_conntrack_info_IP_CT_RELATED_REPLY,
            );
        }
    }

    /// Whether neither conntrack nor a rule has given the packet an entry or a template yet.
    fn is_new_to_conntrack(&self) -> bool {
        // SAFETY: `self` is valid.
        unsafe { (*self.as_raw())._nfct == 0 }
    }

    /// The template that a rule, or we, have given to the packet for conntrack.
    fn template(&self) -> Option<&Conn> {
        if self.is_new_to_conntrack() {
            return None;
        }
        let mut info = 0;
        // SAFETY: `self` is valid and holds a reference on what it has.
        let ct = unsafe { bindings::rust_helper_nf_ct_get(self.as_raw(), &mut info) };
        if ct.is_null() {
            return None;
        }
        // SAFETY: The packet holds the reference as long as it is borrowed.
        Some(unsafe { Conn::from_raw(ct) }).filter(|ct| ct.is(Status::Template))
    }

    /// The zone in which the packet is, or will be. An INVALID one has lost it.
    pub fn zone(&self) -> Zone {
        match self.tracked() {
            Tracked::Yes { ct, .. } => ct.zone(),
            _ => self.template().map_or_else(Zone::default, |template| {
                let mut zone = Zone::default();
                // SAFETY: All are valid.
                unsafe {
                    bindings::rust_helper_nf_ct_zone_tmpl(
                        template.as_raw(),
                        self.as_raw(),
                        &mut zone.0,
                    );
                }
                zone
            }),
        }
    }

    /// Whether the packet is a SYN of ours that comes in.
    pub fn is_received_syn(&self) -> bool {
        self.template().is_some_and(|ct| ct.synproxy().is_some())
    }

    /// The entry that a packet without one would belong to, going by its addresses and its zone.
    pub fn lookup(&self, net: &Net, family: Family) -> Option<ConnRef> {
        let mut tuple = bindings::nf_conntrack_tuple::default();
        // SAFETY: The packet, the tuple and the zone are valid.
        unsafe {
            let nhoff = bindings::rust_helper_skb_network_offset(self.as_raw());
            if !bindings::nf_ct_get_tuplepr(
                self.as_raw(),
                nhoff,
                u16::from(family as u8),
                net.as_raw(),
                &mut tuple,
            ) {
                return None;
            }
        }
        find(net, &self.zone(), &tuple)
    }

    /// Whether the packet has an entry.
    pub fn is_tracked(&self) -> bool {
        matches!(self.tracked(), Tracked::Yes { .. })
    }
}

/// Looks an entry up in the table.
fn find(net: &Net, zone: &Zone, tuple: &bindings::nf_conntrack_tuple) -> Option<ConnRef> {
    // SAFETY: All is valid. The hash is part of the entry that was found, on which the look-up has taken
    // a reference.
    let ct = unsafe {
        let hash = bindings::nf_conntrack_find_get(net.as_raw(), &zone.0, tuple);
        if hash.is_null() {
            return None;
        }
        bindings::rust_helper_nf_ct_tuplehash_to_ctrack(hash)
    };
    // INVARIANT: The reference is ours.
    Some(ConnRef(NonNull::new(ct)?))
}

/// A reference on an entry.
///
/// # Invariants
///
/// The reference is held as long as the value lives.
pub struct ConnRef(NonNull<bindings::nf_conn>);

// SAFETY: Entries are counted atomically, and shared between CPUs anyway.
unsafe impl Send for ConnRef {}

impl From<&Conn> for ConnRef {
    fn from(ct: &Conn) -> Self {
        // SAFETY: Whoever has lent the entry holds a reference.
        unsafe { bindings::rust_helper_nf_conntrack_get(ct.as_raw()) };
        // INVARIANT: The reference is ours.
        Self(NonNull::from(ct).cast())
    }
}

impl Clone for ConnRef {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl Deref for ConnRef {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        // SAFETY: By the invariant.
        unsafe { Conn::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for ConnRef {
    fn drop(&mut self) {
        // SAFETY: The reference is ours to give back.
        unsafe { bindings::rust_helper_nf_ct_put(self.0.as_ptr()) }
    }
}

/// Puts the new entry of `skb` into the table as one of a client that waits: with the words of the
/// synproxy extension, with a life of `seconds` that packets do not extend, and guarded.
///
/// The guard is `IPS_SEQ_ADJUST` without the seqadj extension: the kernel's own `nf_confirm` drops
/// every packet of such an entry at POST_ROUTING and LOCAL_IN, and flowtables refuse it. Excepted
/// are what REJECT sends to the client, and the loopback device.
///
/// # Errors
///
/// `EEXIST` when the packet's entry is not new, or has an extension that the guard or we could
/// not live with; `ENOMEM`; `EAGAIN` when the table has no place or another CPU was faster.
pub fn hold(skb: &mut SkBuff, words: [u32; 3], seconds: u32) -> Result {
    let Tracked::Yes { ct, .. } = skb.tracked() else {
        return Err(EINVAL);
    };
    if ct.is(Status::Confirmed) || ct.has_seqadj() || ct.has_helper() {
        return Err(EEXIST);
    }
    if ct.synproxy().is_none() {
        // SAFETY: Unconfirmed: no other packet of the client has the entry.
        let ext = unsafe {
            bindings::nf_ct_ext_add(
                ct.as_raw(),
                Extension::SynProxy as u32,
                kernel::bindings::GFP_ATOMIC,
            )
        };
        if ext.is_null() {
            return Err(ENOMEM);
        }
    }
    // It never gets to POSTROUTING, where two connections to one server are told apart.
    if ct.is(Status::DstNatDone) {
        nat::keep_source(ct)?;
    }
    ct.synproxy().ok_or(EINVAL)?.store(words);
    ct.set(Status::SeqAdjust);
    ct.set(Status::FixedTimeout);
    // SAFETY: Unconfirmed, as above; the timeout is relative until the entry is confirmed.
    unsafe {
        (*ct.as_raw()).timeout = seconds.saturating_mul(hz());
    }
    // SAFETY: The packet has an unconfirmed entry with the hash that `nf_conntrack_in` has saved.
    let verdict = unsafe { bindings::rust_helper_nf_conntrack_confirm(skb.as_raw()) };
    if verdict == bindings::NF_ACCEPT as i32 {
        Ok(())
    } else {
        Err(EAGAIN)
    }
}

/// Puts an entry into the table for a client of which conntrack knows nothing, as [`hold`] does.
///
/// # Errors
///
/// `EEXIST` when there is one; `ENOMEM` when there is no room.
pub fn make(net: &Net, zone: &Zone, flow: &Flow, words: [u32; 3], seconds: u32) -> Result {
    let mut tuple = bindings::nf_conntrack_tuple::default();
    tuple.src.l3num = Family::of(flow.client.ip()) as u16;
    tuple.src.u3 = inet_addr(flow.client.ip());
    tuple.src.u.all = flow.client.port().to_be();
    tuple.dst.u3 = inet_addr(flow.server.ip());
    tuple.dst.u.all = flow.server.port().to_be();
    tuple.dst.protonum = ip::protocol::TCP;
    let mut reply = bindings::nf_conntrack_tuple::default();
    // SAFETY: Everything is valid; the entry is ours alone until it is in the table, and goes back to
    // the allocator if it does not get there. In the table, it holds a reference of its own.
    unsafe {
        if !bindings::nf_ct_invert_tuple(&mut reply, &tuple) {
            return Err(EINVAL);
        }
        let ptr = bindings::rust_helper_nf_conntrack_alloc(net.as_raw(), &zone.0, &tuple, &reply);
        if ptr.is_null() {
            return Err(ENOMEM);
        }
        let added = bindings::nf_ct_ext_add(
            ptr,
            Extension::SynProxy as u32,
            kernel::bindings::GFP_ATOMIC,
        );
        if added.is_null() {
            bindings::nf_conntrack_free(ptr);
            return Err(ENOMEM);
        }
        bindings::rust_helper_nf_ct_ecache_ext_add(ptr);
        let ct = Conn::from_raw(ptr);
        ct.synproxy().ok_or(EINVAL)?.store(words);
        (*ptr).proto.tcp.state = bindings::tcp_conntrack_TCP_CONNTRACK_ESTABLISHED as u8;
        for seen in &mut (*ptr).proto.tcp.seen {
            seen.flags = bindings::IP_CT_TCP_FLAG_BE_LIBERAL as u8;
        }
        for bit in [Status::SeqAdjust, Status::FixedTimeout, Status::Confirmed] {
            ct.set(bit);
        }
        bindings::rust_helper_nf_ct_set_timeout(ptr, seconds.saturating_mul(hz()));
        if let Err(error) = to_result(bindings::nf_conntrack_hash_check_insert(ptr)) {
            bindings::nf_conntrack_free(ptr);
            return Err(error);
        }
        bindings::rust_helper_nf_conntrack_event_new(ptr);
        bindings::rust_helper_nf_ct_put(ptr);
    }
    Ok(())
}

/// How many entries there may be, `net.netfilter.nf_conntrack_max`.
pub fn max() -> u32 {
    // SAFETY: A word that is read whole.
    unsafe { (&raw const bindings::nf_conntrack_max).read_volatile() }
}

/// What a packet's new entry is to be like.
///
/// # Invariants
///
/// A template of conntrack's, on which a reference is held as long as the value lives; nobody changes it.
struct Template(NonNull<bindings::nf_conn>);

impl Template {
    /// One that leads to existing entries of `zone`; the default one needs none.
    fn for_zone(net: &Net, zone: &Zone) -> Result<Option<Self>> {
        if zone.is_default() {
            return Ok(None);
        }
        Self::new(net, zone, false, kernel::bindings::GFP_ATOMIC).map(Some)
    }

    /// A template for a zone. With `synproxy` a new entry gets the synproxy extension, and with that
    /// the seqadj extension.
    fn new(net: &Net, zone: &Zone, synproxy: bool, gfp: kernel::bindings::gfp_t) -> Result<Self> {
        // SAFETY: The namespace is valid, and the zone is copied.
        let template = unsafe { bindings::nf_ct_tmpl_alloc(net.as_raw(), &zone.0, gfp) };
        // INVARIANT: Fresh from the allocator.
        let template = Self(NonNull::new(template).ok_or(ENOMEM)?);
        let ptr = template.0.as_ptr();
        // SAFETY: The template is ours alone so far. An expectation is used up by a confirmed one only.
        unsafe {
            if synproxy && bindings::nf_ct_ext_add(ptr, Extension::SynProxy as u32, gfp).is_null() {
                return Err(ENOMEM);
            }
            bindings::rust_helper_set_bit(Status::Confirmed as u32, &raw mut (*ptr).status);
        }
        Ok(template)
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // SAFETY: The reference is ours to give back.
        unsafe { bindings::rust_helper_nf_ct_put(self.0.as_ptr()) }
    }
}

// SAFETY: Counted atomically, and not changed once it is made.
unsafe impl Send for Template {}
// SAFETY: As above.
unsafe impl Sync for Template {}

impl Clone for Template {
    fn clone(&self) -> Self {
        // SAFETY: Whoever has it holds a reference.
        unsafe { bindings::rust_helper_nf_conntrack_get(self.0.as_ptr()) };
        // INVARIANT: The reference is ours.
        Self(self.0)
    }
}

/// The template of SYNs of ours in the default zone of a namespace: one for all, whose extension does not age,
/// as it would in kernels that have `gen_id` in `struct nf_ct_ext`.
pub struct SynTemplate(Template);

impl SynTemplate {
    /// That of `net`; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(net: &Net) -> Result<Self> {
        Template::new(net, &Zone::default(), true, kernel::bindings::GFP_KERNEL).map(Self)
    }

    /// For a SYN in `zone`.
    fn of(&self, net: &Net, zone: &Zone) -> Result<Template> {
        if zone.is_default() {
            Ok(self.0.clone())
        } else {
            Template::new(net, zone, true, kernel::bindings::GFP_ATOMIC)
        }
    }
}

/// Shows a packet of ours to conntrack, as one that this host sends in the client's name.
fn track<'a>(net: &Net, skb: &'a mut SkBuff, template: Option<Template>) -> Result<&'a Conn> {
    skb.detach();
    if let Some(template) = template {
        skb.give(template);
    }
    // As of a hook; a timer's function is in no such section.
    let _rcu = rcu::read_lock();
    let state = bindings::nf_hook_state {
        hook: point::LOCAL_OUT,
        pf: skb.family() as u8,
        net: net.as_raw(),
        ..Default::default()
    };
    // SAFETY: The packet is ours, and complete but for what `ip_local_out` fills in.
    let verdict = unsafe { bindings::nf_conntrack_in(skb.as_raw(), &state) };
    if verdict != bindings::NF_ACCEPT {
        return Err(EAGAIN);
    }
    match skb.tracked() {
        Tracked::Yes {
            ct,
            direction: Direction::Original,
            related: false,
        } => Ok(ct),
        _ => Err(EAGAIN),
    }
}

/// Shows `skb`, a SYN of ours, to conntrack, and returns its entry. A new one is in the zone of
/// `like`, and has the synproxy and the seqadj extension.
///
/// # Errors
///
/// `ENOMEM`; `EAGAIN` when conntrack wants the packet dropped or makes nothing of it.
pub fn track_syn(
    net: &Net,
    skb: &mut SkBuff,
    template: &SynTemplate,
    like: Option<&Conn>,
) -> Result<ConnRef> {
    let template = match like {
        Some(ct) => template.of(net, &ct.zone())?,
        None => template.0.clone(),
    };
    let ct = track(net, skb, Some(template))?;
    if ct.is(Status::Confirmed) || (ct.has_seqadj() && ct.synproxy().is_some()) {
        Ok(ct.into())
    } else {
        Err(ENOMEM)
    }
}

/// Shows `skb` to conntrack as one more packet of `ct`, from the client.
///
/// # Errors
///
/// `ENOMEM`; `EAGAIN` when conntrack takes it for anything else.
pub fn track_as(net: &Net, skb: &mut OwnedSkb, ct: &Conn) -> Result {
    let zone = ct.zone();
    let template = Template::for_zone(net, &zone)?;
    if track(net, skb, template)?.is_same(ct) {
        Ok(())
    } else {
        Err(EAGAIN)
    }
}

impl SkBuff {
    /// Takes the packet out of its connection.
    fn detach(&mut self) {
        // SAFETY: `self` is valid.
        unsafe { bindings::rust_helper_nf_reset_ct(self.as_raw()) }
    }

    /// Leaves the reference on the template to the packet; `nf_conntrack_in` gives it back.
    fn give(&mut self, template: Template) {
        let template = ManuallyDrop::new(template);
        // SAFETY: Both are valid; the packet has no entry.
        unsafe {
            bindings::rust_helper_nf_ct_set(
                self.as_raw(),
                template.0.as_ptr(),
                bindings::ip_conntrack_info_IP_CT_NEW,
            );
        }
    }
}

impl OwnedSkb {
    /// Prepares the packet, a SYN of ours, to come in: [`SkBuff::is_received_syn`] knows it then, and
    /// its entry will be in `zone`, with the synproxy and the seqadj extension.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn prepare_received_syn(
        &mut self,
        net: &Net,
        template: &SynTemplate,
        zone: &Zone,
    ) -> Result {
        self.give(template.of(net, zone)?);
        Ok(())
    }

    /// Has the packet, when it comes in, belong to `zone` whatever rules say.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn set_zone(&mut self, net: &Net, zone: &Zone) -> Result {
        if let Some(template) = Template::for_zone(net, zone)? {
            self.give(template);
        }
        Ok(())
    }
}

impl SkBuff {
    /// Makes the packet, which is ours, one of the connection's, sent by the server.
    pub fn attach_reply(&mut self, ct: &Conn) {
        self.attach(ct, bindings::ip_conntrack_info_IP_CT_ESTABLISHED_REPLY);
    }

    /// The same, sent by the client. Conntrack does not look at it.
    pub fn attach_original(&mut self, ct: &Conn) {
        self.attach(ct, bindings::ip_conntrack_info_IP_CT_ESTABLISHED);
    }

    /// Makes the packet, which came from its client, one of a connection that has seen no reply. Conntrack
    /// does not look at it.
    pub fn attach_unreplied(&mut self, ct: &Conn) {
        self.attach(ct, bindings::ip_conntrack_info_IP_CT_NEW);
    }

    fn attach(&mut self, ct: &Conn, info: bindings::ip_conntrack_info) {
        self.detach();
        // SAFETY: Both are valid; the reference is the packet's from now on.
        unsafe {
            bindings::rust_helper_nf_conntrack_get(ct.as_raw());
            bindings::rust_helper_nf_ct_set(self.as_raw(), ct.as_raw(), info);
        }
    }

    /// Keeps the packet, which is ours, out of conntrack.
    pub fn untrack(&mut self) {
        self.detach();
        // SAFETY: `self` is valid and has no entry.
        unsafe {
            bindings::rust_helper_nf_ct_set(
                self.as_raw(),
                core::ptr::null_mut(),
                bindings::ip_conntrack_info_IP_CT_UNTRACKED,
            );
        }
    }
}

/// Use of conntrack in a namespace.
///
/// # Invariants
///
/// The use is counted as long as the value lives, and the namespace is valid as long.
pub struct Use(*mut bindings::net, Family);

// SAFETY: Counted under a mutex of conntrack's, on any CPU.
unsafe impl Send for Use {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl Sync for Use {}

impl Use {
    /// Has conntrack, with defragmentation, run for `family` in `net`.
    ///
    /// # Safety
    ///
    /// The value must be dropped before `net` goes.
    ///
    /// # Errors
    ///
    /// What registering conntrack's hooks says.
    pub(super) unsafe fn new(net: &Net, family: Family) -> Result<Self> {
        // SAFETY: The namespace is valid.
        to_result(unsafe { bindings::nf_ct_netns_get(net.as_raw(), family as u8) })?;
        // INVARIANT: Just counted; the caller sees to the namespace.
        Ok(Self(net.as_raw(), family))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::nf_ct_netns_put(self.0, self.1 as u8) }
    }
}

/// # Safety
///
/// To be called by conntrack only, with a function as `data`.
unsafe extern "C" fn iterate(ct: *mut bindings::nf_conn, data: *mut ffi::c_void) -> ffi::c_int {
    // SAFETY: Conntrack lends the entry; the function comes from `delete_if`.
    let (ct, select) = unsafe { (Conn::from_raw(ct), *data.cast::<fn(&Conn) -> bool>()) };
    select(ct).into()
}

/// Deletes all entries of a namespace that `select` picks; may sleep.
pub fn delete_if(net: &Net, select: fn(&Conn) -> bool) {
    let mut select = select;
    let data = bindings::nf_ct_iter_data {
        net: net.as_raw(),
        data: (&raw mut select).cast(),
        ..Default::default()
    };
    // SAFETY: All that is passed outlives the call.
    unsafe { bindings::nf_ct_iterate_cleanup_net(Some(iterate), &data) }
}
