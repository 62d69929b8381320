//! What systemd is told about the state of the service (`Type=notify`, `sd_notify(3)`).

use crate::config;

/// The service answers calls.
pub(super) const READY: &str = "READY=1";
/// It was told to stop.
pub(super) const STOPPING: &str = "STOPPING=1";

/// Tells the supervisor, if there is one that wants to know. Nothing depends on it: a failure is a warning.
pub(super) fn tell(state: &str) {
    let Some(socket) = config::notify_socket() else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(error.cause = %error, "the supervisor at NOTIFY_SOCKET was not told: {state}");
    }
}

#[cfg(target_os = "linux")]
fn send(socket: &std::ffi::OsStr, state: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send(_socket: &std::ffi::OsStr, _state: &str) -> std::io::Result<()> {
    Ok(())
}
