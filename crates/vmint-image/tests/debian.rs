//! `debian:12`, installed for real.

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use vmint_image::{Base, Built, CopyIn, Debian, ImageStore, InitKind, Progress, Recipe, Silent};
use vmint_model::{ByteSize, ErrorKind, Explained, Home};

fn home() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&Home::new(dir.path(), dir.path().join("run"))).unwrap();
    (dir, store)
}

#[derive(Default)]
struct Stages(Mutex<Vec<String>>);

impl Progress for Stages {
    fn stage(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

fn debugfs(disk: &std::path::Path, request: &str) -> String {
    let output = Command::new("/usr/sbin/debugfs")
        .args(["-R", request])
        .arg(disk)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn debian_12_is_a_disk_with_systemd_modules_packages_and_copies() {
    let (dir, store) = home();
    let mut recipe = Recipe::new(Base::Debian(Debian::Bookworm));
    recipe.packages.push("iputils-ping".into());
    recipe.run.push("echo hello > /etc/hello".into());
    let source = dir.path().join("copied file");
    fs::write(&source, "copied\n").unwrap();
    recipe.copy.push(CopyIn {
        source,
        target: "/opt/".into(),
    });
    recipe.size = ByteSize::mib(2048);
    let stages = Stages::default();
    let Built::Draft(draft) = store.build("test/one", &recipe, &stages).unwrap() else {
        panic!("a new home has no image")
    };
    assert!(
        stages
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|s| s.contains("Debian 12")),
        "{stages:?}",
        stages = stages.0
    );
    assert_eq!(draft.commands(), ["echo hello > /etc/hello"]);
    let files = draft.boot_files().unwrap();
    let disk = files.disk.unwrap();
    assert_eq!(
        (disk.size, disk.digest, files.init),
        (2 << 30, None, InitKind::Systemd)
    );
    assert!(
        store.find("test/one").unwrap().is_none(),
        "a draft can be found"
    );

    let fsck = Command::new("/usr/sbin/e2fsck")
        .args(["-f", "-n"])
        .arg(&disk.path)
        .output()
        .unwrap();
    assert!(
        fsck.status.success(),
        "{}",
        String::from_utf8_lossy(&fsck.stdout)
    );
    let version = fs::read_dir(dir.path().join("images/kernels"))
        .unwrap()
        .find_map(|entry| {
            let text = fs::read_to_string(entry.unwrap().path().join("manifest.json")).ok()?;
            Some(
                text.split("\"version\": \"")
                    .nth(1)?
                    .split('"')
                    .next()?
                    .to_owned(),
            )
        });
    let modules = format!(
        "/usr/lib/modules/{}",
        version.expect("a kernel with a version")
    );
    for (path, expected) in [
        ("/usr/bin/sudo", &["Mode:  04755", "User:     0"][..]),
        ("/etc/shadow", &["Mode:  0640", "Group:    42"]),
        ("/home/vmint", &["User:  1000", "Type: directory"]),
        ("/usr/lib/systemd/systemd", &["User:     0", "Mode:  0755"]),
        ("/etc/systemd/system/apt-daily.timer", &["Type: symlink"]),
        ("/opt/copied file", &["User:     0"]),
        (&format!("{modules}/modules.dep.bin"), &["User:     0"]),
        (&format!("{modules}/modules.alias.bin"), &["User:     0"]),
    ] {
        let stat = debugfs(&disk.path, &format!("stat \"{path}\""));
        for part in expected {
            assert!(stat.contains(part), "{path}: no {part:?} in {stat}");
        }
    }
    assert!(debugfs(&disk.path, "ea_list /usr/bin/ping").contains("security.capability"));
    assert_eq!(debugfs(&disk.path, "cat /etc/machine-id"), "");
    assert_eq!(debugfs(&disk.path, "cat \"/opt/copied file\""), "copied\n");

    let image = draft.commit().unwrap();
    image.verify().unwrap();
    assert_eq!(image.manifest().disk.as_ref().unwrap().size, 2 << 30);
    assert!(image.size_on_disk() < 1 << 30, "{}", image.size_on_disk());
    assert!(matches!(
        store.build("test/one", &recipe, &Silent).unwrap(),
        Built::Existing(_)
    ));

    // Damage of a kind that a look at the file does not show, and of one that it does.
    let path = image.boot_files().unwrap().disk.unwrap().path;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(time + std::time::Duration::from_secs(5))
        .unwrap();
    store.inspect("test/one").unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().modified().unwrap(),
        time,
        "an intact disk's time is put right"
    );
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 1 << 20).unwrap();
    let error = store.inspect("test/one").unwrap_err();
    assert!(
        error.kind() == ErrorKind::Corrupt && error.to_string().contains("disk.raw"),
        "{error}"
    );
    file.set_len(100).unwrap();
    assert_eq!(
        store.inspect("test/one").unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn an_unknown_package_is_named() {
    let (dir, store) = home();
    let mut recipe = Recipe::new(Base::Debian(Debian::Bookworm));
    recipe.packages.push("no-such-package-at-all".into());
    let error = store.build("x", &recipe, &Silent).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Usage && error.to_string().contains("no-such-package-at-all"),
        "{error}"
    );
    recipe.packages = vec!["--option".into()];
    assert_eq!(
        store.build("x", &recipe, &Silent).unwrap_err().kind(),
        ErrorKind::Usage
    );
    let left: Vec<_> = fs::read_dir(dir.path().join("images"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|n| !n.to_string_lossy().starts_with(".tmp")),
        "{left:?}"
    );
}
