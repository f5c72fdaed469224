// SPDX-License-Identifier: GPL-2.0-only

//! An NFQUEUE, each packet of which is accepted, marked or not.

use nfq::{Queue, Verdict};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::register_conditional_shutdown,
};
use std::{
    convert::Infallible,
    error::Error,
    fs,
    io::{self, Write},
    num::ParseIntError,
    sync::{atomic::AtomicBool, Arc},
};

/// Reads a mark, decimal or 0x hexadecimal.
pub(crate) fn mark(text: &str) -> Result<u32, ParseIntError> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    }
}

/// Prints a line. A log that nobody reads any more is no reason to stop judging packets.
pub(crate) fn say(to: &mut dyn Write, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
}

/// Says which mark an allowed or refused stream got.
pub(crate) fn said_mark(mark: Option<u32>) -> String {
    mark.map_or("no mark".into(), |mark| format!("mark {mark:#x}"))
}

/// Takes packets from a queue until a signal ends the program, and marks those that `judge`
/// gives a mark.
pub(crate) fn serve(
    queue_num: u16,
    mut judge: impl FnMut(&[u8]) -> Option<u32>,
) -> Result<Infallible, Box<dyn Error>> {
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
    }
    let mut queue = listen(queue_num).map_err(|error| explain(queue_num, &error))?;
    say(
        &mut io::stderr(),
        format_args!("listening on queue {queue_num}"),
    );

    loop {
        let mut message = match queue.recv() {
            Ok(message) => message,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(explain(queue_num, &error).into()),
        };
        if let Some(mark) = judge(message.get_payload()) {
            message.set_nfmark(mark);
        }
        message.set_verdict(Verdict::Accept);
        match queue.verdict(message) {
            Err(error) if !is_passing(&error) => return Err(explain(queue_num, &error).into()),
            _ => (),
        }
    }
}

/// Binds to a queue. Packets that this program cannot keep up with are dropped: the gate stays
/// shut, and the client sends again.
fn listen(queue_num: u16) -> io::Result<Queue> {
    let mut queue = Queue::open()?;
    queue.bind(queue_num)?;
    queue.set_fail_open(queue_num, false)?;
    Ok(queue)
}

/// Whether the queue goes on after this error.
///
/// ENOBUFS: packets were lost on the way here. ENOENT: the packet of a verdict is gone, with its
/// device for instance. ENOSPC: nfq had no room for one message.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::ENOMEM | libc::ENOENT | libc::EINTR | libc::ENOSPC)
    )
}

/// The kernel says EPERM both to a program without CAP_NET_ADMIN and to one that asks for a queue
/// which another has bound.
fn explain(queue_num: u16, error: &io::Error) -> String {
    let reason = match error.raw_os_error() {
        Some(libc::EPERM) if is_bound(queue_num) => "another program is listening on it",
        Some(libc::EPERM) => "no permission, CAP_NET_ADMIN is needed (try as root)",
        Some(libc::EPROTONOSUPPORT | libc::EINVAL) => {
            "this kernel has no NFQUEUE (module nfnetlink_queue)"
        }
        _ => return format!("queue {queue_num}: {error}"),
    };
    format!("queue {queue_num}: {reason}")
}

/// Whether some program listens on the queue; "no" if one may not know.
fn is_bound(queue_num: u16) -> bool {
    let queues = fs::read_to_string("/proc/net/netfilter/nfnetlink_queue").unwrap_or_default();
    let number = queue_num.to_string();
    queues
        .lines()
        .any(|line| line.split_whitespace().next() == Some(&number))
}
