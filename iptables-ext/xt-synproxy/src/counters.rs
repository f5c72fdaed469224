// SPDX-License-Identifier: GPL-2.0-only

//! `/proc/net/stat/xt_synproxy`: names of columns, and a line for each CPU, in hexadecimal.

/// Where they are, for the network namespace of who reads.
pub(crate) const FILE: &str = "/proc/net/stat/xt_synproxy";

/// All counters at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    names: Vec<String>,
    cpus: Vec<Vec<u32>>,
}

impl Counters {
    /// Reads the file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let words = |line: &str| {
            line.split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let mut lines = text.lines();
        let names = lines.next().map(words).unwrap_or_default();
        if names.is_empty() {
            return Err(format!(
                "{FILE}: expected the names of columns in its first line"
            ));
        }
        let cpus = lines.map(words).map(|fields| {
            let numbers = fields.iter().map(|field| u32::from_str_radix(field, 16));
            let numbers: Vec<_> = numbers.collect::<Result<_, _>>().ok()?;
            (numbers.len() == names.len()).then_some(numbers)
        });
        let cpus: Vec<_> = cpus.collect::<Option<_>>().ok_or_else(|| {
            format!(
                "{FILE}: expected {} hexadecimal numbers in each line",
                names.len()
            )
        })?;
        Ok(Self { names, cpus })
    }

    /// Each name with the sum over all CPUs.
    pub(crate) fn sums(&self) -> impl Iterator<Item = (&str, u64)> {
        let sum = |column| self.column(column).map(u64::from).sum();
        self.names
            .iter()
            .enumerate()
            .map(move |(column, name)| (name.as_str(), sum(column)))
    }

    /// The sum of one.
    pub(crate) fn sum(&self, name: &str) -> Option<u64> {
        self.sums().find(|(it, _)| *it == name).map(|(_, sum)| sum)
    }

    /// How much each has grown since `before`. The kernel's numbers wrap around.
    pub(crate) fn since(&self, before: &Self) -> Vec<u64> {
        let grown = |column| {
            let pairs = self.column(column).zip(before.column(column));
            pairs
                .map(|(now, then)| u64::from(now.wrapping_sub(then)))
                .sum()
        };
        (0..self.names.len()).map(grown).collect()
    }

    fn column(&self, column: usize) -> impl Iterator<Item = u32> + '_ {
        self.cpus
            .iter()
            .filter_map(move |cpu| cpu.get(column).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "entries\t\tsyn_received\tcookie_invalid\n\
        00000000\tffffffff\t00000010\n00000000\t00000002\t00000001\n";

    #[test]
    fn cpus_are_added_up() {
        let counters = Counters::parse(TEXT).unwrap();
        let sums: Vec<_> = counters.sums().collect();
        assert_eq!(
            sums,
            [
                ("entries", 0),
                ("syn_received", 0x1_0000_0001),
                ("cookie_invalid", 17)
            ]
        );
        assert_eq!(counters.sum("cookie_invalid"), Some(17));
        assert_eq!(counters.sum("gate_full"), None);
    }

    #[test]
    fn what_wraps_around_has_grown() {
        let before = Counters::parse(TEXT).unwrap();
        let after = TEXT
            .replace("ffffffff", "00000003")
            .replace("00000002", "00000004");
        let after = Counters::parse(&after).unwrap();
        assert_eq!(after.since(&before), [0, 4 + 2, 0]);
    }

    #[test]
    fn what_is_not_the_file_is_refused() {
        for text in [
            "",
            "\n",
            "a b\n1\n",
            "a b\n1 2 3\n",
            "a b\n1 g\n",
            "a\n100000000\n",
        ] {
            assert!(Counters::parse(text).is_err(), "{text:?}");
        }
    }
}
