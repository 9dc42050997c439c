//! An archive from a guest, on its way into a folder of the host. The first byte chooses the options, and what is in the
//! folder already.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use vmint_files::{Options, Specials, Symlinks, Unpacker};
use vmint_fuzz::archive::{Place, mend};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let place = Place::default();
    let target = place.folder();
    match choice & 3 {
        0 => symlink("../outside", target.join("there")).expect("a new link"),
        1 => symlink("../outside/key", target.join("there")).expect("a new link"),
        2 => std::fs::create_dir(target.join("there")).expect("a new folder"),
        _ => {}
    }
    let options = Options {
        rename: (choice & 4 != 0).then(|| b"there".to_vec()),
        symlinks: if choice & 8 == 0 {
            Symlinks::All
        } else {
            Symlinks::Descending
        },
        specials: if choice & 16 == 0 {
            Specials::PipesAlone
        } else {
            Specials::Refuse
        },
        ..Options::default()
    };
    let archive = if choice & 32 == 0 {
        mend(bytes)
    } else {
        bytes.to_vec()
    };
    let piece = if choice & 64 == 0 { 1 << 20 } else { 333 };
    let folder = std::fs::File::open(&target).expect("it is there");
    let mut unpacker = Unpacker::new(folder.into(), options);
    let pushed = archive
        .chunks(piece)
        .try_for_each(|piece| unpacker.push(piece));
    if let Err(error) = pushed.and_then(|()| unpacker.finish().map(drop)) {
        let text = error.to_string();
        assert!(text.len() < 8192 && !text.contains('\u{1b}'), "{text:?}");
    }
    check_harmless(&target);
    place.check();
});

fn check_harmless(folder: &Path) {
    let meta = std::fs::symlink_metadata(folder).expect("it is there");
    let kind = meta.file_type();
    assert!(
        kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_fifo(),
        "{folder:?}: {kind:?}"
    );
    assert!(
        kind.is_symlink() || meta.mode() & 0o7000 == 0,
        "{folder:?}: {:o}",
        meta.mode()
    );
    if kind.is_dir() {
        // A plain user cannot look into a folder that the archive has closed.
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            check_harmless(&entry.expect("it is there").path());
        }
    }
}
