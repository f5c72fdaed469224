// SPDX-License-Identifier: GPL-2.0-only

//! What comes in on one side goes out on the other.

use std::{
    io,
    net::{Shutdown, TcpStream},
    thread,
};

/// Until both sides have said all, or one is lost; an error of one ends the other.
pub(crate) fn both_ways(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    with_upstream(client, server, || one_way(client, server))
}

/// The same, with `upstream` for what the client says.
pub(crate) fn with_upstream(
    client: &TcpStream,
    server: &TcpStream,
    upstream: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    thread::scope(|scope| {
        let up = thread::Builder::new()
            .spawn_scoped(scope, || end(upstream(), client, server))
            .inspect_err(|_| close(client, server))?;
        let down = end(one_way(server, client), client, server);
        up.join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread has died")))
            .and(down)
    })
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    finish(to)
}

/// There is no more to send to it.
pub(crate) fn finish(to: &TcpStream) -> io::Result<()> {
    match to.shutdown(Shutdown::Write) {
        // It has gone already.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        other => other,
    }
}

fn end(result: io::Result<()>, client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    result.inspect_err(|_| close(client, server))
}

fn close(client: &TcpStream, server: &TcpStream) {
    for stream in [client, server] {
        // One of them is closed already, most often.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
