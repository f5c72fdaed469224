// SPDX-License-Identifier: GPL-2.0-only

//! Collects texts from the system, and nothing else: no module is loaded, no rule is changed.

use super::ruleset::{Ruleset, Scope};
use crate::{counters, probe::Family};
use core::fmt;
use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// There is no such file or program.
    Absent(String),
    /// It could not be read, or did not do what it was asked.
    Failed(String),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(name) => write!(f, "{name}: there is none"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

/// What a file or a program says.
pub(super) type Text = Result<String, Unseen>;

/// The rules, as a program prints them.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) family: Family,
    pub(super) program: String,
    pub(super) text: Text,
}

/// A directory of extensions of iptables.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) directory: String,
    /// What can be read of libxt_SYNPROXY.so.
    pub(super) synproxy: Option<String>,
    /// Whether there is libxt_spstate.so.
    pub(super) has_spstate: bool,
}

/// All that is judged.
#[derive(Debug)]
pub(super) struct Facts {
    /// The version of this program.
    pub(super) version: String,
    /// The kernel's release.
    pub(super) kernel: String,
    /// `/proc/modules`.
    pub(super) modules: Text,
    /// The version of the module that is loaded.
    pub(super) loaded: Text,
    /// That of the one that would be, by `modinfo`.
    pub(super) installed: Text,
    /// The configuration of `modprobe` for the module, and for the kernel's own.
    pub(super) modprobe: Text,
    pub(super) libraries: Vec<Library>,
    pub(super) saved: Vec<Saved>,
    /// `nft list ruleset`.
    pub(super) nft: Text,
    /// Those below `/proc/sys`, by their path there.
    pub(super) sysctls: BTreeMap<String, String>,
    /// Of each interface but the loopback.
    pub(super) mtus: BTreeMap<String, u32>,
    /// Of servers that rules name, by `ip route get`.
    pub(super) routes: BTreeMap<IpAddr, String>,
    /// `ethtool -k`, of each interface.
    pub(super) offloads: BTreeMap<String, Text>,
    /// `/proc/net/netfilter/nfnetlink_queue`.
    pub(super) queues: Text,
    /// `/proc/net/stat/xt_synproxy`.
    pub(super) counters: Text,
}

const SYSCTLS: [&str; 6] = [
    "net/netfilter/nf_conntrack_tcp_loose",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_buckets",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
];

pub(super) fn facts() -> Facts {
    let saved = saved();
    let interfaces = interfaces();
    Facts {
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: file("/proc/sys/kernel/osrelease").unwrap_or_default(),
        modules: file("/proc/modules"),
        loaded: file("/sys/module/xt_SYNPROXY/version"),
        installed: run("modinfo", &["-F", "version", "xt_SYNPROXY"]),
        modprobe: run("modprobe", &["--showconfig"]).map(|text| {
            // What follows are the indexes, with aliases of modules that count for less than names.
            let ours = text
                .lines()
                .take_while(|line| !line.starts_with("# End of configuration files"))
                .filter(|line| line.contains("_SYNPROXY"));
            ours.collect::<Vec<_>>().join("\n")
        }),
        libraries: libraries(),
        nft: run("nft", &["list", "ruleset"]),
        sysctls: SYSCTLS
            .iter()
            .filter_map(|name| {
                Some((
                    String::from(*name),
                    file(&format!("/proc/sys/{name}")).ok()?,
                ))
            })
            .collect(),
        routes: servers(&saved)
            .filter_map(|server| {
                Some((
                    server,
                    run("ip", &["route", "get", &server.to_string()]).ok()?,
                ))
            })
            .collect(),
        offloads: interfaces
            .keys()
            .map(|name| (name.clone(), run("ethtool", &["-k", name])))
            .collect(),
        mtus: interfaces,
        queues: file("/proc/net/netfilter/nfnetlink_queue"),
        counters: file(counters::FILE),
        saved,
    }
}

fn file(path: &str) -> Text {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Unseen::Absent(path.into())),
        Err(error) => Err(Unseen::Failed(format!("{path}: {error}"))),
    }
}

/// What a program prints. It is found where administrators have theirs, whatever PATH says.
fn run(program: &str, args: &[&str]) -> Text {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    let output = Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().into())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said
                .lines()
                .next()
                .unwrap_or("it failed and did not say why");
            Err(Unseen::Failed(format!("{program}: {first}")))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Unseen::Absent(program.into())),
        Err(error) => Err(Unseen::Failed(format!("{program}: {error}"))),
    }
}

/// Both forms of iptables, where there are two; their names say which is which.
fn saved() -> Vec<Saved> {
    let mut all = Vec::new();
    for (family, iptables) in [(Family::Ipv4, "iptables"), (Family::Ipv6, "ip6tables")] {
        let save = |program: String| Saved {
            family,
            text: run(&program, &["-c"]),
            program,
        };
        let mut forms: Vec<Saved> = ["nft", "legacy"]
            .map(|form| save(format!("{iptables}-{form}-save")))
            .into_iter()
            .filter(|saved| !matches!(saved.text, Err(Unseen::Absent(_))))
            .collect();
        if forms.is_empty() {
            forms.push(save(format!("{iptables}-save")));
        }
        all.extend(forms);
    }
    all
}

/// The single addresses to which rules with the target apply.
fn servers(saved: &[Saved]) -> impl Iterator<Item = IpAddr> + '_ {
    let rulesets = saved.iter().filter_map(|saved| {
        let text = saved.text.as_ref().ok()?;
        Ruleset::parse(saved.family, &saved.program, text).ok()
    });
    rulesets.flat_map(|ruleset| {
        let ours = ruleset.all().filter(|(_, rule)| rule.is_to("SYNPROXY"));
        let servers = ours.filter_map(|(_, rule)| match Scope::of(rule).destination? {
            (false, net) if net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
            _ => None,
        });
        servers.collect::<Vec<_>>()
    })
}

fn interfaces() -> BTreeMap<String, u32> {
    let entries = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name != "lo")
        .filter_map(|name| {
            let mtu = file(&format!("/sys/class/net/{name}/mtu"))
                .ok()?
                .parse()
                .ok()?;
            Some((name, mtu))
        })
        .collect()
}

/// Where iptables looks for its extensions: as it was built, which shows in those that it comes with.
fn libraries() -> Vec<Library> {
    let directories: Vec<PathBuf> = match env::var_os("XTABLES_LIBDIR") {
        Some(given) => env::split_paths(&given).collect(),
        None => {
            let children = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
            children
                .map(|child| child.path().join("xtables"))
                .chain(
                    [
                        "/usr/lib/xtables",
                        "/usr/lib64/xtables",
                        "/usr/local/lib/xtables",
                    ]
                    .map(PathBuf::from),
                )
                .filter(|directory| directory.join("libxt_standard.so").exists())
                .collect()
        }
    };
    directories
        .iter()
        .map(|directory| library(directory))
        .collect()
}

fn library(directory: &Path) -> Library {
    let synproxy = fs::read(directory.join("libxt_SYNPROXY.so")).ok();
    Library {
        directory: directory.display().to_string(),
        synproxy: synproxy.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        has_spstate: directory.join("libxt_spstate.so").exists(),
    }
}
