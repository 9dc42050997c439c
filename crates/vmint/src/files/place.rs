//! Where a copy goes: the rules of `docker cp`, for both directions.
//!
//! | what is copied | the target is a folder | a file | not there |
//! |---|---|---|---|
//! | a file or link | into it, under its own name | in its place | under that name; with a `/` behind it, into a new folder |
//! | a folder | into it, under its own name | refused | it gets that name |
//! | a folder's content (`DIR/.`) | into it | refused | into a new folder of that name |
//!
//! What the user has named is followed: a target that is a link counts as what it leads to. What an archive names is not.
//! There are two differences from `docker cp`: a file goes into a folder that is not there, if a slash says that it is one; and
//! a target that is a device, a pipe or a socket is refused, for a file in place of `/dev/null` breaks a system.

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The last component of its path; none of `/`, `.` and `..`.
    pub name: Option<Vec<u8>>,
    /// Whether the content of a folder is meant, and not the folder.
    pub content: bool,
    /// Whether it is a folder.
    pub is_folder: bool,
}

impl Subject {
    /// What a path means.
    pub(super) fn of(path: &[u8], is_folder: bool) -> Self {
        let name = trimmed(path)
            .split(|&b| b == b'/')
            .rfind(|part| !part.is_empty());
        let name = name.filter(|name| !matches!(*name, b"." | b".."));
        Self {
            content: path.ends_with(b"/.") || name.is_none(),
            name: name.map(<[u8]>::to_vec),
            is_folder,
        }
    }
}

/// What is at the target, links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing.
    Nothing,
    /// A folder.
    Folder,
    /// A file, with this path.
    File(Vec<u8>),
    /// A device, a named pipe or a socket.
    Special,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Into this folder, under this name.
    Named { folder: Vec<u8>, name: Vec<u8> },
    /// The content, into this folder.
    Content { folder: Vec<u8> },
}

/// Why it cannot go there. To be read after the target's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misplaced {
    #[error("is a file, and a folder cannot take its place")]
    FolderOverFile,
    #[error("is a file, and not a folder to copy into")]
    NoFolder,
    #[error("is not a file path in the machine")]
    NoName,
    #[error("is a device, a named pipe or a socket, which a copy would replace")]
    Special,
}

/// Where a subject goes that shall be copied to `target`.
pub(super) fn place(subject: &Subject, target: &[u8], there: &There) -> Result<Place, Misplaced> {
    let names_folder = target.ends_with(b"/") || target.ends_with(b"/.");
    let into = |folder: &[u8]| match (&subject.name, subject.content) {
        (Some(name), false) => Place::Named {
            folder: folder.to_vec(),
            name: name.clone(),
        },
        _ => Place::Content {
            folder: folder.to_vec(),
        },
    };
    match there {
        There::Folder => Ok(into(target)),
        There::Special => Err(Misplaced::Special),
        There::File(_) if subject.is_folder || subject.content => Err(Misplaced::FolderOverFile),
        There::File(_) if names_folder => Err(Misplaced::NoFolder),
        There::File(path) => split(path),
        There::Nothing if subject.content || (names_folder && !subject.is_folder) => {
            Ok(into(target))
        }
        There::Nothing => split(target),
    }
}

/// A path without the slashes, or the `/.`, that say that it is a folder.
pub(super) fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/.").unwrap_or(path);
    match path.iter().rposition(|&b| b != b'/') {
        Some(last) => &path[..=last],
        None if path.is_empty() => path,
        None => b"/",
    }
}

fn split(path: &[u8]) -> Result<Place, Misplaced> {
    let path = trimmed(path);
    let (folder, name) = match path.iter().rposition(|&b| b == b'/') {
        Some(0) => (&b"/"[..], &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    match name {
        b"" | b"." | b".." => Err(Misplaced::NoName),
        name => Ok(Place::Named {
            folder: folder.to_vec(),
            name: name.to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it goes, as `FOLDER NAME`, or `FOLDER/*` for content.
    fn goes(source: &str, is_folder: bool, target: &str, there: &There) -> String {
        let subject = Subject::of(source.as_bytes(), is_folder);
        match place(&subject, target.as_bytes(), there) {
            Ok(Place::Named { folder, name }) => format!(
                "{} {}",
                String::from_utf8_lossy(&folder),
                String::from_utf8_lossy(&name)
            ),
            Ok(Place::Content { folder }) => format!("{} *", String::from_utf8_lossy(&folder)),
            Err(e) => format!("{e:?}"),
        }
    }

    #[test]
    fn a_copy_goes_where_docker_cp_has_it_go() {
        let file = || There::File(b"/real/file".to_vec());
        for (source, is_folder, target, there, expected) in [
            ("a/f", false, "/t", There::Folder, "/t f"),
            ("a/f", false, "/t/", There::Folder, "/t/ f"),
            ("a/f", false, "/t", file(), "/real file"),
            ("a/f", false, "/t/", file(), "NoFolder"),
            ("a/f", false, "/t", There::Nothing, "/ t"),
            ("a/f", false, "/x/t", There::Nothing, "/x t"),
            ("a/f", false, "/x/t/", There::Nothing, "/x/t/ f"),
            ("a/f", false, "t", There::Nothing, ". t"),
            ("a/d", true, "/t", There::Folder, "/t d"),
            ("a/d/", true, "/t", There::Folder, "/t d"),
            ("a/d", true, "/t", file(), "FolderOverFile"),
            ("a/d", true, "/t", There::Nothing, "/ t"),
            ("a/d", true, "/x/t/", There::Nothing, "/x t"),
            ("a/d/.", true, "/t", There::Folder, "/t *"),
            ("a/d/.", true, "/t", file(), "FolderOverFile"),
            ("a/d/.", true, "/x/t", There::Nothing, "/x/t *"),
            (".", true, "/t", There::Folder, "/t *"),
            (".", true, "/t", There::Nothing, "/t *"),
            ("..", true, "/t", There::Folder, "/t *"),
            ("/", true, "t", There::Folder, "t *"),
            ("/", true, "t", There::Nothing, "t *"),
            ("a/d", true, "/..", There::Nothing, "NoName"),
            ("a/f", false, "/dev/null", There::Special, "Special"),
            ("a/d/.", true, "/dev/null", There::Special, "Special"),
        ] {
            let found = goes(source, is_folder, target, &there);
            assert_eq!(found, expected, "{source} to {target}, {there:?}");
        }
    }
}
