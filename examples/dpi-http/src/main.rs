// SPDX-License-Identifier: GPL-2.0-only

//! A DPI engine in small, as an example for xt_SYNPROXY: it looks at what held clients send and
//! sets a mark on the packets of those that speak HTTP.
//!
//! Every packet is accepted, marked or not; what becomes of it is said by the rules
//! (`examples/synproxy.rules`). A packet without a verdict is dropped there, and the client sends
//! it again.

mod packet;
mod queue;
mod stream;

use clap::Parser;
use queue::{mark, said_mark, say};
use std::{
    convert::Infallible, error::Error, io, num::NonZeroUsize, process::ExitCode, time::Instant,
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

    /// Recognise a request once its Nth byte was seen, as an engine would that needs more than
    /// the method
    #[arg(long, value_name = "N", default_value_t = 0)]
    bytes: u32,

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

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Err(error) => {
            say(&mut io::stderr(), format_args!("dpi-http: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Infallible, Box<dyn Error>> {
    let mut streams = Streams::new(FLOWS, args.bytes);
    queue::serve(args.queue_num, |packet| judge(args, &mut streams, packet))
}

/// The mark for one packet, `None` to leave it as it is.
fn judge(args: &Args, streams: &mut Streams, packet: &[u8]) -> Option<u32> {
    let (flow, segment) = packet::parse(packet)?;
    let (verdict, news) = streams.judge(flow, &segment, Instant::now());
    let mark = args.mark_for(verdict);
    if let Some(stream) = news.filter(|_| args.verbose) {
        let words = stream.first_words();
        let mark = said_mark(mark);
        say(
            &mut io::stdout(),
            format_args!("{flow} \"{words}\" -> {mark}"),
        );
    }
    mark
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
        let mut streams = Streams::new(FLOWS, 0);
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
