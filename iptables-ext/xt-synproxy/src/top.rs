// SPDX-License-Identifier: GPL-2.0-only

//! Counters as they grow.

use crate::{cli::Top, counters, counters::Counters, print};
use std::{
    fmt::Write,
    fs,
    io::{self, ErrorKind, IsTerminal},
    thread::sleep,
    time::{Duration, Instant},
};

/// Cursor to the upper left corner; from there on all that is behind what was written goes.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_REST: &str = "\x1b[J";
const CLEAR_ALL: &str = "\x1b[2J";

/// The verb.
pub(crate) fn run(args: &Top) -> Result<(), String> {
    let repaint = io::stdout().is_terminal() && args.count != Some(1);
    let interval = Duration::from_secs(args.interval.into());
    let mut last: Option<(Instant, Counters)> = None;
    let mut round = 0;
    loop {
        let now = Instant::now();
        let counters = look()?;
        let rates = last
            .as_ref()
            .map(|(then, before)| (now.duration_since(*then), before));
        let mut text = table(&counters, rates);
        if repaint {
            let clear = if last.is_none() { CLEAR_ALL } else { "" };
            text = format!(
                "{clear}{HOME}{}{CLEAR_REST}",
                text.replace('\n', CLEAR_LINE)
            );
        } else if last.is_some() {
            text.insert(0, '\n');
        }
        print(&text)?;
        round += 1;
        if args.count == Some(round) {
            return Ok(());
        }
        last = Some((now, counters));
        // What is done in between does not add up.
        sleep(interval.saturating_sub(now.elapsed()));
    }
}

fn look() -> Result<Counters, String> {
    let text = fs::read_to_string(counters::FILE).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!(
            "{}: not there: xt_SYNPROXY is not loaded; the first rule with -j SYNPROXY loads it",
            counters::FILE
        ),
        _ => format!("{}: {error}", counters::FILE),
    })?;
    Counters::parse(&text)
}

/// Names, sums, and if there was a look before, what came since in each second.
fn table(counters: &Counters, before: Option<(Duration, &Counters)>) -> String {
    let mut text = match before {
        Some(_) => format!("{:<16}{:>14}{:>14}\n", "", "total", "per second"),
        None => format!("{:<16}{:>14}\n", "", "total"),
    };
    let grown = before.map(|(time, before)| (time, counters.since(before)));
    for (column, (name, sum)) in counters.sums().enumerate() {
        let rate = grown.as_ref().map(|(time, grown)| {
            // CAST: What is rounded is shown with one digit.
            grown.get(column).copied().unwrap_or(0) as f64 / time.as_secs_f64()
        });
        // A String takes all that is written to it.
        let _ = match rate {
            Some(rate) => writeln!(text, "{name:<16}{sum:>14}{rate:>14.1}"),
            None => writeln!(text, "{name:<16}{sum:>14}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_sums_and_rates() {
        let before = Counters::parse("entries syn_received\n0 10\n0 1\n").unwrap();
        assert_eq!(
            table(&before, None),
            "                         total\n\
             entries                      0\n\
             syn_received                17\n"
        );
        let after = Counters::parse("entries syn_received\n0 20\n0 2\n").unwrap();
        assert_eq!(
            table(&after, Some((Duration::from_secs(2), &before))),
            "                         total    per second\n\
             entries                      0           0.0\n\
             syn_received                34           8.5\n"
        );
    }
}
