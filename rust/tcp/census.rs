// SPDX-License-Identifier: GPL-2.0-only

//! How many clients wait, or did in vain, without a list of them.
//!
//! Conntrack forgets an entry at its time without telling. When that will be is known from its birth
//! on: so entries are counted by the period in which they end. Who ends before its time is taken out
//! of its period where that is noticed, and with its period otherwise: the count is never too low.

/// Length of a period is 2 to this power, in milliseconds: 8.192 s.
const PERIOD_SHIFT: u32 = 13;

/// As many as the longest life has, and some to spare: 70 min. A power of two, as the clock wraps.
const PERIODS: usize = 512;

/// The count.
pub struct Census {
    ends: [u32; PERIODS],
    total: u32,
    /// The period that was current when somebody looked last.
    current: u32,
}

impl Census {
    /// Nobody.
    pub const fn new() -> Self {
        Self {
            ends: [0; PERIODS],
            total: 0,
            current: 0,
        }
    }

    fn end(&mut self, period: u32) -> Option<&mut u32> {
        // CAST: Less than PERIODS.
        self.ends
            .get_mut((period & (PERIODS as u32).wrapping_sub(1)) as usize)
    }

    /// Takes out those whose time is over.
    fn advance(&mut self, now_ms: u32) {
        let now = now_ms >> PERIOD_SHIFT;
        let passed = now.wrapping_sub(self.current) & (u32::MAX >> PERIOD_SHIFT);
        for back in 0..passed.min(PERIODS as u32) {
            let over = self
                .end(self.current.wrapping_add(back))
                .map_or(0, core::mem::take);
            self.total = self.total.wrapping_sub(over);
        }
        self.current = now;
    }

    /// The period in which a life ends that has `left_s` seconds left: never too early.
    fn last(now_ms: u32, left_s: u32) -> u32 {
        let left = left_s.min(4000).wrapping_mul(1000);
        now_ms.wrapping_add(left) >> PERIOD_SHIFT
    }

    /// One more, for `life_s` seconds; `false` when there are `limit` already.
    pub fn enter(&mut self, now_ms: u32, life_s: u32, limit: u32) -> bool {
        self.advance(now_ms);
        if self.total >= limit {
            return false;
        }
        if let Some(end) = self.end(Self::last(now_ms, life_s)) {
            *end = end.wrapping_add(1);
            self.total = self.total.wrapping_add(1);
        }
        true
    }

    /// One less, which had `left_s` seconds left, rounded up.
    pub fn leave(&mut self, now_ms: u32, left_s: u32) {
        self.advance(now_ms);
        // One period too early, it is somebody else who is taken out, and this one's place is left to him.
        // Too late, his would be over before he is: only if there is no other.
        let first = Self::last(now_ms, left_s.saturating_sub(1));
        for period in [first, first.wrapping_add(1), first.wrapping_add(2)] {
            if let Some(end) = self.end(period).filter(|end| **end != 0) {
                *end = end.wrapping_sub(1);
                self.total = self.total.wrapping_sub(1);
                return;
            }
        }
    }

    /// How many there are at most.
    pub fn total(&mut self, now_ms: u32) -> u32 {
        self.advance(now_ms);
        self.total
    }
}

impl Default for Census {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_taken_out_goes_with_the_time() {
        for start in [0, 12_345, u32::MAX - 60_000] {
            let mut census = Census::new();
            let at = |s: u32| start.wrapping_add(s * 1000);
            assert_eq!(census.total(at(0)), 0);
            assert!(census.enter(at(0), 150, 3));
            assert!(census.enter(at(10), 3720, 3));
            assert!(census.enter(at(20), 150, 3));
            assert!(!census.enter(at(21), 150, 3));
            assert_eq!(census.total(at(149)), 3, "{start}");
            assert_eq!(census.total(at(160)), 2, "{start}");
            assert_eq!(census.total(at(180)), 1, "{start}");
            assert_eq!(census.total(at(3729)), 1, "{start}");
            assert_eq!(census.total(at(3740)), 0, "{start}");
            assert!(census.ends.iter().all(|end| *end == 0));
        }
    }

    #[test]
    fn who_is_taken_out_is_taken_out_once() {
        let mut census = Census::new();
        for i in 0..1000 {
            assert!(census.enter(i, 150, 1000));
        }
        assert!(!census.enter(1000, 150, 1000));
        for i in 0..1000 {
            // Rounded up to a second.
            census.leave(1000 + i, 150);
        }
        assert_eq!(census.total(2000), 0);
        assert!(census.enter(2000, 150, 1));
        assert_eq!(census.total(2000), 1);
        assert_eq!(census.total(200_000), 0);
    }

    #[test]
    fn who_leaves_takes_nobody_along() {
        // Of two neighbouring periods, on both sides of each border.
        for ms in (0..20_000).step_by(250) {
            let mut census = Census::new();
            assert!(census.enter(ms, 100, 9) && census.enter(ms + 8_192, 100, 9));
            // 91.808 s are left, which is rounded up.
            census.leave(ms + 8_192, 92);
            assert_eq!(census.total(ms + 8_192 + 99_999), 1, "{ms}");
            assert_eq!(census.total(ms + 2 * 8_192 + 100_000), 0, "{ms}");
        }
    }

    #[test]
    fn a_long_silence_empties_it() {
        let mut census = Census::new();
        for i in 0..500 {
            assert!(census.enter(i * 7_000, 3600, u32::MAX));
        }
        assert_eq!(census.total(500 * 7_000 + 10_000_000), 0);
        assert!(census.ends.iter().all(|end| *end == 0));
    }
}
