// SPDX-License-Identifier: GPL-2.0-only

//! The ends of cables: packet sockets in other network namespaces.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// What is sent and received in one system call.
const BURST: usize = 128;
/// No frame here is longer: an Ethernet header and an MTU of 1500, or what comes by the loopback device.
const LONGEST: usize = 2048;
/// The length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// One end of a cable. What it sends itself it does not see.
pub(crate) struct Wire {
    socket: OwnedFd,
    /// The address of the device.
    pub(crate) mac: [u8; 6],
    buffers: Vec<[u8; LONGEST]>,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn length_of<T>(_: &T) -> libc::socklen_t {
    // CAST: A few bytes.
    size_of::<T>() as libc::socklen_t
}

/// Runs `f` in a namespace that `ip netns` knows.
fn within<T>(namespace: &str, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/self/ns/net")?;
    let other = File::open(format!("/var/run/netns/{namespace}"))?;
    let enter = |file: &File| {
        // SAFETY: The descriptor is open.
        check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) })
    };
    enter(&other)?;
    let result = f();
    enter(&own)?;
    result
}

impl Wire {
    /// The end of the cable that is `device` in `namespace`.
    pub(crate) fn open(namespace: &str, device: &str) -> io::Result<Self> {
        within(namespace, || Self::open_here(device)).map_err(|error| {
            io::Error::new(error.kind(), format!("{namespace}, {device}: {error}"))
        })
    }

    fn open_here(device: &str) -> io::Result<Self> {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: No memory is passed; the descriptor is new, and nobody else's.
        let socket = unsafe {
            let fd = check(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all.into()))?;
            OwnedFd::from_raw_fd(fd)
        };
        for (level, option, value) in [
            (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20),
        ] {
            let value: libc::c_int = value;
            // SAFETY: `value` outlives the call.
            check(unsafe {
                let at = (&raw const value).cast();
                libc::setsockopt(socket.as_raw_fd(), level, option, at, length_of(&value))
            })?;
        }
        let name = CString::new(device)?;
        // SAFETY: The name ends with a zero.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: All zero is a value of it.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = index as i32;
        let mut length = length_of(&address);
        // SAFETY: Both calls get an address of that length, which outlives them.
        unsafe {
            let at = (&raw mut address).cast::<libc::sockaddr>();
            check(libc::bind(socket.as_raw_fd(), at, length))?;
            check(libc::getsockname(socket.as_raw_fd(), at, &raw mut length))?;
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&address.sll_addr[..6]);
        Ok(Self {
            socket,
            mac,
            buffers: vec![[0; LONGEST]; BURST],
        })
    }

    /// Sends frames in this order.
    pub(crate) fn send(&self, frames: &[Vec<u8>]) -> io::Result<()> {
        for burst in frames.chunks(BURST) {
            let mut parts: Vec<libc::iovec> = burst
                .iter()
                .map(|frame| libc::iovec {
                    iov_base: frame.as_ptr().cast_mut().cast(),
                    iov_len: frame.len(),
                })
                .collect();
            let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
            let mut sent = 0;
            while sent < messages.len() {
                let rest = &mut messages[sent..];
                // SAFETY: Messages, vectors and frames outlive the call, which reads them.
                let result = check(unsafe {
                    let fd = self.socket.as_raw_fd();
                    libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, 0)
                });
                match result {
                    Ok(more) => sent += more as usize,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // What the device drops is as if it had been sent.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => sent += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Waits until there is a frame; whether there is one.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: There is one of it, and it outlives the call.
        match check(unsafe { libc::poll(&raw mut poll, 1, limit.as_millis() as i32) }) {
            Ok(ready) => Ok(ready == 1),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hands what has come to `f`, frame by frame.
    pub(crate) fn receive(&mut self, mut f: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let mut parts: Vec<libc::iovec> = self
                .buffers
                .iter_mut()
                .map(|buffer| libc::iovec {
                    iov_base: buffer.as_mut_ptr().cast(),
                    iov_len: LONGEST,
                })
                .collect();
            let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
            // SAFETY: Messages, vectors and buffers outlive the call, and nobody else has them.
            let result = check(unsafe {
                let fd = self.socket.as_raw_fd();
                let (at, count) = (messages.as_mut_ptr(), BURST as u32);
                libc::recvmmsg(fd, at, count, libc::MSG_DONTWAIT, std::ptr::null_mut())
            });
            let count = match result {
                Ok(count) => count as usize,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The device went down once; what has come is still there.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                Err(error) => return Err(error),
            };
            for (buffer, message) in self.buffers.iter().zip(&messages[..count]) {
                f(&buffer[..message.msg_len as usize]);
            }
            if count < BURST {
                return Ok(());
            }
        }
    }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: All zero is a value of it.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    message
}
