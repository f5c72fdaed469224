// SPDX-License-Identifier: GPL-2.0-only

//! A DPI engine on top of nDPI, as an example for xt_SYNPROXY: it sets marks on what held clients
//! send, by the protocol that nDPI recognises in it.
//!
//! It is made for the rule of `examples/synproxy.rules` that shows it clients that wait
//! (`-m spstate --in-progress`), and goes by what such clients send only. Every packet is
//! accepted, marked or not; what becomes of it is said by the rules.

mod ndpi;
mod packet;
#[path = "../../dpi-http/src/queue.rs"]
mod queue;
mod stream;

use clap::Parser;
use lru::LruCache;
use ndpi::{Id, Ndpi, Protocol};
use packet::Flow;
use queue::{mark, said_mark, say};
use std::{
    convert::Infallible,
    error::Error,
    io,
    num::NonZeroUsize,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};
use stream::{Stream, Verdict};

/// How many streams are remembered at a time: 64 MiB if all of them send as much as is kept.
const STREAMS: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// Sets a mark on the packets of TCP connections by the protocol that nDPI recognises, for the
/// rules of xt_SYNPROXY to act upon. Takes packets from an NFQUEUE and accepts every one.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The NFQUEUE to take packets from
    #[arg(long, value_name = "N", default_value_t = 0)]
    queue_num: u16,

    /// The protocols to let through, by nDPI's names for them: http,tls
    #[arg(long, value_name = "PROTOCOL", required = true, value_delimiter = ',')]
    allow: Vec<String>,

    /// The mark for protocols to let through, decimal or 0x hexadecimal
    #[arg(long, value_name = "M", default_value = "0x0b", value_parser = mark)]
    mark: u32,

    /// The mark for every other protocol that is recognised [default: it is left unmarked]
    #[arg(long, value_name = "M", value_parser = mark)]
    deny_mark: Option<u32>,

    /// Print a line for each decision
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Err(error) => {
            say(&mut io::stderr(), format_args!("dpi-ndpi: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Infallible, Box<dyn Error>> {
    let mut engine = Engine::new(args)?;
    queue::serve(args.queue_num, |packet| engine.judge(packet))
}

/// What judges packets.
struct Engine<'a> {
    args: &'a Args,
    allowed: Vec<Id>,
    ndpi: Ndpi,
    /// The longest unused leaves first.
    streams: LruCache<Flow, Stream>,
}

impl<'a> Engine<'a> {
    fn new(args: &'a Args) -> Result<Self, String> {
        let ndpi = Ndpi::new()?;
        let allowed = args.allow.iter().map(|name| {
            ndpi.by_name(name)
                .ok_or_else(|| format!("nDPI knows no protocol \"{}\"", name.escape_default()))
        });
        Ok(Self {
            args,
            allowed: allowed.collect::<Result<_, _>>()?,
            ndpi,
            streams: LruCache::new(STREAMS),
        })
    }

    /// The mark for one packet, `None` to leave it as it is.
    fn judge(&mut self, packet: &[u8]) -> Option<u32> {
        let (flow, seq, payload) = packet::parse(packet)?;
        let stream = self
            .streams
            .get_or_insert_mut(flow, || Stream::new(seq, payload));
        // To a stream that is made of this very segment, it adds nothing.
        stream.add(seq, payload);

        let mut news = false;
        let verdict = stream.judge(seq, |data| {
            let protocol = self.ndpi.recognise(&packet::build(&flow, data)?, now_ms());
            news = protocol.is_some();
            protocol
        });
        let mark = match verdict {
            Verdict::Undecided => None,
            Verdict::Known(protocol) if self.allowed.iter().any(|id| protocol.is(*id)) => {
                stream.speaks(seq).then_some(self.args.mark)
            }
            Verdict::Known(_) | Verdict::Torn => self.args.deny_mark,
        };
        match verdict {
            Verdict::Known(protocol) if news && self.args.verbose => {
                self.report(&flow, &protocol, mark);
            }
            _ => (),
        }
        mark
    }

    fn report(&self, flow: &Flow, protocol: &Protocol, mark: Option<u32>) {
        let name = self.ndpi.name(protocol);
        let mark = said_mark(mark);
        say(&mut io::stdout(), format_args!("{flow} {name} -> {mark}"));
    }
}

/// nDPI ages what it remembers of hosts by this.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use etherparse::PacketBuilder;

    fn segment(seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64)
            .tcp(43210, 80, seq, 29200)
            .ack(ack)
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    pub(crate) fn packet(payload: &[u8]) -> Vec<u8> {
        segment(101, 401, payload)
    }

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        let args = Args::parse_from(["dpi-ndpi", "--allow", "http,tls"]);
        assert_eq!(args.allow, ["http", "tls"]);
        assert!(Engine::new(&args).is_ok());
        assert!(Args::try_parse_from(["dpi-ndpi"]).is_err());
        let args = Args::parse_from(["dpi-ndpi", "--allow", "http,htpt"]);
        assert!(Engine::new(&args).is_err_and(|error| error.contains("htpt")));
    }

    #[test]
    fn packets_get_their_marks() {
        let args = Args::parse_from(["dpi-ndpi", "--allow", "http", "--deny-mark", "0x0d"]);
        let mut engine = Engine::new(&args).unwrap();
        let mut judge = |seq, ack, payload: &[u8]| engine.judge(&segment(seq, ack, payload));

        assert_eq!(judge(101, 401, b""), None);
        assert_eq!(judge(101, 401, b"GE"), None);
        assert_eq!(
            judge(103, 401, b"T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Some(0x0b)
        );
        assert_eq!(judge(101, 401, b"GE"), Some(0x0b));
        // Only those of its segments that it is known by.
        assert_eq!(judge(105, 401, b"/ HTTP"), None);
        // The same ports again, though the numbers go on.
        assert_eq!(judge(131, 402, b"SSH-2.0-x\r\n"), Some(0x0d));
        // One place, two contents.
        assert_eq!(judge(101, 401, b"SSH-"), Some(0x0d));
        assert!(engine.judge(b"garbage").is_none());
    }
}
