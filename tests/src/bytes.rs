//! Bytes to send and to know again.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The SHA-256 digest, as `sha256sum` writes it.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
}

/// Bytes that compress badly and repeat nowhere near.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// All regular files below a folder that hold one of these texts.
pub fn holding(folder: &Path, needles: &[Vec<u8>]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(holding(&path, needles));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let held = needles
                .iter()
                .find(|needle| bytes.windows(needle.len()).any(|window| window == **needle));
            found.extend(held.map(|held| (path, String::from_utf8_lossy(held).into_owned())));
        }
    }
    found
}
