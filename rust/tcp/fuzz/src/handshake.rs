// SPDX-License-Identifier: GPL-2.0-only

//! A client and a server that talk through the proxy: each sees one connection, in its own numbers.

use crate::{options, segment, translation::number_at, Result, Unstructured};
use synproxy_tcp::{
    handshake::{
        aborted, accept, answer, challenge, is_near, joined, laden, may_bring_cookie, refuses,
        reset, rule_bits, syn, unload, unloading, KEPT_MSS_V4, KEPT_MSS_V6,
    },
    options::{Options, Timestamps, MAX_WSCALE},
    segment::{flags, Repr, Segment},
    timestamp::{translate, Direction, Extras},
    Offer, Rule, Waiting,
};

const COOKIE_LIFE_MS: u32 = 120_000;

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    rule(u)?;
    numbers(u)?;
    exchange(u)
}

fn any_rule(u: &mut Unstructured<'_>) -> Result<Rule> {
    Ok(Rule {
        options: u.arbitrary()?,
        wscale: u.arbitrary::<u8>()? % 18,
        mss: u.arbitrary()?,
        window: u.arbitrary()?,
        timeout: u.int_in_range(0..=3601)?,
        rate: u.int_in_range(0..=10_000_001)?,
    })
}

fn rule(u: &mut Unstructured<'_>) -> Result<()> {
    let rule = any_rule(u)?;
    for known in [rule_bits::REVISION_0, rule_bits::REVISION_1] {
        let on = |bit: u16| rule.options & bit != 0;
        let is_right = [
            rule.options <= known,
            !on(rule_bits::WSCALE) || rule.wscale <= 14,
            !on(rule_bits::MSS) || rule.mss != 0,
            !on(rule_bits::WINDOW) || rule.window != 0,
            !on(rule_bits::TIMEOUT) || (1..=3600).contains(&rule.timeout),
            rule.rate <= 10_000_000,
        ];
        assert_eq!(rule.check(known).is_ok(), is_right == [true; 6], "{rule:?}");
    }
    let mss = if rule.options & 1 != 0 { rule.mss } else { 536 };
    let window = match rule.options & 0x40 {
        0 => (u32::from(mss) * 10).min(65535),
        _ => rule.window.into(),
    };
    assert_eq!(u32::from(rule.window()), window);
    let timeout = if rule.options & 0x80 != 0 {
        rule.timeout
    } else {
        30
    };
    assert_eq!(rule.timeout(), timeout);
    assert_eq!(rule.defers(), rule.options & 0x20 != 0);
    Ok(())
}

/// What answers a packet by its numbers alone.
fn numbers(u: &mut Unstructured<'_>) -> Result<()> {
    let (a, b): (u32, u32) = (u.arbitrary()?, u.arbitrary()?);
    let by: i32 = u.int_in_range(-0x4_0001..=0x4_0001)?;
    assert_eq!(
        is_near(a.wrapping_add_signed(by), a),
        (-0x4_0000..0x4_0000).contains(&by)
    );

    let repr = segment::any_repr(u)?;
    let segment = segment::received(&repr, u.arbitrary::<u8>()?.into());
    let rst = Repr {
        src_port: repr.dst_port,
        dst_port: repr.src_port,
        seq: repr.ack,
        flags: flags::RST,
        ..Repr::default()
    };
    assert_eq!(reset(&segment), rst);
    let is_answer = repr.flags & 0x14 == 0x14 && repr.ack.wrapping_sub(a) == 1;
    assert_eq!(refuses(&segment, a), is_answer);
    assert!(!is_answer || !refuses(&segment, a.wrapping_add(1)));

    let rst = aborted(a, b);
    assert_eq!((rst.seq.wrapping_sub(a), rst.ack.wrapping_sub(b)), (1, 1));
    assert_eq!(rst.flags, flags::RST | flags::ACK);
    let ack = challenge(&segment, a, b, 7);
    assert_eq!(
        (ack.seq, ack.ack, ack.flags, ack.window),
        (a, b, flags::ACK, 7)
    );
    Ok(())
}

/// The cookie of the kernel, as far as it shows: what is left of its sum is the index of the MSS.
struct Cookie {
    isn: u32,
    index: u32,
    table: [u16; 4],
}

impl Cookie {
    fn mss(&self) -> u16 {
        self.table[self.index as usize]
    }

    fn check(&self, seq: u32) -> Option<u16> {
        let left = self
            .isn
            .wrapping_add(1)
            .wrapping_add(self.index)
            .wrapping_sub(seq);
        self.table.get(left as usize).copied()
    }
}

fn exchange(u: &mut Unstructured<'_>) -> Result<()> {
    let rule = any_rule(u)?;
    let mut client = segment::any_repr(u)?;
    let ecn = flags::ECE | flags::CWR;
    client.flags = flags::SYN | client.flags & ecn;
    client.ack = 0;
    let theirs = client.options;
    let table = if u.arbitrary()? {
        KEPT_MSS_V4
    } else {
        KEPT_MSS_V6
    };
    // Of the table the largest that is not above the client's, or the least.
    let index = table
        .iter()
        .rposition(|mss| *mss <= theirs.mss.unwrap_or(0));
    let cookie = Cookie {
        isn: client.seq,
        index: index.unwrap_or(0) as u32,
        table,
    };
    let (proxy_isn, now_ms) = (u.arbitrary::<u32>()?, u.arbitrary::<u32>()?);

    // The SYN is answered.
    let syn_of_client = segment::received(&client, 0);
    let offer = Offer::of(&syn_of_client, &rule);
    assert_eq!(offer.mss, theirs.mss.unwrap_or(0));
    let kept = (proxy_isn, cookie.mss());
    let syn_ack = answer(&syn_of_client, &rule, &offer, kept, 0, now_ms);
    let on = |bit: u16| rule.options & bit != 0;
    let stamped = theirs.timestamps.filter(|_| on(rule_bits::TIMESTAMP));
    let extras = Extras {
        wscale: theirs
            .wscale
            .filter(|_| on(rule_bits::WSCALE) && stamped.is_some()),
        sack_perm: theirs.sack_perm && on(rule_bits::SACK_PERM) && stamped.is_some(),
        ecn: client.flags & ecn == ecn && on(rule_bits::ECN) && stamped.is_some(),
    };
    let echo = syn_ack.options.timestamps.map(|ts| ts.val);
    assert_eq!(
        syn_ack,
        Repr {
            src_port: client.dst_port,
            dst_port: client.src_port,
            seq: proxy_isn,
            ack: client.seq.wrapping_add(1),
            flags: flags::SYN | flags::ACK | if extras.ecn { flags::ECE } else { 0 },
            window: 0,
            options: Options {
                mss: theirs
                    .mss
                    .filter(|mss| *mss != 0 && on(rule_bits::MSS))
                    .map(|_| rule.mss),
                wscale: extras.wscale.map(|_| rule.wscale),
                sack_perm: extras.sack_perm,
                timestamps: stamped.map(|ts| Timestamps {
                    val: echo.unwrap_or(0),
                    ecr: ts.val,
                }),
            },
        }
    );
    assert_eq!(echo.is_some(), stamped.is_some());
    if let Some(echo) = echo {
        // As coarse as 256 ms; and 0 would mean that there is none.
        assert!(
            now_ms.wrapping_sub(echo).wrapping_add(0x1ff) < 0x300,
            "{now_ms:#x} {echo:#x}"
        );
        assert_ne!(echo, 0);
    }

    // The client goes on: in order, before, as a probe does, or behind what was lost.
    let shift = u.int_in_range(-1..=3i32)?;
    let payload = usize::from(u.int_in_range(0..=3u8)?);
    let age = u.arbitrary()?;
    let ack = Repr {
        src_port: client.src_port,
        dst_port: client.dst_port,
        seq: client.seq.wrapping_add_signed(1 + shift),
        ack: proxy_isn.wrapping_add(1),
        flags: flags::ACK | u.arbitrary::<u8>()? & flags::PSH,
        window: u.arbitrary()?,
        options: Options {
            timestamps: echo.map(|ecr| Timestamps { val: age, ecr }),
            ..Options::default()
        },
    };
    let came = segment::received(&ack, payload);
    if COOKIE_LIFE_MS >= age {
        assert!(may_bring_cookie(&came, now_ms.wrapping_add(age)));
    } else if age < u32::MAX - 2000 && age > COOKIE_LIFE_MS + 0x1ff {
        assert_eq!(
            may_bring_cookie(&came, now_ms.wrapping_add(age)),
            echo.is_none()
        );
    }
    let right = Waiting {
        client_isn: client.seq,
        proxy_isn,
        mss: cookie.mss(),
        extras,
        timestamps: stamped.is_some(),
        budget: 0,
    };
    accepted(&came, &cookie, &right, shift, payload);

    opened(u, &right, &came, echo)
}

/// Whom the proxy takes the sender of `ack` for.
fn accepted(ack: &Segment, cookie: &Cookie, right: &Waiting, shift: i32, payload: usize) {
    let slow = accept(ack, None, |seq| cookie.check(seq));
    let quick = accept(ack, Some(&cookie.table), |seq| cookie.check(seq));
    if right.proxy_isn == 0 {
        assert_eq!((slow, quick), (None, None));
        return;
    }
    let index = cookie.index as i32;
    // At the edge of what the cookie tells it is left to the client to say it once more.
    assert!(quick == slow || quick.is_none() && shift == index && shift > 0);
    let told = shift == 0 || shift == -1 && payload <= 1 || (1..=index).contains(&shift);
    if right.timestamps {
        assert_eq!(slow, told.then_some(*right), "{shift} {index} {payload}");
    } else if let Some(found) = slow {
        // A number nearby may be believed.
        let found_isn = found.client_isn;
        let by = found_isn.wrapping_sub(right.client_isn);
        assert!(matches!(by, 0..=3 | u32::MAX), "{shift} {index} {payload}");
        assert_eq!(found_isn != right.client_isn, found.mss != right.mss);
        let same = Waiting {
            client_isn: right.client_isn,
            mss: right.mss,
            ..found
        };
        assert_eq!(same, *right);
    } else {
        assert_ne!(shift, 0);
    }
    assert_eq!(accept(ack, None, |_| None), None);
    assert_eq!(accept(ack, Some(&cookie.table), |_| None), None);
}

/// The connection to the server is opened, and both ends have one.
fn opened(
    u: &mut Unstructured<'_>,
    waiting: &Waiting,
    ack: &Segment,
    echo: Option<u32>,
) -> Result<()> {
    let clock: Option<u32> = u.arbitrary()?;
    let ours = syn(waiting, ack, clock);
    let stamps = ack.options().timestamps;
    let extras = waiting.extras;
    let window = u64::from(ack.window()) << extras.wscale.unwrap_or(0);
    let expected = Repr {
        src_port: ack.src_port(),
        dst_port: ack.dst_port(),
        seq: waiting.client_isn,
        ack: 0,
        flags: if extras.ecn { 0xc2 } else { 0x02 },
        window: window.min(65535) as u16,
        options: Options {
            mss: Some(waiting.mss),
            wscale: extras.wscale,
            sack_perm: extras.sack_perm,
            timestamps: stamps.map(|ts| Timestamps {
                val: clock.unwrap_or(ts.val),
                ecr: 0,
            }),
        },
    };
    assert_eq!((ours.repr, ours.timestamp), (expected, echo.unwrap_or(0)));

    // What it brings along is put in and taken out, in one value and where it stands.
    let proxy_isn = waiting.proxy_isn;
    let laden = laden(&ours, proxy_isn);
    let came = segment::received(&laden, 0);
    assert_eq!(unload(&came), (proxy_isn, ours));
    let mut bytes = segment::bytes(&laden);
    for rewrite in unloading(&came).into_iter().flatten() {
        assert_eq!(number_at(&bytes, rewrite.offset), rewrite.old);
        bytes[rewrite.offset..rewrite.offset + 4].copy_from_slice(&rewrite.new.to_be_bytes());
    }
    assert_eq!(bytes, segment::bytes(&ours.repr));

    // The server answers; it may do without timestamps.
    let server = Repr {
        src_port: expected.dst_port,
        dst_port: expected.src_port,
        seq: u.arbitrary()?,
        ack: expected.seq.wrapping_add(1),
        flags: flags::SYN | flags::ACK,
        window: u.arbitrary()?,
        options: Options {
            timestamps: u.arbitrary::<Option<u32>>()?.and_then(|val| {
                Some(Timestamps {
                    val,
                    ecr: expected.options.timestamps?.val,
                })
            }),
            ..options::any(u)?
        },
    };
    let joined = joined(
        &segment::received(&server, 0),
        proxy_isn,
        ours.timestamp,
        ack.window(),
    );
    let agreed = server.options.timestamps;

    // What the client gets: the next number of our SYN,ACK, and its clock.
    let (mut to_client, mut to_server) = (joined.to_client, joined.to_server);
    to_client.seq = to_client.seq.wrapping_add(joined.seq_offset);
    stamp(&mut to_client, Direction::Reply, joined.timestamp_offset);
    let scale = server.options.wscale.unwrap_or(0).min(MAX_WSCALE);
    let shown = u32::from(to_client.window) << scale;
    assert_eq!(shown == 0, server.window == 0);
    assert!(shown <= u32::from(server.window).max(1 << scale));
    assert!(shown + (1 << scale) > server.window.into());
    let expected = Repr {
        src_port: server.src_port,
        dst_port: server.dst_port,
        seq: proxy_isn.wrapping_add(1),
        ack: waiting.client_isn.wrapping_add(1),
        flags: flags::ACK,
        window: to_client.window,
        options: Options {
            timestamps: agreed.map(|ts| Timestamps {
                val: ours.timestamp,
                ecr: ts.ecr,
            }),
            ..Options::default()
        },
    };
    assert_eq!(to_client, expected);

    // What the server gets: its own number acknowledged, and its clock.
    to_server.ack = to_server.ack.wrapping_sub(joined.seq_offset);
    stamp(&mut to_server, Direction::Original, joined.timestamp_offset);
    let expected = Repr {
        src_port: server.dst_port,
        dst_port: server.src_port,
        seq: server.ack,
        ack: server.seq.wrapping_add(1),
        flags: flags::ACK,
        window: ack.window(),
        options: Options {
            timestamps: agreed.map(|ts| Timestamps {
                val: ts.ecr,
                ecr: ts.val,
            }),
            ..Options::default()
        },
    };
    assert_eq!(to_server, expected);
    Ok(())
}

/// Translates the timestamps of `repr` as those of any packet are.
fn stamp(repr: &mut Repr, direction: Direction, offset: u32) {
    let segment = segment::received(repr, 0);
    let Some(rewrite) = translate(segment.raw_options(), direction, offset) else {
        return;
    };
    let mut bytes = segment::bytes(repr);
    bytes[rewrite.offset..rewrite.offset + 4].copy_from_slice(&rewrite.new.to_be_bytes());
    repr.options = Segment::new(&bytes, bytes.len())
        .expect("a header")
        .options();
}
