// SPDX-License-Identifier: GPL-2.0-only

//! TCP as a SYN proxy speaks it: bytes and numbers in, bytes and numbers out.
//!
//! No kernel, no I/O, no clock, no allocation and no `unsafe`: Kbuild compiles these files into the
//! module and cargo compiles them for the tests on the host. Whatever comes from a packet is read
//! through checked accessors and computed with wrapping arithmetic, so nothing here can panic.

#![deny(unsafe_code)]

pub mod backoff;
pub mod census;
pub mod handshake;
pub mod hold;
pub mod icmp;
pub mod ip;
pub mod options;
pub mod rate;
pub mod sack;
pub mod segment;
pub mod state;
pub mod timestamp;

pub use handshake::{Offer, Rule};

pub use segment::{Repr, Segment};
pub use state::{Phase, Waiting};
