//! Ports that only their owner comes to.

use std::{
    mem::forget,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

/// A port of 127.0.0.1 that is free until its owner takes it, and is nobody else's as long as this process lives: below the ephemeral ones
/// (32768 and up), of which the kernel may give it to somebody else meanwhile, and marked by a name that ends with the process.
pub fn free_port() -> u16 {
    let free = |port: &u16| {
        let name = SocketAddr::from_abstract_name(format!("port-of-a-test-{port}")).unwrap();
        let mark = UnixListener::bind_addr(&name);
        let is_free = mark.is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        forget(mark);
        is_free
    };
    (20_000..30_000).find(free).expect("a port")
}
