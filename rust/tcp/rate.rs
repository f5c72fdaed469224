// SPDX-License-Identifier: GPL-2.0-only

//! How often something may be done, by the generic cell rate algorithm (ITU-T I.371).
//!
//! All that is kept is when the next one would be due if they came evenly: a bucket without a tick.
//! Times are of a nanosecond clock that does not wrap around.

use core::num::NonZeroU32;

/// The highest rate. Intervals are whole nanoseconds, rounded up: there are never too many, and up to
/// here no more than 1 % too few.
pub const MAX_RATE: u32 = 10_000_000;

const SECOND_NS: u32 = 1_000_000_000;

/// What may come at once after a pause: as many as are due in this time, and one at least.
const BURST_NS: u64 = 100_000_000;

/// So many a second, 1 to [`MAX_RATE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(NonZeroU32);

impl Rate {
    /// `None` when it is out of range.
    pub fn new(per_second: u32) -> Option<Self> {
        NonZeroU32::new(per_second)
            .filter(|rate| rate.get() <= MAX_RATE)
            .map(Self)
    }

    fn interval_ns(self) -> u64 {
        let round_up = self.0.get().wrapping_sub(1);
        (SECOND_NS.wrapping_add(round_up) / self.0).into()
    }

    /// When the next one is due if one more is done at `now_ns` and this one was due at `due_ns`;
    /// `None` if it may not be done.
    ///
    /// What has other rates may share a bucket. Each takes its own interval out of it, and by one's own
    /// burst it is judged whether it is empty: the lower rate gives way.
    pub fn take(self, due_ns: u64, now_ns: u64) -> Option<u64> {
        let interval = self.interval_ns();
        let next = due_ns.max(now_ns).saturating_add(interval);
        (next.saturating_sub(now_ns) <= interval.max(BURST_NS)).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = SECOND_NS as u64;

    fn rate(per_second: u32) -> Rate {
        Rate::new(per_second).unwrap()
    }

    /// How many of `asked` are allowed at `now`.
    fn at_once(rate: Rate, due: &mut u64, now: u64, asked: u32) -> u32 {
        let mut allowed = 0;
        while allowed < asked {
            let Some(next) = rate.take(*due, now) else {
                break;
            };
            *due = next;
            allowed += 1;
        }
        allowed
    }

    #[test]
    fn what_is_out_of_range_is_no_rate() {
        for per_second in [0, MAX_RATE + 1, u32::MAX] {
            assert_eq!(Rate::new(per_second), None);
        }
        for per_second in [1, MAX_RATE] {
            assert!(Rate::new(per_second).is_some());
        }
    }

    #[test]
    fn a_clock_that_stands_still_gives_a_burst() {
        for (per_second, burst) in [
            (1, 1),
            (9, 1),
            (10, 1),
            (19, 1),
            (20, 2),
            (1000, 100),
            (12_345, 1234),
            (1_000_000, 100_000),
            (MAX_RATE, 1_000_000),
        ] {
            for now in [0, 1, 77 * SECOND, 1 << 60] {
                let mut due = 0;
                assert_eq!(
                    at_once(rate(per_second), &mut due, now, 2_000_000),
                    burst,
                    "{per_second} at {now}"
                );
            }
        }
    }

    #[test]
    fn a_flood_gets_the_rate_and_a_burst() {
        // Ten seconds, a SYN each 50 µs: of rates that divide a second, exactly.
        for (per_second, burst) in [(1, 1), (5, 1), (10, 1), (20, 2), (100, 10), (1000, 100)] {
            let (start, mut due) = (5 * SECOND, 0);
            let allowed: u32 = (0..200_000)
                .map(|i| at_once(rate(per_second), &mut due, start + i * 50_000, 1))
                .sum();
            // The first of the eleventh second would come with the next SYN.
            assert_eq!(allowed, 10 * per_second + burst - 1, "{per_second}");
        }
    }

    #[test]
    fn there_are_never_too_many_and_hardly_too_few() {
        for per_second in [
            3,
            7,
            999,
            33_333,
            999_999,
            7_777_777,
            MAX_RATE - 1,
            MAX_RATE,
        ] {
            let (mut due, mut allowed) = (0, 0);
            for ms in 1_000..=3_000u64 {
                let now = ms * 1_000_000;
                allowed += at_once(rate(per_second), &mut due, now, u32::MAX);
            }
            let most = 2 * per_second + (per_second / 10).max(1);
            assert!(allowed <= most, "{per_second}: {allowed} of {most}");
            assert!(
                allowed + 2 >= most / 100 * 99,
                "{per_second}: {allowed} of {most}"
            );
        }
    }

    #[test]
    fn who_keeps_to_it_is_never_denied() {
        for per_second in [1, 3, 10, 1000, 999_999, MAX_RATE] {
            let (rate, mut due, mut now) = (rate(per_second), 0, 123_456_789);
            for _ in 0..10_000 {
                due = rate.take(due, now).unwrap();
                now += rate.interval_ns();
            }
        }
    }

    #[test]
    fn a_long_pause_saves_up_no_more_than_a_burst() {
        let mut due = 0;
        assert_eq!(at_once(rate(1000), &mut due, SECOND, 1000), 100);
        assert_eq!(at_once(rate(1000), &mut due, 1_000_000 * SECOND, 1000), 100);
        // Half of it is back by half of the time.
        let later = 1_000_000 * SECOND + BURST_NS / 2;
        assert_eq!(at_once(rate(1000), &mut due, later, 1000), 50);
    }

    #[test]
    fn rules_of_one_rate_have_one_bucket() {
        let mut due = 0;
        let (one, other) = (rate(100), rate(100));
        let (mut ones, mut others) = (0, 0);
        for i in 0..10_000 {
            ones += at_once(one, &mut due, SECOND + i * 1_000_000, 1);
            others += at_once(other, &mut due, SECOND + i * 1_000_000, 1);
        }
        assert_eq!(ones + others, 10 * 100 + 10 - 1);
    }

    #[test]
    fn of_two_rates_the_lower_gives_way() {
        let mut due = 0;
        let (low, high) = (rate(10), rate(1000));
        assert_eq!(at_once(high, &mut due, SECOND, 1000), 100);
        let (mut lows, mut highs) = (0, 0);
        for ms in 1_000..11_000 {
            lows += at_once(low, &mut due, ms * 1_000_000, 5);
            highs += at_once(high, &mut due, ms * 1_000_000, 5);
        }
        assert_eq!((lows, highs), (0, 9_999));
        // The other way round the higher one has what is left, which is of its own rate.
        let mut due = 0;
        assert_eq!(at_once(low, &mut due, SECOND, 10), 1);
        assert_eq!(at_once(high, &mut due, SECOND, 10), 0);
        assert_eq!(at_once(high, &mut due, SECOND + BURST_NS, 1000), 100);
    }

    #[test]
    fn a_clock_that_is_a_little_behind_allows_no_more() {
        let mut due = 0;
        assert_eq!(at_once(rate(1000), &mut due, 5 * SECOND, 1000), 100);
        assert_eq!(at_once(rate(1000), &mut due, 5 * SECOND - 1, 1000), 0);
        assert_eq!(at_once(rate(1000), &mut due, 0, 1000), 0);
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        for due in [0, u64::MAX - 1, u64::MAX] {
            for now in [0, u64::MAX - 1, u64::MAX] {
                for per_second in [1, MAX_RATE] {
                    let _ = rate(per_second).take(due, now);
                }
            }
        }
        assert_eq!(rate(1).take(u64::MAX, 0), None);
    }
}
