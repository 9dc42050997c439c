//! For the fuzzer alone: the readers of archives, without what comes before and after them.

use crate::decompress;
use crate::import::extract_archive;
use crate::rootfs::tree::Tree;
use crate::rootfs::unpack::{self, Budget, Whiteouts};
use std::path::Path;

/// Most bytes that an archive may come to.
const LIMIT: u64 = 4 << 20;

/// Reads bytes as a root file system, as a layer, and as an archive of an image, into new folders of `scratch`.
pub fn import(bytes: &[u8], scratch: &Path) {
    for (name, whiteouts) in [("root", Whiteouts::Keep), ("layer", Whiteouts::Apply)] {
        let mut tree = Tree::create(&scratch.join(name)).expect("a new folder");
        if let Ok(stream) = decompress::reader(bytes) {
            let _ = unpack::unpack(stream, &mut tree, whiteouts, &mut Budget::new(LIMIT));
        }
    }
    let file = scratch.join("archive");
    std::fs::write(&file, bytes).expect("a new file");
    let _ = extract_archive(&file, &scratch.join("image"), &Budget::new(LIMIT));
}
