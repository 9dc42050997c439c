//! Files of `/etc` that say who a machine is, whatever an image has in their place.
//!
//! Images are made for containers, too, whose engine puts files of its own over these, so nobody notices what is below: a link
//! that leads nowhere, an empty file, a device. A machine must start in any case. What can be written through is written through, since
//! somebody in the guest has wanted it so; everything else but a folder is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

/// The longest file that is read. Lists of names to block, which some keep in `/etc/hosts`, have a few megabytes.
const LONGEST: u64 = 16 << 20;

/// To open what may be a FIFO or a device, without waiting for its other side and without taking it for a terminal.
const ANYTHING: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// The content of a file. Empty where there is none, or no file: absent and empty are the same to whoever reads them.
pub fn read(path: &str) -> io::Result<Vec<u8>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(ANYTHING)
        .open(path);
    let Ok(file) = opened else {
        return Ok(Vec::new());
    };
    let mut content = Vec::new();
    if file.metadata()?.is_file() {
        file.take(LONGEST + 1).read_to_end(&mut content)?;
    }
    if content.len() as u64 > LONGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

/// Gives a file this content, in place. Replacing it by a rename would be safer against a power cut in this very
/// moment, but ext4 then writes the file to its disk at once, and every fork would wait for that.
pub fn write(path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    match write_in_place(path, content, mode) {
        Err(e) if e.kind() != io::ErrorKind::StorageFull && can_be_replaced(path) => {
            fs::remove_file(path)?;
            write_in_place(path, content, mode)
        }
        done => done,
    }
}

fn write_in_place(path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .custom_flags(ANYTHING)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    file.write_all(content)?;
    if file.metadata()?.len() != content.len() as u64 {
        file.set_len(content.len() as u64)?;
    }
    if meta.permissions().mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A link, a FIFO, a device: not a file that could not be written, and not a folder with something in it.
fn can_be_replaced(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn whatever_is_in_the_place_of_a_file_it_is_written_and_read() {
        let dir = std::env::temp_dir().join(format!("vmint-agent-settings-{}", std::process::id()));
        fs::create_dir_all(dir.join("there")).unwrap();
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        for (name, target) in [
            ("nowhere", "missing/file"),
            ("loop", "loop"),
            ("device", "/dev/null"),
            ("folder", "there"),
            ("through a file", "plain/x"),
            ("written through", "there/made"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        fs::write(at("plain"), "longer than what follows").unwrap();
        let fifo = std::ffi::CString::new(at("fifo")).unwrap();
        // SAFETY: a terminated string.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        let names = [
            "nowhere",
            "loop",
            "device",
            "folder",
            "fifo",
            "through a file",
            "written through",
            "plain",
            "absent",
        ];
        let found: Vec<_> = names
            .iter()
            .map(|name| {
                let before = read(&at(name)).map(|content| content.len());
                let written = write(&at(name), b"new", 0o644).map_err(|e| e.to_string());
                (before.ok(), written, fs::read(at(name)).ok())
            })
            .collect();
        let (made, kept) = (at("there/made"), fs::metadata(at("written through")));
        let through = fs::read(made).ok();
        let folder = write(&at("there"), b"new", 0o644);
        fs::remove_dir_all(&dir).unwrap();
        for (name, (before, written, after)) in names.iter().zip(found) {
            assert_eq!(
                before,
                Some(if *name == "plain" { 24 } else { 0 }),
                "{name}"
            );
            assert_eq!((written, after), (Ok(()), Some(b"new".to_vec())), "{name}");
        }
        assert_eq!(through.as_deref(), Some(&b"new"[..]));
        assert_eq!(kept.unwrap().permissions().mode() & 0o777, 0o644);
        assert!(folder.is_err(), "a folder is somebody's");
    }
}
