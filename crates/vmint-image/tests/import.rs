//! Root file systems made by others: tars, OCI layouts and archives, `docker save`, and what is wrong with them.

mod common;

use common::{
    Layout, assert_nothing_left, config, debugfs, gzip, home, layers, other_architecture, tar, xz,
    zstd,
};
use serde_json::json;
use std::fs;
use std::path::Path;
use vmint_image::{
    Arch, Defaults, Image, ImageStore, ImportError, ImportOptions, ImportSource, InitKind, Silent,
};
use vmint_model::{ByteSize, ErrorKind, Explained};

fn import(store: &ImageStore, name: &str, source: &str) -> Result<Image, ImportError> {
    let source: ImportSource = source.parse()?;
    Ok(store
        .import(name, &source, &ImportOptions::default(), &Silent)?
        .commit()?)
}

fn disk(image: &Image) -> std::path::PathBuf {
    image.boot_files().unwrap().disk.unwrap().path
}

fn check_layers(image: &Image) {
    let disk = disk(image);
    assert_eq!(debugfs(&disk, "cat /srv/old/new"), "new");
    for gone in [
        "/etc/hidden",
        "/srv/old/file",
        "/etc/.wh.hidden",
        "/srv/old/.wh..wh..opq",
    ] {
        assert!(
            debugfs(&disk, &format!("stat {gone}")).contains("File not found"),
            "{gone} is there"
        );
    }
    assert!(
        debugfs(&disk, "stat /usr/bin/more").contains("Type: regular"),
        "a file through a link of a lower layer"
    );
    assert!(debugfs(&disk, "stat /srv/old/new").contains("Mode:  04711"));
    let defaults = &image.manifest().defaults;
    assert_eq!(
        (defaults.user.as_deref(), defaults.workdir.as_deref()),
        (Some("1000:1000"), Some("/srv"))
    );
    assert_eq!(defaults.env, ["PATH=/bin", "A=b c"]);
    assert_eq!(
        (defaults.entrypoint.join(" "), defaults.cmd.join(" ")),
        ("/bin/sh".into(), "-c echo hi".into())
    );
}

/// A frame of zstd that is for others, and is skipped.
fn skippable(number: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_le_bytes();
    [&[0x50 | number, 0x2a, 0x4d, 0x18][..], &length, content].concat()
}

/// Several frames with their lengths in front of them, as pzstd writes them, and a table of contents at the end, as zstd:chunked does.
fn in_frames(data: &[u8]) -> Vec<u8> {
    let mut all: Vec<u8> = data
        .chunks(10_000)
        .flat_map(|part| {
            let frame = zstd(part);
            [skippable(0, &(frame.len() as u32).to_le_bytes()), frame].concat()
        })
        .collect();
    all.extend(skippable(0, &zstd(b"{\"version\":1,\"entries\":[]}")));
    all.extend(skippable(0, &[0; 64]));
    all
}

#[test]
fn a_tar_is_the_same_image_however_it_is_compressed() {
    let (dir, store) = home();
    let tar = tar(&[
        ("bin/sh", 0o755, vmint_image::AGENT),
        ("etc/ä \"b\"\nc", 0o600, b"x"),
    ]);
    let mut digests = Vec::new();
    for (name, bytes) in [
        ("plain", tar.clone()),
        ("gz", gzip(&tar)),
        ("xz", xz(&tar)),
        ("zst", zstd(&tar)),
        ("pzstd", in_frames(&tar)),
    ] {
        let path = dir.path().join(format!("{name} of a root.tar"));
        fs::write(&path, bytes).unwrap();
        let image = import(&store, name, path.to_str().unwrap()).unwrap();
        assert_eq!(
            (image.manifest().init, &image.manifest().defaults),
            (InitKind::Agent, &Defaults::default())
        );
        for mount_point in ["/proc", "/sys", "/dev", "/run", "/tmp"] {
            assert!(
                debugfs(&disk(&image), &format!("stat {mount_point}")).contains("Type: directory")
            );
        }
        image.verify().unwrap();
        assert!(debugfs(&disk(&image), "cat /bin/sh").len() > 1000);
        digests.push(image.digest());
    }
    assert!(digests.iter().all(|d| *d == digests[0]), "{digests:?}");
    assert_eq!(store.list().unwrap().len(), 5);
    assert_nothing_left(dir.path());
}

#[test]
fn an_oci_layout_its_archive_and_docker_s_give_the_same_files() {
    let (dir, store) = home();
    let [lower, upper] = layers();
    let config = config(Arch::HOST.debian(), &[lower.clone(), upper.clone()]);
    let mut layout = Layout::new(dir.path().join("layout"));
    layout.image("one", &config, &[in_frames(&lower), zstd(&upper)]);
    let path = layout.dir.display().to_string();
    check_layers(&import(&store, "dir", &format!("oci:{path}")).unwrap());

    // A second image: now a tag is needed.
    layout.image("two", &config, std::slice::from_ref(&lower));
    let error = import(&store, "dir", &format!("oci:{path}")).unwrap_err();
    assert!(
        error.kind() == ErrorKind::NotFound && error.to_string().contains("one, two"),
        "{error}"
    );
    check_layers(&import(&store, "dir", &format!("oci:{path}:one")).unwrap());
    let error = import(&store, "dir", &format!("oci:{path}:three")).unwrap_err();
    assert!(
        error.kind() == ErrorKind::NotFound && error.to_string().contains("three"),
        "{error}"
    );

    let archive = dir.path().join("archive.tar");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", &layout.dir).unwrap();
    fs::write(&archive, gzip(&builder.into_inner().unwrap())).unwrap();
    check_layers(
        &import(
            &store,
            "archive",
            &format!("oci-archive:{}:one", archive.display()),
        )
        .unwrap(),
    );
    // By its path alone it would be a disk of blobs.
    let error = import(&store, "archive", archive.to_str().unwrap()).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Image && error.hint().unwrap().contains("oci-archive:"),
        "{error}"
    );

    let saved = dir.path().join("saved.tar");
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:latest"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    fs::write(
        &saved,
        tar(&[
            ("manifest.json", 0o644, manifest.to_string().as_bytes()),
            ("c.json", 0o644, config.to_string().as_bytes()),
            ("a/layer.tar", 0o644, &lower),
            ("b/layer.tar", 0o644, &upper),
        ]),
    )
    .unwrap();
    check_layers(&import(&store, "saved", &format!("oci-archive:{}", saved.display())).unwrap());
    assert_nothing_left(dir.path());
}

#[test]
fn of_an_index_this_host_s_image_is_taken_and_another_s_refused_by_name() {
    let (dir, store) = home();
    let [lower, upper] = layers();
    let both = [lower, upper];
    let mut layout = Layout::new(dir.path().join("layout"));
    let mut ours = layout.image("ours", &config(Arch::HOST.debian(), &both), &both);
    let mut theirs = layout.image("theirs", &config(other_architecture(), &both), &both[..1]);
    ours["platform"] = json!({"os": "linux", "architecture": Arch::HOST.debian()});
    theirs["platform"] = json!({"os": "linux", "architecture": other_architecture()});
    let source = format!("oci:{}", layout.dir.display());

    let index = json!({"schemaVersion": 2, "manifests": [theirs, ours]});
    let index = layout.blob(
        "application/vnd.oci.image.index.v1+json",
        index.to_string().as_bytes(),
    );
    layout.set_index(vec![index]);
    check_layers(&import(&store, "nested", &source).unwrap());
    layout.set_index(vec![theirs.clone(), ours.clone()]);
    check_layers(&import(&store, "flat", &source).unwrap());

    for index in [vec![theirs.clone(), theirs.clone()], {
        // Without a platform in the index it is the configuration that tells.
        theirs.as_object_mut().unwrap().remove("platform");
        vec![theirs.clone()]
    }] {
        layout.set_index(index);
        let error = import(&store, "wrong", &source).unwrap_err();
        let text = error.to_string();
        assert!(
            error.kind() == ErrorKind::Image && text.contains("wrong architecture"),
            "{text}"
        );
        assert!(
            text.contains(other_architecture()) && text.contains(Arch::HOST.as_str()),
            "{text}"
        );
    }
    assert!(store.find("wrong").unwrap().is_none());
    assert_nothing_left(dir.path());
}

#[test]
fn a_program_for_another_processor_is_found_in_a_tar_too() {
    let (dir, store) = home();
    let mut program = vmint_image::AGENT.to_vec();
    program[18..20].copy_from_slice(&40u16.to_le_bytes());
    let path = dir.path().join("arm.tar");
    fs::write(
        &path,
        tar(&[
            ("usr/bin/dash", 0o755, &program),
            ("bin", 0o777, b"->usr/bin"),
            ("usr/bin/sh", 0o777, b"->dash"),
        ]),
    )
    .unwrap();
    let error = import(&store, "arm", path.to_str().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("wrong architecture") && error.to_string().contains("for arm,"),
        "{error}"
    );
    assert_nothing_left(dir.path());
}

#[test]
fn damaged_and_missing_parts_are_named_and_leave_nothing() {
    let (dir, store) = home();
    let [lower, upper] = layers();
    let config = config(Arch::HOST.debian(), &[lower.clone(), upper.clone()]);
    let mut layout = Layout::new(dir.path().join("layout"));
    let layer = gzip(&lower);
    layout.image("one", &config, std::slice::from_ref(&layer));
    let source = format!("oci:{}", layout.dir.display());
    let blob = layout
        .dir
        .join("blobs/sha256")
        .join(vmint_image::Digest::of(&layer).hex());

    let refused = |source: &str, kind: ErrorKind, part: &str| {
        let error = import(&store, "x", source).unwrap_err();
        assert!(
            error.kind() == kind && error.to_string().contains(part),
            "{source}: {:?}: {error}",
            error.kind()
        );
    };
    let mut flipped = layer.clone();
    flipped[layer.len() / 2] ^= 1;
    fs::write(&blob, flipped).unwrap();
    refused(&source, ErrorKind::Image, "layer 1 is damaged");
    fs::remove_file(&blob).unwrap();
    refused(&source, ErrorKind::Image, "lacks the blob");
    fs::write(layout.dir.join("index.json"), "{").unwrap();
    refused(&source, ErrorKind::Image, "index.json cannot be read");
    layout.set_index(Vec::new());
    refused(&source, ErrorKind::Image, "its index is empty");
    refused(
        &format!("oci:{}/nowhere", dir.path().display()),
        ErrorKind::Image,
        "no such folder",
    );

    let path = |name: &str| dir.path().join(name).display().to_string();
    refused(&path("nowhere.tar"), ErrorKind::NotFound, "nowhere.tar");
    refused(
        dir.path().to_str().unwrap(),
        ErrorKind::Usage,
        "is a folder",
    );
    for (name, bytes, part) in [
        ("cut", &layer[..layer.len() / 2], "cannot unpack usr/bin/sh"),
        ("garbage", &[b'x'; 4000][..], "the archive is damaged"),
        ("empty", &[][..], "is empty"),
    ] {
        fs::write(path(name), bytes).unwrap();
        refused(&path(name), ErrorKind::Image, part);
    }
    // A layer that docker's archive names outside of it.
    let manifest = json!([{"Config": "c.json", "Layers": ["../../etc/passwd"]}]);
    let config = json!({"rootfs": {"diff_ids": [vmint_image::Digest::of(b"x").to_string()]}});
    let evil = tar(&[
        ("manifest.json", 0o644, manifest.to_string().as_bytes()),
        ("c.json", 0o644, config.to_string().as_bytes()),
    ]);
    fs::write(path("evil"), evil).unwrap();
    refused(
        &format!("oci-archive:{}", path("evil")),
        ErrorKind::Image,
        "names a file outside",
    );
    assert!(store.list().unwrap().is_empty());
    assert_nothing_left(dir.path());
}

#[test]
fn limits_are_kept() {
    let (dir, store) = home();
    let path = dir.path().join("bomb.tar.gz");
    fs::write(&path, gzip(&tar(&[("bin/big", 0o644, &vec![0; 30 << 20])]))).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    let source: ImportSource = path.to_str().unwrap().parse().unwrap();
    let limited = ImportOptions {
        limit: ByteSize::mib(20),
        ..ImportOptions::default()
    };
    let error = store.import("x", &source, &limited, &Silent).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Refused && error.to_string().contains("20971520"),
        "{error}"
    );

    fs::write(&path, gzip(&tar(&[("bin/big", 0o644, &vec![1; 30 << 20])]))).unwrap();
    let small = ImportOptions {
        size: Some(ByteSize::mib(16)),
        ..ImportOptions::default()
    };
    let error = store.import("x", &source, &small, &Silent).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Usage && error.hint().unwrap().contains("--size"),
        "{error}"
    );
    assert_nothing_left(Path::new(dir.path()));
}
