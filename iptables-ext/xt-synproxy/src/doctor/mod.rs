// SPDX-License-Identifier: GPL-2.0-only

//! Looks at a running system. What is seen is put into texts by [`collect`]; what is wrong with them
//! is said by [`checks`], which knows nothing else.

mod checks;
mod collect;
mod ruleset;

use crate::{complain, print};
use core::fmt::Write;
use std::process::ExitCode;

/// Something is wrong.
const FAULT: u8 = 1;
/// Nothing is wrong that could be seen, but not all could be seen.
const BLIND: u8 = 2;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Something does not work, or does not protect.
    Fault,
    /// It may be as it is meant.
    Hint,
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: String,
    /// The rule, if it is about one.
    rule: Option<String>,
    advice: String,
}

/// All of them, and what could not be judged.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
    /// What was not looked at, and why.
    unseen: Vec<String>,
    /// Something of that without which the rest says little.
    is_blind: bool,
    /// How many rules have the target.
    rules: usize,
}

/// The verb.
pub(crate) fn run() -> ExitCode {
    let report = checks::examine(&collect::facts());
    match print(&report.text()) {
        Ok(()) => report.status().into(),
        Err(error) => {
            complain(&error);
            BLIND.into()
        }
    }
}

impl Report {
    fn faults(&self) -> usize {
        let is_fault = |finding: &&Finding| finding.level == Level::Fault;
        self.findings.iter().filter(is_fault).count()
    }

    fn status(&self) -> u8 {
        match (self.faults(), self.is_blind) {
            (0, false) => 0,
            (0, true) => BLIND,
            _ => FAULT,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // A String takes all that is written to it.
        for finding in &self.findings {
            let level = match finding.level {
                Level::Fault => "fault",
                Level::Hint => "hint",
            };
            let _ = writeln!(text, "{level}: {}", finding.what);
            if let Some(rule) = &finding.rule {
                let _ = writeln!(text, "    {rule}");
            }
            let _ = writeln!(text, "  do: {}", finding.advice);
        }
        for unseen in &self.unseen {
            let _ = writeln!(text, "not looked at: {unseen}");
        }
        let rules = match self.rules {
            0 => "no rule has".into(),
            1 => String::from("1 rule has"),
            rules => format!("{rules} rules have"),
        };
        let hints = self.findings.len() - self.faults();
        let _ = match (self.faults(), self.is_blind) {
            (0, true) => writeln!(
                text,
                "Too little could be looked at; it takes root, and iptables."
            ),
            (0, false) if hints == 0 => {
                writeln!(text, "Nothing is wrong; {rules} the target SYNPROXY.")
            }
            (faults, _) => writeln!(
                text,
                "Faults: {faults}, hints: {hints}; {rules} the target SYNPROXY."
            ),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_it_ends() {
        let finding = |level| Finding {
            level,
            what: "it is".into(),
            rule: Some("-A X".into()),
            advice: "do not".into(),
        };
        let mut report = Report::default();
        assert_eq!(report.status(), 0);
        assert_eq!(
            report.text(),
            "Nothing is wrong; no rule has the target SYNPROXY.\n"
        );
        report.findings.push(finding(Level::Hint));
        assert_eq!(report.status(), 0);
        report.is_blind = true;
        report.unseen.push("rules: not root".into());
        assert_eq!(report.status(), BLIND);
        assert!(report.text().ends_with("it takes root, and iptables.\n"));
        report.findings.push(finding(Level::Fault));
        report.rules = 2;
        assert_eq!(report.status(), FAULT);
        assert_eq!(
            report.text(),
            "hint: it is\n    -A X\n  do: do not\nfault: it is\n    -A X\n  do: do not\n\
             not looked at: rules: not root\nFaults: 1, hints: 1; 2 rules have the target SYNPROXY.\n"
        );
    }
}
