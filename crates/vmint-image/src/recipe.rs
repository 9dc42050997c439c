//! How an image is made.

use crate::digest::{Digest, Hasher};
use crate::fsx::{FileError, OnFile};
use crate::kernel::KernelSource;
use std::fmt::{self, Write as _};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use vmint_model::ByteSize;

/// The size of a disk whose recipe names none. The file is sparse: only what the guest writes takes space.
pub const DEFAULT_DISK: ByteSize = ByteSize::mib(4096);

/// How an image is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What it starts from.
    pub base: Base,
    /// Packages beyond the base's.
    pub packages: Vec<String>,
    /// Shell commands that run in the booted guest, in this order, before the image is finished.
    pub run: Vec<String>,
    /// Files of the host put into the image before it boots.
    pub copy: Vec<CopyIn>,
    /// The disk's size.
    pub size: ByteSize,
    /// The kernel.
    pub kernel: KernelSource,
}

/// What an image starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// Kernel, agent and busybox, all in memory. No disk.
    Tiny,
    /// Debian with systemd.
    Debian(Debian),
}

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Debian {
    /// 12.
    Bookworm,
    /// 13.
    Trixie,
}

impl Debian {
    /// As the archive calls it.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl Base {
    /// Everything that can be built.
    pub const ALL: [Self; 3] = [
        Self::Tiny,
        Self::Debian(Debian::Bookworm),
        Self::Debian(Debian::Trixie),
    ];

    /// As users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Debian(Debian::Bookworm) => "debian:12",
            Self::Debian(Debian::Trixie) => "debian:13",
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A string that names nothing that can be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be built; what can: tiny, debian:12, debian:13")]
pub struct UnknownBase(String);

impl FromStr for Base {
    type Err = UnknownBase;

    fn from_str(s: &str) -> Result<Self, UnknownBase> {
        match s {
            "debian:bookworm" => Ok(Self::Debian(Debian::Bookworm)),
            "debian:trixie" => Ok(Self::Debian(Debian::Trixie)),
            _ => Self::ALL
                .into_iter()
                .find(|base| base.as_str() == s)
                .ok_or_else(|| UnknownBase(s.chars().take(80).collect())),
        }
    }
}

/// A file or folder of the host, put into an image. Written `SRC:DST`; the last colon separates. As with `cp -r`, the
/// destination is the copy's own path; one that ends in `/` is the folder that it is put into. The copy belongs to root
/// and keeps its permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyIn {
    /// On the host.
    pub source: PathBuf,
    /// In the image; absolute.
    pub target: String,
}

/// A string that is no [`CopyIn`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not SRC:DST with an absolute DST without “..”")]
pub struct InvalidCopy(String);

impl FromStr for CopyIn {
    type Err = InvalidCopy;

    fn from_str(s: &str) -> Result<Self, InvalidCopy> {
        let fail = || InvalidCopy(s.chars().take(200).collect());
        let (source, target) = s.rsplit_once(':').ok_or_else(fail)?;
        let inside = target.starts_with('/')
            && !target.contains('\0')
            && target.split('/').all(|part| part != "..");
        if source.is_empty() || !inside {
            return Err(fail());
        }
        Ok(Self {
            source: source.into(),
            target: target.to_owned(),
        })
    }
}

impl CopyIn {
    /// The copy's own path in the image, relative to its root.
    pub(crate) fn path_in_image(&self) -> PathBuf {
        let inside: PathBuf = self
            .target
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        match self.source.file_name() {
            Some(name) if self.target.ends_with('/') => inside.join(name),
            _ => inside,
        }
    }
}

impl Recipe {
    /// A base as it is.
    pub fn new(base: Base) -> Self {
        Self {
            base,
            packages: Vec::new(),
            run: Vec::new(),
            copy: Vec::new(),
            size: DEFAULT_DISK,
            kernel: KernelSource::default(),
        }
    }

    /// The recipe of an image that is built on first use; `None` if `name` is not the name of one.
    pub fn for_name(name: &str) -> Option<Self> {
        Base::ALL
            .into_iter()
            .find(|base| base.as_str() == name)
            .map(Self::new)
    }

    /// A digest of the recipe and of the content of the files that it copies. Equal recipes build the image once.
    pub fn digest(&self) -> Result<Digest, FileError> {
        let mut hasher = Hasher::default();
        hasher
            .field(b"recipe 1")
            .field(self.base.as_str().as_bytes());
        for list in [&self.packages, &self.run] {
            hasher.field(&list.len().to_le_bytes());
            for item in list {
                hasher.field(item.as_bytes());
            }
        }
        hasher.field(&self.copy.len().to_le_bytes());
        for copy in &self.copy {
            hasher.field(copy.target.as_bytes());
            hasher.field(copy.path_in_image().as_os_str().as_bytes());
            digest_source(&copy.source, &mut hasher)?;
        }
        hasher.field(&self.size.0.to_le_bytes());
        match &self.kernel {
            KernelSource::Distribution => drop(hasher.field(b"distribution")),
            KernelSource::File { kernel, modules } => {
                digest_source(kernel, &mut hasher)?;
                if let Some(modules) = modules {
                    digest_source(modules, &mut hasher)?;
                }
            }
        }
        Ok(hasher.finish())
    }

    /// In one line, for people.
    pub fn summary(&self) -> String {
        let mut text = format!("built from {}", self.base);
        for (what, count) in [
            ("package", self.packages.len()),
            ("copy", self.copy.len()),
            ("command", self.run.len()),
        ] {
            if count > 0 {
                write!(text, ", {count} × {what}").expect("writing to a string");
            }
        }
        text
    }
}

fn digest_source(path: &Path, hasher: &mut Hasher) -> Result<(), FileError> {
    let meta = fs::symlink_metadata(path).on("read", path)?;
    hasher.field(&meta.mode().to_le_bytes());
    if meta.mode() & 0o6000 != 0 {
        // They are dropped with an owner who is not root.
        hasher.field(&[u8::from(meta.uid() == 0), u8::from(meta.gid() == 0)]);
    }
    if meta.is_dir() || meta.is_file() {
        let file = fs::File::open(path).on("read", path)?;
        for (name, value) in vmint_tree::xattrs::get(file.as_fd()).all {
            hasher.field(&name).field(&value);
        }
    }
    if meta.is_dir() {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).on("list", path)? {
            names.push(entry.on("list", path)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            hasher.field(name.as_bytes());
            digest_source(&path.join(name), hasher)?;
        }
        hasher.field(b"/");
    } else if meta.is_symlink() {
        hasher.field(fs::read_link(path).on("read", path)?.as_os_str().as_bytes());
    } else if meta.is_file() {
        hasher.field(Digest::of_file(path).on("read", path)?.as_bytes());
    }
    Ok(())
}

/// The name of an image: 1–128 of `a-z A-Z 0-9 . _ - : / @ +`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName(String);

/// A string that is no [`ImageName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name for an image: 1 to 128 of letters, digits and . _ - : / @ +, starting with a letter or digit"
)]
pub struct InvalidImageName(String);

impl FromStr for ImageName {
    type Err = InvalidImageName;

    fn from_str(s: &str) -> Result<Self, InvalidImageName> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-:/@+".contains(&b);
        if (1..=128).contains(&s.len())
            && s.bytes().all(legal)
            && s.as_bytes()[0].is_ascii_alphanumeric()
        {
            Ok(Self(s.to_owned()))
        } else {
            Err(InvalidImageName(s.chars().take(80).collect()))
        }
    }
}

impl ImageName {
    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a file's name: what is no letter, digit, `.`, `_` or `-` becomes `%` and two hexadecimal digits.
    pub(crate) fn file_name(&self) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        self.0
            .bytes()
            .map(|b| {
                if plain(b) {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02x}")
                }
            })
            .collect()
    }

    /// Reads [`file_name`](Self::file_name).
    pub(crate) fn from_file_name(file_name: &str) -> Option<Self> {
        let (mut name, mut rest) = (String::new(), file_name);
        while let Some(c) = rest.chars().next() {
            if c == '%' {
                name.push(char::from(u8::from_str_radix(rest.get(1..3)?, 16).ok()?));
                rest = &rest[3..];
            } else {
                name.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        name.parse::<Self>()
            .ok()
            .filter(|read| read.file_name() == file_name)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_becomes_a_file_name_and_back(s in "[a-zA-Z0-9][a-zA-Z0-9._:/@+-]{0,60}") {
            let name: ImageName = s.parse().unwrap();
            let file = name.file_name();
            prop_assert!(!file.contains('/') && !file.starts_with('.') && file.len() < 255);
            prop_assert_eq!(ImageName::from_file_name(&file), Some(name));
        }

        #[test]
        fn a_strange_file_name_is_nobody_s(s in ".{0,20}") {
            if let Some(name) = ImageName::from_file_name(&s) {
                prop_assert_eq!(name.file_name(), s);
            }
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "/etc",
            "-x",
            "a b",
            "ä",
            "a\n",
            &"a".repeat(129),
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "a/../../b".parse::<ImageName>().unwrap().file_name(),
            "a%2f..%2f..%2fb"
        );
    }

    #[test]
    fn a_base_that_cannot_be_built_names_those_that_can() {
        let error = "ubuntu:24.04".parse::<Base>().unwrap_err().to_string();
        assert!(
            error.contains("ubuntu:24.04") && error.contains("debian:12"),
            "{error}"
        );
        for base in Base::ALL {
            assert_eq!(base.as_str().parse(), Ok(base));
        }
    }

    #[test]
    fn a_copy_is_read_at_its_last_colon() {
        let copy: CopyIn = "a:b/c d:/opt/".parse().unwrap();
        assert_eq!(copy.path_in_image(), Path::new("opt/c d"));
        assert_eq!(
            "x:/opt/y".parse::<CopyIn>().unwrap().path_in_image(),
            Path::new("opt/y")
        );
        for bad in ["", "x", "x:", ":x", "x:y", "x:/a/../b"] {
            assert!(bad.parse::<CopyIn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_recipe_s_digest_follows_the_copied_content() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "one").unwrap();
        let mut recipe = Recipe::new(Base::Tiny);
        let bare = recipe.digest().unwrap();
        recipe.copy.push(CopyIn {
            source: dir.path().join("d"),
            target: "/d".into(),
        });
        let one = recipe.digest().unwrap();
        fs::write(dir.path().join("d/f"), "two").unwrap();
        let two = recipe.digest().unwrap();
        assert!(bare != one && one != two && recipe.digest().unwrap() == two);
    }
}
