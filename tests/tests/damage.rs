//! Files of vmint's that a disk, a user or another version has changed: what can be made again is, and that is said; for
//! the rest there is a clear error. Nothing damaged is ever run in hope.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use vmint_tests::Home;
use vmint_tests::fixture::{Tarball, damage};
use vmint_tests::seed::Seed;

/// Inverts a bit in the middle of the last non-zero content, where nothing is unused.
#[expect(
    clippy::ptr_arg,
    reason = "in a row with others, which make it shorter"
)]
fn flip(bytes: &mut Vec<u8>) {
    let at = bytes
        .iter()
        .rposition(|&b| b != 0)
        .expect("a file with content")
        / 2;
    bytes[at] ^= 0x10;
}

fn cut(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

/// The folder of the template without a network.
fn template(home: &Home) -> PathBuf {
    let templates = home.json("template ls");
    let found = templates
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["net"] == "none");
    let fingerprint = found.unwrap_or_else(|| panic!("{templates}"))["fingerprint"]
        .as_str()
        .unwrap();
    home.root().join("templates").join(fingerprint)
}

/// Damages the template, runs a command, which must work, and gives what was said about it.
fn run_after(home: &Home, harm: impl FnOnce(PathBuf)) -> String {
    harm(template(home));
    let run = home.ok("run --memory 128M -- echo works");
    assert_eq!(run.text(), "works\n");
    let again = home.ok("run --memory 128M -- echo works");
    assert_eq!(again.error(), "", "it is whole again");
    assert_eq!(home.json("template ls").as_array().unwrap().len(), 2);
    home.empties(Duration::from_secs(5));
    run.error()
}

#[test]
fn a_template_whose_memory_has_changed_is_made_anew_and_that_is_said() {
    let home = Home::new();
    for harm in [flip, cut, Vec::clear] {
        let said = run_after(&home, |folder| damage(&folder.join("ram"), harm));
        assert!(
            said.contains("ram") && said.contains("damaged") && said.contains("rebuil"),
            "{said}"
        );
    }
}

/// As a QEMU that was taken over could: it has the memory open for writing, and may set its time of modification.
#[test]
fn memory_that_was_written_with_its_time_put_back_is_found_by_verify_and_by_the_next_fork() {
    let home = Home::new();
    let folder = template(&home);
    // The seeds share it: it becomes this home's own first.
    damage(&folder.join("ram"), |_| {});
    let fingerprint = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let verify = format!("template verify {fingerprint} --format json");
    home.ok("run --memory 128M -- true");
    let sound = home.ok(&verify).json();
    assert_eq!(sound[0]["sound"], true, "{sound}");
    // A fork does not change what is known: neither that it is made nor that it goes.
    home.start("sibling");
    let ram = folder.join("ram");
    let ram = File::options().read(true).write(true).open(ram).unwrap();
    let modified = ram.metadata().unwrap().modified().unwrap();
    let (at, mut byte) = (5 << 20, [0]);
    ram.read_exact_at(&mut byte, at).unwrap();
    ram.write_all_at(&[byte[0] ^ 1], at).unwrap();
    ram.set_modified(modified).unwrap();
    assert_eq!(ram.metadata().unwrap().modified().unwrap(), modified);

    let damaged = home.vmint(&verify).exits(1).json();
    assert_eq!(damaged[0]["sound"], false, "{damaged}");
    let told = damaged[0]["damage"][0].as_str().unwrap();
    assert!(told.contains("ram") && told.contains("changed"), "{told}");
    home.ok("rm --force sibling");
    let run = home.ok("run --memory 128M -- echo works");
    assert_eq!(run.text(), "works\n");
    assert!(run.error().contains("damaged"), "{}", run.error());
    home.ok(&verify);
    let both = home.vmint(&format!(
        "template verify nonsense {fingerprint} --format json"
    ));
    let told = both.clone().exits(3).json();
    assert_eq!(told[0]["fingerprint"], fingerprint, "{both}");
    assert_eq!(told[1]["name"], "nonsense", "{both}");
    assert_eq!(told[1]["error"]["kind"], "not_found", "{both}");
}

#[test]
fn a_template_whose_devices_state_has_changed_is_made_anew_and_that_is_said() {
    let home = Home::new();
    for harm in [flip, cut] {
        let said = run_after(&home, |folder| damage(&folder.join("state"), harm));
        assert!(
            said.contains("state") && said.contains("damaged") && said.contains("rebuil"),
            "{said}"
        );
    }
    let said = run_after(&home, |folder| {
        fs::remove_file(folder.join("state")).unwrap();
    });
    assert!(
        said.contains("missing") && said.contains("rebuil"),
        "{said}"
    );
}

#[test]
fn a_template_with_a_manifest_that_cannot_be_read_is_made_anew() {
    let home = Home::new();
    let said = run_after(&home, |folder| {
        damage(&folder.join("manifest.json"), |text| *text = b"{]".to_vec());
    });
    assert!(
        said.contains("manifest.json") && said.contains("rebuil"),
        "{said}"
    );
    // By a version that is not known.
    let said = run_after(&home, |folder| {
        damage(&folder.join("manifest.json"), |text| {
            let changed = String::from_utf8(text.clone()).unwrap().replacen(
                "\"version\":1",
                "\"version\":99",
                1,
            );
            let changed = changed.replacen("\"version\": 1", "\"version\": 99", 1);
            assert_ne!(changed.as_bytes(), text, "the manifest has a version");
            *text = changed.into_bytes();
        });
    });
    assert!(said.contains("rebuil"), "{said}");
    run_after(&home, |folder| {
        fs::remove_file(folder.join("manifest.json")).unwrap();
    });
}

/// It may be slow to find out, but not on every call.
#[test]
fn a_template_that_was_only_touched_stays() {
    let home = Home::new();
    let before = template(&home);
    let said = run_after(&home, |folder| damage(&folder.join("ram"), |_| {}));
    assert_eq!(said, "", "what is whole is not made anew");
    assert_eq!(template(&home), before);
}

#[test]
fn a_damaged_snapshot_is_a_clear_error_and_machines_from_it_go_on() {
    let home = Home::new();
    home.start("box");
    home.sh("box", "head -c 3000000 /dev/urandom > /tmp/noise");
    for (n, file) in ["delta", "state", "ram", "manifest.json"]
        .into_iter()
        .enumerate()
    {
        let name = format!("s{n}");
        home.ok(&format!("snapshot create box {name}"));
        home.ok(&format!("fork {name} before{n}"));
        damage(&home.root().join("snapshots").join(&name).join(file), flip);
        let message = home
            .vmint(&format!("fork {name} after --format json"))
            .fault(1, "corrupt");
        assert!(
            message.contains(file) && message.contains(&name),
            "{message}"
        );
        home.vmint(&format!("restore box {name} --format json"))
            .fault(1, "corrupt");
        home.vmint(&format!("create after --from {name} --start --format json"))
            .fault(1, "corrupt");
        home.vmint("info after").exits(3);
        assert_eq!(
            home.sh("box", "wc -c < /tmp/noise"),
            "3000000",
            "a restore that cannot be is not begun"
        );
        assert_eq!(
            home.sh(&format!("before{n}"), "wc -c < /tmp/noise"),
            "3000000"
        );
        home.ok("snapshot ls");
        home.ok(&format!("snapshot rm {name}"));
        home.ok(&format!("rm --force before{n}"));
    }
    assert_eq!(home.json("snapshot ls"), serde_json::json!([]));
}

fn only_file(folder: PathBuf, named: &str) -> PathBuf {
    let mut folders = vec![folder];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(named)
            {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_damaged_disk_of_an_image_is_a_clear_error_and_the_image_can_be_removed() {
    let home = Home::with(Seed::Image);
    let tar = Tarball::busybox(&home).write(&home, "root.tar");
    let import = [
        "image",
        "import",
        "mine",
        tar.to_str().unwrap(),
        "--size",
        "64M",
    ];
    home.call(import).run().ok();
    damage(&only_file(home.root().join("images"), "disk"), flip);
    let message = home
        .vmint("run --image mine --memory 128M --format json -- true")
        .fault(125, "corrupt");
    assert!(message.contains("disk"), "{message}");
    let listed = home.ok("image ls");
    assert!(listed.text().contains("mine"), "{listed}");
    home.vmint("image inspect mine").exits(1);
    home.ok("image rm mine");
    home.ok("image prune");
    home.call(import).run().ok();
    home.ok("run --image mine --memory 128M -- true");
}

#[test]
fn a_damaged_kernel_or_initramfs_is_found_out_and_replaced_or_told() {
    let home = Home::with(Seed::Image);
    for (named, harm) in [("vmlinuz", cut as fn(&mut Vec<u8>)), ("sha256-", cut)] {
        let folder = if named == "vmlinuz" {
            "images/kernels"
        } else {
            "images/initramfs"
        };
        let path = only_file(home.root().join(folder), named);
        let whole = fs::read(&path).unwrap();
        damage(&path, harm);
        let outcome = home.vmint("run --memory 96M --format json -- echo works");
        if outcome.code == Some(0) {
            assert_eq!(outcome.text(), "works\n");
        } else {
            let kind = if outcome.stderr.windows(7).any(|w| w == b"corrupt") {
                "corrupt"
            } else {
                "image"
            };
            let message = outcome.fault(125, kind);
            assert!(
                message.contains("damaged") || message.contains("panic"),
                "{message}"
            );
        }
        damage(&path, |bytes| *bytes = whole);
        home.empties(Duration::from_secs(5));
    }
}

#[test]
fn a_database_from_the_future_is_left_alone() {
    let home = Home::new();
    home.ok("create box --memory 128M");
    let database = rusqlite::Connection::open(home.root().join("vmint.db")).unwrap();
    let version: i64 = database
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    drop(database);
    home.sql("PRAGMA user_version = 999");
    for args in [
        "ls --format json",
        "create other --memory 128M --format json",
        "gc --format json",
    ] {
        let message = home.vmint(args).fault(1, "corrupt");
        assert!(
            message.contains("vmint.db") && message.contains("999"),
            "{message}"
        );
    }
    let run = home.vmint("run --format json -- true");
    assert!(
        run.error().contains("newer vmint"),
        "it says what to do: {run}"
    );
    run.fault(125, "corrupt");
    let doctor = home.vmint("doctor").exits(1);
    assert!(doctor.text().contains("999"), "{doctor}");
    home.sql(&format!("PRAGMA user_version = {version}"));
    assert_eq!(
        home.json("ls --all")[0]["name"],
        "box",
        "and nothing was lost"
    );
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let home = Home::new();
    home.ok("ls");
    let path = home.root().join("vmint.db");
    for name in ["vmint.db-wal", "vmint.db-shm"] {
        let _ = fs::remove_file(home.root().join(name));
    }
    fs::write(&path, vec![0x42; 20_000]).unwrap();
    let outcome = home.vmint("ls --format json");
    assert!(
        outcome.error().contains("vmint doctor --repair"),
        "it says what to do: {outcome}"
    );
    let message = outcome.fault(1, "corrupt");
    assert!(message.contains("vmint.db"), "{message}");
    home.vmint("run --format json -- true")
        .fault(125, "corrupt");
    assert_eq!(fs::read(&path).unwrap(), vec![0x42; 20_000]);
    fs::remove_file(&path).unwrap();
    home.ok("run --memory 128M -- true");
}
