// SPDX-License-Identifier: GPL-2.0-only

//! What userspace passes with a rule, as the C headers have it.
//!
//! C headers: [`include/uapi/linux/netfilter/nf_synproxy.h`](srctree/include/uapi/linux/netfilter/nf_synproxy.h),
//! and `xt_SYNPROXY.h` and `xt_spstate.h` in `include/uapi/linux/netfilter/` of this project.

use super::bindings;
use kernel::transmute::FromBytes;

pub use bindings::{
    nf_synproxy_info, xt_spstate_info, xt_spstate_state_XT_SPSTATE_FINISH as SPSTATE_FINISH,
    xt_spstate_state_XT_SPSTATE_IN_PROGRESS as SPSTATE_IN_PROGRESS,
    xt_spstate_state_XT_SPSTATE_NONE as SPSTATE_NONE, xt_synproxy_info,
};

// SAFETY: Integers without padding: any bytes are a value.
unsafe impl FromBytes for nf_synproxy_info {}

// SAFETY: Integers without padding: any bytes are a value.
unsafe impl FromBytes for xt_spstate_info {}

// SAFETY: Integers without padding: any bytes are a value.
unsafe impl FromBytes for xt_synproxy_info {}
