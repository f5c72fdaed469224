// SPDX-License-Identifier: GPL-2.0-only

//! A DPI engine in small, as an example for xt_SYNPROXY: it looks at what held clients send and
//! sets a mark on the packets of those that speak HTTP.
//!
//! Every packet is accepted, marked or not; what becomes of it is said by the rules
//! (`examples/synproxy.rules`). A packet without a verdict is dropped there, and the client sends
//! it again.

mod packet;
mod stream;

use clap::Parser;
use nfq::{Queue, Verdict as Fate};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::register_conditional_shutdown,
};
use std::{
    error::Error,
    fs,
    io::{self, Write},
    num::{NonZeroUsize, ParseIntError},
    process::ExitCode,
    sync::{atomic::AtomicBool, Arc},
    time::Instant,
};
use stream::{Streams, Verdict};

/// How many flows are remembered at a time: 16 MiB at most.
const FLOWS: NonZeroUsize = NonZeroUsize::new(65536).unwrap();

/// Sets a mark on the packets of TCP connections that begin with an HTTP request, for the rules
/// of xt_SYNPROXY to act upon. Takes packets from an NFQUEUE and accepts every one.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The NFQUEUE to take packets from
    #[arg(long, value_name = "N", default_value_t = 0)]
    queue_num: u16,

    /// The mark for HTTP, decimal or 0x hexadecimal
    #[arg(long, value_name = "M", default_value = "0x0b", value_parser = mark)]
    mark: u32,

    /// The mark for all that cannot be HTTP [default: it is left unmarked]
    #[arg(long, value_name = "M", value_parser = mark)]
    deny_mark: Option<u32>,

    /// Print a line for each decision
    #[arg(long, short)]
    verbose: bool,
}

impl Args {
    /// The mark that says `verdict`; `None` to leave a packet as it is.
    fn mark_for(&self, verdict: Verdict) -> Option<u32> {
        match verdict {
            Verdict::Undecided => None,
            Verdict::Http => Some(self.mark),
            Verdict::Other => self.deny_mark,
        }
    }
}

fn mark(text: &str) -> Result<u32, ParseIntError> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), format_args!("dpi-http: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. A log that nobody reads any more is no reason to stop judging packets.
fn say(to: &mut dyn Write, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
    }
    let mut queue = listen(args.queue_num).map_err(|error| explain(args.queue_num, &error))?;
    say(
        &mut io::stderr(),
        format_args!("listening on queue {}", args.queue_num),
    );

    let mut streams = Streams::new(FLOWS);
    loop {
        let mut message = match queue.recv() {
            Ok(message) => message,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(explain(args.queue_num, &error).into()),
        };
        if let Some(mark) = judge(args, &mut streams, message.get_payload()) {
            message.set_nfmark(mark);
        }
        message.set_verdict(Fate::Accept);
        match queue.verdict(message) {
            Err(error) if !is_passing(&error) => return Err(explain(args.queue_num, &error).into()),
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

/// The mark for one packet, `None` to leave it as it is.
fn judge(args: &Args, streams: &mut Streams, packet: &[u8]) -> Option<u32> {
    let (flow, segment) = packet::parse(packet)?;
    let (verdict, news) = streams.judge(flow, &segment, Instant::now());
    let mark = args.mark_for(verdict);
    if let Some(stream) = news.filter(|_| args.verbose) {
        let words = stream.first_words();
        let mark = mark.map_or("no mark".into(), |mark| format!("mark {mark:#x}"));
        say(
            &mut io::stdout(),
            format_args!("{flow} \"{words}\" -> {mark}"),
        );
    }
    mark
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use etherparse::PacketBuilder;

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        let args = Args::parse_from(["dpi-http"]);
        assert_eq!((args.queue_num, args.mark, args.deny_mark), (0, 0x0b, None));
        let args = Args::parse_from(["dpi-http", "--mark", "11", "--deny-mark=0x0d"]);
        assert_eq!((args.mark, args.deny_mark), (11, Some(13)));
        assert!(mark("0x100000000").is_err() && mark("-1").is_err() && mark("").is_err());
    }

    #[test]
    fn packets_get_their_marks() {
        let packet = |seq, payload: &[u8]| {
            let mut bytes = Vec::new();
            PacketBuilder::ipv4([10, 0, 1, 2], [10, 0, 2, 2], 64)
                .tcp(43210, 80, seq, 29200)
                .ack(401)
                .write(&mut bytes, payload)
                .unwrap();
            bytes
        };
        let mut streams = Streams::new(FLOWS);
        let args = Args::parse_from(["dpi-http", "--deny-mark", "0x0d"]);
        let mut judge = |bytes: &[u8]| judge(&args, &mut streams, bytes);

        assert_eq!(judge(&packet(101, b"")), None);
        assert_eq!(judge(&packet(101, b"GE")), None);
        assert_eq!(judge(&packet(103, b"T /")), Some(0x0b));
        assert_eq!(judge(&packet(101, b"GET /")), Some(0x0b));
        assert_eq!(judge(&packet(9_000_101, b"SSH-2.0-x")), Some(0x0d));
        assert_eq!(judge(b"garbage"), None);
    }
}
