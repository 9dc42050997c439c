//! Where copies go: the rules of `docker cp`, on real machines, in both directions.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use vmint_tests::fixture::names;
use vmint_tests::{Home, Outcome};

fn machine() -> Home {
    let home = Home::new();
    home.start("box");
    home
}

fn cp(home: &Home, source: &str, target: &str) -> Outcome {
    home.call(["cp", source, target]).run()
}

#[test]
fn a_folders_content_comes_out_whole() {
    let home = machine();
    home.sh(
        "box",
        "mkdir /tmp/dd; cd /tmp/dd; echo 1 > a; echo 2 > b; echo 3 > c",
    );
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    cp(&home, "box:/tmp/dd/.", &at("new")).ok();
    assert_eq!(names(&dir.path().join("new")), ["a", "b", "c"]);
    fs::create_dir(at("there")).unwrap();
    cp(&home, "box:/tmp/dd/.", &at("there")).ok();
    assert_eq!(names(&dir.path().join("there")), ["a", "b", "c"]);
    cp(&home, "box:/tmp/dd", &at("there")).ok();
    assert_eq!(names(&dir.path().join("there")), ["a", "b", "c", "dd"]);
    cp(&home, "box:/tmp/dd", &at("named")).ok();
    assert_eq!(names(&dir.path().join("named")), ["a", "b", "c"]);
    // A slash names a folder: a file goes into it, and a folder becomes it.
    cp(&home, "box:/tmp/dd/a", &at("fresh/")).ok();
    assert_eq!(names(&dir.path().join("fresh")), ["a"]);
    cp(&home, "box:/tmp/dd", &at("slashed/")).ok();
    assert_eq!(names(&dir.path().join("slashed")), ["a", "b", "c"]);
    let out = format!("/tmp/dd/.:{}", at("out"));
    let words = [
        "run",
        "--memory",
        "128M",
        "--copy-out",
        &out,
        "--",
        "sh",
        "-c",
    ];
    let script = "mkdir /tmp/dd; touch /tmp/dd/x /tmp/dd/y";
    home.call(words.into_iter().chain([script])).run().ok();
    assert_eq!(names(&dir.path().join("out")), ["x", "y"]);
    cp(&home, "box:tmp/dd/a", &at("from-root")).ok();
    // The same into the machine, whose paths begin at its root.
    cp(&home, &at("from-root"), "box:tmp/to-root").ok();
    assert_eq!(home.sh("box", "cat /tmp/to-root"), "1");
    cp(&home, &format!("{}/.", at("new")), "box:/srv/made").ok();
    assert_eq!(home.sh("box", "ls /srv/made"), "a\nb\nc");
}

#[test]
fn what_is_there_keeps_its_kind_its_owner_and_its_mode() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.join("f"), "f").unwrap();
    let folder = folder.to_str().unwrap();
    let stat = "stat -c '%a %u:%g' /tmp";
    let before = home.sh("box", stat);
    // Whatever its nanoseconds are: several times.
    for round in 0..3 {
        home.sh("box", "touch /tmp");
        cp(&home, folder, "box:/tmp").ok();
        assert_eq!(home.sh("box", stat), before, "round {round}");
        assert_eq!(home.sh("box", "cat /tmp/folder/f"), "f");
        cp(&home, &format!("{folder}/."), "box:/tmp").ok();
        assert_eq!(home.sh("box", stat), before, "content, round {round}");
        cp(&home, &format!("{folder}/f"), "box:/tmp").ok();
        assert_eq!(home.sh("box", "cat /tmp/f"), "f");
    }
    home.sh("box", "chmod 751 /tmp/folder; chown 5:6 /tmp/folder");
    cp(&home, folder, "box:/tmp").ok();
    assert_eq!(home.sh("box", "stat -c '%a %u:%g' /tmp/folder"), "751 5:6");
    // One that the copy makes is as its source.
    cp(&home, folder, "box:/srv/folder").ok();
    assert_eq!(home.sh("box", "stat -c %a /srv/folder"), "700");
    // A folder takes no file's place, nor does a file with a slash.
    home.sh("box", "echo kept > /tmp/file");
    for source in [folder.to_owned(), format!("{folder}/.")] {
        let refused = cp(&home, &source, "box:/tmp/file").exits(2);
        let told = refused.error();
        assert!(told.contains("box:/tmp/file is a file"), "{refused}");
    }
    cp(&home, &format!("{folder}/f"), "box:/tmp/file/").exits(2);
    assert_eq!(home.sh("box", "cat /tmp/file"), "kept");
    let file = dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    cp(&home, "box:/tmp/folder/.", file.to_str().unwrap()).exits(2);
    assert!(cp(&home, "box:/tmp/folder", file.to_str().unwrap()).code != Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn a_link_that_the_user_names_is_followed() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("tool");
    fs::write(&tool, "new").unwrap();
    let tool = tool.to_str().unwrap();
    home.sh(
        "box",
        "mkdir -p /srv/usr/sbin; ln -s usr/sbin /srv/sbin; echo old > /srv/usr/real; ln -s usr/real /srv/link",
    );
    cp(&home, tool, "box:/srv/sbin").ok();
    assert_eq!(
        home.sh("box", "readlink /srv/sbin; cat /srv/usr/sbin/tool"),
        "usr/sbin\nnew"
    );
    cp(&home, tool, "box:/srv/link").ok();
    assert_eq!(
        home.sh("box", "readlink /srv/link; cat /srv/usr/real"),
        "usr/real\nnew"
    );
    // And so on the host.
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::write(&real, "old").unwrap();
    symlink("real", &link).unwrap();
    cp(&home, "box:/srv/usr/sbin/tool", link.to_str().unwrap()).ok();
    assert!(link.is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    symlink("nowhere", dir.path().join("lost")).unwrap();
    let lost = dir.path().join("lost");
    let refused = cp(&home, "box:/srv/usr/sbin/tool", lost.to_str().unwrap()).exits(2);
    assert!(refused.error().contains("leads nowhere"), "{refused}");
}

#[test]
fn a_file_with_holes_arrives_whole() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let (holes, back) = (dir.path().join("holes"), dir.path().join("back"));
    let file = fs::File::create(&holes).unwrap();
    file.set_len(6 << 20).unwrap();
    file.write_at(b"in the middle", 3 << 20).unwrap();
    assert!(
        fs::metadata(&holes).unwrap().blocks() * 512 < 1 << 20,
        "it has no holes here"
    );
    cp(&home, holes.to_str().unwrap(), "box:/tmp/holes").ok();
    cp(&home, "box:/tmp/holes", back.to_str().unwrap()).ok();
    assert_eq!(fs::read(&back).unwrap(), fs::read(&holes).unwrap());
}
