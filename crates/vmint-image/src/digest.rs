//! SHA-256 digests: of bytes, of files, and of sparse disks.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

/// A SHA-256 digest. Written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A string that is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: sha256: and 64 hexadecimal digits")]
pub struct InvalidDigest(String);

impl Digest {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of everything that a reader gives.
    pub fn of_reader(reader: &mut impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// Of a file's content.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_reader(&mut File::open(path)?)
    }

    /// Of a disk: of its size, and of the place and content of every 64 KiB block that is not all zeros. Two files that
    /// read the same have the same digest, however many of their zeros are holes, and holes cost nothing.
    pub fn of_sparse_file(path: &Path) -> io::Result<Self> {
        const BLOCK: u64 = 1 << 16;
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut hasher = Hasher::default();
        hasher.update(&size.to_le_bytes());
        let (mut offset, mut buffer) = (0, vec![0; BLOCK as usize]);
        while offset < size {
            match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
                Ok(data) => offset = data / BLOCK * BLOCK,
                // Only a hole is left.
                Err(rustix::io::Errno::NXIO) => break,
                // A file system that knows no holes.
                Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
            let block = &mut buffer[..BLOCK.min(size - offset) as usize];
            std::os::unix::fs::FileExt::read_exact_at(&file, block, offset)?;
            if block.iter().any(|&b| b != 0) {
                hasher.update(&offset.to_le_bytes());
                hasher.update(block);
            }
            offset += BLOCK;
        }
        Ok(hasher.finish())
    }

    /// As a folder's or file's name: `sha256-` and the digits.
    pub fn file_name(&self) -> String {
        format!("sha256-{}", self.hex())
    }

    /// Reads [`file_name`](Self::file_name).
    pub fn from_file_name(name: &str) -> Option<Self> {
        format!("sha256:{}", name.strip_prefix("sha256-")?)
            .parse()
            .ok()
    }

    /// The 64 digits.
    pub fn hex(&self) -> String {
        use std::fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(s: &str) -> Result<Self, InvalidDigest> {
        let fail = || InvalidDigest(s.chars().take(80).collect());
        let hex = s.strip_prefix("sha256:").ok_or_else(fail)?;
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(fail());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| fail())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(s: String) -> Result<Self, InvalidDigest> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("sha256:{}", self.hex()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes a digest piece by piece.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a field behind its length, so that no two lists of fields run together.
    pub(crate) fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.update(&(bytes.len() as u64).to_le_bytes());
        self.update(bytes);
        self
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Passes bytes on and digests them on the way.
pub(crate) struct DigestReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> DigestReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
        }
    }

    /// Reads what is left; gives the digest of everything.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.finish())
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_digest_reads_back() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from_file_name(&digest.file_name()), Some(digest));
        for bad in [
            "",
            "sha256:",
            "sha256:zz",
            "sha512:00",
            &digest.to_string().to_uppercase(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_disk_has_one_digest_with_and_without_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (sparse, full) = (dir.path().join("sparse"), dir.path().join("full"));
        let file = File::create(&sparse).unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(b"something", (3 << 20) + 5).unwrap();
        std::fs::write(&full, std::fs::read(&sparse).unwrap()).unwrap();
        let digest = Digest::of_sparse_file(&sparse).unwrap();
        assert_eq!(digest, Digest::of_sparse_file(&full).unwrap());
        file.write_all_at(b"S", (3 << 20) + 5).unwrap();
        assert_ne!(digest, Digest::of_sparse_file(&sparse).unwrap());
        file.write_all_at(b"s", (3 << 20) + 5).unwrap();
        file.set_len((10 << 20) + 1).unwrap();
        assert_ne!(digest, Digest::of_sparse_file(&sparse).unwrap());
    }
}
