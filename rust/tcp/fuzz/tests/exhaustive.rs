// SPDX-License-Identifier: GPL-2.0-only

//! What has a small domain, tried in all of it.

use synproxy_tcp::{
    handshake::{is_near, joined, KEPT_MSS_V4, KEPT_MSS_V6},
    hold::before,
    ip::{is_plain_v4, is_plain_v6, V4_HEADER_LEN, V6_HEADER_LEN},
    options::{Options, Timestamps, MAX_LEN, MAX_WSCALE},
    segment::{flags, Repr, MAX_HEADER_LEN},
    state::{Marks, COOKIE_LIFE},
    timestamp::{as_summed, is_for, is_in_order, is_recent, Extras},
};
use synproxy_tcp_fuzz::{ip, options, segment, state};

/// All that a last word can say but the MSS, which is sixteen bits of it as they are, in all of its phases.
#[test]
fn every_phase() {
    for high in 0..=u16::MAX {
        for mss in [0, 1460, u16::MAX] {
            state::packed([1, 2, u32::from(high) << 16 | u32::from(mss)]);
        }
        for bits in 0..8 {
            for expires in [0, COOKIE_LIFE, COOKIE_LIFE + 1, u32::MAX] {
                let marks = Marks {
                    seq_adjust: bits & 1 != 0,
                    fixed_timeout: bits & 2 != 0,
                    seqadj: bits & 4 != 0,
                    expires,
                };
                for isn in [0, 1] {
                    state::phase(Some([isn, 0, u32::from(high) << 16]), marks);
                }
                state::phase(None, marks);
            }
        }
    }
}

/// Sequence numbers and clocks wrap around: only the distance counts. Each one near a border is tried, and
/// one in a thousand of the others.
#[test]
fn every_distance() {
    let near = -0x10_0000..=0x10_0000;
    let far = (i64::from(i32::MIN)..=i64::from(i32::MAX)).step_by(1009);
    let half = near.clone().map(|near| near + (1 << 31));
    for distance in near.chain(half).chain(far) {
        // CAST: It wraps around as they do.
        let distance = distance as i32;
        let (a, b) = (u32::MAX - 5, (u32::MAX - 5).wrapping_add_signed(distance));
        // At half the way around each is before the other.
        assert!(before(a, b) == (distance > 0 || distance == i32::MIN));
        assert!(is_in_order(a, b) == (distance >= 0));
        assert_eq!(is_near(b, a), (-0x4_0000..0x4_0000).contains(&distance));
    }
}

/// A timestamp of any age, at the end of the clock.
#[test]
fn every_age_of_a_timestamp() {
    let now = 100_000;
    for sent in (0..=u32::MAX).step_by(256) {
        let age = i64::from(now) - i64::from(sent);
        let age = if age < -1000 { age + (1 << 32) } else { age };
        for extras in [0, 0x5a, 0xff] {
            assert_eq!(
                is_recent(sent | extras, now),
                age <= 120_000 + 255,
                "{sent}"
            );
        }
    }
}

/// Every option kind of every length at every place, behind padding and with something behind it.
#[test]
fn every_option_everywhere() {
    let mut bytes = [1; MAX_LEN];
    for at in 0..MAX_LEN {
        for kind in 0..=255 {
            for len in 0..=255 {
                bytes[at] = kind;
                for (data, byte) in bytes[at + 1..].iter_mut().enumerate() {
                    *byte = 0xa0 + data as u8;
                }
                if let Some(byte) = bytes.get_mut(at + 1) {
                    *byte = len;
                }
                // What follows a known one is known again, unless it is cut short.
                if let Some(behind) = bytes.get_mut(at + usize::from(len.max(2))..) {
                    let mss = [2, 4, 5, 180];
                    for (to, from) in behind.iter_mut().zip(mss) {
                        *to = from;
                    }
                }
                assert_eq!(Options::parse(&bytes), options::known(&bytes));
            }
        }
        bytes[at] = 1;
    }
}

/// The same for the kinds that matter, with all that is said of options, in headers of every length.
#[test]
fn every_known_option_in_every_header() {
    for total in 0..=MAX_LEN {
        for at in 0..total {
            for kind in 0..=9 {
                for len in 0..=MAX_LEN as u8 + 1 {
                    let mut bytes = vec![1; total];
                    bytes[at] = kind;
                    if let Some(byte) = bytes.get_mut(at + 1) {
                        *byte = len;
                    }
                    options::parsed(&bytes);
                }
            }
        }
    }
}

/// All that can be written: each MSS, each window scale, each set of options.
#[test]
fn every_option_written() {
    for present in 0..16 {
        for mss in 0..=u16::MAX {
            options::emitted(&Options {
                mss: (present & 1 != 0).then_some(mss),
                wscale: (present & 2 != 0).then_some((mss % 15) as u8),
                sack_perm: present & 4 != 0,
                timestamps: (present & 8 != 0).then_some(Timestamps {
                    val: u32::from(mss) << 16,
                    ecr: !u32::from(mss),
                }),
            });
        }
    }
}

/// Both bytes in which lengths, reserved and control bits are.
#[test]
fn every_control_word() {
    let mut bytes = [1; MAX_HEADER_LEN];
    for word in 0..=u16::MAX {
        [bytes[12], bytes[13]] = word.to_be_bytes();
        for total in [0, 19, 20, 40, 59, 60, 1500] {
            segment::read(&bytes, total);
        }
    }
}

/// Every window that a server may show, at every scale.
#[test]
fn every_window() {
    for shift in 0..=MAX_WSCALE {
        for window in 0..=u16::MAX {
            let server = Repr {
                flags: flags::SYN | flags::ACK,
                window,
                options: Options {
                    wscale: Some(shift),
                    ..Options::default()
                },
                ..Repr::default()
            };
            let shown = joined(&segment::received(&server, 0), 1, 0, 1)
                .to_client
                .window;
            let expected = (window / 2u16.pow(shift.into())).max(window.min(1));
            assert_eq!(shown, expected, "{window} {shift}");
        }
    }
}

/// Everything that a timestamp carries, beside each MSS that a cookie can keep.
#[test]
fn every_extra_in_a_timestamp() {
    for table in [KEPT_MSS_V4, KEPT_MSS_V6] {
        for mss in table {
            for low in 0..=0xffff {
                let extras = Extras::decode(low);
                let val = extras.encode(low << 16 | low, mss);
                assert_ne!(val, 0);
                assert_eq!(Extras::decode(val), extras);
                for other in table {
                    assert_eq!(is_for(val, other), other == mss);
                }
            }
        }
    }
}

/// Each value of each pair of bytes in an IP header that is plain otherwise.
#[test]
fn every_word_of_an_ip_header() {
    let mut v4 = [64; V4_HEADER_LEN];
    v4[..10].copy_from_slice(&[0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6]);
    let mut v6 = [0x20; V6_HEADER_LEN];
    v6[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, 6, 64]);
    for plain in [&mut v4[..], &mut v6] {
        assert!(is_plain_v4(plain, 60) || is_plain_v6(plain, 60));
        for at in (0..plain.len()).step_by(2) {
            let kept = [plain[at], plain[at + 1]];
            for word in 0..=u16::MAX {
                plain[at..at + 2].copy_from_slice(&word.to_be_bytes());
                ip::read(plain, 60, 64);
            }
            plain[at..at + 2].copy_from_slice(&kept);
        }
    }
}

/// How the checksum counts a number at an even and at an odd place: each byte, at each place in it.
#[test]
fn every_byte_summed() {
    for number in (0..4).flat_map(|at| (0..=255u32).map(move |byte| byte << (8 * at))) {
        for offset in 0..8 {
            let mut bytes = [0u8; 12];
            bytes[offset..offset + 4].copy_from_slice(&number.to_be_bytes());
            let sum: u32 = bytes
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
                .sum();
            let summed = as_summed(number, offset);
            assert_eq!((summed >> 16) + (summed & 0xffff), sum);
        }
    }
}
