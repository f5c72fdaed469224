// SPDX-License-Identifier: GPL-2.0-only

//! Rates, repetitions, and the count of who waits, each against a clock that does not wrap around.

use crate::{Result, Unstructured};
use synproxy_tcp::{
    backoff::{Backoff, Step},
    census::Census,
    rate::{Rate, MAX_RATE},
};

/// A leaky bucket that rules share: each thing done adds its interval, time takes it out, and it must not
/// hold more than the burst of who wants to do one more.
pub fn rate(u: &mut Unstructured<'_>) -> Result<()> {
    const BURST_NS: u64 = 100_000_000;
    let mut per_second = [0; 2];
    for rate in &mut per_second {
        // As many decades as there are.
        let most = 10u32.pow(u.int_in_range(0..=7)?);
        *rate = u.int_in_range(1..=most)?;
    }
    let beyond = u.arbitrary::<u32>()?;
    assert_eq!(
        Rate::new(beyond).is_some(),
        (1..=MAX_RATE).contains(&beyond)
    );

    let mut now = u64::from(u.arbitrary::<u32>()?);
    let (mut due, mut bucket) = (0, 0u64);
    let (begin, mut done) = (now, [0u64; 2]);
    for _ in 0..u.int_in_range(1..=200)? {
        let which = usize::from(u.arbitrary::<bool>()?);
        let passed = u64::from(u.arbitrary::<u16>()?)
            * [1, 100, 100_000][usize::from(u.arbitrary::<u8>()? % 3)];
        now += passed;
        bucket = bucket.saturating_sub(passed);

        let interval = 1_000_000_000u64.div_ceil(per_second[which].into());
        let may = bucket + interval <= BURST_NS.max(interval);
        let rate = Rate::new(per_second[which]).expect("in range");
        let taken = rate.take(due, now);
        assert_eq!(taken.is_some(), may, "{per_second:?} {which}");
        if let Some(next) = taken {
            bucket += interval;
            done[which] += 1;
            assert_eq!(next - now, bucket);
            due = next;
        }
    }
    // Never more than the rate and a burst.
    for (done, per_second) in done.into_iter().zip(per_second) {
        let full = (BURST_NS * u64::from(per_second)).max(1_000_000_000);
        let most = ((now - begin) * u64::from(per_second) + full) / 1_000_000_000;
        assert!(done <= most, "{done} of {most}");
    }
    Ok(())
}

/// RFC 6298: a second, and twice as long each time, up to two minutes.
pub fn backoff(u: &mut Unstructured<'_>) -> Result<()> {
    let limit = u.arbitrary()?;
    let start: u32 = u.arbitrary()?;
    let mut backoff = Backoff::new(start);
    let (mut passed, mut due, mut repeated) = (0u64, 1000u64, 0u8);
    for _ in 0..u.int_in_range(1..=40)? {
        // Short of what would be taken for a clock that has gone back.
        passed += u64::from(u.arbitrary::<u16>()?) * u64::from(u.int_in_range(0..=2u8)?);
        let now = start.wrapping_add(passed as u32);
        let wait = due.saturating_sub(passed) as u32;
        assert_eq!(backoff.wait_ms(now), wait);
        let expected = if wait != 0 {
            Step::Wait(wait)
        } else if repeated >= limit {
            Step::GiveUp
        } else {
            repeated += 1;
            due = passed + (1000u64 << repeated.min(32)).min(120_000);
            Step::Repeat
        };
        assert_eq!(backoff.step(now, limit), expected);
    }
    Ok(())
}

/// Nobody who is there is forgotten, and nobody is counted for longer than a life.
pub fn census(u: &mut Unstructured<'_>) -> Result<()> {
    const PERIOD_MS: u64 = 8192;
    let start: u32 = u.arbitrary()?;
    let limit = u.int_in_range(0..=12)?;
    let mut census = Census::new();
    // When those end who are there, and when those would have who have been.
    let (mut there, mut been) = (Vec::<u64>::new(), Vec::<u64>::new());
    let mut passed = 0u64;
    for _ in 0..u.int_in_range(1..=60)? {
        // Mostly within few periods, so that many end side by side.
        let scale = [0, 1, 1, 256][usize::from(u.arbitrary::<u8>()? % 4)];
        passed += u64::from(u.arbitrary::<u16>()?) / 16 * scale;
        let now = start.wrapping_add(passed as u32);
        been.extend(there.iter().filter(|end| **end <= passed));
        there.retain(|end| *end > passed);
        been.retain(|end| end + PERIOD_MS > passed);

        let longest = if u.ratio(1, 8)? { 3720 } else { 32 };
        let life = u.int_in_range(1..=longest)?;
        let before = census.total(now);
        match u.int_in_range(0..=2)? {
            0 => {
                let entered = census.enter(now, life, limit);
                assert_eq!(entered, before < limit);
                if entered {
                    there.push(passed + u64::from(life) * 1000);
                }
            }
            1 if !there.is_empty() => {
                let end = there.swap_remove(u.choose_index(there.len())?);
                census.leave(now, (end - passed).div_ceil(1000) as u32);
                been.push(end);
                assert!([before, before - 1].contains(&census.total(now)));
            }
            _ => {}
        }
        let total = census.total(now) as usize;
        let (least, most) = (there.len(), there.len() + been.len());
        assert!((least..=most).contains(&total), "{least} {total} {most}");
    }
    Ok(())
}
