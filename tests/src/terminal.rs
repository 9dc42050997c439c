//! A terminal that can die.

use crate::call::wait_readable;
use crate::wait::patient;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A pseudo-terminal and the command in it, which has it as its controlling terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The only descriptor of this end: closed, it hangs up.
    end: Option<File>,
    seen: Vec<u8>,
    child: Child,
}

impl Terminal {
    /// Starts a shell command in a terminal of `columns` × `rows`, with this environment added.
    pub fn start(
        script: &str,
        environment: impl IntoIterator<Item = (String, OsString)>,
        (columns, rows): (u16, u16),
    ) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let end = openpt(flags).expect("a terminal");
        grantpt(&end).expect("a terminal");
        unlockpt(&end).expect("a terminal");
        let name = ptsname(&end, Vec::new()).expect("a terminal has a name");
        let name = name.into_string().expect("/dev/pts/N");
        let open = || -> OwnedFd {
            File::options()
                .read(true)
                .write(true)
                .open(&name)
                .expect("our own terminal")
                .into()
        };
        let mut terminal = Self {
            end: Some(File::from(end)),
            seen: Vec::new(),
            child: Command::new("setsid")
                .args(["--ctty", "sh", "-c", script])
                .envs(environment)
                .env("TERM", "xterm")
                .stdin(Stdio::from(open()))
                .stdout(Stdio::from(open()))
                .stderr(Stdio::from(open()))
                .spawn()
                .expect("util-linux is installed"),
        };
        terminal.resize(columns, rows);
        terminal
    }

    /// The process that leads the terminal's session.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn end(&mut self) -> &mut File {
        self.end.as_mut().expect("open until it hangs up")
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        self.end()
            .write_all(text.as_bytes())
            .expect("a terminal takes input");
    }

    /// Gives it another size, of which its foreground processes are told.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(self.end(), size).expect("a terminal has a size");
    }

    /// Waits until the screen has shown `text`, and returns all that it has shown since it was last asked.
    #[track_caller]
    pub fn shows(&mut self, text: &str, deadline: Duration) -> String {
        let deadline = patient(deadline);
        let until = Instant::now() + deadline;
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some(at) = seen.find(text) {
                self.seen = seen.as_bytes()[at + text.len()..].to_vec();
                return seen[..at + text.len()].to_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                wait_readable(self.end(), left),
                "no {text:?} within {deadline:?}: {seen}"
            );
            let mut buffer = [0; 4096];
            // EIO: its last user has closed it.
            let n = self.end().read(&mut buffer).unwrap_or(0);
            assert!(n > 0, "the terminal was closed without {text:?}: {seen}");
            self.seen.extend_from_slice(&buffer[..n]);
        }
    }

    /// Hangs up, and waits until the leader of its session has died of it.
    #[track_caller]
    pub fn hang_up(mut self) {
        self.end = None;
        let pid = self.child.id();
        crate::until(
            Duration::from_secs(10),
            "the session's leader has died",
            || !crate::processes::lives(pid),
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
