// SPDX-License-Identifier: GPL-2.0-only

//! A transparent proxy in small, as an example for what stands behind xt_SYNPROXY: it accepts on the
//! address that a client has asked for, and connects to it from the client's own. Rules of TPROXY
//! bring it the packets.
//!
//! Of FTP it knows enough for active mode, for which it listens on the client's address and connects
//! from the server's.

mod ftp;
mod relay;
mod socket;

use clap::Parser;
use std::{
    error::Error,
    fmt,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// A transparent TCP proxy: clients and servers see each other's addresses only.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The port to accept on, for IPv4 and IPv6: that of "-j TPROXY --on-port"
    #[arg(long, value_name = "PORT", default_value_t = 3129, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// The servers' port on which FTP is spoken
    #[arg(long, value_name = "PORT", default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    ftp_port: u16,

    /// How many connections there may be at a time; who comes beyond is closed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    connections: usize,

    /// Print a line for each connection
    #[arg(long, short)]
    verbose: bool,
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. A log that nobody reads any more is no reason to end connections.
fn say(to: &mut dyn Write, line: fmt::Arguments<'_>) {
    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
}

fn complain(what: fmt::Arguments<'_>) {
    say(&mut io::stderr(), format_args!("transparent-proxy: {what}"));
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let listeners = any
        .map(|ip| socket::listen(SocketAddr::new(ip, args.port)))
        .into_iter()
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| format!("cannot listen on port {}: {error}", args.port))?;
    say(
        &mut io::stdout(),
        format_args!("listening on port {}", args.port),
    );

    let open = &AtomicUsize::new(0);
    thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(move || accept(args, listener, open));
        }
    });
    Err("no listener is left".into())
}

fn accept(args: &Args, listener: &TcpListener, open: &AtomicUsize) {
    thread::scope(|scope| loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            // Of one connection, or there is no room for it at the moment.
            Err(error) => {
                complain(format_args!("accept: {error}"));
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= args.connections {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let spawned = thread::Builder::new().spawn_scoped(scope, move || {
            if let Err(error) = serve(args, client) {
                complain(format_args!("{error}"));
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            complain(format_args!("cannot start a thread: {error}"));
            open.fetch_sub(1, Ordering::Relaxed);
        }
    });
}

/// One connection, until it ends.
fn serve(args: &Args, client: TcpStream) -> Result<(), Box<dyn Error>> {
    let (from, to) = (client.peer_addr()?, client.local_addr()?);
    // Whoever asks for the proxy itself would get it to ask itself.
    if to.port() == args.port {
        return Err(format!("{from} has asked for {to}, which is the proxy's port").into());
    }
    if args.verbose {
        say(&mut io::stdout(), format_args!("{from} -> {to}"));
    }
    let server = socket::connect(SocketAddr::new(from.ip(), 0), to, PATIENCE)
        .map_err(|error| format!("{from} -> {to}: {error}"))?;
    if to.port() == args.ftp_port {
        ftp::relay(&client, &server)?;
    } else {
        relay::both_ways(&client, &server)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        assert_eq!(Args::parse_from(["transparent-proxy"]).port, 3129);
        assert!(Args::try_parse_from(["transparent-proxy", "--port", "0"]).is_err());
    }
}
