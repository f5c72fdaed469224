// SPDX-License-Identifier: GPL-2.0-only

//! What `iptables-save` prints, read as far as it takes to judge rules about the proxy.

use crate::probe::Family;
use core::ops::RangeInclusive;
use ipnet::IpNet;
use std::net::IpAddr;

/// All rules of a version of IP, in one form of iptables.
#[derive(Debug)]
pub(crate) struct Ruleset {
    pub(crate) family: Family,
    /// The program that printed it.
    pub(crate) program: String,
    pub(crate) tables: Vec<Table>,
}

/// A table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) chains: Vec<Chain>,
}

/// A chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// Of a chain of the kernel's own.
    pub(crate) policy: Option<String>,
    pub(crate) rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// As it stands there, without counters.
    pub(crate) text: String,
    options: Vec<Opt>,
}

/// An option of it, with what follows up to the next.
#[derive(Debug, PartialEq, Eq)]
struct Opt {
    is_negated: bool,
    name: String,
    values: Vec<String>,
}

/// What is behind these is the user's, and may look like an option.
const FREE_TEXT: [&str; 6] = [
    "--comment",
    "--log-prefix",
    "--nflog-prefix",
    "--string",
    "--hex-string",
    "--audit-prefix",
];

impl Ruleset {
    /// Reads what `program` printed. The error names the line that cannot be read.
    pub(crate) fn parse(family: Family, program: &str, text: &str) -> Result<Self, String> {
        let mut tables: Vec<Table> = Vec::new();
        for line in text.lines() {
            let bad = || format!("{program}: cannot read its line {line:?}");
            match line.split_at_checked(1) {
                None | Some(("#", _)) => {}
                Some(("*", name)) => tables.push(Table {
                    name: name.into(),
                    chains: Vec::new(),
                }),
                Some((":", rest)) => {
                    let mut words = rest.split_whitespace();
                    let (name, policy) = words.next().zip(words.next()).ok_or_else(bad)?;
                    tables.last_mut().ok_or_else(bad)?.chains.push(Chain {
                        name: name.into(),
                        policy: (policy != "-").then(|| policy.into()),
                        rules: Vec::new(),
                    });
                }
                _ if line == "COMMIT" => {}
                _ => {
                    // "[packets:bytes] " first, with -c.
                    let rest = match line.strip_prefix('[') {
                        Some(counted) => counted.split_once("] ").ok_or_else(bad)?.1,
                        None => line,
                    };
                    let mut words = shlex::split(rest).ok_or_else(bad)?.into_iter();
                    let (append, chain) = words.next().zip(words.next()).ok_or_else(bad)?;
                    let table = tables.last_mut().filter(|_| append == "-A");
                    let chains = table.map(|table| table.chains.iter_mut());
                    let found = chains.and_then(|mut chains| chains.find(|it| it.name == chain));
                    found.ok_or_else(bad)?.rules.push(Rule {
                        text: rest.into(),
                        options: options(words),
                    });
                }
            }
        }
        Ok(Self {
            family,
            program: program.into(),
            tables,
        })
    }

    /// The rules that packets of a chain meet, in order, those of chains that it jumps to included.
    pub(crate) fn walk(&self, table: &str, chain: &str) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        if let Some(table) = self.tables.iter().find(|it| it.name == table) {
            table.descend(chain, &mut Vec::new(), &mut steps);
        }
        steps
    }

    /// All rules there are, with their table.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.tables.iter().flat_map(|table| {
            let rules = table.chains.iter().flat_map(|chain| chain.rules.iter());
            rules.map(|rule| (table.name.as_str(), rule))
        })
    }

    /// The policy of a chain.
    pub(crate) fn policy(&self, table: &str, chain: &str) -> Option<&str> {
        let table = self.tables.iter().find(|it| it.name == table)?;
        let chain = table.chains.iter().find(|it| it.name == chain)?;
        chain.policy.as_deref()
    }
}

impl Table {
    fn descend<'a>(&'a self, chain: &str, callers: &mut Vec<&'a Rule>, steps: &mut Vec<Step<'a>>) {
        let Some(chain) = self.chains.iter().find(|it| it.name == chain) else {
            return;
        };
        for rule in &chain.rules {
            steps.push(Step {
                rule,
                callers: callers.clone(),
            });
            // The kernel refuses loops; what is printed might have one, and each way through it is
            // finite, but their number need not be small.
            let is_loop = callers.iter().any(|caller| core::ptr::eq(*caller, rule));
            if let (Some(target), false, true) = (rule.target(), is_loop, steps.len() < 100_000) {
                callers.push(rule);
                self.descend(target, callers, steps);
                callers.pop();
            }
        }
    }
}

/// A rule on the way of packets through a chain.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) rule: &'a Rule,
    callers: Vec<&'a Rule>,
}

impl Step<'_> {
    /// Which packets come to it, and match.
    pub(crate) fn scope(&self) -> Scope {
        let mut scope = Scope::of(self.rule);
        for caller in &self.callers {
            scope.narrow(Scope::of(caller));
        }
        scope
    }
}

fn options(words: impl Iterator<Item = String>) -> Vec<Opt> {
    let mut options: Vec<Opt> = Vec::new();
    let mut is_negated = false;
    let mut is_free = false;
    for word in words {
        match options.last_mut() {
            Some(last) if core::mem::take(&mut is_free) => last.values.push(word),
            _ if word == "!" => is_negated = true,
            Some(last) if !word.starts_with('-') => last.values.push(word),
            _ => {
                is_free = FREE_TEXT.contains(&word.as_str());
                options.push(Opt {
                    is_negated: core::mem::take(&mut is_negated),
                    name: word,
                    values: Vec::new(),
                });
            }
        }
    }
    options
}

/// A state of the match spstate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpState {
    None,
    InProgress,
    Finish,
}

impl Rule {
    fn option(&self, names: &[&str]) -> Option<&Opt> {
        self.options
            .iter()
            .find(|option| names.contains(&option.name.as_str()))
    }

    /// Whether an option is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.option(&[name]).is_some()
    }

    /// The value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.option(&[name])?.values.first().map(String::as_str)
    }

    /// The same as a number.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.value(name)?.parse().ok()
    }

    /// What is done with a packet: a target, or a chain.
    pub(crate) fn target(&self) -> Option<&str> {
        let option = self.option(&["-j", "-g", "--jump", "--goto"])?;
        option.values.first().map(String::as_str)
    }

    pub(crate) fn is_to(&self, target: &str) -> bool {
        self.target() == Some(target)
    }

    /// Whether it has a match of that name.
    pub(crate) fn uses(&self, name: &str) -> bool {
        let mut matches = self.options.iter().filter(|option| option.name == "-m");
        matches.any(|option| option.values.first().is_some_and(|it| it == name))
    }

    /// Whether it names a state of conntrack's, and packets in `state` match.
    pub(crate) fn matches_state(&self, state: &str) -> Option<bool> {
        let option = self.option(&["--ctstate", "--state"])?;
        let states = option.values.first()?;
        Some(states.split(',').any(|it| it == state) != option.is_negated)
    }

    /// The state of the proxy's that it asks for, and whether it is negated.
    pub(crate) fn spstate(&self) -> Option<(SpState, bool)> {
        if !self.uses("spstate") {
            return None;
        }
        let states = [
            ("--none", SpState::None),
            ("--in-progress", SpState::InProgress),
            ("--finish", SpState::Finish),
        ];
        states
            .into_iter()
            .find_map(|(name, state)| Some((state, self.option(&[name])?.is_negated)))
    }

    /// Whether packets of clients that wait match, as far as the proxy's state goes.
    pub(crate) fn matches_waiting(&self) -> bool {
        match self.spstate() {
            Some((SpState::InProgress, is_negated)) => !is_negated,
            Some((_, is_negated)) => is_negated,
            None => true,
        }
    }
}

/// Which packets a rule is about, as far as interfaces, addresses and ports say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    protocol: Option<(bool, String)>,
    /// The interface that packets come by, and the one that they leave by.
    pub(crate) input: Option<(bool, String)>,
    pub(crate) output: Option<(bool, String)>,
    source: Option<(bool, IpNet)>,
    pub(crate) destination: Option<(bool, IpNet)>,
    ports: Option<(bool, Vec<RangeInclusive<u16>>)>,
    /// There is something else that it asks for.
    has_more: bool,
}

impl Scope {
    /// Of a rule by itself.
    pub(crate) fn of(rule: &Rule) -> Self {
        let mut scope = Self::default();
        for option in &rule.options {
            let value = option
                .values
                .first()
                .map(String::as_str)
                .unwrap_or_default();
            let is_negated = option.is_negated;
            let word = || Some((is_negated, String::from(value)));
            let net = || Some((is_negated, net(value)?));
            match option.name.as_str() {
                "-p" if value == "all" => {}
                "-p" => scope.protocol = word(),
                "-i" => scope.input = word(),
                "-o" => scope.output = word(),
                "-s" => scope.source = net(),
                "-d" => scope.destination = net(),
                "--dport" | "--dports" => scope.ports = Some((is_negated, ports(value))),
                // Others look at these.
                "-m" => {
                    let known = [
                        "tcp",
                        "multiport",
                        "comment",
                        "conntrack",
                        "state",
                        "spstate",
                        "mark",
                    ];
                    scope.has_more |= !known.contains(&value);
                }
                "--ctstate" | "--state" | "--none" | "--in-progress" | "--finish" => {}
                "--mark" => scope.has_more = true,
                "--comment" => {}
                // What is behind the target is not asked for.
                "-j" | "-g" => break,
                _ => scope.has_more = true,
            }
        }
        scope
    }

    /// Adds what a rule asks for that leads here.
    fn narrow(&mut self, caller: Self) {
        fn first<T>(here: &mut Option<T>, there: Option<T>) {
            *here = here.take().or(there);
        }
        first(&mut self.protocol, caller.protocol);
        first(&mut self.input, caller.input);
        first(&mut self.output, caller.output);
        first(&mut self.source, caller.source);
        first(&mut self.destination, caller.destination);
        first(&mut self.ports, caller.ports);
        self.has_more |= caller.has_more;
    }

    /// Whether it takes packets of `other`: of at least one port of it all that there are, as far as
    /// can be told.
    pub(crate) fn takes(&self, other: &Self) -> bool {
        let all =
            |here: &Option<(bool, String)>, there: &Option<(bool, String)>| match (here, there) {
                (None, _) => true,
                (Some((false, mine)), Some((false, theirs))) => is_within(theirs, mine),
                (mine, theirs) => mine == theirs,
            };
        let net = |here: &Option<(bool, IpNet)>, there: &Option<(bool, IpNet)>| match (here, there)
        {
            (None, _) => true,
            (Some((false, mine)), Some((false, theirs))) => mine.contains(theirs),
            (mine, theirs) => mine == theirs,
        };
        !self.has_more
            && all(&self.protocol, &other.protocol)
            && all(&self.input, &other.input)
            && all(&self.output, &other.output)
            && net(&self.source, &other.source)
            && net(&self.destination, &other.destination)
            && !self.ports_differ(other)
    }

    /// Whether no packet can be of both.
    pub(crate) fn is_apart(&self, other: &Self) -> bool {
        let words =
            |here: &Option<(bool, String)>, there: &Option<(bool, String)>| match (here, there) {
                (Some((false, mine)), Some((false, theirs))) => {
                    !is_within(mine, theirs) && !is_within(theirs, mine)
                }
                _ => false,
            };
        let nets = |here: &Option<(bool, IpNet)>, there: &Option<(bool, IpNet)>| match (here, there)
        {
            (Some((false, mine)), Some((false, theirs))) => {
                !mine.contains(theirs) && !theirs.contains(mine)
            }
            _ => false,
        };
        words(&self.protocol, &other.protocol)
            || words(&self.input, &other.input)
            || words(&self.output, &other.output)
            || nets(&self.source, &other.source)
            || nets(&self.destination, &other.destination)
            || self.ports_differ(other)
    }

    fn ports_differ(&self, other: &Self) -> bool {
        let meet = |a: &RangeInclusive<u16>, b: &RangeInclusive<u16>| {
            a.start() <= b.end() && b.start() <= a.end()
        };
        match (&self.ports, &other.ports) {
            (Some((false, mine)), Some((false, theirs))) => {
                !mine.iter().any(|a| theirs.iter().any(|b| meet(a, b)))
            }
            // All but these.
            (Some((true, mine)), Some((false, theirs)))
            | (Some((false, theirs)), Some((true, mine))) => {
                let covers = |a: &RangeInclusive<u16>, b: &RangeInclusive<u16>| {
                    a.start() <= b.start() && b.end() <= a.end()
                };
                theirs.iter().all(|b| mine.iter().any(|a| covers(a, b)))
            }
            _ => false,
        }
    }
}

/// Whether a name is one of those that `pattern` stands for: `eth+` is all that begin with `eth`.
fn is_within(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn net(text: &str) -> Option<IpNet> {
    let whole = |address: IpAddr| address.into();
    text.parse().ok().or_else(|| text.parse().ok().map(whole))
}

fn ports(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse().ok()?)
    };
    text.split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(text: &str) -> Ruleset {
        Ruleset::parse(Family::Ipv4, "iptables-save", text).unwrap()
    }
    fn rule(text: &str) -> Rule {
        let mut ruleset = ruleset(&format!("*filter\n:X - [0:0]\n-A X {text}\nCOMMIT\n"));
        ruleset.tables[0].chains[0].rules.remove(0)
    }

    #[test]
    fn what_is_printed_is_read() {
        let text = "# Generated by iptables-save v1.8.11 (nf_tables) on Sun Nov 22 06:00:00 2026\n\
            *filter\n:INPUT ACCEPT [12:720]\n:FORWARD DROP [0:0]\n:user - [0:0]\n\
            [7:420] -A FORWARD -o docker0 -j user\n\
            [0:0] -A user -p tcp -m tcp --dport 80 -m comment --comment \"-j \\\"x\\\" ! y\" -j SYNPROXY --mss 1460\n\
            COMMIT\n# Completed on Sun Nov 22 06:00:00 2026\n*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n";
        let ruleset = ruleset(text);
        assert_eq!(ruleset.tables.len(), 2);
        assert_eq!(ruleset.policy("filter", "FORWARD"), Some("DROP"));
        assert_eq!(ruleset.policy("filter", "user"), None);
        let steps = ruleset.walk("filter", "FORWARD");
        assert_eq!(steps.len(), 2);
        let last = &steps[1];
        assert_eq!(last.rule.target(), Some("SYNPROXY"));
        assert_eq!(last.rule.number("--mss"), Some(1460));
        assert_eq!(last.scope().output, Some((false, "docker0".into())));
        assert!(last.rule.text.starts_with("-A user -p tcp"));
        assert!(ruleset.walk("filter", "INPUT").is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for text in [
            "-A FORWARD -j DROP",
            "*filter\n-A FORWARD -j DROP",
            "*filter\n:FORWARD\n",
            "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m comment --comment \"x",
            "*filter\n:FORWARD DROP [0:0]\n[0:0 -A FORWARD",
            "*filter\n:FORWARD DROP [0:0]\nnonsense",
        ] {
            let error = Ruleset::parse(Family::Ipv4, "iptables-save", text).unwrap_err();
            assert!(
                error.starts_with("iptables-save: cannot read its line \""),
                "{error}"
            );
        }
    }

    #[test]
    fn a_loop_ends() {
        let text = "*filter\n:FORWARD DROP [0:0]\n:a - [0:0]\n:b - [0:0]\n\
            -A FORWARD -j a\n-A a -j b\n-A b -j a\nCOMMIT\n";
        assert!(ruleset(text).walk("filter", "FORWARD").len() < 10);
        // Nor does one that grows with each turn take long.
        let mut text = String::from("*filter\n:FORWARD DROP [0:0]\n:a - [0:0]\n-A FORWARD -j a\n");
        text.push_str(&"-A a -j a\n".repeat(40));
        assert!(ruleset(&text).walk("filter", "FORWARD").len() < 200_000);
    }

    #[test]
    fn states_are_told() {
        let it = rule("-m spstate ! --in-progress -j ACCEPT");
        assert_eq!(it.spstate(), Some((SpState::InProgress, true)));
        assert!(!it.matches_waiting());
        assert!(rule("-m spstate --in-progress -j NFQUEUE --queue-num 0").matches_waiting());
        assert!(rule("-m spstate ! --finish -j ACCEPT").matches_waiting());
        assert!(!rule("-m spstate --none -j ACCEPT").matches_waiting());
        assert!(rule("-j ACCEPT").matches_waiting());

        let it = rule("-m conntrack --ctstate INVALID,UNTRACKED -j DROP");
        assert_eq!(it.matches_state("INVALID"), Some(true));
        assert_eq!(it.matches_state("NEW"), Some(false));
        let it = rule("-m state ! --state NEW -j DROP");
        assert_eq!(it.matches_state("INVALID"), Some(true));
        assert_eq!(rule("-j DROP").matches_state("INVALID"), None);
    }

    #[test]
    fn scopes_meet_or_not() {
        let scope = |text: &str| Scope::of(&rule(&format!("{text} -j SYNPROXY --sack-perm")));
        let gate = scope("-d 192.0.2.1/32 -i eth0 -p tcp -m tcp --dport 80 -m spstate --none");
        for taking in [
            "",
            "-p tcp",
            "-m comment --comment x",
            "-i eth+",
            "-d 192.0.2.0/24",
            "-m conntrack --ctstate ESTABLISHED",
            "-p tcp -m multiport --dports 22,80:90",
            "-p tcp -m tcp ! --dport 22",
        ] {
            assert!(scope(taking).takes(&gate), "{taking}");
            assert!(!scope(taking).is_apart(&gate), "{taking}");
        }
        for apart in [
            "-p udp",
            "-i lo",
            "-i ppp+",
            "-d 198.51.100.0/24",
            "-p tcp -m tcp --dport 22",
            "-p tcp -m multiport --dports 22,8000:9000",
            "-p tcp -m tcp ! --dport 80",
        ] {
            assert!(!scope(apart).takes(&gate), "{apart}");
            assert!(scope(apart).is_apart(&gate), "{apart}");
        }
        for perhaps in [
            "-s 10.0.0.0/8",
            "-o eth1",
            "! -i eth0",
            "-m limit --limit 5/sec",
            "-p tcp -m tcp --tcp-flags SYN SYN",
            "-m mark --mark 0x1",
        ] {
            assert!(!scope(perhaps).takes(&gate), "{perhaps}");
            assert!(!scope(perhaps).is_apart(&gate), "{perhaps}");
        }
    }
}
