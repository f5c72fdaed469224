// SPDX-License-Identifier: GPL-2.0-only

//! What can be said on the command line, and which values are good.

use clap::{Args as ClapArgs, Parser, Subcommand};
use core::{fmt, ops::RangeInclusive};
use ipnet::IpNet;
use std::{net::IpAddr, path::PathBuf};
use synproxy_tcp::{handshake::MAX_GATE_TIMEOUT, options::MAX_WSCALE, rate::MAX_RATE};

/// A program for operators of xt_SYNPROXY: it asks a server for its options, writes rules, looks for
/// what is wrong on a running system, and shows counters.
#[derive(Parser)]
#[command(name = "xt-synproxy", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Ask a server by one SYN, and print the options that a rule for it needs
    Probe(Probe),

    /// Print the rules for a case, as commands or for iptables-restore
    Rules {
        #[command(subcommand)]
        case: Case,
    },

    /// Look at module, rules, sysctls and counters, and say what is wrong and what to do
    Doctor,

    /// Show the counters of the network namespace, and how fast they grow
    Top(Top),

    /// Write the manual and shell completions
    #[command(hide = true)]
    Generate {
        /// Where to
        directory: PathBuf,
    },
}

#[derive(ClapArgs)]
pub(crate) struct Probe {
    /// The server: a name or an address
    pub(crate) host: String,

    /// Its port
    #[arg(value_parser = within(1..=u16::MAX))]
    pub(crate) port: u16,

    /// How long to wait for its answer, 1 to 60
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = within(1..=60u8))]
    pub(crate) timeout: u8,

    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6')]
    pub(crate) ipv6: bool,
}

#[derive(ClapArgs)]
pub(crate) struct Top {
    /// Time between two looks, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = within(1..=3600u16))]
    pub(crate) interval: u16,

    /// How often to look; 1 prints the sums and ends [default: until it is interrupted]
    #[arg(long, value_name = "N", value_parser = within(1..=u32::MAX))]
    pub(crate) count: Option<u32>,
}

#[derive(Subcommand)]
pub(crate) enum Case {
    /// Against SYN floods, by the rules of the kernel's own SYNPROXY
    Flood(Flood),

    /// Against SYN floods, by one rule in table raw
    OneRule(OneRule),

    /// A gate: clients wait until a program on an NFQUEUE has said yes
    Gate(Gate),
}

#[derive(ClapArgs)]
pub(crate) struct Flood {
    #[command(flatten)]
    pub(crate) about: About,

    /// The server is on this machine, and not behind it
    #[arg(long)]
    pub(crate) local: bool,

    /// At most so many SYN,ACKs and resets a second to clients, 1 to 10000000
    #[arg(long, value_name = "N", value_parser = within(1..=MAX_RATE))]
    pub(crate) rate: Option<u32>,
}

#[derive(ClapArgs)]
pub(crate) struct OneRule {
    #[command(flatten)]
    pub(crate) about: About,

    /// At most so many SYN,ACKs and resets a second to clients, 1 to 10000000
    #[arg(long, value_name = "N", value_parser = within(1..=MAX_RATE))]
    pub(crate) rate: Option<u32>,

    /// The rule stands before a gate, which is there already
    #[arg(long)]
    pub(crate) defer: bool,
}

#[derive(ClapArgs)]
pub(crate) struct Gate {
    #[command(flatten)]
    pub(crate) about: About,

    /// The NFQUEUE of the engine, 0 to 65535
    #[arg(long, value_name = "N", default_value = "0", value_parser = within(0..=u16::MAX))]
    pub(crate) queue_num: u16,

    /// The mark by which the engine says yes, 0x1 to 0xffffffff
    #[arg(long, value_name = "MARK", default_value = "0x0b", value_parser = within(1..=u32::MAX))]
    pub(crate) mark: u32,

    /// The mark by which it says no, 0x1 to 0xffffffff
    #[arg(long, value_name = "MARK", default_value = "0x0d", value_parser = within(1..=u32::MAX))]
    pub(crate) deny_mark: u32,

    /// What a client may send while it waits, 1 to 65535 [default: 10 times the MSS]
    #[arg(long, value_name = "BYTES", value_parser = within(1..=u16::MAX))]
    pub(crate) window: Option<u16>,

    /// How long it may wait, 1 to 3600 [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = within(1..=MAX_GATE_TIMEOUT))]
    pub(crate) timeout: Option<u32>,

    /// SYNs are to be UNTRACKED, with nf_conntrack_tcp_loose=0
    #[arg(long)]
    pub(crate) defer: bool,
}

/// What all cases need to know.
#[derive(ClapArgs)]
pub(crate) struct About {
    /// The server's address, or those of several with the same options
    #[arg(long, value_name = "ADDR[/LEN]", value_parser = server)]
    pub(crate) server: IpNet,

    /// Its ports: N, N:M, or up to 15 of these with commas between them, N:M counting as two
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    pub(crate) port: Ports,

    /// The interface that clients come by [default: any]
    #[arg(long, value_name = "NAME", value_parser = interface)]
    pub(crate) interface: Option<String>,

    /// Print a file for iptables-restore (ip6tables-restore) instead of commands
    #[arg(long)]
    pub(crate) restore: bool,

    /// Ask the server for its options, at the first of its ports
    #[arg(long, conflicts_with_all = ["mss", "wscale", "sack_perm", "timestamp", "ecn"])]
    pub(crate) probe: bool,

    #[command(flatten)]
    pub(crate) options: Options,
}

/// What a server can do: options of the target.
#[derive(ClapArgs, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The server's maximum segment size, 1 to 65535
    #[arg(long, value_name = "BYTES", required_unless_present = "probe", value_parser = within(1..=u16::MAX))]
    pub(crate) mss: Option<u16>,

    /// It does selective acknowledgement
    #[arg(long, requires = "timestamp")]
    pub(crate) sack_perm: bool,

    /// It does timestamps; --sack-perm, --wscale and --ecn need this
    #[arg(long, visible_alias = "timestamps")]
    pub(crate) timestamp: bool,

    /// Its window scale, 0 to 14
    #[arg(long, value_name = "SHIFT", requires = "timestamp", value_parser = within(0..=MAX_WSCALE))]
    pub(crate) wscale: Option<u8>,

    /// It does explicit congestion notification
    #[arg(long, requires = "timestamp")]
    pub(crate) ecn: bool,
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.mss.map(|mss| format!("--mss {mss}")),
            self.sack_perm.then(|| "--sack-perm".into()),
            self.timestamp.then(|| "--timestamp".into()),
            self.wscale.map(|shift| format!("--wscale {shift}")),
            self.ecn.then(|| "--ecn".into()),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

/// Ports of a server, in ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports(Vec<RangeInclusive<u16>>);

impl Ports {
    /// The first of them.
    pub(crate) fn first(&self) -> Option<u16> {
        self.0.first().map(|range| *range.start())
    }
}

/// As a match of iptables.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.len() {
            1 => "--dport ",
            _ => "-m multiport --dports ",
        })?;
        let mut comma = "";
        for range in &self.0 {
            let (from, to) = (range.start(), range.end());
            match from == to {
                true => write!(f, "{comma}{from}")?,
                false => write!(f, "{comma}{from}:{to}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

/// A parser for numbers within a range, as iptables has them: decimal, hexadecimal after `0x`, octal
/// after `0`.
fn within<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: Copy + PartialOrd + fmt::Display + TryFrom<u64>,
{
    move |text| {
        let (min, max) = (range.start(), range.end());
        number(text)
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("expected a number from {min} to {max}"))
    }
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // Rust would take a sign.
    let first = digits.chars().next()?;
    first
        .is_ascii_hexdigit()
        .then(|| u64::from_str_radix(digits, radix).ok())?
}

fn server(text: &str) -> Result<IpNet, String> {
    let wanted = "expected an IPv4 or IPv6 address, with /LEN (1 to 32 or 128) for several";
    let net = match text.contains('/') {
        true => text.parse::<IpNet>().map_err(|_| wanted)?,
        false => text.parse::<IpAddr>().map_err(|_| wanted)?.into(),
    };
    if net.prefix_len() == 0 {
        return Err(format!("is everybody; {wanted}"));
    }
    let address = net.addr();
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} is no server's address; {wanted}"));
    }
    Ok(net.trunc())
}

fn ports(text: &str) -> Result<Ports, String> {
    let wanted = "expected N, N:M, or these with commas between them, N and M from 1 to 65535";
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let ranges = text.split(',').map(|part| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        let range = port(from)?..=port(to)?;
        (!range.is_empty()).then_some(range)
    });
    let ranges: Vec<_> = ranges.collect::<Option<_>>().ok_or(wanted)?;
    let slots = ranges
        .iter()
        .map(|range| if range.start() == range.end() { 1 } else { 2 });
    match slots.sum::<usize>() {
        ..=15 => Ok(Ports(ranges)),
        // What the match multiport has room for.
        slots => Err(format!(
            "are {slots} ports, N:M counting as two; expected 15 at most"
        )),
    }
}

fn interface(text: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._:@-+".contains(c);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match starts_well && text.len() <= 15 && text.chars().all(is_good) {
        true => Ok(text.into()),
        false => Err(
            "expected the name of an interface: 1 to 15 letters, digits and ._:@-, + at the end for any"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Args, String> {
        Args::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
    }
    fn error(line: &str) -> String {
        parse(line).err().unwrap()
    }
    const RULE: &str = "xt-synproxy rules gate --server 192.0.2.1 --port 80 --mss 1460";

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn an_error_names_option_value_and_range() {
        for (option, value, min, max) in [
            ("--window", "0", "1", "65535"),
            ("--window", "65536", "1", "65535"),
            ("--timeout", "3601", "1", "3600"),
            ("--timeout", "abc", "1", "3600"),
            ("--queue-num", "65536", "0", "65535"),
            ("--queue-num", "-1", "0", "65535"),
            ("--mark", "0", "1", "4294967295"),
            ("--deny-mark", "0x100000000", "1", "4294967295"),
            ("--wscale", "15", "0", "14"),
        ] {
            let error = error(&format!("{RULE} {option}={value}"));
            assert!(
                error.contains(&format!("'{value}' for '{option} <")),
                "{error}"
            );
            assert!(
                error.contains(&format!("expected a number from {min} to {max}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_number_is_what_it_is_to_iptables() {
        for (text, wanted) in [
            ("1460", Some(1460)),
            ("0x5b4", Some(1460)),
            ("02664", Some(1460)),
            ("0", Some(0)),
            ("08", None),
            ("0x", None),
            ("0x+1", None),
            ("+1", None),
            ("", None),
            ("1 ", None),
        ] {
            assert_eq!(number(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_server_has_options() {
        let missing = "xt-synproxy rules gate --server 192.0.2.1 --port 80";
        assert!(error(missing).contains("--mss <BYTES>"));
        assert!(parse(&format!("{missing} --probe")).is_ok());
        assert!(error(&format!("{RULE} --probe")).contains("--probe"));
        for option in ["--wscale=7", "--sack-perm", "--ecn"] {
            assert!(error(&format!("{RULE} {option}")).contains("--timestamp"));
            assert!(parse(&format!("{RULE} {option} --timestamps")).is_ok());
        }
    }

    #[test]
    fn options_are_written_as_they_are_read() {
        let options = Options {
            mss: Some(1460),
            sack_perm: true,
            timestamp: true,
            wscale: Some(0),
            ecn: true,
        };
        let text = options.to_string();
        assert_eq!(text, "--mss 1460 --sack-perm --timestamp --wscale 0 --ecn");
        let line = format!("xt-synproxy rules one-rule --server 192.0.2.1 --port 80 {text}");
        let Ok(Args {
            verb: Verb::Rules {
                case: Case::OneRule(rule),
            },
        }) = parse(&line)
        else {
            panic!("{line}");
        };
        assert_eq!(rule.about.options, options);
    }

    #[test]
    fn ports_and_servers() {
        assert_eq!(ports("80").unwrap().to_string(), "--dport 80");
        assert_eq!(ports("1:65535").unwrap().to_string(), "--dport 1:65535");
        let several = ports("80,443,8000:8010").unwrap();
        assert_eq!(
            several.to_string(),
            "-m multiport --dports 80,443,8000:8010"
        );
        assert_eq!(several.first(), Some(80));
        for bad in [
            "", "0", "80,", "65536", "90:80", "http", "80;", "1:2:3", "-1",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        assert!(ports("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15").is_ok());
        assert!(ports("1,2,3,4,5,6,7,8,9,10,11,12,13,14:15").is_ok());
        assert!(ports("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15:16").is_err());

        assert_eq!(server("192.0.2.77/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(
            server("2001:db8::1").unwrap().to_string(),
            "2001:db8::1/128"
        );
        for bad in [
            "",
            "0.0.0.0/0",
            "::/0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "192.0.2.1/33",
            "host",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_of_an_interface_is_a_command() {
        for good in ["eth0", "eth+", "br-lan.7", "_x"] {
            assert!(interface(good).is_ok());
        }
        for bad in [
            "",
            "-x",
            "+",
            "a b",
            "a;b",
            "$(x)",
            "a\nb",
            "sixteencharacter",
            "\u{e9}",
        ] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }
}
