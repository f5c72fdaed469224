// SPDX-License-Identifier: GPL-2.0-only

//! Selective acknowledgements (RFC 2018).
//!
//! The kernel adjusts them with the sequence numbers, and corrects the checksum as if each edge stood
//! at an even offset. Behind padding by a single NOP it does not.

use super::options::{self, kind};

/// Bytes of a block: two edges.
const BLOCK: usize = 8;

/// The edges of the blocks in a packet's options that stand at an odd offset.
pub fn odd_edges(raw_options: &[u8]) -> impl Iterator<Item = u32> + '_ {
    options::walk(raw_options)
        .filter(|option| {
            option.kind == kind::SACK && option.offset % 2 == 1 && option.data.len() % BLOCK == 0
        })
        .flat_map(|option| option.data.chunks(4))
        .filter_map(|edge| Some(u32::from_be_bytes(*edge.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_at_odd_offsets() {
        let block = [5, 10, 0, 0, 0, 7, 0, 0, 1, 0];
        let mut odd = vec![1];
        odd.extend(block);
        assert_eq!(odd_edges(&odd).collect::<Vec<_>>(), [7, 256]);
        assert_eq!(odd_edges(&block).count(), 0);
        // As the kernel, nothing that is no whole block.
        let mut short = odd.clone();
        short[2] = 9;
        assert_eq!(odd_edges(&short[..10]).count(), 0);
        assert_eq!(odd_edges(&odd[..10]).count(), 0);
    }
}
