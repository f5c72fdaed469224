// SPDX-License-Identifier: GPL-2.0-only

//! The options of the target: how they stand in its parameters, and what is printed of them.
//!
//! All of it is about the parameters of revision 1. Those of revision 0 are its beginning.

use core::fmt::Write;
use xtables::sys::{
    nf_synproxy_info, XT_SYNPROXY_OPT_DEFER as DEFER, XT_SYNPROXY_OPT_ECN as ECN,
    XT_SYNPROXY_OPT_MSS as MSS, XT_SYNPROXY_OPT_SACK_PERM as SACK_PERM,
    XT_SYNPROXY_OPT_TIMEOUT as TIMEOUT, XT_SYNPROXY_OPT_TIMESTAMP as TIMESTAMP,
    XT_SYNPROXY_OPT_WINDOW as WINDOW, XT_SYNPROXY_OPT_WSCALE as WSCALE,
};

pub(crate) use xtables::sys::xt_synproxy_info as Info;

/// The answer to `iptables -j SYNPROXY -h`.
pub(crate) const HELP: &str = "SYNPROXY target options, of the server:
  --mss bytes           its MSS (1-65535)
  --wscale shift        its window scale (0-14)
  --sack-perm           it does selective acknowledgement
  --timestamp           it does timestamps; --wscale and --sack-perm need this
  --ecn                 it does ECN
";

/// What is added in revision 1.
pub(crate) const HELP_V1: &str = "of clients that wait:
  --defer               a client without a conntrack entry is to wait, too
  --window bytes        the window that it sees (1-65535, default: 10 times the MSS)
  --timeout seconds     how long it may wait for a verdict (1-3600, default: 30)
of all clients of the namespace:
  --rate number         SYN,ACKs and resets that they get a second (1-10000000,
                        default: no limit); rules with a rate share it
";

/// The id of `--rate`, which has no bit.
const RATE: u32 = 8;

/// The parameters once the option with this `id` has been added. Ids are the numbers of bits, if
/// there is one (`synproxy_opts` in `shim.c`); `None` if there is no such option, or no room for the
/// value.
pub(crate) fn parse(mut info: Info, id: u32, value: u32) -> Option<Info> {
    if id == RATE {
        info.rate = value;
        return Some(info);
    }
    let bit = 1u32.checked_shl(id)?;
    match bit {
        MSS => info.mss = value.try_into().ok()?,
        WSCALE => info.wscale = value.try_into().ok()?,
        WINDOW => info.window = value.try_into().ok()?,
        TIMEOUT => info.timeout = value,
        SACK_PERM | TIMESTAMP | ECN | DEFER => {}
        _ => return None,
    }
    info.options |= u8::try_from(bit).ok()?;
    Some(info)
}

/// The parameters of revision 0 as those of revision 1.
pub(crate) fn from_v0(info: nf_synproxy_info) -> Info {
    Info {
        options: info.options,
        wscale: info.wscale,
        mss: info.mss,
        ..Info::default()
    }
}

/// The parameters of revision 1 as those of revision 0; `None` if that has no place for them.
pub(crate) fn to_v0(info: Info) -> Option<nf_synproxy_info> {
    let new = DEFER | WINDOW | TIMEOUT;
    (u32::from(info.options) & new == 0 && info.rate == 0).then_some(nf_synproxy_info {
        options: info.options,
        wscale: info.wscale,
        mss: info.mss,
    })
}

/// What `iptables -L` shows of the target.
pub(crate) fn print(info: &Info) -> String {
    written(info, " SYNPROXY ", "", " ")
}

/// What `iptables-save` writes after `-j SYNPROXY`: options from which [`parse`] makes `info`.
pub(crate) fn save(info: &Info) -> String {
    written(info, "", " --", "")
}

/// `start`, and each option that was given between `before` and `after`. The order is that of the
/// library that comes with iptables.
fn written(info: &Info, start: &str, before: &str, after: &str) -> String {
    let has = |bit| u32::from(info.options) & bit != 0;
    let options = [
        (has(SACK_PERM), "sack-perm", None),
        (has(TIMESTAMP), "timestamp", None),
        (has(WSCALE), "wscale", Some(u32::from(info.wscale))),
        (has(MSS), "mss", Some(u32::from(info.mss))),
        (has(ECN), "ecn", None),
        (has(DEFER), "defer", None),
        (has(WINDOW), "window", Some(u32::from(info.window))),
        (has(TIMEOUT), "timeout", Some(info.timeout)),
        (info.rate != 0, "rate", Some(info.rate)),
    ];
    let mut text = String::from(start);
    for (is_given, name, value) in options {
        if !is_given {
            continue;
        }
        // A String takes all that is written to it.
        let _ = match value {
            Some(value) => write!(text, "{before}{name} {value}{after}"),
            None => write!(text, "{before}{name}{after}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    /// As in `shim.c`: id, name, and whether there is a value.
    const OPTIONS: [(u32, &str, bool); 9] = [
        (0, "mss", true),
        (1, "wscale", true),
        (2, "sack-perm", false),
        (3, "timestamp", false),
        (4, "ecn", false),
        (5, "defer", false),
        (6, "window", true),
        (7, "timeout", true),
        (8, "rate", true),
    ];

    /// The parameters of a rule, from its options as they stand in the rule.
    fn rule(text: &str) -> Info {
        let mut info = Info::default();
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let (id, _, has_value) = OPTIONS
                .into_iter()
                .find(|(_, name, _)| word.strip_prefix("--") == Some(name))
                .unwrap();
            let value = if has_value {
                words.next().unwrap().parse().unwrap()
            } else {
                0
            };
            info = parse(info, id, value).unwrap();
        }
        info
    }

    /// Every set of options.
    fn rules() -> impl Iterator<Item = Info> {
        (0..512u32).map(|set| {
            OPTIONS
                .into_iter()
                .filter(|(id, _, _)| set & (1 << id) != 0)
                .fold(Info::default(), |info, (id, _, has_value)| {
                    parse(info, id, if has_value { id + 1 } else { 0 }).unwrap()
                })
        })
    }

    fn bytes(info: &Info) -> (u8, u8, u16, u16, u16, u32, u32, [u32; 4]) {
        let Info {
            options,
            wscale,
            mss,
            window,
            reserved0,
            timeout,
            rate,
            reserved,
        } = *info;
        (
            options, wscale, mss, window, reserved0, timeout, rate, reserved,
        )
    }

    #[test]
    fn the_parameters_are_where_the_kernel_looks_for_them() {
        assert_eq!(size_of::<nf_synproxy_info>(), 4);
        assert_eq!(size_of::<Info>(), 32);
        assert_eq!((offset_of!(Info, timeout), offset_of!(Info, rate)), (8, 12));
        assert_eq!(
            (offset_of!(Info, wscale), offset_of!(Info, mss)),
            (
                offset_of!(nf_synproxy_info, wscale),
                offset_of!(nf_synproxy_info, mss)
            )
        );
        let all = rule(
            "--mss 1460 --wscale 7 --sack-perm --timestamp --ecn \
             --defer --window 14600 --timeout 30 --rate 1000",
        );
        assert_eq!(bytes(&all), (0xff, 7, 1460, 14600, 0, 30, 1000, [0; 4]));
    }

    #[test]
    fn the_limits_have_room() {
        let all = rule("--mss 65535 --wscale 14 --window 65535 --timeout 3600 --rate 10000000");
        assert_eq!(
            bytes(&all),
            (0xc3, 14, 65535, 65535, 0, 3600, 10_000_000, [0; 4])
        );
    }

    #[test]
    fn a_value_is_never_cut_off() {
        for (id, too_much) in [(0, 65536), (1, 256), (6, 65536)] {
            assert!(parse(Info::default(), id, too_much).is_none());
        }
    }

    #[test]
    fn every_set_of_options_goes_round() {
        for info in rules() {
            assert_eq!(bytes(&rule(&save(&info))), bytes(&info));
        }
    }

    #[test]
    fn what_is_written_looks_as_it_does_in_iptables() {
        let info = rule("--mss 1460 --wscale 7 --timestamp --sack-perm --ecn");
        assert_eq!(
            save(&info),
            " --sack-perm --timestamp --wscale 7 --mss 1460 --ecn"
        );
        assert_eq!(
            print(&info),
            " SYNPROXY sack-perm timestamp wscale 7 mss 1460 ecn "
        );
        assert_eq!(save(&Info::default()), "");
        assert_eq!(print(&Info::default()), " SYNPROXY ");
    }

    #[test]
    fn what_is_new_is_written_behind_it() {
        let info = rule("--rate 9 --timeout 5 --window 4096 --defer --mss 1460");
        assert_eq!(
            save(&info),
            " --mss 1460 --defer --window 4096 --timeout 5 --rate 9"
        );
        assert_eq!(
            print(&info),
            " SYNPROXY mss 1460 defer window 4096 timeout 5 rate 9 "
        );
    }

    #[test]
    fn a_value_of_zero_is_written_if_it_was_given() {
        assert_eq!(save(&rule("--wscale 0")), " --wscale 0");
    }

    #[test]
    fn revision_0_has_the_first_five_options_and_no_others() {
        for info in rules() {
            match to_v0(info) {
                Some(v0) => {
                    assert_eq!((info.options & 0xe0, info.rate), (0, 0));
                    assert_eq!(bytes(&from_v0(v0)), bytes(&info));
                }
                None => assert_ne!((info.options & 0xe0, info.rate), (0, 0)),
            }
        }
    }

    #[test]
    fn help_names_every_option() {
        for (id, name, _) in OPTIONS {
            let help = if id < 5 { HELP } else { HELP_V1 };
            assert!(help.contains(&format!("\n  --{name} ")));
        }
    }

    #[test]
    fn what_is_no_option_is_not_invented() {
        assert!(parse(Info::default(), 9, 0).is_none());
        assert!(parse(Info::default(), 32, 0).is_none());
    }
}
