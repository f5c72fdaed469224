// SPDX-License-Identifier: GPL-2.0-only

//! Writes the rules for a case, as commands or as a file for `iptables-restore`.
//!
//! Commands are joined by `&&`: in a shell, too, nothing goes on behind a rule that was refused.

use crate::{
    cli::{About, Case, Flood, Gate, OneRule, Options},
    print, probe,
};
use core::fmt::Write;
use std::{net::IpAddr, time::Duration};

/// How long a server may take to answer `--probe`.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The verb.
pub(crate) fn run(case: &Case) -> Result<(), String> {
    let about = match case {
        Case::Flood(Flood { about, .. })
        | Case::OneRule(OneRule { about, .. })
        | Case::Gate(Gate { about, .. }) => about,
    };
    let options = match about.probe {
        true => ask(about)?,
        false => about.options.clone(),
    };
    let steps = match case {
        Case::Flood(flood) => self::flood(flood, &options),
        Case::OneRule(rule) => one_rule(rule, &options),
        Case::Gate(gate) => self::gate(gate, &options)?,
    };
    let is_ipv6 = about.server.addr().is_ipv6();
    print(&match about.restore {
        true => file(&steps, is_ipv6),
        false => commands(&steps, is_ipv6),
    })
}

fn ask(about: &About) -> Result<Options, String> {
    if about.server.prefix_len() != about.server.max_prefix_len() {
        return Err(format!(
            "--server {}: --probe can ask one address only",
            about.server
        ));
    }
    let port = about.port.first().unwrap_or_default();
    let options = probe::ask(&about.server.addr().to_string(), port, None, PROBE_TIMEOUT)?;
    // What it does not say, RFC 9293 section 3.7.1 says.
    let default = match about.server.addr() {
        IpAddr::V4(_) => 536,
        IpAddr::V6(_) => 1220,
    };
    let mss = options.mss.or(Some(default));
    Ok(Options { mss, ..options })
}

/// What is to be done, in its order.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// A line for who reads it.
    Comment(String),
    /// What a chain of table filter does with what no rule takes.
    Policy(&'static str, &'static str),
    /// A rule at the end of a chain: table, chain, the rest.
    Rule(&'static str, &'static str, String),
    /// A sysctl.
    Sysctl(&'static str, &'static str),
}

use Step::{Comment, Policy, Rule, Sysctl};

const LOOSE: &str = "net.netfilter.nf_conntrack_tcp_loose";

/// The packets to the server.
fn packets(about: &About) -> String {
    let mut text = String::new();
    if let Some(interface) = &about.interface {
        // A String takes all that is written to it.
        let _ = write!(text, "-i {interface} ");
    }
    let server = match about.server.prefix_len() == about.server.max_prefix_len() {
        true => about.server.addr().to_string(),
        false => about.server.to_string(),
    };
    let _ = write!(text, "-d {server} -p tcp {}", about.port);
    text
}

/// The target with its options.
fn target(options: &Options, more: &[(&str, Option<u32>)]) -> String {
    format!("-j SYNPROXY {options}{}", values(more))
}

/// Those options that have a value.
fn values(options: &[(&str, Option<u32>)]) -> String {
    let given = |(name, value): &(&str, Option<u32>)| Some(format!(" --{name} {}", (*value)?));
    options.iter().filter_map(given).collect()
}

fn comment(text: impl Into<String>) -> Step {
    Comment(text.into())
}

fn flood(flood: &Flood, options: &Options) -> Vec<Step> {
    let to_server = packets(&flood.about);
    let target = target(options, &[("rate", flood.rate)]);
    let chain = if flood.local { "INPUT" } else { "FORWARD" };
    vec![
        comment(format!(
            "A SYN makes no conntrack entry. {chain} is to let open connections pass, and OUTPUT \
             what the proxy sends."
        )),
        Rule(
            "raw",
            "PREROUTING",
            format!("{to_server} --syn -j CT --notrack"),
        ),
        Rule(
            "filter",
            chain,
            format!("{to_server} -m conntrack --ctstate UNTRACKED,INVALID {target}"),
        ),
        comment("Without it conntrack takes the client's ACK for a connection of its own."),
        Sysctl(LOOSE, "0"),
    ]
}

fn one_rule(rule: &OneRule, options: &Options) -> Vec<Step> {
    let to_server = packets(&rule.about);
    let target = target(options, &[]);
    let defer = if rule.defer { " --defer" } else { "" };
    let rate = values(&[("rate", rule.rate)]);
    vec![
        comment(match rule.defer {
            true => "SYNs are answered before conntrack; who has a cookie goes on to the gate.",
            false => "SYNs are answered before conntrack; who has a cookie meets the other rules.",
        }),
        Rule(
            "raw",
            "PREROUTING",
            format!("{to_server} {target}{defer}{rate}"),
        ),
    ]
}

fn gate(gate: &Gate, options: &Options) -> Result<Vec<Step>, String> {
    let Gate {
        about,
        queue_num,
        mark,
        deny_mark,
        ..
    } = gate;
    if mark == deny_mark {
        return Err(format!(
            "--mark {mark:#x} --deny-mark {deny_mark:#x}: expected two marks that differ"
        ));
    }
    let to_server = packets(about);
    let wait = [
        ("window", gate.window.map(u32::from)),
        ("timeout", gate.timeout),
    ];
    let mut steps = vec![
        comment(
            "What no rule takes is dropped: what else is to be forwarded needs rules of its own.",
        ),
        Policy("FORWARD", "DROP"),
    ];
    if gate.defer {
        steps.extend([
            comment("A SYN makes no conntrack entry, and an ACK of no connection is INVALID."),
            Rule(
                "raw",
                "PREROUTING",
                format!("{to_server} --syn -j CT --notrack"),
            ),
            Sysctl(LOOSE, "0"),
        ]);
    } else {
        steps.push(comment(format!(
            "{LOOSE} must be 1, its default; where it has to be 0, take --defer."
        )));
    }
    steps.extend([
        comment(format!(
            "The engine sees what waiting clients send. It is to mark and accept, as does \
             dpi-http --queue-num {queue_num} --mark {mark:#x} --deny-mark {deny_mark:#x}"
        )),
        Rule(
            "mangle",
            "FORWARD",
            format!("{to_server} -m spstate --in-progress -j NFQUEUE --queue-num {queue_num}"),
        ),
        comment("No: the client is reset."),
        Rule(
            "filter",
            "FORWARD",
            format!(
                "{to_server} -m mark --mark {deny_mark:#x} -m spstate --in-progress \
                 -j REJECT --reject-with tcp-reset"
            ),
        ),
        comment("Connections that are open."),
        Rule(
            "filter",
            "FORWARD",
            "-m conntrack --ctstate RELATED,ESTABLISHED -m spstate ! --in-progress -j ACCEPT"
                .into(),
        ),
        comment("Yes: the connection to the server is opened."),
        Rule(
            "filter",
            "FORWARD",
            format!(
                "{to_server} -m mark --mark {mark:#x} -m spstate --in-progress {}",
                target(options, &[])
            ),
        ),
        comment("A SYN is answered; who brings the cookie back waits."),
        Rule(
            "filter",
            "FORWARD",
            match gate.defer {
                true => format!(
                    "{to_server} -m conntrack --ctstate UNTRACKED,INVALID {} --defer{}",
                    target(options, &[]),
                    values(&wait),
                ),
                false => format!("{to_server} -m spstate --none {}", target(options, &wait)),
            },
        ),
    ]);
    Ok(steps)
}

/// One command a line.
fn commands(steps: &[Step], is_ipv6: bool) -> String {
    let iptables = if is_ipv6 { "ip6tables" } else { "iptables" };
    let last = steps.iter().rposition(|step| !matches!(step, Comment(_)));
    let mut text = String::new();
    for (at, step) in steps.iter().enumerate() {
        let _ = match step {
            Comment(comment) => write!(text, "# {comment}"),
            Policy(chain, policy) => write!(text, "{iptables} -P {chain} {policy}"),
            Rule("filter", chain, rest) => write!(text, "{iptables} -A {chain} {rest}"),
            Rule(table, chain, rest) => write!(text, "{iptables} -t {table} -A {chain} {rest}"),
            Sysctl(name, value) => write!(text, "sysctl -w {name}={value}"),
        };
        let goes_on = !matches!(step, Comment(_)) && last.is_some_and(|last| at < last);
        text.push_str(if goes_on { " &&\n" } else { "\n" });
    }
    text
}

/// For `iptables-restore`. The table filter comes first: should mangle fail to load, a gate is shut.
fn file(steps: &[Step], is_ipv6: bool) -> String {
    let restore = if is_ipv6 {
        "ip6tables-restore"
    } else {
        "iptables-restore"
    };
    let mut text = format!(
        "# For {restore} --noflush, which adds it to what is there. Without --noflush what was in\n\
         # the tables that are named here goes.\n"
    );
    for step in steps {
        if let Sysctl(name, value) = step {
            let _ = writeln!(text, "# This belongs to it: sysctl -w {name}={value}");
        }
    }
    for table in ["filter", "mangle", "raw"] {
        let mut lines = String::new();
        let mut comment = None;
        for step in steps {
            let is_here = match step {
                Comment(text) => {
                    comment = Some(text);
                    false
                }
                Policy(chain, policy) if table == "filter" => {
                    comment.take().map(|text| writeln!(lines, "# {text}"));
                    let _ = writeln!(lines, ":{chain} {policy} [0:0]");
                    true
                }
                Rule(of, chain, rest) if *of == table => {
                    comment.take().map(|text| writeln!(lines, "# {text}"));
                    let _ = writeln!(lines, "-A {chain} {rest}");
                    true
                }
                _ => false,
            };
            if !is_here && !matches!(step, Comment(_)) {
                comment = None;
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{table}\n{lines}COMMIT\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Args, Verb};
    use clap::Parser;

    /// What is printed, without comments.
    fn lines(line: &str) -> String {
        let all = written(line).unwrap();
        let kept = all.lines().filter(|line| !line.starts_with('#'));
        kept.collect::<Vec<_>>().join("\n") + "\n"
    }

    fn written(line: &str) -> Result<String, String> {
        let words = ["xt-synproxy", "rules"]
            .into_iter()
            .chain(line.split_whitespace());
        let Verb::Rules { case } = Args::try_parse_from(words).unwrap().verb else {
            panic!("{line}");
        };
        let (steps, about) = match &case {
            Case::Flood(it) => (flood(it, &it.about.options), &it.about),
            Case::OneRule(it) => (one_rule(it, &it.about.options), &it.about),
            Case::Gate(it) => (gate(it, &it.about.options)?, &it.about),
        };
        let is_ipv6 = about.server.addr().is_ipv6();
        Ok(match about.restore {
            true => file(&steps, is_ipv6),
            false => commands(&steps, is_ipv6),
        })
    }

    const SERVER: &str =
        "--server 192.0.2.1 --port 80 --mss 1460 --sack-perm --timestamp --wscale 7";

    #[test]
    fn flood_has_the_three_lines() {
        assert_eq!(
            lines(&format!("flood {SERVER} --interface eth0 --ecn --rate 1000 --local")),
            "iptables -t raw -A PREROUTING -i eth0 -d 192.0.2.1 -p tcp --dport 80 --syn -j CT --notrack &&\n\
             iptables -A INPUT -i eth0 -d 192.0.2.1 -p tcp --dport 80 -m conntrack --ctstate UNTRACKED,INVALID \
             -j SYNPROXY --mss 1460 --sack-perm --timestamp --wscale 7 --ecn --rate 1000 &&\n\
             sysctl -w net.netfilter.nf_conntrack_tcp_loose=0\n"
        );
        assert!(lines(&format!("flood {SERVER}")).contains("iptables -A FORWARD -d"));
    }

    #[test]
    fn one_rule_is_one() {
        assert_eq!(
            lines("one-rule --server 2001:db8::/64 --port 80,443 --mss 1440 --rate 5 --defer"),
            "ip6tables -t raw -A PREROUTING -d 2001:db8::/64 -p tcp -m multiport --dports 80,443 \
             -j SYNPROXY --mss 1440 --defer --rate 5\n"
        );
    }

    #[test]
    fn a_gate_is_that_of_the_manual() {
        let target = "-j SYNPROXY --mss 1460 --sack-perm --timestamp --wscale 7";
        let to = "-d 192.0.2.1 -p tcp --dport 80";
        assert_eq!(
            lines(&format!("gate {SERVER} --window 2000 --timeout 5 --mark 11 --queue-num 3")),
            format!(
                "iptables -P FORWARD DROP &&\n\
                 iptables -t mangle -A FORWARD {to} -m spstate --in-progress -j NFQUEUE --queue-num 3 &&\n\
                 iptables -A FORWARD {to} -m mark --mark 0xd -m spstate --in-progress \
                 -j REJECT --reject-with tcp-reset &&\n\
                 iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED \
                 -m spstate ! --in-progress -j ACCEPT &&\n\
                 iptables -A FORWARD {to} -m mark --mark 0xb -m spstate --in-progress {target} &&\n\
                 iptables -A FORWARD {to} -m spstate --none {target} --window 2000 --timeout 5\n"
            )
        );
    }

    #[test]
    fn a_gate_that_defers_has_untracked_syns() {
        let text = lines(&format!("gate {SERVER} --defer --timeout 5"));
        for line in [
            "iptables -t raw -A PREROUTING -d 192.0.2.1 -p tcp --dport 80 --syn -j CT --notrack &&\n",
            "sysctl -w net.netfilter.nf_conntrack_tcp_loose=0 &&\n",
            "--dport 80 -m conntrack --ctstate UNTRACKED,INVALID -j SYNPROXY --mss 1460 --sack-perm \
             --timestamp --wscale 7 --defer --timeout 5\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("--none"));
        let text = lines(&format!("gate {SERVER} --defer"));
        assert!(text.ends_with("--wscale 7 --defer\n"), "{text}");
    }

    #[test]
    fn a_file_has_the_same_rules_filter_first() {
        for case in [
            "flood",
            "one-rule",
            "gate",
            "gate --defer",
            "gate --window 7",
        ] {
            let commands = lines(&format!("{case} {SERVER}"));
            let file = lines(&format!("{case} {SERVER} --restore"));
            let mut table = "";
            let mut rules = 0;
            for line in file.lines() {
                match line.split_at(1) {
                    ("*", name) => table = name,
                    ("-", _) => {
                        let of = match table {
                            "filter" => String::new(),
                            _ => format!("-t {table} "),
                        };
                        assert!(commands.contains(&format!("iptables {of}{line}")), "{line}");
                        rules += 1;
                    }
                    (":", _) => assert_eq!((table, line), ("filter", ":FORWARD DROP [0:0]")),
                    _ => assert_eq!(line, "COMMIT"),
                }
            }
            assert_eq!(commands.matches(" -A ").count(), rules, "{case}");
            assert_eq!(file.contains(":FORWARD DROP"), case.starts_with("gate"));
            assert!(!file.contains("*filter") || file.starts_with("*filter"));
            assert_eq!(file.matches("COMMIT\n").count(), file.matches('*').count());
        }
        // What a file cannot do is said in it.
        let file = written(&format!("flood {SERVER} --restore")).unwrap();
        assert!(file.contains("sysctl -w net.netfilter.nf_conntrack_tcp_loose=0"));
    }

    #[test]
    fn yes_is_not_no() {
        let error = written(&format!("gate {SERVER} --mark 13")).unwrap_err();
        assert_eq!(
            error,
            "--mark 0xd --deny-mark 0xd: expected two marks that differ"
        );
    }

    #[test]
    fn one_server_is_asked_only() {
        let line = "xt-synproxy rules one-rule --server 192.0.2.0/24 --port 80 --probe";
        let Verb::Rules { case } = Args::parse_from(line.split(' ')).verb else {
            panic!();
        };
        let error = run(&case).unwrap_err();
        assert_eq!(
            error,
            "--server 192.0.2.0/24: --probe can ask one address only"
        );
    }
}
