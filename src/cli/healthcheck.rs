//! `magic-link healthcheck`: asks the service on this machine whether it runs, for supervisors that run a command.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::Failure;
use super::output::{Output, line};

/// Time-out of the whole answer; the service answers each of the two within two seconds.
const TIMEOUT: Duration = Duration::from_millis(2_500);

#[derive(Args)]
pub(super) struct Healthcheck {
    /// Ask whether it can answer calls (`/readyz`), not only whether the process runs (`/healthz`): for balancers, and
    /// not for whoever restarts it, because a restart does not bring the database back
    #[arg(long)]
    ready: bool,
}

/// Asks the service that listens on this address.
pub(super) fn run(listen: SocketAddr, command: &Healthcheck, output: &Output) -> Result<(), Failure> {
    let path = if command.ready { "/readyz" } else { "/healthz" };
    let status = ask(listen, path).map_err(|error| format!("{path} does not answer: {error}"))?;
    if output.json {
        line(&json!({ "path": path, "status": status }).to_string())?;
    }
    match status {
        200 if output.json => Ok(()),
        200 => Ok(line("ok")?),
        _ => Err(format!("{path} answers {status}").into()),
    }
}

/// The status of the answer to a GET.
fn ask(listen: SocketAddr, path: &str) -> io::Result<u16> {
    let until = Instant::now() + TIMEOUT;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&nearest(listen), left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n")?;
    // "HTTP/1.1 200", which may arrive in parts.
    let mut head = [0; 12];
    let mut read = 0;
    while let Some(rest) = head.get_mut(read..).filter(|rest| !rest.is_empty()) {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(rest)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    let status = std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("HTTP/1.1 ")?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer in HTTP/1.1"))
}

/// Who listens on every address is asked on loopback.
fn nearest(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(ip, listen.port())
}
