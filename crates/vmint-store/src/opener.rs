//! How a process that is fenced in still opens its home's database, should that be replaced by another file.
//!
//! Landlock's rules are for files that exist when a process comes under them, and all that lies below a folder. A runner has rules
//! for the database that is there; the folder in which another one may appear holds the machines of all others, too. So before it is
//! fenced in, it forks a process that stays outside and does one thing: it opens the files of *this home's* database, by the four
//! names that they have, and hands the descriptors back; and removes a journal that SQLite is done with. It reads nothing that comes from a guest, takes nothing but the number of
//! a name and flags, and ends with the runner.
//!
//! ```text
//! SQLite ─ open ─▶ the kernel: EACCES? ─▶ (name, flags) ─▶ opener ─▶ descriptor
//! ```
//!
//! SQLite is told to open and remove files by [`open_fenced`] and [`unlink_fenced`] (`xSetSystemCall` of its `unix` VFS, made for sandboxes).

use rusqlite::ffi;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::ffi::{CStr, c_char, c_int};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use vmint_model::Home;

/// What the names of a database's files end with, after the name of the database itself.
pub const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Added to the number of a name that is to be removed, and not opened.
const REMOVE: u8 = 0x10;

/// What of an open's flags is passed on.
const FLAGS: OFlags = OFlags::ACCMODE.union(OFlags::CREATE).union(OFlags::EXCL);

struct Opener {
    socket: OwnedFd,
    /// The database's file name.
    name: Vec<u8>,
}

static OPENER: OnceLock<Opener> = OnceLock::new();

/// Forks the opener of this home's database, and has SQLite ask it from now on for what the kernel refuses. For a process that has
/// one thread, once.
pub fn start(home: &Home) -> io::Result<()> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The folder, not its path: where the folder is moved to, its database is.
    let folder = rustix::fs::open(
        home.root(),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let database = home.database();
    let name = database.file_name().unwrap_or_default().as_bytes().to_vec();
    // SAFETY: this process has one thread, so nothing is held in the child that another thread would have to let go.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            serve(&theirs, &folder, &name);
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        _ => {}
    }
    let opener = Opener { socket: ours, name };
    if OPENER.set(opener).is_err() {
        return Err(io::Error::other("the opener was started twice"));
    }
    tell_sqlite()
}

/// The child: answers until nobody can ask any more.
fn serve(socket: &OwnedFd, folder: &OwnedFd, name: &[u8]) {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let _ = rustix::thread::set_name(c"vmint-opener");
    show_as(b"vmint-opener");
    // Above all the machine's lock, which is held as long as any descriptor of it is open.
    close_all_but(&[socket.as_raw_fd(), folder.as_raw_fd()]);
    let mut request = [0; 5];
    loop {
        let mut none = RecvAncillaryBuffer::new(&mut []);
        let parts = &mut [IoSliceMut::new(&mut request)];
        match recvmsg(socket, parts, &mut none, RecvFlags::empty()) {
            Ok(message) if message.bytes == 5 => {}
            Err(Errno::INTR) => continue,
            _ => return,
        }
        let opened = serve_one(folder, name, request);
        let code = opened.as_ref().map_or_else(|e| e.raw_os_error(), |_| 0);
        let code = code.to_ne_bytes();
        let files = opened.ok().flatten();
        let descriptors = files.as_ref().map(AsFd::as_fd);
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if let Some(descriptor) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(
                descriptor,
            )));
        }
        if sendmsg(
            socket,
            &[IoSlice::new(&code)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .is_err()
        {
            return;
        }
    }
}

/// Shows this process under another name than the runner's, whose arguments say whose process it is: it is not the runner.
fn show_as(name: &[u8]) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 48 and 49: where the arguments begin and end. They are counted behind the name, the second field.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let field = |number: usize| -> Option<usize> {
        let text = fields.split_ascii_whitespace().nth(number - 3)?;
        text.parse().ok()
    };
    let (Some(start), Some(end)) = (field(48), field(49)) else {
        return;
    };
    if start == 0 || end <= start + name.len() {
        return;
    }
    // SAFETY: the kernel says that these are the bytes of this process's arguments, which are on its stack and may be written. Nobody
    // reads them any more: this process runs nothing but the loop of `serve`.
    unsafe {
        let arguments = start as *mut u8;
        arguments.write_bytes(0, end - start);
        arguments.copy_from_nonoverlapping(name.as_ptr(), name.len());
    }
}

/// Opens what is asked for; nothing, when it is removed instead.
fn serve_one(folder: &OwnedFd, name: &[u8], request: [u8; 5]) -> Result<Option<OwnedFd>, Errno> {
    let [which, ..] = request;
    let Some(which) = which.checked_sub(REMOVE) else {
        return open_named(folder, name, request).map(Some);
    };
    match SUFFIXES.get(usize::from(which)) {
        Some(&"") | None => Err(Errno::INVAL),
        Some(suffix) => {
            let name = [name, suffix.as_bytes()].concat();
            unlinkat(folder, name, AtFlags::empty()).map(|()| None)
        }
    }
}

fn open_named(folder: &OwnedFd, name: &[u8], request: [u8; 5]) -> Result<OwnedFd, Errno> {
    let [which, flags @ ..] = request;
    let suffix = SUFFIXES.get(usize::from(which)).ok_or(Errno::INVAL)?;
    let flags = OFlags::from_bits_truncate(u32::from_ne_bytes(flags)) & FLAGS;
    let name = [name, suffix.as_bytes()].concat();
    // A link would lead out of the home.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
}

fn close_all_but(kept: &[RawFd]) {
    let listed = std::fs::read_dir("/proc/self/fd");
    let numbers: Vec<RawFd> = listed
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|n| !kept.contains(n)) {
        // SAFETY: this process runs nothing but the loop above, which has what it needs in `kept`; everything else that owns a
        // descriptor is never used or dropped in it.
        unsafe { libc::close(number) };
    }
}

fn tell_sqlite() -> io::Result<()> {
    // SAFETY: no name means the default VFS, which lives as long as the process.
    let vfs = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    // SAFETY: a VFS is never changed in this field, and nobody else uses it: there is one thread.
    let set = unsafe { vfs.as_ref() }.and_then(|vfs| vfs.xSetSystemCall);
    let Some(set) = set else {
        return Err(io::Error::other("this SQLite has no system calls to set"));
    };
    type Any = unsafe extern "C" fn();
    type Open = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;
    type Unlink = unsafe extern "C" fn(*const c_char) -> c_int;
    // SAFETY: SQLite stores a function of any type as this one, and calls it with the type of its own: `posixOpen`'s, and
    // `unlink`'s (os_unix.c), which are those of these two.
    let (open, unlink) = unsafe {
        (
            std::mem::transmute::<Open, Any>(open_fenced),
            std::mem::transmute::<Unlink, Any>(unlink_fenced),
        )
    };
    for (name, call) in [(c"open", open), (c"unlink", unlink)] {
        // SAFETY: the VFS is its own, and the name is a C string of one of its calls.
        let code = unsafe { set(vfs, name.as_ptr(), Some(call)) };
        if code != ffi::SQLITE_OK {
            let message = format!("SQLite keeps its own {} ({code})", name.to_string_lossy());
            return Err(io::Error::other(message));
        }
    }
    Ok(())
}

/// SQLite's `open`.
unsafe extern "C" fn open_fenced(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: SQLite gives a C string.
    let opened = unsafe { libc::open(path, flags, mode as libc::mode_t) };
    if opened >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EACCES) {
        return opened;
    }
    // SAFETY: as above.
    let path = unsafe { CStr::from_ptr(path) };
    match ask(path, 0, flags) {
        Ok(Some(descriptor)) => descriptor.into_raw_fd(),
        Ok(None) => fail(Errno::ACCESS),
        Err(e) => fail(e),
    }
}

/// SQLite's `unlink`.
unsafe extern "C" fn unlink_fenced(path: *const c_char) -> c_int {
    // SAFETY: SQLite gives a C string.
    let removed = unsafe { libc::unlink(path) };
    if removed == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EACCES) {
        return removed;
    }
    // SAFETY: as above.
    let path = unsafe { CStr::from_ptr(path) };
    ask(path, REMOVE, 0).map_or_else(fail, |_| 0)
}

fn ask(path: &CStr, what: u8, flags: c_int) -> Result<Option<OwnedFd>, Errno> {
    let opener = OPENER.get().ok_or(Errno::ACCESS)?;
    opener.ask(path.to_bytes(), what, flags)
}

fn fail(e: Errno) -> c_int {
    // SAFETY: this thread's own error number.
    unsafe { *libc::__errno_location() = e.raw_os_error() };
    -1
}

impl Opener {
    fn ask(&self, path: &[u8], what: u8, flags: c_int) -> Result<Option<OwnedFd>, Errno> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let file = path.file_name().unwrap_or_default().as_bytes();
        let suffix = file.strip_prefix(&*self.name).ok_or(Errno::ACCESS)?;
        let which = SUFFIXES.iter().position(|s| s.as_bytes() == suffix);
        let which = which.ok_or(Errno::ACCESS)? as u8 + what;
        let flags = (flags as u32).to_ne_bytes();
        let request = [which, flags[0], flags[1], flags[2], flags[3]];
        let mut none = SendAncillaryBuffer::new(&mut []);
        sendmsg(
            &self.socket,
            &[IoSlice::new(&request)],
            &mut none,
            SendFlags::NOSIGNAL,
        )?;
        let mut code = [0; 4];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        loop {
            let parts = &mut [IoSliceMut::new(&mut code)];
            match recvmsg(&self.socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) if message.bytes == 4 => break,
                Err(Errno::INTR) => {}
                Ok(_) => return Err(Errno::ACCESS),
                Err(e) => return Err(e),
            }
        }
        let received = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        match i32::from_ne_bytes(code) {
            0 => Ok(received),
            code => Err(Errno::from_raw_os_error(code.max(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let folder = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        (dir, folder)
    }

    fn request(which: u8, flags: OFlags) -> [u8; 5] {
        let flags = flags.bits().to_ne_bytes();
        [which, flags[0], flags[1], flags[2], flags[3]]
    }

    #[test]
    fn the_files_of_the_database_are_opened_and_no_others() {
        let (dir, folder) = folder();
        let both = OFlags::RDWR | OFlags::CREATE;
        for which in 0..4 {
            open_named(&folder, b"vmint.db", request(which, both)).unwrap();
        }
        let mut made: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        made.sort();
        let expected = ["", "-journal", "-shm", "-wal"].map(|s| format!("vmint.db{s}"));
        assert_eq!(made, expected);
        let error = open_named(&folder, b"vmint.db", request(4, both)).unwrap_err();
        assert_eq!(error, Errno::INVAL);
        // Its journal can be removed, and it cannot.
        let remove = |which| serve_one(&folder, b"vmint.db", request(REMOVE + which, both));
        assert!(remove(3).unwrap().is_none());
        assert!(!dir.path().join("vmint.db-journal").exists());
        for which in [0, 4, 200] {
            assert!(matches!(remove(which), Err(Errno::INVAL)));
        }
        // Nothing is emptied on the way, and no link is followed.
        std::fs::write(dir.path().join("vmint.db"), "kept").unwrap();
        open_named(&folder, b"vmint.db", request(0, both | OFlags::TRUNC)).unwrap();
        assert_eq!(std::fs::read(dir.path().join("vmint.db")).unwrap(), b"kept");
        std::fs::remove_file(dir.path().join("vmint.db")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("vmint.db")).unwrap();
        let error = open_named(&folder, b"vmint.db", request(0, OFlags::RDONLY)).unwrap_err();
        assert_eq!(error, Errno::LOOP);
    }
}
