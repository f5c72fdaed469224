// SPDX-License-Identifier: GPL-2.0-only

//! The C side, as bindgen sees it; for this folder only.

#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
#![cfg_attr(CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES, allow(unnecessary_transmutes))]

use kernel::bindings::*;
pub use kernel::bindings::{
    __cpu_possible_mask, cancel_work_sync, consume_skb, dst_entry, free_percpu, jiffies, net,
    net_device, nf_conntrack, proc_dir_entry, seq_file, sk_buff, sk_skb_reason_drop, skb_copy_bits,
    skb_ensure_writable, skb_partial_csum_set, skb_put, sock, synchronize_rcu, timer_list,
    timer_reduce, timer_shutdown_sync, work_struct,
};

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;

include!(env!("XT_SYNPROXY_BINDINGS"));
