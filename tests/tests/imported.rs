//! Images made for containers, as machines: what their engine would have done for them is done, and what is odd in them starts.

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, SystemTime};
use vmint_tests::Home;
use vmint_tests::fixture::{OciImage, Tarball};
use vmint_tests::seed::Seed;

fn import(home: &Home, name: &str, layout: &Path) -> Value {
    let source = format!("oci:{}", layout.display());
    let words = [
        "image", "import", name, &source, "--size", "64M", "--format", "json",
    ];
    home.call(words).run().ok().json()
}

/// A folder that a lower layer has a device in the place of, below one that no layer names.
fn layers(home: &Home) -> Vec<Vec<u8>> {
    let lower = Tarball::busybox(home)
        .file("opt/thing", 0o600, b"of the lower layer")
        .link("usr/bin", "../bin");
    let upper = Tarball::new().file("opt/.wh.thing", 0o644, b"").file(
        "opt/thing/new",
        0o644,
        b"of the upper layer\n",
    );
    vec![lower.bytes(), upper.bytes()]
}

#[test]
fn the_same_import_an_hour_later_is_the_same_image_and_boots_nothing_anew() {
    let home = Home::with(Seed::Image);
    let layout = home.runtime().join("layout");
    let image = OciImage::new("amd64", json!({"Env": ["PATH=/bin"]}), layers(&home));
    image.write_layout(&layout);
    let first = import(&home, "first", &layout);
    let run = |image: &str| {
        let words = format!("run --image {image} --memory 128M -- cat /opt/thing/new");
        home.ok(&words).text()
    };
    assert_eq!(run("first"), "of the upper layer\n");
    let templates = || home.ok("template ls --format json").values();
    let made = templates();

    // mke2fs takes its own clock from here; the files that it is given have the times of now.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let later = (now + Duration::from_secs(3600)).as_secs().to_string();
    let source = format!("oci:{}", layout.display());
    let words = [
        "image", "import", "second", &source, "--size", "64M", "--format", "json",
    ];
    let call = home.call(words).env("E2FSPROGS_FAKE_TIME", later);
    let second = call.run().ok().json();
    assert_eq!(first["digest"], second["digest"]);
    assert_eq!(run("second"), "of the upper layer\n");
    assert_eq!(templates(), made, "its template is the other's");

    // A byte more is another one.
    let mut other = layers(&home);
    other.push(Tarball::new().file("opt/thing/new", 0o644, b"x").bytes());
    let layout = home.runtime().join("other");
    OciImage::new("amd64", json!({"Env": ["PATH=/bin"]}), other).write_layout(&layout);
    assert_ne!(import(&home, "third", &layout)["digest"], first["digest"]);
}

#[test]
fn a_machine_of_a_container_s_image_has_what_an_engine_would_give_it() {
    let home = Home::with(Seed::Image);
    let layout = home.runtime().join("layout");
    let mut all = layers(&home);
    all.push(
        Tarball::new()
            .file("etc/hosts", 0o644, b"")
            .link("app", "/data/app")
            .bytes(),
    );
    let config = json!({"Env": ["PATH=/bin"], "WorkingDir": "/app/deep"});
    OciImage::new("amd64", config, all.clone()).write_layout(&layout);
    import(&home, "web", &layout);
    home.ok("create box --image web --memory 128M --start");
    assert_eq!(home.sh("box", "pwd"), "/data/app/deep");
    let kind = home.sh("box", "ls -ld /opt/thing");
    assert!(kind.starts_with("drwxr-xr-x    2 root     root"), "{kind}");
    // No time of the host's: as the newest of its files.
    assert!(kind.contains("1970"), "{kind}");
    // By its name, over the loopback.
    let script =
        "busybox nc -l -p 7 -e echo heard & until busybox nc localhost 7 </dev/null; do :; done";
    assert_eq!(home.sh("box", script), "heard");
    let hosts = home.sh("box", "cat /etc/hosts");
    assert_eq!(hosts.matches("127.0.0.1\tlocalhost").count(), 1, "{hosts}");

    // Without a working directory it is the root, as for a container engine.
    let layout = home.runtime().join("without");
    OciImage::new("amd64", json!({"Env": ["PATH=/bin"]}), all).write_layout(&layout);
    import(&home, "plain", &layout);
    let run = home.ok("run --image plain --memory 128M -- pwd");
    assert_eq!(run.text(), "/\n");
}

#[test]
fn links_to_nowhere_in_the_place_of_a_machine_s_own_files_are_no_obstacle() {
    let home = Home::with(Seed::Image);
    let tar = Tarball::busybox(&home)
        .link("etc/hostname", "/run/nowhere/hostname")
        .link("etc/hosts", "/etc/hosts")
        .link("etc/machine-id", "/dev/null")
        .file("etc/other/made", 0o644, b"x")
        .link("etc/resolv.conf", "other/resolv.conf")
        .write(&home, "odd.tar");
    let source = tar.display().to_string();
    home.call(["image", "import", "odd", &source, "--size", "64M"])
        .run()
        .ok();
    home.ok("create box --image odd --memory 128M --net nat --start");
    let told = home.sh(
        "box",
        "cat /etc/hostname; cat /etc/machine-id; cat /etc/hosts",
    );
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "box", "{told}");
    assert_eq!(lines[1].len(), 32, "{told}");
    assert!(told.contains("127.0.0.1\tlocalhost"), "{told}");
    // What was wanted elsewhere is there: a link that could be written through is one still.
    let through = home.sh(
        "box",
        "busybox readlink /etc/resolv.conf; cat /etc/other/resolv.conf",
    );
    assert!(
        through.starts_with("other/resolv.conf\nnameserver "),
        "{through}"
    );
    // The next fork finds them as they are now.
    home.ok("reset box");
    assert_eq!(home.sh("box", "cat /etc/hostname"), "box");
}

#[test]
fn a_user_without_a_number_is_refused_and_never_root() {
    let home = Home::with(Seed::Image);
    let passwd = b"root:x:0:0:root:/:/bin/sh\nempty:x::0::/:/bin/sh\nword:x:abc:0::/:/bin/sh\n\
        last:x:4294967295:0::/:/bin/sh\ngroupless:x:7:4294967295::/:/bin/sh\n";
    let tar = Tarball::busybox(&home)
        .file("etc/passwd", 0o644, passwd)
        .write(&home, "users.tar");
    let source = tar.display().to_string();
    home.call(["image", "import", "users", &source, "--size", "64M"])
        .run()
        .ok();
    home.ok("create box --image users --memory 128M --start");
    for user in [
        "empty",
        "word",
        "last",
        "groupless",
        "4294967295",
        "0:4294967295",
    ] {
        let words = [
            "exec", "box", "--user", user, "--format", "json", "--", "id",
        ];
        let refused = home.call(words).run().exits(125);
        let text = refused.text() + &refused.error();
        assert!(!text.contains("uid="), "{user}: {text}");
        assert!(
            text.contains("number") || text.contains("find the user"),
            "{user}: {text}"
        );
    }
    let id = |user: &str| home.ok(&format!("exec box -u {user} -- id -u")).text();
    assert_eq!(
        (id("groupless:5"), id("4294967294")),
        ("7\n".into(), "4294967294\n".into())
    );
}
