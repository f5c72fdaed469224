// SPDX-License-Identifier: GPL-2.0-only

//! See [`synproxy_tcp_fuzz::ip`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| synproxy_tcp_fuzz::check(
    synproxy_tcp_fuzz::ip::property,
    data
));
