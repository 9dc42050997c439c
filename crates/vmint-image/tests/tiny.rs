//! `tiny`, with the distribution's real kernel: built, kept, damaged, pruned.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use vmint_image::{Base, Built, Image, ImageStore, InitKind, Progress, Recipe, Silent};
use vmint_model::{ErrorKind, Explained, Home};

fn home() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&Home::new(dir.path(), dir.path().join("run"))).unwrap();
    (dir, store)
}

fn build_tiny(store: &ImageStore, progress: &dyn Progress) -> Image {
    match store
        .build("tiny", &Recipe::new(Base::Tiny), progress)
        .unwrap()
    {
        Built::Draft(draft) => draft.commit().unwrap(),
        Built::Existing(image) => image,
    }
}

/// The names in the archive, by the format's own rules, and each one's content.
fn entries(mut cpio: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut entries = Vec::new();
    loop {
        let number = |i: usize| {
            usize::from_str_radix(
                std::str::from_utf8(&cpio[6 + 8 * i..14 + 8 * i]).unwrap(),
                16,
            )
            .unwrap()
        };
        let (size, name) = (number(6), number(11));
        let path = String::from_utf8(cpio[110..109 + name].to_vec()).unwrap();
        if path == "TRAILER!!!" {
            return entries;
        }
        let start = (110 + name).next_multiple_of(4);
        entries.push((path, cpio[start..start + size].to_vec()));
        cpio = &cpio[(start + size).next_multiple_of(4)..];
    }
}

/// Counts what is done, to see that it is done once.
#[derive(Default)]
struct Count {
    downloads: AtomicUsize,
    stages: Mutex<Vec<String>>,
}

impl Progress for Count {
    fn stage(&self, text: &str) {
        if text.starts_with("downloading linux") {
            self.downloads.fetch_add(1, Ordering::Relaxed);
        }
        self.stages.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn tiny_is_built_once_and_survives_what_happens_to_its_files() {
    let (dir, store) = home();
    assert!(store.find("tiny").unwrap().is_none());

    // Three at once: the kernel is fetched once, and they get the same image.
    let count = Count::default();
    let digests: Vec<_> = std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| build_tiny(&store, &count).digest()))
            .collect();
        builders.into_iter().map(|b| b.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|d| *d == digests[0]), "{digests:?}");
    assert_eq!(
        count.downloads.load(Ordering::Relaxed),
        1,
        "{:?}",
        count.stages
    );

    let image = store.inspect("tiny").unwrap();
    assert_eq!(
        (image.manifest().init, image.manifest().disk.clone()),
        (InitKind::Agent, None)
    );
    let files = image.boot_files().unwrap();
    assert!(fs::metadata(&files.kernel).unwrap().len() > 1 << 20);
    the_initramfs_holds_what_the_agent_needs(&fs::read(&files.initramfs).unwrap());
    image.verify().unwrap();

    // Nothing is left of the work.
    let left: Vec<_> = fs::read_dir(dir.path().join("images"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|n| !n.to_string_lossy().starts_with(".tmp")),
        "{left:?}"
    );

    // A cached initramfs that was cut off is made anew, byte by byte the same.
    let whole = fs::read(&files.initramfs).unwrap();
    fs::write(&files.initramfs, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(image.boot_files().unwrap(), files);
    assert!(fs::read(&files.initramfs).unwrap() == whole);
    // One with a flipped bit is found by a full check.
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 1;
    fs::write(&files.initramfs, flipped).unwrap();
    image.verify().unwrap();
    assert!(fs::read(&files.initramfs).unwrap() == whole);

    // A named image is kept by a prune, kernel and all; a forgotten one is not, unless something still needs it.
    assert_eq!(
        store.prune(&BTreeSet::new()).unwrap(),
        vmint_image::store::Pruned::default()
    );
    store.remove("tiny").unwrap();
    assert_eq!(
        store.remove("tiny").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let keep = BTreeSet::from([image.digest()]);
    assert!(store.prune(&keep).unwrap().kernels.is_empty());
    let pruned = store.prune(&BTreeSet::new()).unwrap();
    assert_eq!(
        (pruned.images.as_slice(), pruned.kernels.len()),
        (&[image.digest()][..], 1)
    );
    assert!(pruned.freed > 10 << 20 && !files.kernel.exists() && !files.initramfs.exists());
}

fn the_initramfs_holds_what_the_agent_needs(cpio: &[u8]) {
    let entries = entries(cpio);
    let get = |path: &str| {
        &entries
            .iter()
            .find(|(p, _)| p == path)
            .unwrap_or_else(|| panic!("no {path}"))
            .1
    };
    assert!(get("init") == vmint_image::AGENT);
    assert_eq!(get("bin/sh"), b"busybox");
    assert!(!entries.iter().any(|(path, _)| path == "bin/init"));
    let order = String::from_utf8(get("modules/order").clone()).unwrap();
    for module in order.lines() {
        assert!(
            get(&format!("modules/{module}")).starts_with(b"\x7fELF"),
            "{module}"
        );
    }
    // Whatever this kernel has built in, its network driver is a module and needs two others.
    let place = |name: &str| {
        order
            .lines()
            .position(|line| line == name)
            .unwrap_or_else(|| panic!("{name} in {order}"))
    };
    assert!(
        place("failover.ko") < place("net_failover.ko")
            && place("net_failover.ko") < place("virtio_net.ko")
    );
}

#[test]
fn damage_is_a_typed_error_that_names_the_file() {
    let (dir, store) = home();
    let image = build_tiny(&store, &Silent);
    let manifest = dir
        .path()
        .join("images")
        .join(image.digest().file_name())
        .join("manifest.json");
    let good = fs::read_to_string(&manifest).unwrap();
    for (bad, kind) in [
        (good[..good.len() / 2].to_owned(), ErrorKind::Corrupt),
        (String::new(), ErrorKind::Corrupt),
        (
            good.replace(r#""init": "agent""#, r#""init": "systemd""#),
            ErrorKind::Corrupt,
        ),
        (
            good.replace(r#""schema": 1"#, r#""schema": 99"#),
            ErrorKind::Corrupt,
        ),
    ] {
        assert_ne!(bad, good);
        fs::write(&manifest, bad).unwrap();
        let error = store.find("tiny").unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(
            error.to_string().contains("manifest.json") && error.hint().is_some(),
            "{error}"
        );
        assert!(matches!(store.list().unwrap().as_slice(), [listed] if listed.image.is_err()));
    }
    // A build of a damaged image repairs it.
    let repaired = build_tiny(&store, &Silent);
    assert_eq!(repaired.digest(), image.digest());
    store.find("tiny").unwrap().unwrap().verify().unwrap();

    let kernel = image.boot_files().unwrap().kernel;
    let bytes = fs::read(&kernel).unwrap();
    fs::write(&kernel, &bytes[..bytes.len() - 1]).unwrap();
    let error = store.find("tiny").unwrap_err();
    assert!(
        error.kind() == ErrorKind::Corrupt && error.to_string().contains("vmlinuz"),
        "{error}"
    );
    let mut flipped = bytes;
    flipped[1 << 20] ^= 1;
    fs::write(&kernel, flipped).unwrap();
    assert_eq!(
        store
            .find("tiny")
            .unwrap()
            .unwrap()
            .verify()
            .unwrap_err()
            .kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn what_a_killed_builder_left_goes_and_what_a_living_one_has_stays() {
    let (dir, store) = home();
    let Built::Draft(draft) = store
        .build("tiny", &Recipe::new(Base::Tiny), &Silent)
        .unwrap()
    else {
        panic!("a new home has no image");
    };
    let abandoned = dir.path().join("images/.tmp-abandoned");
    fs::create_dir_all(abandoned.join("image")).unwrap();
    fs::write(abandoned.join("image/manifest.json"), "half").unwrap();
    let scratch = draft.scratch().to_owned();
    let store = ImageStore::open(&Home::new(dir.path(), dir.path().join("run"))).unwrap();
    assert!(!abandoned.exists() && scratch.exists());
    assert!(store.find("tiny").unwrap().is_none());
    // A prune meanwhile takes nothing that the draft needs.
    store.prune(&BTreeSet::new()).unwrap();
    let image = draft.commit().unwrap();
    assert!(!scratch.exists());
    image.verify().unwrap();
    // The second build finds the first, under another name too.
    assert!(matches!(
        store
            .build("tiny", &Recipe::new(Base::Tiny), &Silent)
            .unwrap(),
        Built::Existing(_)
    ));
    assert!(matches!(
        store
            .build("small", &Recipe::new(Base::Tiny), &Silent)
            .unwrap(),
        Built::Existing(_)
    ));
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_recipe_that_cannot_be_is_refused_before_any_work() {
    let (_dir, store) = home();
    let mut recipe = Recipe::new(Base::Tiny);
    recipe.packages.push("python3".into());
    let error = store.build("x", &recipe, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint().unwrap().contains("debian:12"));
    let error = store
        .build("a b", &Recipe::new(Base::Tiny), &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}
