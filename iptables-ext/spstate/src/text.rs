// SPDX-License-Identifier: GPL-2.0-only

//! What the match says of itself: every text it prints, as a function of its two bytes.
//!
//! The texts are constants, so nothing here allocates or can fail.

use xtables::sys;

/// The answer to `iptables -m spstate -h`.
pub(crate) const HELP: &str = "spstate match options (exactly one):
[!] --none           the connection has never met the SYN proxy
[!] --in-progress    the client is held by the SYN proxy, the server knows nothing of it
[!] --finish         the SYN proxy has opened the connection to the server
";

/// The error for a rule that names no state.
pub(crate) const REQUIRED: &str = "spstate: one of --none, --in-progress, --finish is required";

/// The match as the kernel gets it if the option with this `id` was given, after a `!` if
/// `invert`. Ids are states (`spstate_opts` in `shim.c`); `None` if there is no such state.
pub(crate) fn parse(id: u32, invert: bool) -> Option<sys::xt_spstate_info> {
    match id {
        sys::XT_SPSTATE_NONE | sys::XT_SPSTATE_IN_PROGRESS | sys::XT_SPSTATE_FINISH => {
            Some(sys::xt_spstate_info {
                state: u8::try_from(id).ok()?,
                invert: u8::from(invert),
            })
        }
        _ => None,
    }
}

/// What `iptables -L` shows of the match.
pub(crate) fn print(info: &sys::xt_spstate_info) -> &'static str {
    match (u32::from(info.state), info.invert != 0) {
        (sys::XT_SPSTATE_NONE, false) => " spstate none",
        (sys::XT_SPSTATE_NONE, true) => " spstate ! none",
        (sys::XT_SPSTATE_IN_PROGRESS, false) => " spstate in-progress",
        (sys::XT_SPSTATE_IN_PROGRESS, true) => " spstate ! in-progress",
        (sys::XT_SPSTATE_FINISH, false) => " spstate finish",
        (sys::XT_SPSTATE_FINISH, true) => " spstate ! finish",
        _ => " spstate unknown",
    }
}

/// What `iptables-save` writes after `-m spstate`: the option that [`parse`] turns into `info`.
///
/// Nothing for a state that has no option. The kernel refuses such a rule, and so does
/// `iptables-restore`, with [`REQUIRED`].
pub(crate) fn save(info: &sys::xt_spstate_info) -> &'static str {
    match (u32::from(info.state), info.invert != 0) {
        (sys::XT_SPSTATE_NONE, false) => " --none",
        (sys::XT_SPSTATE_NONE, true) => " ! --none",
        (sys::XT_SPSTATE_IN_PROGRESS, false) => " --in-progress",
        (sys::XT_SPSTATE_IN_PROGRESS, true) => " ! --in-progress",
        (sys::XT_SPSTATE_FINISH, false) => " --finish",
        (sys::XT_SPSTATE_FINISH, true) => " ! --finish",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [(u32, &str); 3] = [(0, "none"), (1, "in-progress"), (2, "finish")];

    #[test]
    fn the_blob_is_two_bytes() {
        assert_eq!(core::mem::size_of::<sys::xt_spstate_info>(), 2);
        let info = parse(sys::XT_SPSTATE_FINISH, true).unwrap();
        assert_eq!((info.state, info.invert), (2, 1));
    }

    #[test]
    fn every_option_is_printed_and_saved_as_it_was_given() {
        for (id, name) in STATES {
            for (invert, bang) in [(false, ""), (true, "! ")] {
                let info = parse(id, invert).unwrap();
                assert_eq!(print(&info), format!(" spstate {bang}{name}"));
                assert_eq!(save(&info), format!(" {bang}--{name}"));
            }
        }
    }

    #[test]
    fn help_and_the_error_name_every_option() {
        for (_, name) in STATES {
            assert!(HELP.contains(&format!("\n[!] --{name} ")));
            assert!(REQUIRED.contains(&format!("--{name}")));
        }
    }

    #[test]
    fn what_has_no_option_is_not_invented() {
        assert!(parse(3, false).is_none());
        assert!(parse(256, false).is_none());
        let info = sys::xt_spstate_info {
            state: 7,
            invert: 0,
        };
        assert_eq!(print(&info), " spstate unknown");
        assert_eq!(save(&info), "");
    }
}
