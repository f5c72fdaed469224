// SPDX-License-Identifier: GPL-2.0-only

use super::*;
use crate::doctor::collect::{Library, Saved, Text};
use std::collections::BTreeMap;

const FLOOD: &str = include_str!("flood.rules");
const ONE_RULE: &str = include_str!("one-rule.rules");
const GATE: &str = include_str!("gate.rules");

const MODULES: &str = "xt_SYNPROXY 401408 7 - Live 0xffffffffc087a000 (OE)\n\
    nf_nat 65536 1 xt_SYNPROXY, Live 0xffffffffc0874000\n\
    nf_conntrack 221184 4 xt_SYNPROXY,nf_nat,xt_conntrack,xt_CT, Live 0xffffffffc085e000\n\
    x_tables 61440 8 ipt_REJECT,xt_mark,xt_NFQUEUE,xt_SYNPROXY,xt_conntrack,xt_CT,xt_tcpudp,nft_compat, Live 0xffffffffc0854000";
const MODPROBE: &str = include_str!("../../../../xt_SYNPROXY.modprobe.conf");
const QUEUE: &str = "    0    230     0 2 65531     0     0        1  1";
const COUNTERS: &str = "entries\t\tsyn_received\tgate_timeouts\topened\thold_full\tgate_full\tcontradictions\trate_limited\n\
    00000000\t00000003\t00000000\t00000001\t00000000\t00000000\t00000000\t00000000\n\
    00000000\t00000001\t00000000\t00000000\t00000000\t00000000\t00000000\t00000000\n";

fn failed(text: &str) -> Text {
    Err(Unseen::Failed(text.into()))
}
fn absent(text: &str) -> Text {
    Err(Unseen::Absent(text.into()))
}

/// A system on which nothing is wrong, with these rules for IPv4.
fn system(rules: &str) -> Facts {
    let saved = |family, program: &str, text: &str| Saved {
        family,
        program: program.into(),
        text: Ok(text.into()),
    };
    let loose = if rules.contains("--notrack") {
        "0"
    } else {
        "1"
    };
    let sysctls = [
        ("net/netfilter/nf_conntrack_tcp_loose", loose),
        ("net/netfilter/nf_conntrack_count", "100"),
        ("net/netfilter/nf_conntrack_max", "65536"),
        ("net/netfilter/nf_conntrack_buckets", "65536"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ];
    Facts {
        version: "0.1.0".into(),
        kernel: "7.3.4+deb13-amd64".into(),
        modules: Ok(MODULES.into()),
        loaded: Ok("0.1.0".into()),
        installed: Ok("0.1.0".into()),
        modprobe: Ok(MODPROBE.into()),
        libraries: vec![Library {
            directory: "/usr/lib/x86_64-linux-gnu/xtables".into(),
            synproxy: Some("\0  --defer               a client without".into()),
            has_spstate: true,
        }],
        saved: vec![
            saved(Family::Ipv4, "iptables-nft-save", rules),
            saved(Family::Ipv4, "iptables-legacy-save", ""),
            saved(Family::Ipv6, "ip6tables-nft-save", ""),
        ],
        nft: Ok(
            "table ip filter {\n\tchain FORWARD {\n\t\ttcp dport 80 xt target \"SYNPROXY\"\n\t}\n}"
                .into(),
        ),
        sysctls: sysctls
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        mtus: BTreeMap::from([("eth0".into(), 1500), ("eth1".into(), 1500)]),
        routes: BTreeMap::from([(
            "10.0.2.2".parse().unwrap(),
            "10.0.2.2 dev eth1 src 10.0.2.1 uid 0 \n    cache".into(),
        )]),
        offloads: ["eth0", "eth1"]
            .map(|name| {
                (
                    name.into(),
                    Ok(
                        "Features for it:\nrx-checksumming: on\nlarge-receive-offload: off [fixed]"
                            .into(),
                    ),
                )
            })
            .into(),
        queues: Ok(QUEUE.into()),
        counters: Ok(COUNTERS.into()),
    }
}

fn faults(facts: &Facts) -> Vec<Finding> {
    let report = examine(facts);
    assert_eq!(report.unseen, [""; 0]);
    assert!(!report.is_blind);
    report.findings
}

/// The rules with what stands for `from` replaced.
fn changed(rules: &str, from: &str, to: &str) -> String {
    assert!(rules.contains(from), "{from} in {rules}");
    rules.replace(from, to)
}

/// With a line before that which has `mark`.
fn with(rules: &str, line: &str, mark: &str) -> String {
    let at = rules.find(mark).unwrap();
    let start = rules[..at].rfind('\n').unwrap() + 1;
    format!("{}{line}\n{}", &rules[..start], &rules[start..])
}

/// There is one finding, and it says that.
#[track_caller]
fn finds(facts: &Facts, level: Level, what: &str) {
    let found = faults(facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].level, level);
    assert!(found[0].what.contains(what), "{found:#?}");
    assert!(!found[0].advice.is_empty());
}

#[track_caller]
fn rules_have(rules: &str, what: &str) {
    finds(&system(rules), Level::Fault, what);
}

#[track_caller]
fn rules_are_clean(rules: &str) {
    assert_eq!(faults(&system(rules)), []);
}

fn set(facts: &mut Facts, sysctl: &str, value: &str) {
    facts
        .sysctls
        .insert(format!("net/netfilter/nf_conntrack_{sysctl}"), value.into());
}

#[test]
fn what_is_right_is_clean() {
    for rules in [FLOOD, ONE_RULE, GATE] {
        rules_are_clean(rules);
    }
    let report = examine(&system(GATE));
    assert_eq!((report.rules, report.status()), (2, 0));
    let mut without = system("");
    without.modules = Ok(String::new());
    without.counters = absent("/proc/net/stat/xt_synproxy");
    without.loaded = absent("/sys/module/xt_SYNPROXY/version");
    assert_eq!(faults(&without), []);
}

#[test]
fn without_root_it_is_blind() {
    let mut facts = system(GATE);
    for saved in &mut facts.saved {
        saved.text = failed("iptables-nft-save: Permission denied (you must be root)");
    }
    let report = examine(&facts);
    assert_eq!((report.status(), report.rules), (2, 0));
    assert!(report.unseen[0].contains("you must be root"));
    // What is wrong elsewhere is wrong all the same.
    facts.loaded = Ok("0.0.9".into());
    assert_eq!(examine(&facts).status(), 1);
}

#[test]
fn what_was_not_looked_at_is_said() {
    let mut facts = system(GATE);
    for text in facts.offloads.values_mut() {
        *text = absent("ethtool");
    }
    facts.nft = absent("nft");
    let report = examine(&facts);
    assert_eq!(
        report.unseen,
        [
            "rules of nftables: nft: there is none",
            "offloads of interfaces: ethtool: there is none"
        ]
    );
    assert_eq!(report.status(), 0);
}

#[test]
fn modules() {
    let mut facts = system(GATE);
    facts.loaded = Ok("0.0.9".into());
    finds(
        &facts,
        Level::Fault,
        "the module that is loaded is 0.0.9, and this program 0.1.0",
    );
    let mut facts = system(GATE);
    facts.installed = Ok("0.2.0".into());
    finds(&facts, Level::Fault, "the module on disk is 0.2.0");
    facts.installed = failed("modinfo: ERROR: Module xt_SYNPROXY not found.");
    finds(&facts, Level::Fault, "gone with the next boot");
    let mut facts = system("");
    facts.modules = Ok(String::new());
    facts.installed = failed("modinfo: ERROR: Module xt_SYNPROXY not found.");
    finds(
        &facts,
        Level::Fault,
        "no module xt_SYNPROXY for the kernel that runs, 7.3.4+deb13-amd64",
    );
    let mut facts = system(FLOOD);
    facts.modules = Ok(String::new());
    finds(&facts, Level::Fault, "they are of the kernel's own target");
}

#[test]
fn the_kernels_own() {
    let mut facts = system(GATE);
    facts.modules = Ok(format!("{MODULES}\nipt_SYNPROXY 12288 0 - Live 0x0"));
    finds(&facts, Level::Fault, "own ipt_SYNPROXY is loaded");
    facts.modules = Ok(format!("{MODULES}\nip6t_SYNPROXY 12288 2 - Live 0x0"));
    finds(&facts, Level::Fault, "own ip6t_SYNPROXY has rules");
    let mut facts = system(GATE);
    for without in [
        "",
        "options xt_SYNPROXY gate_share=30",
        "alias x_SYNPROXY xt_SYNPROXY",
    ] {
        facts.modprobe = Ok(without.into());
        assert_eq!(faults(&facts).len(), 2);
    }
    facts.modprobe = Ok(MODPROBE.replace("ip6t", "x"));
    finds(&facts, Level::Fault, "would load ip6t_SYNPROXY");
    facts.modprobe = Ok("alias ipt_SYNPROXY xt_SYNPROXY\nalias ip6t_SYNPROXY xt_SYNPROXY".into());
    assert_eq!(faults(&facts), []);
    for (text, is_there) in [
        ("table ip other {\n\tchain f {\n\t\ttcp dport 82 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm\n\t}\n}", true),
        ("table ip x {\n\tsynproxy https-synproxy {\n\t\tmss 1460\n\t}\n\tchain f {\n\t\tsynproxy name \"https-synproxy\"\n\t}\n}", true),
        ("table ip x {\n\tchain f {\n\t\tct state invalid synproxy\n\t}\n}", true),
        ("table ip synproxy {\n\tchain synproxy {\n\t\tjump synproxy\n\t\tcounter packets 0 # xt_SYNPROXY synproxy\n\t}\n}", false),
        ("table ip x {\n\tchain f {\n\t\ttcp dport 80 counter comment \"a synproxy\"\n\t}\n}", false),
    ] {
        let mut facts = system(GATE);
        facts.nft = Ok(text.into());
        assert_eq!(!faults(&facts).is_empty(), is_there, "{text}");
    }
}

#[test]
fn libraries_of_iptables() {
    let mut facts = system(GATE);
    facts.libraries[0].synproxy = Some("--mss bytes --sack-perm".into());
    finds(&facts, Level::Fault, "is the one that comes with iptables");
    facts.libraries[0].synproxy = None;
    finds(&facts, Level::Fault, "has no libxt_SYNPROXY.so");
    let mut facts = system(GATE);
    facts.libraries[0].has_spstate = false;
    finds(&facts, Level::Fault, "has no libxt_spstate.so");
}

#[test]
fn invalid_packets() {
    let drop = "[0:0] -A FORWARD -m conntrack --ctstate INVALID -j DROP";
    let to_mangle = with(GATE, drop, "--queue-num");
    rules_have(
        &to_mangle,
        "mangle FORWARD: this rule drops INVALID packets; what a client of the gate",
    );
    rules_are_clean(&with(GATE, drop, "--ctstate RELATED,ESTABLISHED"));
    rules_are_clean(&changed(
        &to_mangle,
        "FORWARD -m conntrack --ctstate INVALID",
        "FORWARD -p udp -m conntrack --ctstate INVALID",
    ));
    let other_port = "FORWARD -p tcp -m tcp --dport 22 -m conntrack --ctstate INVALID";
    rules_are_clean(&changed(
        &to_mangle,
        "FORWARD -m conntrack --ctstate INVALID",
        other_port,
    ));
    rules_have(
        &with(
            GATE,
            "[0:0] -A FORWARD -m conntrack ! --ctstate NEW,RELATED,ESTABLISHED -j DROP",
            "--queue-num",
        ),
        "drops INVALID packets",
    );
    rules_have(
        &with(
            FLOOD,
            "[0:0] -A FORWARD -m state --state INVALID -j DROP",
            "-j SYNPROXY",
        ),
        "filter FORWARD: this rule drops INVALID packets; the ACK with a client's cookie is one",
    );
    rules_have(
        &with(
            FLOOD,
            "[0:0] -A PREROUTING -m conntrack --ctstate INVALID -j DROP",
            "--notrack",
        ),
        "raw PREROUTING: this rule drops INVALID packets",
    );
}

#[test]
fn the_queue() {
    let queue = "-A FORWARD -d 10.0.2.2/32 -i eth0 -p tcp -m tcp --dport 80 -m spstate --in-progress -j NFQUEUE --queue-num 0";
    let in_filter = with(
        &changed(GATE, queue, "-A FORWARD"),
        &format!("[0:0] {queue}"),
        "--ctstate RELATED,ESTABLISHED",
    );
    rules_have(&in_filter, "filter FORWARD: NFQUEUE stands in table filter");
    // The strict form.
    let all = with(
        GATE,
        "[0:0] -A FORWARD -p tcp -m tcp --dport 80 -j NFQUEUE --queue-num 0",
        "--ctstate RELATED,ESTABLISHED",
    );
    rules_have(&all, "NFQUEUE stands in table filter");
    rules_are_clean(&changed(
        &all,
        "-A FORWARD -p tcp -m tcp --dport 80 -j",
        "-A FORWARD -p tcp -m tcp --dport 8080 -j",
    ));

    let mut facts = system(GATE);
    facts.queues = absent("/proc/net/netfilter/nfnetlink_queue");
    finds(&facts, Level::Fault, "no program listens on queue 0");
    let balance = changed(GATE, "--queue-num 0", "--queue-balance 0:2");
    rules_have(&balance, "no program listens on queue 1, 2");
}

#[test]
fn accepted_too_early() {
    rules_have(
        &changed(GATE, " -m spstate ! --in-progress", ""),
        "filter FORWARD: this rule accepts what clients send that wait",
    );
    let accept = "[0:0] -A FORWARD -s 10.0.1.0/24 -p tcp -m tcp --dport 80 -j ACCEPT";
    let above = with(GATE, accept, "--ctstate RELATED,ESTABLISHED");
    // Of these clients only, and the gate is for all: it may be as it is meant.
    rules_are_clean(&above);
    rules_have(
        &changed(&above, "-A FORWARD -s 10.0.1.0/24", "-A FORWARD"),
        "accepts what clients send that wait",
    );
    rules_are_clean(&with(
        GATE,
        "[0:0] -A FORWARD -i eth1 -o eth0 -m state --state ESTABLISHED -j ACCEPT",
        "--ctstate RELATED,ESTABLISHED",
    ));
    // In a chain that is called from there.
    let chain = with(GATE, ":early - [0:0]\n[0:0] -A early -m state --state RELATED,ESTABLISHED -j ACCEPT\n[0:0] -A FORWARD -j early", "--ctstate RELATED,ESTABLISHED");
    rules_have(&chain, "accepts what clients send that wait");
}

#[test]
fn tcp_loose() {
    let mut facts = system(GATE);
    set(&mut facts, "tcp_loose", "0");
    finds(
        &facts,
        Level::Fault,
        "tcp_loose is 0: the client's ACK is INVALID",
    );
    let mut facts = system(FLOOD);
    set(&mut facts, "tcp_loose", "1");
    finds(&facts, Level::Fault, "tcp_loose is 1: conntrack takes");
    // To one rule it does not matter.
    let mut facts = system(ONE_RULE);
    for value in ["0", "1"] {
        set(&mut facts, "tcp_loose", value);
        assert_eq!(faults(&facts), []);
    }
    let deferred = changed(
        GATE,
        "-m spstate --none -j SYNPROXY",
        "-m conntrack --ctstate INVALID,UNTRACKED -j SYNPROXY --defer",
    );
    let notrack = "[0:0] -A PREROUTING -p tcp -m tcp --dport 80 --tcp-flags FIN,SYN,RST,ACK SYN -j CT --notrack";
    let raw = ":PREROUTING ACCEPT [233:209826]\n:OUTPUT ACCEPT [0:0]\n";
    let deferred = changed(&deferred, raw, &format!("{raw}{notrack}\n"));
    rules_are_clean(&deferred);
    let mut facts = system(&deferred);
    set(&mut facts, "tcp_loose", "1");
    finds(&facts, Level::Fault, "tcp_loose is 1");
}

#[test]
fn nothing_is_untracked() {
    let without = changed(FLOOD, "-j CT --notrack", "-j ACCEPT");
    let mut facts = system(&without);
    set(&mut facts, "tcp_loose", "0");
    finds(
        &facts,
        Level::Fault,
        "no rule in raw PREROUTING makes SYNs UNTRACKED",
    );
    let mut facts = system(&changed(
        FLOOD,
        "--dport 80 --tcp-flags",
        "--dport 81 --tcp-flags",
    ));
    set(&mut facts, "tcp_loose", "0");
    finds(
        &facts,
        Level::Fault,
        "no rule in raw PREROUTING makes SYNs UNTRACKED",
    );
}

#[test]
fn one_rule_for_all() {
    rules_have(
        &changed(ONE_RULE, "-d 10.0.2.2/32 ", ""),
        "this rule names no destination",
    );
    rules_have(
        &changed(ONE_RULE, "-d 10.0.2.2/32", "! -d 10.0.2.2/32"),
        "this rule names no destination",
    );
}

#[test]
fn options_of_the_target() {
    let without = changed(ONE_RULE, " --timestamp", "");
    rules_have(
        &without,
        "without --timestamp --wscale, --sack-perm has no effect",
    );
    rules_have(
        &changed(ONE_RULE, "--mss 1460", "--mss 1461"),
        "--mss 1461 is more than eth1 with its MTU of 1500 has room for, 1460",
    );
    let mut facts = system(ONE_RULE);
    let route = "10.0.2.2 dev eth1 src 10.0.2.1 uid 0 \n    cache expires 590sec mtu 1400";
    facts
        .routes
        .insert("10.0.2.2".parse().unwrap(), route.into());
    finds(&facts, Level::Fault, "MTU of 1400 has room for, 1360");
    // Without a route, none is larger.
    facts.routes.clear();
    facts.mtus.insert("eth1".into(), 1400);
    assert_eq!(faults(&facts), []);
    facts.mtus.insert("eth0".into(), 1400);
    finds(&facts, Level::Fault, "has room for, 1360");

    let rate = changed(GATE, "--mss 1460", "--mss 1460 --rate 100");
    rules_are_clean(&rate);
    rules_have(
        &rate.replacen("--rate 100", "--rate 200", 1),
        "--rate 100, --rate 200",
    );
}

#[test]
fn spstate_without_the_target() {
    let rest = GATE.lines().filter(|line| !line.contains("SYNPROXY"));
    rules_have(
        &rest.collect::<Vec<_>>().join(
            "
",
        ),
        "a rule with -m spstate, and none with -j SYNPROXY",
    );
}

#[test]
fn the_policy_belongs_to_the_gate() {
    let open = changed(GATE, ":FORWARD DROP", ":FORWARD ACCEPT");
    rules_have(&open, "this gate stands in a chain whose policy is ACCEPT");
    let end = open.find("--none").unwrap();
    let end = end + open[end..].find('\n').unwrap() + 1;
    let last = |rule: &str| format!("{}{rule}\n{}", &open[..end], &open[end..]);
    rules_are_clean(&last("[0:0] -A FORWARD -p tcp -m tcp --dport 80 -j DROP"));
    rules_are_clean(&last(
        "[0:0] -A FORWARD -j REJECT --reject-with icmp-port-unreachable",
    ));
    rules_have(
        &last("[0:0] -A FORWARD -p tcp -m tcp --dport 443 -j DROP"),
        "policy is ACCEPT",
    );
    rules_have(
        &last("[0:0] -A FORWARD -m conntrack --ctstate INVALID -j DROP"),
        "policy is ACCEPT",
    );
}

#[test]
fn conntracks_table() {
    let mut facts = system(GATE);
    set(&mut facts, "count", "59000");
    finds(&facts, Level::Fault, "has 59000 entries of 65536");
    set(&mut facts, "count", "40000");
    finds(&facts, Level::Hint, "may take 32768 (gate_share=50)");
    facts.modprobe = Ok(format!(
        "{MODPROBE}\noptions xt_SYNPROXY held_kib=64 gate_share=20\n"
    ));
    assert_eq!(faults(&facts), []);
    let mut facts = system(FLOOD);
    set(&mut facts, "count", "40000");
    assert_eq!(faults(&facts), []);
    set(&mut facts, "max", "1048576");
    assert_eq!(faults(&facts).len(), 1);
    finds(&facts, Level::Fault, "1048576 entries in 65536 buckets");
}

#[test]
fn offloads_of_what_forwards() {
    let lro = || Ok("Features for eth0:\nrx-checksumming: on\nlarge-receive-offload: on\n".into());
    let mut facts = system(GATE);
    facts.offloads.insert("eth0".into(), lro());
    finds(&facts, Level::Fault, "eth0 has large receive offload");
    facts
        .sysctls
        .insert("net/ipv4/ip_forward".into(), "0".into());
    assert_eq!(faults(&facts), []);
}

#[test]
fn what_was_counted() {
    for (at, level, what) in [
        (4, Level::Fault, "hold_full is 4660"),
        (5, Level::Fault, "gate_full is 4660"),
        (6, Level::Hint, "contradictions is 4660"),
        (7, Level::Hint, "rate_limited is 4660"),
    ] {
        let mut lines: Vec<Vec<&str>> = COUNTERS
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        lines[1][at] = "00001234";
        let text: Vec<String> = lines.iter().map(|line| line.join("\t")).collect();
        let mut facts = system(GATE);
        facts.counters = Ok(text.join("\n"));
        finds(&facts, level, what);
    }
    let timeouts = COUNTERS.replacen(
        "00000003\t00000000\t00000001",
        "00000003\t00000002\t00000000",
        1,
    );
    let mut facts = system(GATE);
    facts.counters = Ok(timeouts.clone());
    finds(&facts, Level::Fault, "gate_timeouts is 2, and opened 0");
    facts.counters = Ok(timeouts.replacen("00000002\t00000000", "00000002\t00000001", 1));
    assert_eq!(faults(&facts), []);
    facts.counters = Ok("what is this\n1\n".into());
    assert!(examine(&facts).unseen[0].starts_with("counters: /proc/net/stat/xt_synproxy"));
}
