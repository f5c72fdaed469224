// SPDX-License-Identifier: GPL-2.0-only

//! The options of the target: how they stand in its parameters, and what is printed of them.
//!
//! All of it is about the parameters of revision 1. Those of revision 0 are its beginning.

use core::{fmt::Write, ops::RangeInclusive};
use xtables::{
    sys::{
        nf_synproxy_info, XT_SYNPROXY_OPT_DEFER as DEFER, XT_SYNPROXY_OPT_ECN as ECN,
        XT_SYNPROXY_OPT_MSS as MSS, XT_SYNPROXY_OPT_SACK_PERM as SACK_PERM,
        XT_SYNPROXY_OPT_TIMEOUT as TIMEOUT, XT_SYNPROXY_OPT_TIMESTAMP as TIMESTAMP,
        XT_SYNPROXY_OPT_WINDOW as WINDOW, XT_SYNPROXY_OPT_WSCALE as WSCALE, XT_SYNPROXY_RATE_MAX,
        XT_SYNPROXY_TIMEOUT_MAX,
    },
    Given,
};

pub(crate) use xtables::sys::xt_synproxy_info as Info;

/// The answer to `iptables -j SYNPROXY -h`.
pub(crate) const HELP: &str = "SYNPROXY target options, of the server:
  --mss bytes           its MSS (1-65535)
  --wscale shift        its window scale (0-14)
  --sack-perm           it does selective acknowledgement
  --timestamp           it does timestamps (also --timestamps); --wscale, --sack-perm and
                        --ecn have no effect without it
  --ecn                 it does ECN
";

/// What is added in revision 1.
pub(crate) const HELP_V1: &str = "of clients that wait:
  --defer               a client without a conntrack entry is to wait, too
  --window bytes        the window that it sees (1-65535, default: 10 times --mss,
                        or 5360)
  --timeout seconds     how long it may wait for a verdict (1-3600, default: 30)
of all clients of the namespace:
  --rate number         SYN,ACKs and resets that they get a second (1-10000000,
                        default: no limit); rules with a rate share it
";

/// The id of `--rate`, which has no bit.
const RATE: u32 = 8;

/// The parameters once an option has been added. Ids are the numbers of bits, if there is one
/// (`synproxy_opts` in `shim.c`). If it cannot be added, the reason.
pub(crate) fn parse(mut info: Info, given: &Given) -> Result<Info, String> {
    let none = || format!("--{}: no such option", given.name);
    if given.id == RATE {
        info.rate = value(given, 1..=XT_SYNPROXY_RATE_MAX)?;
        return Ok(info);
    }
    let bit = 1u8.checked_shl(given.id).ok_or_else(none)?;
    match u32::from(bit) {
        MSS => info.mss = value(given, 1..=u16::MAX)?,
        WSCALE => info.wscale = value(given, 0..=14)?,
        WINDOW => info.window = value(given, 1..=u16::MAX)?,
        TIMEOUT => info.timeout = value(given, 1..=XT_SYNPROXY_TIMEOUT_MAX)?,
        SACK_PERM | TIMESTAMP | ECN | DEFER => {}
        _ => return Err(none()),
    }
    info.options |= bit;
    Ok(info)
}

/// The value of an option, a number within `range`.
fn value<T>(given: &Given, range: RangeInclusive<T>) -> Result<T, String>
where
    T: Copy + PartialOrd + core::fmt::Display + TryFrom<u64>,
{
    let text = given.value.as_deref().unwrap_or_default();
    number(text)
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (name, min, max) = (&given.name, range.start(), range.end());
            format!("--{name} {text:?}: expected a number from {min} to {max}")
        })
}

/// A number as options of iptables have it, which is how `strtoumax(3)` reads it: decimal,
/// hexadecimal after `0x`, octal after `0`. But not a negative one, which that function takes.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // Rust would take another sign.
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
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

    /// What has a value, and the range.
    const RANGES: [(&str, u64, u64); 5] = [
        ("mss", 1, 65535),
        ("wscale", 0, 14),
        ("window", 1, 65535),
        ("timeout", 1, 3600),
        ("rate", 1, 10_000_000),
    ];

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

    fn given(id: u32, name: &str, value: Option<&str>) -> Given {
        Given {
            id,
            name: name.into(),
            invert: false,
            value: value.map(String::from),
        }
    }

    /// The option of this name with that value.
    fn parse_value(name: &str, value: &str) -> Result<Info, String> {
        let (id, ..) = OPTIONS.into_iter().find(|option| option.1 == name).unwrap();
        parse(Info::default(), &given(id, name, Some(value)))
    }

    /// The parameters of a rule, from its options as they stand in the rule.
    fn rule(text: &str) -> Info {
        let mut info = Info::default();
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let (id, _, has_value) = OPTIONS
                .into_iter()
                .find(|(_, name, _)| word.strip_prefix("--") == Some(name))
                .unwrap();
            let value = if has_value { words.next() } else { None };
            info = parse(info, &given(id, word, value)).unwrap();
        }
        info
    }

    /// Every set of options.
    fn rules() -> impl Iterator<Item = Info> {
        (0..512u32).map(|set| {
            OPTIONS
                .into_iter()
                .filter(|(id, _, _)| set & (1 << id) != 0)
                .fold(Info::default(), |info, (id, name, has_value)| {
                    let value = has_value.then(|| (id + 1).to_string());
                    parse(info, &given(id, name, value.as_deref())).unwrap()
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
    fn a_value_is_taken_up_to_its_limits_and_not_beyond() {
        for (name, min, max) in RANGES {
            let has = |value| {
                let info = parse_value(name, &u64::to_string(&value)).ok()?;
                save(&info).rsplit(' ').next().map(String::from)
            };
            for inside in [min, min + 1, max - 1, max] {
                assert_eq!(has(inside), Some(inside.to_string()), "--{name}");
            }
            // that is, also where the parameters have no room
            for above in [max + 1, 1 << 8, 1 << 16, 1 << 32, (1 << 32) + 1, u64::MAX] {
                assert_eq!(has(above), (above <= max).then(|| above.to_string()));
            }
            assert!(min == 0 || has(min - 1).is_none());
        }
    }

    #[test]
    fn an_error_names_option_value_and_range() {
        for (name, min, max) in RANGES {
            for value in [
                "",
                "-1",
                "abc",
                "1460x",
                "1 2",
                "10000001",
                "99999999999999999999",
            ] {
                assert_eq!(
                    parse_value(name, value).err().unwrap(),
                    format!("--{name} \"{value}\": expected a number from {min} to {max}")
                );
            }
        }
        // nothing of it is for the terminal
        assert_eq!(
            parse_value("mss", "\x1b[2J\"\u{fffd}").err().unwrap(),
            "--mss \"\\u{1b}[2J\\\"\u{fffd}\": expected a number from 1 to 65535"
        );
    }

    #[test]
    fn a_number_is_what_it_was_to_libxtables() {
        for (text, wanted) in [
            ("1460", Some(1460)),
            ("0x5b4", Some(1460)),
            ("0X5B4", Some(1460)),
            ("02664", Some(1460)),
            ("\t +1460", Some(1460)),
            ("0", Some(0)),
            ("00", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0x", None),
            ("08", None),
            ("0x+1", None),
            ("++1", None),
            ("+ 1", None),
            ("1 ", None),
            ("0b1", None),
            ("\u{661}", None),
        ] {
            assert_eq!(number(text), wanted, "{text:?}");
        }
    }

    /// What libxtables does with it: it looks for a minus, and at what `strtoumax` leaves.
    fn number_of_libxtables(text: &str) -> Option<u64> {
        let string = std::ffi::CString::new(text).unwrap();
        let mut end = core::ptr::null_mut();
        // SAFETY: `string` ends with NUL, and `end` is set to a place within. `strtoull` is what
        // `strtoumax` is.
        let (value, rest) = unsafe {
            *libc::__errno_location() = 0;
            let value = libc::strtoull(string.as_ptr(), &raw mut end, 0);
            (value, *end)
        };
        let failed = std::io::Error::last_os_error().raw_os_error() != Some(0);
        let is_empty = end.cast_const() == string.as_ptr();
        let minus = text
            .trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
            .starts_with('-');
        (!failed && !is_empty && !minus && rest == 0).then_some(value)
    }

    #[test]
    fn so_it_is_for_every_short_text() {
        let alphabet = [
            ' ', '\x0b', '+', '-', '0', '1', '7', '8', 'a', 'F', 'g', 'x', 'X', '_',
        ];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            texts = texts
                .iter()
                .flat_map(|text| alphabet.map(|next| format!("{text}{next}")))
                .collect();
            for text in &texts {
                assert_eq!(number(text), number_of_libxtables(text), "{text:?}");
            }
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
        for (name, min, max) in RANGES {
            let is_there = [HELP, HELP_V1].concat().lines().any(|line| {
                line.contains(&format!("  --{name} ")) && line.contains(&format!("({min}-{max}"))
            });
            assert!(is_there, "--{name} ({min}-{max})");
        }
    }

    #[test]
    fn what_is_no_option_is_not_invented() {
        for id in [9, 32] {
            assert!(parse(Info::default(), &given(id, "none", Some("1"))).is_err());
        }
    }
}
