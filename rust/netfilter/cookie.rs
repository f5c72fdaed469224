// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's SYN cookies.
//!
//! C header: [`include/net/tcp.h`](srctree/include/net/tcp.h)

use super::bindings;

/// A place in the network: the address as on the wire, the port in host byte order.
pub type Endpoint = ([u8; 4], u16);

/// A connection as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the client is.
    pub client: Endpoint,
    /// Where it connects to.
    pub server: Endpoint,
}

impl Flow {
    fn headers(&self, seq: u32, ack: u32) -> (bindings::iphdr, bindings::tcphdr) {
        let mut iph = bindings::iphdr::default();
        iph.__bindgen_anon_1.__bindgen_anon_1.saddr = u32::from_ne_bytes(self.client.0);
        iph.__bindgen_anon_1.__bindgen_anon_1.daddr = u32::from_ne_bytes(self.server.0);
        let th = bindings::tcphdr {
            source: self.client.1.to_be(),
            dest: self.server.1.to_be(),
            seq: seq.to_be(),
            ack_seq: ack.to_be(),
            ..Default::default()
        };
        (iph, th)
    }

    /// The ISN for the answer to a SYN with the number `seq` of a client with this `mss` in bytes.
    pub fn cookie(&self, seq: u32, mss: u16) -> u32 {
        let (iph, th) = self.headers(seq, 0);
        let mut mss = mss;
        // SAFETY: All three outlive the call; addresses, ports and number are all that it reads.
        unsafe { bindings::__cookie_v4_init_sequence(&iph, &th, &mut mss) }
    }

    /// The client's MSS in bytes, when `seq` and `ack` are those of an ACK for a cookie of ours;
    /// rounded down to what a cookie can keep.
    pub fn check(&self, seq: u32, ack: u32) -> Option<u16> {
        let (iph, th) = self.headers(seq, ack);
        // SAFETY: Both outlive the call; addresses, ports and numbers are all that it reads.
        let mss = unsafe { bindings::__cookie_v4_check(&iph, &th) };
        u16::try_from(mss).ok().filter(|mss| *mss != 0)
    }
}
