// SPDX-License-Identifier: GPL-2.0-only

//! FTP's active mode: the client says where it listens (PORT of RFC 959 section 4.1.2, EPRT of RFC 2428
//! section 2), and the server connects to there. The proxy listens on the client's address in its
//! place, and then connects to the client from the server's.

use crate::{complain, relay, socket, PATIENCE};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// No command is longer.
const LINE: u64 = 4096;

/// A control connection, until it ends.
pub(crate) fn relay(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    relay::with_upstream(client, server, || commands(client, server))
}

fn commands(mut client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
    let from = client.peer_addr()?.ip();
    let mut lines = BufReader::new(client);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut lines).take(LINE).read_until(b'\n', &mut line)? == 0 {
            return relay::finish(server);
        }
        if !line.ends_with(b"\n") && line.len() as u64 == LINE {
            return Err(io::Error::other(format!(
                "{from} has sent a line of more than {LINE} bytes"
            )));
        }
        match parse(&line) {
            Command::Other => server.write_all(&line)?,
            // Or the server would connect to others in the client's name.
            Command::Listening(at) if at.ip() == from && at.port() != 0 => {
                let listener = socket::listen(SocketAddr::new(from, 0))?;
                server.write_all(say(&listener.local_addr()?).as_bytes())?;
                let server = server.peer_addr()?.ip();
                thread::Builder::new().spawn(move || {
                    if let Err(error) = data(listener, server, at) {
                        complain(format_args!("data from {server} to {at}: {error}"));
                    }
                })?;
            }
            Command::Listening(_) | Command::Malformed => {
                client.write_all(b"501 An address and a port of yours are expected.\r\n")?
            }
        }
    }
}

/// A data connection: the server's to the proxy, and the proxy's to the client.
fn data(listener: TcpListener, server: IpAddr, client: SocketAddr) -> io::Result<()> {
    let theirs = socket::accept_one(listener, PATIENCE)?;
    let from = theirs.peer_addr()?;
    if from.ip() != server {
        return Err(io::Error::other(format!("it came from {from}")));
    }
    let ours = socket::connect(from, client, PATIENCE)?;
    relay::both_ways(&ours, &theirs)
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    /// PORT or EPRT.
    Listening(SocketAddr),
    /// One of them, and nothing that could be understood.
    Malformed,
    Other,
}

fn parse(line: &[u8]) -> Command {
    let line = line.trim_ascii();
    let (verb, argument) = match line.iter().position(u8::is_ascii_whitespace) {
        Some(at) => line.split_at(at),
        None => (line, &b""[..]),
    };
    let argument = std::str::from_utf8(argument.trim_ascii()).ok();
    let address = match &verb.to_ascii_uppercase()[..] {
        b"PORT" => argument.and_then(port),
        b"EPRT" => argument.and_then(eprt),
        _ => return Command::Other,
    };
    address.map_or(Command::Malformed, Command::Listening)
}

/// `h1,h2,h3,h4,p1,p2`
fn port(argument: &str) -> Option<SocketAddr> {
    let numbers = argument
        .split(',')
        .map(|number| number.parse().ok())
        .collect::<Option<Vec<u8>>>()?;
    let [a, b, c, d, high, low] = numbers[..].try_into().ok()?;
    let ip = Ipv4Addr::new(a, b, c, d);
    Some(SocketAddr::new(ip.into(), u16::from_be_bytes([high, low])))
}

/// `|family|address|port|`, with any delimiter
fn eprt(argument: &str) -> Option<SocketAddr> {
    let delimiter = argument.chars().next()?;
    let parts = argument.split(delimiter).collect::<Vec<_>>();
    let ["", family, ip, port, ""] = parts[..] else {
        return None;
    };
    let ip: IpAddr = ip.parse().ok()?;
    let named = match ip {
        IpAddr::V4(_) => "1",
        IpAddr::V6(_) => "2",
    };
    (family == named).then_some(SocketAddr::new(ip, port.parse().ok()?))
}

/// The command that says `at`.
fn say(at: &SocketAddr) -> String {
    match at {
        SocketAddr::V4(at) => {
            let [a, b, c, d] = at.ip().octets();
            let [high, low] = at.port().to_be_bytes();
            format!("PORT {a},{b},{c},{d},{high},{low}\r\n")
        }
        SocketAddr::V6(at) => format!("EPRT |2|{}|{}|\r\n", at.ip(), at.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(at: &str) -> Command {
        Command::Listening(at.parse().unwrap())
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(parse(b"PORT 10,0,1,2,16,1\r\n"), listening("10.0.1.2:4097"));
        assert_eq!(parse(b"port 10,0,1,2,0,20\n"), listening("10.0.1.2:20"));
        assert_eq!(
            parse(b"EPRT |1|10.0.1.2|4097|\r\n"),
            listening("10.0.1.2:4097")
        );
        assert_eq!(
            parse(b"EPRT !2!fd00:1::2!4097!\r\n"),
            listening("[fd00:1::2]:4097")
        );
        assert_eq!(parse(b"RETR PORT\r\n"), Command::Other);
        assert_eq!(parse(b"\r\n"), Command::Other);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "PORT",
            "PORT 10,0,1,2,16",
            "PORT 10,0,1,2,16,1,1",
            "PORT 10,0,1,256,16,1",
            "PORT 10.0.1.2:20",
            "EPRT |1|fd00:1::2|4097|",
            "EPRT |2|10.0.1.2|4097|",
            "EPRT |1|10.0.1.2|65536|",
            "EPRT |1|10.0.1.2|1",
            "EPRT ",
        ] {
            assert_eq!(parse(line.as_bytes()), Command::Malformed, "{line}");
        }
        assert_eq!(parse(b"PORT \xff\xfe\r\n"), Command::Malformed);
    }

    #[test]
    fn what_is_said_is_read() {
        for at in ["10.0.1.2:4097", "[fd00:1::2]:65535"] {
            assert_eq!(parse(say(&at.parse().unwrap()).as_bytes()), listening(at));
        }
    }
}
