//! Names and paths with blanks, quotes, line breaks and what is no text at all: they work, or are refused before anything is
//! made.

use serde_json::json;
use std::fs;
use vmint_tests::Home;
use vmint_tests::fixture::Tarball;
use vmint_tests::seed::Seed;

/// What a name may be that was not meant for programs. QEMU's options have commas between them.
const ODD: &str = "sp ace 'q\"u,o=te\\\n\u{fc}\u{65e5}\u{672c}$HOME";

#[test]
fn a_home_may_have_any_name() {
    let mut home = Home::new();
    let odd = home.root().join(ODD);
    fs::create_dir(&odd).unwrap();
    for name in ["images", "templates", "vmint.db", "vmint.db-wal"] {
        let _ = fs::rename(home.root().join(name), odd.join(name));
    }
    home.set_env("VMINT_HOME", &odd);
    let run = home.ok("run --memory 128M -- echo works");
    assert_eq!(
        (run.text().as_str(), run.error().as_str()),
        ("works\n", ""),
        "its template was found"
    );
    home.ok("create cold --cold --memory 128M --start");
    home.ok("create box --memory 128M --net nat --publish 0:80 --start");
    home.sh("box", "echo kept > /tmp/mark");
    home.ok("snapshot create box s");
    home.ok("fork s copy");
    assert_eq!(home.sh("copy", "cat /tmp/mark"), "kept");
    home.ok("reset box");
    home.ok("stop box --timeout 5s");
    home.ok("start box");
    let tar = Tarball::busybox_of(&odd).write(&home, &format!("{}.tar", ODD.replace('/', "")));
    home.call([
        "image",
        "import",
        "mine",
        tar.to_str().unwrap(),
        "--size",
        "32M",
    ])
    .run()
    .ok();
    assert_eq!(
        home.ok("run --image mine --memory 128M -- echo disk")
            .text(),
        "disk\n"
    );
    home.ok("doctor");
    home.ok("rm --force cold box copy");
    assert_eq!(home.json("ls --all"), json!([]));
}

#[test]
fn files_of_any_name_are_copied_both_ways() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let home = Home::new();
    home.start("box");
    let out = home.runtime().join("out");
    fs::create_dir(&out).unwrap();
    let names = [
        ODD.as_bytes(),
        b"-rf",
        b"a:b",
        b" ",
        b"*",
        b"\\",
        b"\x01\x7f",
        b"--",
        b"\xff\xfe no UTF-8",
        &[b'n'; 255],
    ];
    for name in names {
        let own = home.runtime().join(OsStr::from_bytes(name));
        fs::write(&own, name).unwrap();
        let copy = [
            OsString::from("cp"),
            own.clone().into_os_string(),
            "box:/tmp/".into(),
        ];
        home.call(copy).run().ok();
        fs::remove_file(&own).unwrap();
        let listed = home
            .call(["exec", "box", "--", "sh", "-c", "cd /tmp && cat ./*"])
            .run()
            .ok();
        assert_eq!(listed.stdout, name, "{listed}");
        // Out by its name where that is text, else with the folder that it is in.
        if let Ok(text) = std::str::from_utf8(name) {
            let source = OsString::from_vec([b"box:/tmp/", text.as_bytes()].concat());
            home.call([OsStr::new("cp"), &source, out.as_os_str()])
                .run()
                .ok();
            assert_eq!(fs::read(out.join(text)).unwrap(), name);
        } else {
            home.call([OsStr::new("cp"), OsStr::new("box:/tmp"), out.as_os_str()])
                .run()
                .ok();
            assert_eq!(
                fs::read(out.join("tmp").join(OsStr::from_bytes(name))).unwrap(),
                name
            );
        }
        home.sh("box", "cd /tmp && rm -f ./* ./.[!.]* 2>/dev/null; true");
    }
}

#[test]
fn names_that_machines_cannot_have_are_refused_and_nothing_is_made() {
    let home = Home::with(Seed::Image);
    let long = "x".repeat(64);
    for name in [
        "",
        " ",
        "A",
        "1a",
        "a_b",
        "a/b",
        "../x",
        "a b",
        "\u{fc}",
        "a\nb",
        "'",
        "-a",
        ".",
        long.as_str(),
    ] {
        for words in [
            ["create", name].as_slice(),
            &["snapshot", "create", "box", name],
            &["fork", "box", name],
        ] {
            let outcome = home
                .call(words.iter().chain(&["--format", "json"]))
                .run()
                .exits(2);
            assert!(!outcome.error().contains("panicked"), "{outcome}");
        }
    }
    let fine = "x".repeat(63);
    home.ok(&format!("create {fine} --memory 128M --cold"));
    assert_eq!(home.rows(), [fine.as_str()]);
}
