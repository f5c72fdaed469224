// SPDX-License-Identifier: GPL-2.0-only

//! What can be wrong, each a function of texts.

use super::{
    collect::{Facts, Unseen},
    ruleset::{Ruleset, Scope, SpState, Step},
    Finding, Level, Report,
};
use crate::{counters::Counters, probe::Family};
use std::collections::BTreeSet;

/// Chains in which the target may stand, and those that they call.
const PLACES: [(&str, &str); 7] = [
    ("raw", "PREROUTING"),
    ("mangle", "INPUT"),
    ("mangle", "FORWARD"),
    ("filter", "INPUT"),
    ("filter", "FORWARD"),
    ("security", "INPUT"),
    ("security", "FORWARD"),
];

const LOOSE: &str = "net.netfilter.nf_conntrack_tcp_loose";

/// What a rule with the target is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The one in raw.
    OneRule,
    /// Opens at once, for packets without an entry.
    Classic,
    /// Has clients wait that have an entry.
    Gate,
    /// Has clients wait that have none.
    DeferredGate,
    /// Opens for a client that waits.
    Open,
}

fn role(table: &str, step: &Step<'_>) -> Role {
    let rule = step.rule;
    let without_entry = |state| rule.spstate().is_none() && rule.matches_state(state) == Some(true);
    match rule.spstate() {
        _ if table == "raw" => Role::OneRule,
        Some((SpState::InProgress, false)) => Role::Open,
        _ if without_entry("UNTRACKED") || without_entry("INVALID") => match rule.has("--defer") {
            true => Role::DeferredGate,
            false => Role::Classic,
        },
        _ => Role::Gate,
    }
}

/// The rules that packets meet in a chain.
struct Way<'a> {
    ruleset: &'a Ruleset,
    table: &'static str,
    chain: &'static str,
    steps: Vec<Step<'a>>,
}

/// A rule with the target.
struct Proxy<'a> {
    way: &'a Way<'a>,
    /// Its place.
    at: usize,
    step: &'a Step<'a>,
    scope: Scope,
    role: Role,
}

impl<'a> Way<'a> {
    fn all(rulesets: &'a [Ruleset]) -> Vec<Self> {
        let of = |ruleset: &'a Ruleset| {
            PLACES.map(|(table, chain)| Way {
                ruleset,
                table,
                chain,
                steps: ruleset.walk(table, chain),
            })
        };
        rulesets.iter().flat_map(of).collect()
    }

    fn proxies(&'a self) -> impl Iterator<Item = Proxy<'a>> {
        let ours = self.steps.iter().enumerate();
        ours.filter(|(_, step)| step.rule.is_to("SYNPROXY"))
            .map(|(at, step)| Proxy {
                way: self,
                at,
                step,
                scope: step.scope(),
                role: role(self.table, step),
            })
    }

    /// Those above a place.
    fn above(&self, at: usize) -> impl Iterator<Item = &Step<'a>> {
        self.steps.iter().take(at)
    }

    fn fault(&self, step: &Step<'_>, what: &str, advice: &str) -> Finding {
        let (program, table, chain) = (&self.ruleset.program, self.table, self.chain);
        Finding {
            rule: Some(step.rule.text.clone()),
            ..fault(format!("{program}, {table} {chain}: {what}"), advice)
        }
    }
}

impl Proxy<'_> {
    fn fault(&self, what: &str, advice: &str) -> Finding {
        self.way.fault(self.step, what, advice)
    }
}

fn fault(what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        level: Level::Fault,
        what: what.into(),
        rule: None,
        advice: advice.into(),
    }
}

fn hint(what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        level: Level::Hint,
        ..fault(what, advice)
    }
}

/// Everything.
pub(super) fn examine(facts: &Facts) -> Report {
    let mut report = Report::default();
    let mut rulesets = Vec::new();
    for saved in &facts.saved {
        let text = saved.text.as_ref().map_err(Unseen::to_string);
        let parsed = text.and_then(|text| Ruleset::parse(saved.family, &saved.program, text));
        match parsed {
            Ok(ruleset) => rulesets.push(ruleset),
            Err(error) => {
                report.unseen.push(format!("rules: {error}"));
                report.is_blind = true;
            }
        }
    }
    if let Err(error) = &facts.modules {
        report.unseen.push(format!("modules: {error}"));
        report.is_blind = true;
    }
    let ways = Way::all(&rulesets);
    let proxies: Vec<Proxy<'_>> = ways.iter().flat_map(Way::proxies).collect();
    let ours = rulesets.iter().flat_map(Ruleset::all);
    report.rules = ours.filter(|(_, rule)| rule.is_to("SYNPROXY")).count();

    let mut findings = Vec::new();
    findings.extend(module(facts, report.rules));
    findings.extend(in_tree(facts));
    findings.extend(libraries(facts));
    findings.extend(waiting_is_accepted(&proxies));
    findings.extend(invalid_is_dropped(&ways, &proxies));
    findings.extend(queue_in_filter(&ways, &proxies));
    findings.extend(policy(&proxies));
    findings.extend(loose(facts, &proxies));
    findings.extend(notrack(&ways, &proxies));
    findings.extend(destination(&proxies));
    findings.extend(timestamps(&proxies));
    findings.extend(spstate_alone(&rulesets));
    findings.extend(rates(&proxies));
    findings.extend(mss(facts, &proxies));
    findings.extend(queues(facts, &ways));
    findings.extend(table(facts, &proxies));
    findings.extend(offloads(facts, &proxies));
    match &facts.counters {
        Ok(text) => match Counters::parse(text) {
            Ok(counters) => findings.extend(self::counters(&counters)),
            Err(error) => report.unseen.push(format!("counters: {error}")),
        },
        // Without the module there is nothing to count.
        Err(Unseen::Absent(_)) => {}
        Err(error) => report.unseen.push(format!("counters: {error}")),
    }

    // A chain may be called from several.
    for finding in findings {
        let is_same = |known: &Finding| finding.rule.is_some() && *known == finding;
        if !report.findings.iter().any(is_same) {
            report.findings.push(finding);
        }
    }
    report.findings.sort_by_key(|finding| finding.level);
    report.unseen.extend(unseen(facts));
    report
}

/// What the checks could have used.
fn unseen(facts: &Facts) -> Vec<String> {
    let mut all = Vec::new();
    // One for all interfaces.
    let offload = facts.offloads.values().find_map(|text| text.as_ref().err());
    for (what, error) in [
        ("the module on disk", facts.installed.as_ref().err()),
        (
            "what is loaded for -j SYNPROXY",
            facts.modprobe.as_ref().err(),
        ),
        ("rules of nftables", facts.nft.as_ref().err()),
        ("offloads of interfaces", offload),
    ] {
        match error {
            // modinfo says so when there is no such module, which has been told.
            Some(Unseen::Failed(_)) if what == "the module on disk" => {}
            Some(error) => all.push(format!("{what}: {error}")),
            None => {}
        }
    }
    if let Err(error @ Unseen::Failed(_)) = &facts.queues {
        all.push(format!("programs on NFQUEUEs: {error}"));
    }
    if facts.libraries.is_empty() {
        all.push("libraries of iptables: no directory with a libxt_standard.so was found".into());
    }
    all
}

fn is_loaded(facts: &Facts, module: &str) -> bool {
    users(facts, module).is_some()
}

/// How often a loaded module is in use: the third word of its line in `/proc/modules`.
fn users(facts: &Facts, module: &str) -> Option<u64> {
    let lines = facts.modules.as_ref().ok()?.lines();
    lines
        .map(str::split_whitespace)
        .find_map(|mut words| (words.next() == Some(module)).then(|| words.nth(1)?.parse().ok())?)
}

fn module(facts: &Facts, rules: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (ours, kernel) = (&facts.version, &facts.kernel);
    let is_loaded = is_loaded(facts, "xt_SYNPROXY");
    let is_installed = !matches!(facts.installed, Err(Unseen::Failed(_)));
    if facts.modules.is_err() {
        return findings;
    }
    if !is_loaded && !is_installed {
        findings.push(fault(
            format!("there is no module xt_SYNPROXY for the kernel that runs, {kernel}"),
            "install xt-synproxy-dkms with headers and source of that kernel, or build it by make and \
             make install",
        ));
    }
    if !is_loaded && rules != 0 {
        findings.push(fault(
            "there are rules with the target SYNPROXY, and xt_SYNPROXY is not loaded: they are of the \
             kernel's own target, which knows no gate",
            "remove these rules, rmmod ipt_SYNPROXY ip6t_SYNPROXY, and add the rules again",
        ));
    }
    if is_loaded {
        let loaded = facts.loaded.as_deref().unwrap_or("without a version");
        if loaded != ours {
            findings.push(fault(
                format!("the module that is loaded is {loaded}, and this program {ours}"),
                "install both of one version, and load the module anew: remove its rules, rmmod \
                 xt_SYNPROXY, add them again; or boot",
            ));
        } else if !is_installed {
            findings.push(fault(
                format!("xt_SYNPROXY is loaded, but not installed for {kernel}: it is gone with the next boot"),
                "make install, or install xt-synproxy-dkms",
            ));
        }
    }
    if let Ok(installed) = &facts.installed {
        if installed != ours && is_installed {
            findings.push(fault(
                format!("the module on disk is {installed}, and this program {ours}"),
                "install both of one version",
            ));
        }
    }
    findings
}

fn in_tree(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for module in ["ipt_SYNPROXY", "ip6t_SYNPROXY"] {
        match users(facts, module) {
            Some(0) => findings.push(fault(
                format!("the kernel's own {module} is loaded: new rules may be for that one"),
                format!("rmmod {module}"),
            )),
            Some(_) => findings.push(fault(
                format!(
                    "the kernel's own {module} has rules; two SYN proxies cannot share a namespace"
                ),
                format!("remove rules with -j SYNPROXY, rmmod {module}, and add them again"),
            )),
            None => {}
        }
    }
    if let Ok(modprobe) = &facts.modprobe {
        for module in ["ipt_SYNPROXY", "ip6t_SYNPROXY"] {
            if !modprobe.lines().any(|line| is_for(line, module)) {
                findings.push(fault(
                    format!("the first rule with -j SYNPROXY would load {module}, and not xt_SYNPROXY"),
                    "have xt_SYNPROXY-load.conf in modprobe.d, as \"make install\" and the package do, and \
                     no other file of that name",
                ));
            }
        }
    }
    if facts.nft.as_deref().is_ok_and(has_nft_synproxy) {
        findings.push(fault(
            "nftables has a synproxy in this namespace: connections of both fail",
            "remove it (nft list ruleset), or the rules with -j SYNPROXY",
        ));
    }
    findings
}

/// Whether a line of modprobe's configuration has our module loaded for `module`.
fn is_for(line: &str, module: &str) -> bool {
    let mut words = line.split_whitespace();
    matches!(words.next(), Some("install" | "alias"))
        && words.next() == Some(module)
        && words.any(|word| word == "xt_SYNPROXY")
}

/// The statement, or the object; not a name that someone has chosen.
fn has_nft_synproxy(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let named = [
            "table", "chain", "set", "map", "jump", "goto", "type", "comment",
        ];
        words.iter().enumerate().any(|(at, word)| {
            let before = at.checked_sub(1).and_then(|at| words.get(at));
            let after = words.get(at + 1).copied();
            let options = ["mss", "wscale", "timestamp", "sack-perm", "name", "ecn"];
            *word == "synproxy"
                && before.is_none_or(|word| !named.contains(word) && !word.ends_with('"'))
                && (after.is_none_or(|word| options.contains(&word)) || before.is_none())
        })
    })
}

fn libraries(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for library in &facts.libraries {
        let directory = &library.directory;
        let advice = "install xt-synproxy, or make extension and make install";
        match &library.synproxy {
            None => findings.push(fault(
                format!("{directory} has no libxt_SYNPROXY.so: iptables does not know the target"),
                advice,
            )),
            // The help of ours has it, and that of no other.
            Some(bytes) if !bytes.contains("--defer") => findings.push(fault(
                format!(
                    "{directory}/libxt_SYNPROXY.so is the one that comes with iptables: it knows no \
                     --defer, --window, --timeout, --rate, and loses them from rules that it prints"
                ),
                advice,
            )),
            Some(_) => {}
        }
        if !library.has_spstate {
            findings.push(fault(
                format!("{directory} has no libxt_spstate.so: iptables does not know -m spstate"),
                advice,
            ));
        }
    }
    findings
}

fn waiting_is_accepted(proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for open in proxies.iter().filter(|proxy| proxy.role == Role::Open) {
        for step in open.way.above(open.at) {
            let rule = step.rule;
            let takes = step.scope().takes(&open.scope)
                && rule.matches_state("ESTABLISHED").unwrap_or(true)
                && rule.matches_waiting();
            if rule.is_to("ACCEPT") && takes {
                findings.push(open.way.fault(
                    step,
                    "this rule accepts what clients send that wait, and the kernel drops it then: the \
                     rule below that is to open their connections never sees it",
                    "add -m spstate ! --in-progress to it",
                ));
            }
        }
    }
    findings
}

fn invalid_is_dropped(ways: &[Way<'_>], proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for way in ways {
        for (at, step) in way.steps.iter().enumerate() {
            let rule = step.rule;
            // Before conntrack everything is.
            let is_invalid =
                rule.matches_state("INVALID") == Some(true) && rule.spstate().is_none();
            if !is_invalid || !(rule.is_to("DROP") || rule.is_to("REJECT")) {
                continue;
            }
            let scope = step.scope();
            let hit = proxies.iter().find(|proxy| {
                let comes_later = match (way.table, proxy.role) {
                    (_, Role::OneRule) => false,
                    ("raw" | "mangle", _) => true,
                    // Behind mangle what a waiting client sends is held already.
                    (_, Role::Classic | Role::DeferredGate) => {
                        (way.table, way.chain) == (proxy.way.table, proxy.way.chain)
                            && at < proxy.at
                    }
                    _ => false,
                };
                let same_hook = way.table == "raw" || way.chain == proxy.way.chain;
                comes_later
                    && same_hook
                    && way.ruleset.family == proxy.way.ruleset.family
                    && !scope.is_apart(&proxy.scope)
            });
            if let Some(proxy) = hit {
                let what = match proxy.role {
                    Role::Classic | Role::DeferredGate => {
                        "this rule drops INVALID packets; the ACK with a client's cookie is one, and \
                         does not reach the rule with the target"
                    }
                    _ => {
                        "this rule drops INVALID packets; what a client of the gate sends is INVALID \
                         while its server has not answered, and is lost"
                    }
                };
                findings.push(way.fault(
                    step,
                    what,
                    "except the port of the proxy, or drop INVALID packets in table filter, below the \
                     rules of the proxy",
                ));
            }
        }
    }
    findings
}

fn queue_in_filter(ways: &[Way<'_>], proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for way in ways.iter().filter(|way| way.table == "filter") {
        for (at, step) in way.steps.iter().enumerate() {
            let rule = step.rule;
            let comes_first = || {
                proxies.iter().any(|proxy| {
                    core::ptr::eq(proxy.way, way)
                        && at < proxy.at
                        && matches!(proxy.role, Role::Open)
                        && !step.scope().is_apart(&proxy.scope)
                })
            };
            let is_waiting = rule.spstate() == Some((SpState::InProgress, false));
            if rule.is_to("NFQUEUE") && rule.matches_waiting() && (is_waiting || comes_first()) {
                findings.push(way.fault(
                    step,
                    "NFQUEUE stands in table filter: what the engine accepts goes on behind this chain, \
                     and never meets the rule that opens",
                    "put it into the same chain of table mangle",
                ));
            }
        }
    }
    findings
}

fn policy(proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for gate in proxies {
        if !matches!(gate.role, Role::Gate | Role::DeferredGate) {
            continue;
        }
        let way = gate.way;
        let policy = way.ruleset.policy(way.table, way.chain);
        let rest = way.steps.iter().skip(gate.at + 1);
        let is_shut = rest
            .filter(|step| matches!(step.rule.target(), Some("DROP" | "REJECT")))
            .any(|step| {
                let rule = step.rule;
                let all_states = rule.matches_state("NEW").is_none() && rule.spstate().is_none();
                step.scope().takes(&gate.scope) && all_states
            });
        let place = (&way.ruleset.program, way.table, way.chain);
        if policy == Some("ACCEPT") && !is_shut && seen.insert(place) {
            findings.push(gate.fault(
                "this gate stands in a chain whose policy is ACCEPT: a client that never met the proxy \
                 gets past it",
                &format!("set the policy to DROP, or drop the rest of that port behind the rule: -P {} DROP", way.chain),
            ));
        }
    }
    findings
}

fn loose(facts: &Facts, proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let Some(loose) = number(facts, "net/netfilter/nf_conntrack_tcp_loose") else {
        return Vec::new();
    };
    let is_loose = loose != 0;
    let wrong = |proxy: &&Proxy<'_>| match proxy.role {
        Role::Gate => !is_loose,
        Role::Classic | Role::DeferredGate => is_loose,
        _ => false,
    };
    let say = |proxy: &Proxy<'_>| {
        match proxy.role {
        Role::Gate => proxy.fault(
            &format!("{LOOSE} is 0: the client's ACK is INVALID, and this rule opens nothing"),
            &format!("sysctl -w {LOOSE}=1, and in sysctl.d; or take --defer: xt-synproxy rules gate --defer"),
        ),
        _ => proxy.fault(
            &format!(
                "{LOOSE} is {loose}: conntrack takes the client's ACK for a connection of its own, and \
                 this rule never sees it"
            ),
            &format!("sysctl -w {LOOSE}=0, and in sysctl.d"),
        ),
    }
    };
    proxies.iter().filter(wrong).map(say).collect()
}

fn notrack(ways: &[Way<'_>], proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let is_untracked = |proxy: &Proxy<'_>| {
        ways.iter().any(|way| {
            let raw = way.table == "raw" && way.ruleset.family == proxy.way.ruleset.family;
            raw && way.steps.iter().any(|step| {
                let rule = step.rule;
                let notrack = rule.is_to("NOTRACK") || rule.is_to("CT") && rule.has("--notrack");
                // Or the SYN is answered there.
                let answered = rule.is_to("SYNPROXY") && rule.has("--defer");
                (notrack || answered) && !step.scope().is_apart(&proxy.scope)
            })
        })
    };
    proxies
        .iter()
        .filter(|proxy| matches!(proxy.role, Role::Classic | Role::DeferredGate))
        .filter(|proxy| proxy.step.rule.matches_state("UNTRACKED") == Some(true))
        .filter(|proxy| !is_untracked(proxy))
        .map(|proxy| {
            proxy.fault(
                "no rule in raw PREROUTING makes SYNs UNTRACKED: this rule does not see them",
                "add -t raw -A PREROUTING -p tcp --dport PORT --syn -j CT --notrack",
            )
        })
        .collect()
}

fn destination(proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let anybody = |proxy: &&Proxy<'_>| {
        proxy.role == Role::OneRule && !matches!(proxy.scope.destination, Some((false, _)))
    };
    let say = |proxy: &Proxy<'_>| {
        proxy.fault(
            "this rule names no destination: SYNs to any address are answered, before routing and \
             filter, whether or not there is a server",
            "add -d ADDRESS",
        )
    };
    proxies.iter().filter(anybody).map(say).collect()
}

fn timestamps(proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for proxy in proxies {
        let rule = proxy.step.rule;
        let needy: Vec<&str> = ["--wscale", "--sack-perm", "--ecn"]
            .into_iter()
            .filter(|option| rule.has(option))
            .collect();
        if !needy.is_empty() && !rule.has("--timestamp") {
            findings.push(proxy.fault(
                &format!("without --timestamp {} has no effect", needy.join(", ")),
                "ask the server what it does: xt-synproxy probe HOST PORT",
            ));
        }
    }
    findings
}

fn spstate_alone(rulesets: &[Ruleset]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let rules = || {
            let of = rulesets
                .iter()
                .filter(move |ruleset| ruleset.family == family);
            of.flat_map(|ruleset| {
                ruleset
                    .all()
                    .map(move |(table, rule)| (ruleset, table, rule))
            })
        };
        if rules().any(|(_, _, rule)| rule.is_to("SYNPROXY")) {
            continue;
        }
        if let Some((ruleset, table, rule)) = rules().find(|(_, _, rule)| rule.uses("spstate")) {
            findings.push(Finding {
                rule: Some(rule.text.clone()),
                ..fault(
                    format!(
                        "{}, {table}: a rule with -m spstate, and none with -j SYNPROXY: nobody waits",
                        ruleset.program
                    ),
                    "add the rules with the target: xt-synproxy rules gate; or remove this one",
                )
            });
        }
    }
    findings
}

fn rates(proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let rates: BTreeSet<u32> = proxies
        .iter()
        .filter_map(|proxy| proxy.step.rule.number("--rate"))
        .collect();
    if rates.len() < 2 {
        return Vec::new();
    }
    let texts: Vec<String> = rates.iter().map(u32::to_string).collect();
    vec![fault(
        format!(
            "rules have different rates, --rate {}: they share one count, and those with the lower one \
             get nothing while the others use more",
            texts.join(", --rate ")
        ),
        "give all rules of the namespace the same --rate",
    )]
}

/// What is left of an MTU for a segment.
fn segment(mtu: u32, family: Family) -> u32 {
    mtu.saturating_sub(match family {
        Family::Ipv4 => 40,
        Family::Ipv6 => 60,
    })
}

fn mss(facts: &Facts, proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for proxy in proxies {
        let Some(mss) = proxy.step.rule.number("--mss") else {
            continue;
        };
        let Some((name, mtu)) = link(facts, proxy) else {
            continue;
        };
        let most = segment(mtu, proxy.way.ruleset.family);
        if mss > most {
            findings.push(proxy.fault(
                &format!(
                    "--mss {mss} is more than {name} with its MTU of {mtu} has room for, {most}"
                ),
                &format!("take --mss {most}, or what the server says: xt-synproxy probe HOST PORT"),
            ));
        }
    }
    findings
}

/// The interface towards the server, if it can be told, or the one with the largest MTU; and its MTU.
fn link(facts: &Facts, proxy: &Proxy<'_>) -> Option<(String, u32)> {
    let mtu = |name: &str| Some((name.to_owned(), *facts.mtus.get(name)?));
    let named = |it: &Option<(bool, String)>| match it {
        Some((false, name)) => mtu(name),
        _ => None,
    };
    let server = match proxy.scope.destination {
        Some((false, net)) => facts.routes.get(&net.addr()),
        _ => None,
    };
    let route = server.map(|text| text.split_whitespace().collect::<Vec<_>>());
    let after = |name| {
        let words = route.as_ref()?;
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let is_local =
        proxy.way.chain == "INPUT" || route.as_ref().is_some_and(|words| words.contains(&"local"));
    let largest = || {
        let (name, mtu) = facts.mtus.iter().max_by_key(|(_, mtu)| **mtu)?;
        Some((name.clone(), *mtu))
    };
    if is_local {
        return named(&proxy.scope.input).or_else(largest);
    }
    let by_route = || {
        let (name, own) = mtu(after("dev")?)?;
        let of_route = after("mtu").and_then(|text| text.parse().ok());
        Some((name, of_route.unwrap_or(own)))
    };
    named(&proxy.scope.output)
        .or_else(by_route)
        .or_else(largest)
}

fn queues(facts: &Facts, ways: &[Way<'_>]) -> Vec<Finding> {
    let listening: BTreeSet<u32> = match &facts.queues {
        Ok(text) => text
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect(),
        // Before the first program there is no file.
        Err(Unseen::Absent(_)) => BTreeSet::new(),
        Err(Unseen::Failed(_)) => return Vec::new(),
    };
    let mut findings = Vec::new();
    for way in ways {
        for step in &way.steps {
            let rule = step.rule;
            let is_ours = rule.spstate() == Some((SpState::InProgress, false));
            if !rule.is_to("NFQUEUE") || !is_ours {
                continue;
            }
            let wanted = match rule
                .value("--queue-balance")
                .and_then(|text| text.split_once(':'))
            {
                Some((from, to)) => from.parse().unwrap_or(0)..=to.parse().unwrap_or(0),
                None => {
                    let queue = rule.number("--queue-num").unwrap_or(0);
                    queue..=queue
                }
            };
            let deaf: Vec<String> = wanted
                .filter(|queue| !listening.contains(queue))
                .map(|queue| queue.to_string())
                .collect();
            if !deaf.is_empty() {
                findings.push(way.fault(
                    step,
                    &format!(
                        "no program listens on queue {}: clients wait in vain",
                        deaf.join(", ")
                    ),
                    "start the engine, for example dpi-http --queue-num N",
                ));
            }
        }
    }
    findings
}

fn number(facts: &Facts, sysctl: &str) -> Option<u64> {
    facts.sysctls.get(sysctl)?.parse().ok()
}

/// A parameter of the module, as it is configured: the module does not show it.
fn gate_share(facts: &Facts) -> u64 {
    let text = facts.modprobe.as_deref().unwrap_or_default();
    let lines = text.lines();
    let words = lines
        .filter_map(|line| line.strip_prefix("options xt_SYNPROXY "))
        .flat_map(str::split_whitespace);
    let mut given = words.filter_map(|word| word.strip_prefix("gate_share=")?.parse().ok());
    given.next_back().unwrap_or(50)
}

fn table(facts: &Facts, proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let of = |name| number(facts, &format!("net/netfilter/nf_conntrack_{name}"));
    let Some(max) = of("max").filter(|max| *max != 0) else {
        return findings;
    };
    let has_gate = proxies.iter().any(|proxy| {
        matches!(proxy.role, Role::Gate | Role::DeferredGate) || proxy.step.rule.has("--defer")
    });
    if let Some(count) = of("count") {
        let share = gate_share(facts);
        let waiting = max.saturating_mul(share) / 100;
        if count.saturating_mul(10) >= max.saturating_mul(9) {
            findings.push(fault(
                format!("conntrack's table has {count} entries of {max}: when it is full, nobody gets in"),
                "sysctl -w net.netfilter.nf_conntrack_max=N, and in sysctl.d; or find out who has them: \
                 conntrack -L",
            ));
        } else if has_gate && count.saturating_add(waiting) > max {
            findings.push(hint(
                format!(
                    "conntrack's table has {count} entries of {max}, and clients that wait may take \
                     {waiting} (gate_share={share}): together they could fill it"
                ),
                "raise net.netfilter.nf_conntrack_max, or lower gate_share: options xt_SYNPROXY \
                 gate_share=N in modprobe.d",
            ));
        }
    }
    if let Some(buckets) = of("buckets").filter(|buckets| max > buckets.saturating_mul(8)) {
        findings.push(fault(
            format!("conntrack's table may have {max} entries in {buckets} buckets: each look-up is long"),
            "sysctl -w net.netfilter.nf_conntrack_buckets=N, half of nf_conntrack_max at least",
        ));
    }
    findings
}

fn offloads(facts: &Facts, proxies: &[Proxy<'_>]) -> Vec<Finding> {
    let forwards = [
        (Family::Ipv4, "net/ipv4/ip_forward"),
        (Family::Ipv6, "net/ipv6/conf/all/forwarding"),
    ]
    .into_iter()
    .any(|(family, sysctl)| {
        let is_on = number(facts, sysctl).is_some_and(|value| value != 0);
        let of =
            |proxy: &Proxy<'_>| proxy.way.ruleset.family == family && proxy.way.chain != "INPUT";
        is_on && proxies.iter().any(of)
    });
    if !forwards {
        return Vec::new();
    }
    let is_on = |text: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.any(|line| line.starts_with("large-receive-offload: on"))
    };
    let lro = facts
        .offloads
        .iter()
        .filter(|(_, text)| text.as_deref().is_ok_and(is_on));
    lro.map(|(name, _)| {
        fault(
            format!(
                "{name} has large receive offload, and packets are forwarded: what it merges cannot be \
                 taken apart as it was"
            ),
            format!("ethtool -K {name} lro off"),
        )
    })
    .collect()
}

fn counters(counters: &Counters) -> Vec<Finding> {
    let of = |name| counters.sum(name).unwrap_or(0);
    let mut findings = Vec::new();
    let hold_full = of("hold_full");
    if hold_full != 0 {
        findings.push(fault(
            format!(
                "hold_full is {hold_full}: for so many segments of clients that wait there was no room, \
                 since the module was loaded"
            ),
            "raise held_kib and held_total_kib (options xt_SYNPROXY in modprobe.d), or have the engine \
             decide sooner",
        ));
    }
    let gate_full = of("gate_full");
    if gate_full != 0 {
        findings.push(fault(
            format!(
                "gate_full is {gate_full}: so many clients came while too many waited, since the module \
                 was loaded"
            ),
            "raise net.netfilter.nf_conntrack_max or gate_share, or shorten --timeout; --rate does not \
             bound who waits",
        ));
    }
    let timeouts = of("gate_timeouts");
    if timeouts != 0 && of("opened") == 0 {
        findings.push(fault(
            format!(
                "gate_timeouts is {timeouts}, and opened 0: clients send something, and no connection \
                 was ever opened"
            ),
            "see whether the engine runs, on that queue, and sets the mark that the rule asks for",
        ));
    }
    let limited = of("rate_limited");
    if limited != 0 {
        findings.push(hint(
            format!("rate_limited is {limited}: so many answers were not sent for --rate"),
            "if there was no flood, raise --rate; xt-synproxy top shows whether it goes on",
        ));
    }
    let contradictions = of("contradictions");
    if contradictions != 0 {
        findings.push(hint(
            format!(
                "contradictions is {contradictions}: so many clients sent two versions of their data, \
                 and were refused"
            ),
            "somebody tries to show the engine something else than the server, or a link corrupts packets",
        ));
    }
    findings
}

#[cfg(test)]
mod tests;
