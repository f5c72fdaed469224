// SPDX-License-Identifier: GPL-2.0-only

//! The safe layer over libndpi: the one question "which protocol starts like this?".

/// What bindgen makes of `ndpi_api.h`.
mod bindings {
    #![allow(
        clippy::all,
        dead_code,
        missing_docs,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        unreachable_pub
    )]
    include!(concat!(env!("OUT_DIR"), "/ndpi.rs"));
}

use bindings::{
    ndpi_detection_get_sizeof_ndpi_flow_struct, ndpi_detection_module_struct,
    ndpi_detection_process_packet, ndpi_exit_detection_module, ndpi_finalize_initialization,
    ndpi_flow_struct, ndpi_free_flow_data, ndpi_get_api_version, ndpi_get_proto_by_name,
    ndpi_get_proto_name, ndpi_init_detection_module, ndpi_prefs_ndpi_dont_load_tor_hosts,
    ndpi_protocol_bitmask_struct_t, ndpi_set_protocol_detection_bitmask2, NDPI_API_VERSION,
};
use std::{
    ffi::{CStr, CString},
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// libndpi, and the libgcrypt that it initialises, keep some of their state in statics without a lock.
static LIBRARY: Mutex<()> = Mutex::new(());

/// The number of a protocol in nDPI; 0 is "unknown", which no value of this type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u16);

impl Id {
    fn new(number: u16) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

/// What nDPI has recognised: `TLS`, or `TLS` with something more special in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    outer: Id,
    inner: Option<Id>,
}

impl Protocol {
    /// Whether it is `id`, or something in it.
    pub(crate) fn is(&self, id: Id) -> bool {
        self.outer == id || self.inner == Some(id)
    }
}

/// nDPI, which recognises protocols. There is one at a time.
///
/// # Invariants
///
/// `module` is valid and initialised, and nothing else refers to it. `flow` has at least the
/// size of a `struct ndpi_flow_struct`. Nobody else calls the library.
pub(crate) struct Ndpi {
    module: NonNull<ndpi_detection_module_struct>,
    /// Room for one flow; u128 for its alignment, which is that of pointers.
    flow: Box<[u128]>,
    _library: MutexGuard<'static, ()>,
}

impl Ndpi {
    /// All protocols that the library knows. Waits until another thread's has gone.
    pub(crate) fn new() -> Result<Self, &'static str> {
        // SAFETY: It returns a constant.
        if u32::from(unsafe { ndpi_get_api_version() }) != NDPI_API_VERSION {
            return Err("libndpi is not the one this program was built for");
        }
        let library = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: Nobody else calls the library. Lists of addresses are left out: content decides.
        let module = unsafe { ndpi_init_detection_module(ndpi_prefs_ndpi_dont_load_tor_hosts) };
        let module = NonNull::new(module).ok_or("libndpi: no memory")?;
        // SAFETY: An array of integers, each of them valid.
        let mut all: ndpi_protocol_bitmask_struct_t = unsafe { std::mem::zeroed() };
        all.fds_bits.fill(!0);
        // SAFETY: `module` is valid, `all` is only read; the order is the one that nDPI asks for.
        unsafe {
            ndpi_set_protocol_detection_bitmask2(module.as_ptr(), &all);
            ndpi_finalize_initialization(module.as_ptr());
        }
        // SAFETY: It returns a constant.
        let size = unsafe { ndpi_detection_get_sizeof_ndpi_flow_struct() } as usize;
        // INVARIANT: `module` has just been made; the size is rounded up; the lock is ours.
        Ok(Self {
            module,
            flow: vec![0; size.div_ceil(size_of::<u128>())].into(),
            _library: library,
        })
    }

    /// The protocol of that name, in upper or lower case.
    pub(crate) fn by_name(&self, name: &str) -> Option<Id> {
        let name = CString::new(name).ok()?;
        // SAFETY: `module` is valid by the type invariant; `name` is a string and only read.
        Id::new(unsafe { ndpi_get_proto_by_name(self.module.as_ptr(), name.as_ptr()) })
    }

    /// Its name as nDPI writes it: `TLS`, or `TLS.Google`.
    pub(crate) fn name(&self, protocol: &Protocol) -> String {
        let name = |id: Id| {
            // SAFETY: `module` is valid by the type invariant.
            let name = unsafe { ndpi_get_proto_name(self.module.as_ptr(), id.0) };
            if name.is_null() {
                return "?".into();
            }
            // SAFETY: nDPI returns a string that lives as long as `module`, and does not change.
            unsafe { CStr::from_ptr(name) }.to_string_lossy()
        };
        match protocol.inner {
            Some(inner) => format!("{}.{}", name(protocol.outer), name(inner)),
            None => name(protocol.outer).into_owned(),
        }
    }

    /// The protocol of a connection whose first packet is this one, from the IP header on; `None`
    /// while nDPI cannot tell, or if the packet is too long for it.
    pub(crate) fn recognise(&mut self, packet: &[u8], time_ms: u64) -> Option<Protocol> {
        let len = u16::try_from(packet.len()).ok()?;
        self.flow.fill(0);
        let flow: *mut ndpi_flow_struct = self.flow.as_mut_ptr().cast();
        // SAFETY: By the type invariant, `module` is valid, and `flow` is large enough, aligned
        // and zero, which is how a new flow looks. `packet` has `len` bytes, and nDPI does not
        // keep a pointer to it: the flow, which might, is gone before this returns.
        let found = unsafe {
            let found = ndpi_detection_process_packet(
                self.module.as_ptr(),
                flow,
                packet.as_ptr(),
                len,
                time_ms,
            );
            ndpi_free_flow_data(flow);
            found
        };
        match (Id::new(found.master_protocol), Id::new(found.app_protocol)) {
            (Some(outer), inner) => Some(Protocol {
                outer,
                inner: inner.filter(|inner| *inner != outer),
            }),
            (None, Some(outer)) => Some(Protocol { outer, inner: None }),
            (None, None) => None,
        }
    }
}

impl Drop for Ndpi {
    fn drop(&mut self) {
        // SAFETY: `module` is valid by the type invariant, and not used any more.
        unsafe { ndpi_exit_detection_module(self.module.as_ptr()) };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    /// A TLS 1.2 ClientHello for the name "example".
    pub(crate) fn client_hello() -> Vec<u8> {
        let mut hello = b"\x03\x03".to_vec();
        hello.extend([7; 32]); // random
        hello.extend(b"\0\0\x04\x13\x01\xc0\x2f\x01\0"); // session, ciphers, compression
        let name = b"\0\0\0\x0c\0\x0a\0\0\x07example";
        hello.extend((name.len() as u16).to_be_bytes());
        hello.extend(name);
        let mut record = b"\x16\x03\x01".to_vec();
        record.extend((hello.len() as u16 + 4).to_be_bytes());
        record.extend(b"\x01\0");
        record.extend((hello.len() as u16).to_be_bytes());
        record.extend(hello);
        record
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 1, 2], [10, 0, 2, 2], 64)
            .tcp(43210, 80, 101, 29200)
            .ack(401)
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    #[test]
    fn by_content() {
        let mut ndpi = Ndpi::new().unwrap();
        let mut name = |payload: &[u8]| {
            let protocol = ndpi.recognise(&packet(payload), 0)?;
            Some(ndpi.name(&protocol))
        };
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(name(request).as_deref(), Some("HTTP"));
        assert_eq!(name(&client_hello()).as_deref(), Some("TLS"));
        assert_eq!(name(b"SSH-2.0-OpenSSH_10.0\r\n").as_deref(), Some("SSH"));
        // The port says nothing.
        assert_eq!(name(b"G"), None);
        assert_eq!(name(b"nothing that anyone knows"), None);
    }

    #[test]
    fn names() {
        let ndpi = Ndpi::new().unwrap();
        assert_eq!(ndpi.by_name("http"), ndpi.by_name("HTTP"));
        assert_ne!(ndpi.by_name("http"), ndpi.by_name("ssh"));
        for name in ["", "unknown", "no such", "h\0ttp"] {
            assert_eq!(ndpi.by_name(name), None);
        }
    }

    #[test]
    fn any_length() {
        let mut ndpi = Ndpi::new().unwrap();
        for payload in [
            client_hello(),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        ] {
            let bytes = packet(&payload);
            for len in 0..bytes.len() {
                ndpi.recognise(&bytes[..len], 0);
            }
            for len in 0..payload.len() {
                ndpi.recognise(&packet(&payload[..len]), 0);
            }
        }
        assert_eq!(ndpi.recognise(&vec![0x45; 65536], 0), None);
    }
}
