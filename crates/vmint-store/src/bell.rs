//! Bells: how one process wakes another that waits, without either asking over and over.
//!
//! A waiter binds a datagram socket in the folder of sockets; a ringer sends it one byte. The kernel knows who lives: to
//! ring a waiter that has died is refused, and the socket's file is a left-over that the next sweep removes. A ring that
//! nobody has read yet is as good as two, so a full queue is no failure.

use rustix::fs::{Mode, unlink};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use vmint_model::{Bell, Home};

/// What the names of bells begin with.
pub const PREFIX: &str = "bell-";

/// A bell to be rung by others. It is gone when it is dropped.
#[derive(Debug)]
pub struct BellSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl BellSocket {
    /// A new one in the home's folder of sockets.
    pub fn bind(home: &Home) -> io::Result<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let name = format!("{:012x}", u64::from_be_bytes(bytes) >> 16);
        let path = home.runtime().join(format!("{PREFIX}{name}"));
        // The folder is this user's alone; so is the socket from its first moment on.
        let socket = UnixDatagram::bind(&path)?;
        rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path })
    }

    /// Where to ring.
    pub fn bell(&self) -> Bell {
        Bell(self.path.to_string_lossy().into_owned())
    }

    /// The socket, which is readable when it has been rung. Does not block.
    pub fn socket(&self) -> &UnixDatagram {
        &self.socket
    }

    /// Takes all rings; whether there were any.
    pub fn take(&self) -> bool {
        let mut byte = [0; 1];
        let mut rung = false;
        while self.socket.recv(&mut byte).is_ok() {
            rung = true;
        }
        rung
    }
}

impl Drop for BellSocket {
    fn drop(&mut self) {
        let _ = unlink(&self.path);
    }
}

/// Rings; whether somebody listens there.
pub fn ring(bell: &Bell) -> bool {
    let Ok(socket) = UnixDatagram::unbound() else {
        return false;
    };
    let _ = socket.set_nonblocking(true);
    match socket.send_to(&[1], &bell.0) {
        Ok(_) => true,
        Err(e) => e.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Removes the bells of those that died without removing them.
pub fn sweep(runtime: &Path) {
    let Ok(entries) = std::fs::read_dir(runtime) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(PREFIX) {
            let path = entry.path();
            let refused = UnixDatagram::unbound()
                .and_then(|socket| socket.connect(&path))
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            if refused {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_arrive_and_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"), dir.path().to_owned());
        let bell = BellSocket::bind(&home).unwrap();
        assert!(!bell.take());
        for _ in 0..1000 {
            assert!(ring(&bell.bell()));
        }
        assert!(bell.take() && !bell.take());
        let (address, socket) = (bell.bell(), bell.socket.try_clone().unwrap());
        // As a process does that is killed: the socket closes, and its file stays.
        std::mem::forget(bell);
        sweep(dir.path());
        assert!(Path::new(&address.0).exists());
        drop(socket);
        // `forget` has kept one descriptor open, so it still lives; another one's bell is gone.
        let path = dir.path().join("bell-dead");
        drop(UnixDatagram::bind(&path).unwrap());
        assert!(!ring(&Bell(path.to_string_lossy().into_owned())));
        sweep(dir.path());
        assert!(!path.exists());
        assert!(Path::new(&address.0).exists());
    }
}
