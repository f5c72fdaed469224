// SPDX-License-Identifier: GPL-2.0-only

//! What holds for the protocol core whatever comes in.
//!
//! Each property is written once, as a function of arbitrary bytes that panics where it does not hold.
//! `cargo test` runs it on random bytes and on the corpus; libFuzzer on what it finds to reach other code, see
//! `make fuzz`. What the core says is compared with a crate that others have written (etherparse), or with a
//! model that is simple and slow.

pub use arbitrary::{Result, Unstructured};

pub mod counters;
pub mod handshake;
pub mod hold;
pub mod icmp;
pub mod ip;
pub mod options;
pub mod segment;
pub mod state;
pub mod translation;

/// Something that holds, whatever the bytes are; an error means that they were too few.
pub type Property = fn(&mut Unstructured<'_>) -> Result<()>;

/// All of them, by the names that their fuzz targets and their parts of the corpus have.
pub const PROPERTIES: [(&str, Property); 11] = [
    ("backoff", counters::backoff),
    ("census", counters::census),
    ("handshake", handshake::property),
    ("hold", hold::property),
    ("icmp", icmp::property),
    ("ip", ip::property),
    ("options", options::property),
    ("rate", counters::rate),
    ("segment", segment::property),
    ("state", state::property),
    ("translation", translation::property),
];

/// Panics if `property` does not hold for `data`.
pub fn check(property: Property, data: &[u8]) {
    // Too few bytes say nothing.
    let _ = property(&mut Unstructured::new(data));
}
