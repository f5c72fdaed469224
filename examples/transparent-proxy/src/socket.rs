// SPDX-License-Identifier: GPL-2.0-only

//! Sockets with addresses that are not this host's: IP_TRANSPARENT, for which CAP_NET_ADMIN or
//! CAP_NET_RAW is needed (ip(7)).

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_ip_transparent_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Listens on any address; with port 0, on a port that is free.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Connects from any address; with port 0, from a port that is free.
pub(crate) fn connect(
    from: SocketAddr,
    to: SocketAddr,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = bound(from)?;
    socket.connect_timeout(&to.into(), timeout)?;
    Ok(socket.into())
}

/// The one connection that is awaited.
///
/// # Errors
///
/// `WouldBlock` when it has not come in time.
pub(crate) fn accept_one(listener: TcpListener, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::from(listener);
    // It bounds accept(), too: socket(7).
    socket.set_read_timeout(Some(timeout))?;
    let (stream, _) = socket.accept()?;
    Ok(stream.into())
}
