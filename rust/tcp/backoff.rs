// SPDX-License-Identifier: GPL-2.0-only

//! When a SYN is sent once more (RFC 6298): after a second, and twice as long each time.

const FIRST_MS: u32 = 1000;

/// `TCP_RTO_MAX` of `include/net/tcp.h`.
const MAX_MS: u32 = 120_000;

/// Where the sender of a SYN stands; times are of a millisecond clock that wraps around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    due_ms: u32,
    repeated: u8,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for so many milliseconds.
    Wait(u32),
    /// Send the SYN once more.
    Repeat,
    /// There was no answer to all of them.
    GiveUp,
}

impl Backoff {
    /// The first SYN is sent at `now_ms`.
    pub fn new(now_ms: u32) -> Self {
        Self {
            due_ms: now_ms.wrapping_add(FIRST_MS),
            repeated: 0,
        }
    }

    /// Milliseconds until there is something to do; 0 if there is now.
    pub fn wait_ms(&self, now_ms: u32) -> u32 {
        let wait = self.due_ms.wrapping_sub(now_ms);
        if wait <= MAX_MS {
            wait
        } else {
            0
        }
    }

    /// What to do at `now_ms`, if a SYN is repeated `limit` times at most.
    pub fn step(&mut self, now_ms: u32, limit: u8) -> Step {
        let wait = self.wait_ms(now_ms);
        if wait != 0 {
            return Step::Wait(wait);
        }
        if self.repeated >= limit {
            return Step::GiveUp;
        }
        self.repeated = self.repeated.saturating_add(1);
        // At 7 doublings it is past the maximum, and the shift does not overflow yet.
        let delay = FIRST_MS.wrapping_shl(self.repeated.min(7).into());
        self.due_ms = now_ms.wrapping_add(delay.min(MAX_MS));
        Step::Repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which SYNs are repeated, and the one at which that ends, in milliseconds.
    fn schedule(start: u32, limit: u8) -> (Vec<u32>, u32) {
        let mut backoff = Backoff::new(start);
        let (mut now, mut repeats) = (start, Vec::new());
        loop {
            match backoff.step(now, limit) {
                Step::Wait(ms) => now = now.wrapping_add(ms),
                Step::Repeat => repeats.push(now.wrapping_sub(start)),
                Step::GiveUp => return (repeats, now.wrapping_sub(start)),
            }
        }
    }

    #[test]
    fn it_doubles_and_ends() {
        for start in [0, 5, u32::MAX, u32::MAX - 20_000] {
            assert_eq!(schedule(start, 0), (vec![], 1000));
            assert_eq!(schedule(start, 3), (vec![1000, 3000, 7000], 15_000));
            assert_eq!(schedule(start, 6).1, 127_000);
            assert_eq!(schedule(start, 8).1, 127_000 + 2 * 120_000);
        }
    }

    #[test]
    fn every_limit_ends() {
        for limit in 0..=255 {
            assert_eq!(schedule(7, limit).0.len(), usize::from(limit));
        }
    }

    #[test]
    fn who_comes_late_repeats_once() {
        let mut backoff = Backoff::new(0);
        assert_eq!(backoff.step(50_000, 5), Step::Repeat);
        assert_eq!(backoff.step(50_001, 5), Step::Wait(1999));
    }
}
