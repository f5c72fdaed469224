// SPDX-License-Identifier: GPL-2.0-only

//! What a namespace has under way: data of clients that wait, and SYNs that have no answer yet.
//!
//! A table by the address of the conntrack entry, on which it holds a reference. (Not yet on that of a SYN
//! of ours which has come in and may still be queued or dropped: nf_queue lets nothing pass whose entry is
//! new and known to somebody else. Such an element may have outlived its entry. Then it is nobody's, whoever
//! has that address by now, and gives way.) A client that waits
//! is in it once it has sent data, and as long as nobody has ended its wait; `open` takes it out and
//! puts it in again with its new entry and our SYN. Whoever ends that (`relay`, with the server's
//! answer or an ICMP error) takes it out. What is over otherwise is thrown out by the namespace's timer:
//! entries that were deleted, have timed out, or were never confirmed because our SYN was dropped.
//!
//! From the end of the one entry to the confirmation of the other (when our SYN has got through) another
//! CPU finds neither for what the client sends. So long there is a `Passage`, by which it is found by its
//! addresses; it is owned by who carries the verdict out. Where our SYN comes in, it does so before that
//! returns.
//!
//! The lock guards the table, and who may put an entry for a waiting client into conntrack's: conntrack's
//! locks are taken under it, never the other way round. Nothing is sent under it. When the namespace or the module goes, the
//! timer is shut down and the table emptied before conntrack waits for its entries. What is held was
//! copied: it keeps no device, route or entry.

use crate::{
    gate,
    hold::{Held, Queue, Standing},
    module_parameters,
    netfilter::{
        clock_ms,
        conntrack::{Conn, ConnRef, Status},
        cookie::Flow,
        pernet,
        sync::{new_lock_bh, LockBh},
        Net,
    },
    open::Unanswered,
    relay::Relay,
    tcp::{backoff::Step, hold::Judged, Phase, Waiting},
};
use kernel::{
    prelude::*,
    rbtree::{Entry, RBTree, RBTreeNodeReservation},
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// Memory that held packets take in all namespaces, in bytes.
static TOTAL: Atomic<usize> = Atomic::new(0);

/// A client under way.
pub(crate) struct Pending {
    /// `None` as long as it belongs to our SYN alone, which has come in: not to be found by an entry.
    ct: Option<ConnRef>,
    /// What it has sent; `None` without a gate, where a client has to wait with its data.
    pub(crate) held: Option<Queue>,
    /// Our SYN, once there was a verdict.
    pub(crate) syn: Option<Unanswered>,
}

/// The clients of a namespace that are under way.
#[pin_data]
pub(crate) struct Table {
    #[pin]
    inner: LockBh<Inner>,
    /// Whether there were none last, whether one was between two entries, and whether a packet may come in
    /// again, so that who is not concerned takes no lock. Stored with the lock held, and read without: who
    /// sees what was a moment ago has a packet that might have come a moment ago. But `passes` is set before
    /// the entry goes by which the packet would have been known.
    empty: Atomic<bool>,
    passes: Atomic<bool>,
    retries: Atomic<bool>,
}

/// A client on its way from one entry to the other.
struct Passing {
    flow: Flow,
    zone: u16,
    /// That of its old entry.
    mark: u32,
    stage: Stage,
}

enum Stage {
    /// What it has sent is here.
    Held(Queue),
    /// It is in the table, with this entry.
    Arrived(ConnRef),
}

impl Passing {
    /// From now on what it has sent is with `pending`, whose entry is `new`.
    fn arrive(&mut self, pending: &mut Pending, new: &Conn) {
        let arrived = Stage::Arrived(new.into());
        if let Stage::Held(queue) = core::mem::replace(&mut self.stage, arrived) {
            pending.held = Some(queue);
        }
    }
}

/// Whose data it is.
#[derive(Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Of the client with this entry.
    Entry(&'a Conn),
    /// Of that which uses these addresses in this zone of conntrack's, between two entries.
    Passing(&'a Flow, u16),
}

impl Whose<'_> {
    /// The connection as the client sees it.
    pub(crate) fn flow(&self) -> Flow {
        match self {
            Self::Entry(ct) => ct.flow(),
            Self::Passing(flow, _) => **flow,
        }
    }
}

struct Inner {
    clients: RBTree<usize, Pending>,
    /// By the address of the old entry. There are as many as verdicts that are being carried out.
    passing: RBTree<usize, Passing>,
    /// Memory that their packets take, in bytes.
    held: usize,
    /// How many packets may come in again that conntrack has called INVALID, see [`Table::may_retry`].
    retries: u32,
    /// Where the timer goes on, when it could not look at all of them in one go.
    resume: usize,
    /// When the first of those that it has looked at is due, in milliseconds.
    soonest: u32,
}

/// When the timer looks at a client first, in milliseconds.
pub(crate) const FIRST_LOOK_MS: u32 = 1000;

/// How many packets may come in again for each server that has answered, and at most.
const RETRIES: u32 = 16;
const MAX_RETRIES: u32 = 1024;

/// How many clients the timer looks at under the lock, how many SYNs it sends then, and how often it does
/// that before it lets others have the CPU.
const LOOK_AT: usize = 1024;
const SEND: usize = 8;
const ROUNDS: usize = 16;
const AT_ONCE_MS: u32 = 1;

/// What is to be done about a SYN that is due.
enum Due {
    Repeat(ConnRef, Unanswered),
    GiveUp(ConnRef, Unanswered),
}

/// What became of a packet that was to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is held, or was already; or has its place.
    Yes,
    /// There is no room for it.
    Full,
    /// It says something else than what is held.
    Contradicts,
}

impl Pending {
    /// A client that waits.
    fn waiting(ct: &Conn, waiting: &Waiting) -> Self {
        Self {
            ct: Some(ct.into()),
            held: Some(Queue::new(*waiting)),
            syn: None,
        }
    }

    fn size(&self) -> usize {
        self.held.as_ref().map_or(0, Queue::size)
    }

    /// Whether there is nothing to be done for it any more.
    fn is_over(&self, now_ms: u32) -> bool {
        match (&self.syn, &self.ct) {
            (Some(syn), ct) => syn.is_over(ct.as_deref(), now_ms),
            (None, None) => true,
            (None, Some(ct)) => match gate::phase(ct) {
                Phase::Waiting(_) => false,
                phase => {
                    // An operator, or conntrack for lack of room, has ended it.
                    if phase == Phase::Gone {
                        gate::take(ct.net(), ct);
                    }
                    true
                }
            },
        }
    }
}

impl Inner {
    fn new() -> Self {
        Self {
            clients: RBTree::new(),
            passing: RBTree::new(),
            held: 0,
            retries: 0,
            resume: 0,
            soonest: u32::MAX,
        }
    }

    fn charge(&mut self, size: usize) {
        self.held = self.held.wrapping_add(size);
        TOTAL.fetch_add(size, Relaxed);
    }

    fn discharge(&mut self, size: usize) {
        self.held = self.held.wrapping_sub(size);
        TOTAL.fetch_sub(size, Relaxed);
    }

    /// Whether there is room for `size` in place of `freed`, of a client that has `its` already. None may
    /// have more than is left for all others: some that take what they can do not shut out who sends a
    /// request.
    fn has_room(&self, its: usize, freed: usize, size: usize) -> bool {
        let kib = |bytes: usize| bytes.wrapping_sub(freed).saturating_add(size) >> 10;
        kib(self.held.saturating_add(its))
            < crate::parameter(module_parameters::held_kib.value()) as usize
            && kib(TOTAL.load(Relaxed))
                < crate::parameter(module_parameters::held_total_kib.value()) as usize
    }

    fn remove(&mut self, key: usize) -> Option<Pending> {
        let pending = self.clients.remove(&key)?;
        self.discharge(pending.size());
        Some(pending)
    }

    /// Whom an entry stands for.
    fn client(&mut self, ct: &Conn) -> Option<&mut Pending> {
        self.clients
            .get_mut(&ct.address())
            .filter(|pending| pending.ct.is_some())
    }

    fn queue(&mut self, whose: Whose<'_>) -> Option<&mut Queue> {
        let key = match whose {
            Whose::Entry(ct) => return self.client(ct)?.held.as_mut(),
            Whose::Passing(flow, zone) => {
                let passing = self
                    .passing
                    .values_mut()
                    .find(|passing| passing.flow == *flow && passing.zone == zone)?;
                match &mut passing.stage {
                    Stage::Held(queue) => return Some(queue),
                    Stage::Arrived(new) => new.address(),
                }
            }
        };
        self.clients.get_mut(&key)?.held.as_mut()
    }

    fn keep(&mut self, whose: Whose<'_>, held: Held, standing: Standing) -> Kept {
        // It may have come into the table after its client was chosen, or has reset its connection.
        if matches!(whose, Whose::Entry(ct) if gate::phase(ct) == Phase::Gone) {
            return Kept::Full;
        }
        let Some(queue) = self.queue(whose) else {
            return Kept::Full;
        };
        match queue.judge(&held, standing) {
            Judged::Known => return Kept::Yes,
            Judged::Contradicts => return Kept::Contradicts,
            Judged::Keep => {}
        }
        let (before, freed) = (queue.size(), queue.replaced(&held, standing));
        if !self.has_room(before, freed, held.size()) {
            return Kept::Full;
        }
        let pushed = |queue: &mut Queue| queue.push(held, standing).map(|()| queue.size());
        let Some(Ok(after)) = self.queue(whose).map(pushed) else {
            return Kept::Full;
        };
        self.discharge(before);
        self.charge(after);
        Kept::Yes
    }

    /// Fills `due`, and answers when to look again, in milliseconds.
    fn due(&mut self, now_ms: u32, limit: u8, due: &mut [Option<Due>; SEND]) -> Option<u32> {
        let mut free = due.iter_mut();
        let mut looked_at = 0;
        let mut freed = 0usize;
        let mut at_once = false;
        let mut cursor = self.clients.cursor_lower_bound_mut(&self.resume);
        while let Some(mut at) = cursor {
            let (key, pending) = at.current_mut();
            self.resume = *key;
            if looked_at == LOOK_AT || free.len() == 0 {
                at_once = true;
                break;
            }
            looked_at = looked_at.wrapping_add(1);
            let step = if pending.is_over(now_ms) {
                None
            } else {
                Some(match &mut pending.syn {
                    Some(syn) => syn.step(now_ms, limit),
                    None => Step::Wait(FIRST_LOOK_MS),
                })
            };
            cursor = match step {
                Some(Step::Wait(ms)) => {
                    self.soonest = self.soonest.min(ms);
                    at.move_next()
                }
                Some(Step::Repeat) => {
                    if let Some(slot) = free.next() {
                        *slot = pending
                            .ct
                            .clone()
                            .zip(pending.syn.clone())
                            .map(|(ct, syn)| Due::Repeat(ct, syn));
                    }
                    // Its next time, which is at least a second from now.
                    self.soonest = self.soonest.min(FIRST_LOOK_MS);
                    at.move_next()
                }
                gone @ (None | Some(Step::GiveUp)) => {
                    freed = freed.wrapping_add(pending.size());
                    let (neighbour, node) = at.remove_current();
                    if gone.is_some() {
                        if let Some(slot) = free.next() {
                            let gone = node.to_key_value().1;
                            *slot = gone.ct.zip(gone.syn).map(|(ct, syn)| Due::GiveUp(ct, syn));
                        }
                    }
                    neighbour
                }
            };
        }
        self.discharge(freed);
        if at_once {
            return Some(AT_ONCE_MS);
        }
        self.resume = 0;
        if self.clients.is_empty() {
            self.retries = 0;
        }
        let soonest = core::mem::replace(&mut self.soonest, u32::MAX);
        (!self.clients.is_empty()).then_some(soonest)
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- new_lock_bh!(Inner::new()),
            passes: Atomic::new(false),
            retries: Atomic::new(false),
            empty: Atomic::new(true),
        })
    }

    fn locked<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        self.inner.with(|inner| {
            let result = f(inner);
            let passes = !inner.passing.is_empty();
            self.passes.store(passes, Relaxed);
            // This first: who sees that nobody is under way any more sees that somebody was.
            self.retries.store(inner.retries != 0, Relaxed);
            self.empty
                .store(inner.clients.is_empty() && !passes, Release);
            result
        })
    }

    /// Whether nobody is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty.load(Acquire)
    }

    /// Whether somebody was just now, see [`Table::may_retry`].
    pub(crate) fn was_just_used(&self) -> bool {
        self.retries.load(Relaxed)
    }

    /// Forgets all clients, and gives back the references on their entries.
    pub(crate) fn clear(&self) {
        drop(self.locked(|inner| {
            inner.discharge(inner.held);
            core::mem::replace(&mut inner.clients, RBTree::new())
        }));
    }

    /// Takes out the client of `ct`.
    pub(crate) fn remove(&self, ct: &Conn) -> Option<Pending> {
        self.locked(|inner| inner.remove(ct.address()))
    }

    /// As [`Table::remove`], when our SYN has an answer. What the client sent just before that may be on its
    /// way still.
    pub(crate) fn remove_answered(&self, ct: &Conn) -> Option<Pending> {
        self.locked(|inner| {
            inner.retries = inner.retries.saturating_add(RETRIES).min(MAX_RETRIES);
            inner.remove(ct.address())
        })
    }

    /// Whether a packet may come in once more that conntrack has called INVALID, and whose connection is
    /// open by now. Not without end: in another zone of conntrack's it would be INVALID for ever.
    pub(crate) fn may_retry(&self) -> bool {
        self.locked(|inner| match inner.retries.checked_sub(1) {
            Some(left) => {
                inner.retries = left;
                true
            }
            None => false,
        })
    }

    /// Has the client of `ct`, which waits, in the table, if there is memory for that.
    pub(crate) fn wait(&self, net: &Net, ct: &Conn, waiting: &Waiting) {
        if self.with(ct, |_| ()).is_none() {
            gate::speaks(ct);
            // Without it nothing is held, and that is counted.
            let _ = insert(net, ct, Pending::waiting(ct, waiting));
        }
    }

    /// Calls `end` if the client of `ct`, which waits or did, has not said anything; whether it has not.
    pub(crate) fn unless_spoken(&self, ct: &Conn, end: impl FnOnce()) -> bool {
        // Under the lock: who is about to speak, on another CPU, holds nothing any more then, and the engine
        // sees nothing. See `Inner::keep`.
        self.locked(|_| {
            let is_silent = !gate::has_spoken(ct);
            if is_silent {
                end();
            }
            is_silent
        })
    }

    /// Calls `f` with the client of `ct`, if it is under way.
    pub(crate) fn with<R>(&self, ct: &Conn, f: impl FnOnce(&Pending) -> R) -> Option<R> {
        self.locked(|inner| inner.client(ct).map(|pending| f(pending)))
    }

    /// Calls `f` with the SYN of ours that is about to make `ct` known, if it has come in, and whether it is
    /// the first one; from now on the entry stays as long as its client is under way.
    pub(crate) fn enter<R>(
        &self,
        ct: &Conn,
        f: impl FnOnce(&mut Unanswered, bool) -> R,
    ) -> Option<R> {
        self.locked(|inner| {
            let pending = inner
                .clients
                .get_mut(&ct.address())
                .filter(|pending| pending.ct.is_some() || !ct.is(Status::Confirmed))?;
            let syn = pending.syn.as_mut().filter(|syn| syn.has_come_in())?;
            let result = f(syn, pending.ct.is_none());
            pending.ct.get_or_insert_with(|| ct.into());
            inner.soonest = inner.soonest.min(FIRST_LOOK_MS);
            Some(result)
        })
    }

    /// The client whose data it is, as it came to the gate, if it has to wait.
    pub(crate) fn client(&self, whose: Whose<'_>) -> Option<Waiting> {
        if matches!(whose, Whose::Passing(..)) && !self.passes.load(Relaxed) {
            return None;
        }
        self.locked(|inner| inner.queue(whose).map(|queue| queue.waiting()))
    }

    /// Calls `insert`, which puts an entry for `client` into conntrack's table, unless that is between two
    /// entries: a third one would be in the way of the second.
    ///
    /// # Errors
    ///
    /// `EBUSY` when it is; what `insert` returns.
    pub(crate) fn admit(&self, client: Whose<'_>, insert: impl FnOnce() -> Result) -> Result {
        // Under the lock, or a passage could begin between the two, and end the entry that `insert` would
        // have met.
        self.locked(|inner| match inner.queue(client) {
            Some(_) => Err(EBUSY),
            None => insert(),
        })
    }

    /// Holds a packet of a client.
    pub(crate) fn keep(&self, whose: Whose<'_>, held: Held, standing: Standing) -> Kept {
        self.locked(|inner| inner.keep(whose, held, standing))
    }

    /// Our SYN has come in, and `new`, which is in the table, is its entry. If its client is between two
    /// entries, that is the second one; returns the mark of the first.
    pub(crate) fn meet(&self, new: &Conn) -> Option<u32> {
        if !self.passes.load(Relaxed) {
            return None;
        }
        let (flow, zone) = (new.flow(), new.zone().id());
        self.locked(|inner| {
            let Inner {
                clients, passing, ..
            } = inner;
            let passing = passing
                .values_mut()
                .find(|passing| passing.flow == flow && passing.zone == zone)?;
            passing.arrive(clients.get_mut(&new.address())?, new);
            Some(passing.mark)
        })
    }

    /// Has the client of `ct` leave that entry if `choose` says so. Who sees that it has been chosen finds
    /// the passage, or, when that is over, the new entry.
    ///
    /// # Errors
    ///
    /// `ENOENT` when it is not to leave, or has sent nothing; `ENOMEM`.
    pub(crate) fn pass(&self, ct: &Conn, choose: impl FnOnce() -> bool) -> Result<Passage<'_>> {
        let node = RBTreeNodeReservation::new(GFP_ATOMIC)?;
        self.locked(|inner| {
            let key = ct.address();
            let pending = inner.client(ct).ok_or(ENOENT)?;
            // Before the choice can be seen: who sees it comes to the lock, and waits.
            self.passes.store(true, Relaxed);
            if pending.held.is_none() || !choose() {
                return Err(ENOENT);
            }
            let mut queue = pending.held.take().ok_or(ENOENT)?;
            let before = queue.size();
            queue.forget_unjudged();
            let after = queue.size();
            let passing = Passing {
                flow: ct.flow(),
                zone: ct.zone().id(),
                mark: ct.mark(),
                stage: Stage::Held(queue),
            };
            inner.discharge(before);
            inner.charge(after);
            inner.clients.remove(&key);
            inner.passing.insert(node.into_node(key, passing));
            Ok(Passage {
                table: self,
                old: ct.into(),
            })
        })
    }
}

/// The way of a client from its old entry to its new one.
pub(crate) struct Passage<'a> {
    table: &'a Table,
    old: ConnRef,
}

impl Passage<'_> {
    /// The entry in which it has waited.
    pub(crate) fn old(&self) -> &Conn {
        &self.old
    }

    /// The client's clock, see [`Queue::clock`].
    pub(crate) fn clock(&self) -> Option<u32> {
        self.table.locked(
            |inner| match &inner.passing.get(&self.old.address())?.stage {
                Stage::Held(queue) => queue.clock(),
                Stage::Arrived(_) => None,
            },
        )
    }

    /// From now on what it has sent is with `new`, which is in the table.
    fn arrive(&self, new: &Conn) {
        self.table.locked(|inner| {
            let (Some(passing), Some(pending)) = (
                inner.passing.get_mut(&self.old.address()),
                inner.clients.get_mut(&new.address()),
            ) else {
                return;
            };
            passing.arrive(pending, new);
        });
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        drop(self.table.locked(|inner| {
            let passing = inner.passing.remove(&self.old.address())?;
            let lost = match &passing.stage {
                Stage::Held(queue) => {
                    inner.discharge(queue.size());
                    None
                }
                // Our SYN was dropped as it came in.
                Stage::Arrived(new) if inner.client(new).is_none() => inner.remove(new.address()),
                Stage::Arrived(_) => None,
            };
            Some((passing, lost))
        }));
    }
}

/// Our SYN with the entry `new` is about to go out, for a client that has come by `passage` if it had to
/// wait.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn goes_out(
    net: &Net,
    new: &Conn,
    syn: Unanswered,
    passage: Option<&Passage<'_>>,
) -> Result {
    let pending = Pending {
        ct: Some(new.into()),
        held: None,
        syn: Some(syn),
    };
    insert(net, new, pending)?;
    if let Some(passage) = passage {
        passage.arrive(new);
    }
    Ok(())
}

/// Our SYN with the entry `new` has come in.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn came_in(net: &Net, new: &Conn, syn: Unanswered) -> Result {
    let pending = Pending {
        ct: None,
        held: None,
        syn: Some(syn),
    };
    insert(net, new, pending)
}

fn insert(net: &Net, ct: &Conn, pending: Pending) -> Result {
    let (key, size) = (ct.address(), pending.size());
    let room = RBTreeNodeReservation::new(GFP_ATOMIC)?;
    let left = pernet::state::<Relay>(net).pending.locked(|inner| {
        // The timer may have passed its place already.
        inner.soonest = inner.soonest.min(FIRST_LOOK_MS);
        let old = match inner.clients.entry(key) {
            Entry::Vacant(place) => {
                place.insert(pending, room);
                None
            }
            Entry::Occupied(mut place) if place.get().ct.is_none() => {
                Some(core::mem::replace(place.get_mut(), pending))
            }
            // Another CPU has been faster: two packets of a client have come at once.
            Entry::Occupied(_) => return Some(pending),
        };
        inner.discharge(old.as_ref().map_or(0, Pending::size));
        inner.charge(size);
        old
    });
    drop(left);
    pernet::within::<Relay>(net, FIRST_LOOK_MS);
    Ok(())
}

/// Repeats the SYNs whose time has come; answers when to be called again, in milliseconds.
pub(crate) fn look(net: &Net) -> Option<u32> {
    let limit = net.tcp_syn_retries();
    let table = &pernet::state::<Relay>(net).pending;
    let mut next = None;
    for _ in 0..ROUNDS {
        let mut due = [const { None }; SEND];
        next = table.locked(|inner| inner.due(clock_ms(), limit, &mut due));
        for due in due.into_iter().flatten() {
            // What cannot be sent is as good as lost.
            let _ = match due {
                Due::Repeat(ct, syn) => syn.repeat(net, &ct),
                Due::GiveUp(ct, syn) => syn.give_up(net, &ct),
            };
        }
        if next != Some(AT_ONCE_MS) {
            break;
        }
    }
    next
}
