//! Images: built, imported, pulled, used with the defaults they came with, removed.

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vmint_tests::fixture::{OciImage, Tarball, digest, half_made};
use vmint_tests::seed::Seed;
use vmint_tests::{Home, until};

const BUILD: Duration = Duration::from_secs(280);

/// A root file system under a name, by `image import`.
fn import(home: &Home, name: &str, source: &str) -> Value {
    home.call([
        "image", "import", name, source, "--size", "64M", "--format", "json",
    ])
    .run()
    .ok()
    .json()
}

fn names(home: &Home) -> Vec<String> {
    let images = home.json("image ls");
    images
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn tiny_is_kernel_agent_and_busybox() {
    let home = Home::new();
    let run = home.call(
        "run --memory 128M -- sh -c"
            .split(' ')
            .chain(["id -u; cat /proc/1/comm; vi --help 2>&1 | head -1"]),
    );
    let text = run.run().ok().text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0] == "0" && lines[2].contains("BusyBox"), "{text}");
    let image = home.json("image inspect tiny");
    assert_eq!(
        (&image["name"], &image["disk"]),
        (&json!("tiny"), &Value::Null),
        "{image}"
    );
    assert!(
        image["digest"]
            .as_str()
            .is_some_and(|d| d.starts_with("sha256:")),
        "{image}"
    );
    assert!(
        image["kernel"].as_str().is_some_and(|k| k.contains('.')),
        "{image}"
    );
    for what in ["--package hello", "--run true", "--copy /etc/hostname:/x"] {
        let outcome = home
            .vmint(&format!("image build more --from tiny {what}"))
            .exits(2);
        assert!(
            outcome.error().contains("debian:12"),
            "it says what can: {outcome}"
        );
    }
}

/// One build for all that a Debian image promises: they take their time.
#[test]
fn a_debian_image_has_its_packages_files_and_user_and_runs_systemd() {
    let home = Home::with(Seed::Image);
    let file = home.runtime().join("with space");
    fs::write(&file, "copied\n").unwrap();
    let copy = format!("{}:/opt/ours/", file.display());
    let words = [
        "image",
        "build",
        "web",
        "--from",
        "debian:12",
        "--package",
        "hello",
        "--copy",
        &copy,
        "--run",
    ];
    let build = || {
        let script = "echo to-be-seen; hello > /etc/made; systemctl is-system-running || true";
        home.call(words.into_iter().chain([script]))
            .deadline(BUILD)
            .start()
    };
    let (first, second) = (build(), build());
    let outcomes = [first.finish().ok(), second.finish().ok()];
    let said = |what: &str| {
        outcomes
            .iter()
            .filter(|outcome| outcome.error().contains(what))
            .count()
    };
    assert_eq!(
        said("installing Debian 12"),
        1,
        "the work is done once: {outcomes:?}"
    );
    assert_eq!(said("waiting for another process"), 1, "{outcomes:?}");
    assert_eq!(said("\nto-be-seen\n"), 1, "output is shown: {outcomes:?}");
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);

    let script = "cat /etc/made '/opt/ours/with space'; stat -c '%U %a' '/opt/ours/with space'; cat /proc/1/comm; \
        systemctl is-system-running; ls /etc/ssh/ssh_host_* 2>/dev/null; id -un 1000";
    let words = [
        "run", "--image", "web", "--memory", "256M", "--", "sh", "-c", script,
    ];
    let text = home.call(words).deadline(BUILD).run().ok().text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..5],
        ["Hello, world!", "copied", "root 644", "systemd", "running"],
        "{text}"
    );
    let user = lines[5];
    let as_user = format!("run --image web --memory 256M -u {user} -- sudo -n id -u");
    assert_eq!(home.ok(&as_user).text(), "0\n", "{user} may do everything");
    let escalate = format!("run --image web --memory 256M -u {user} -- cat /etc/shadow");
    assert_ne!(
        home.vmint(&escalate).code,
        Some(0),
        "but not without asking"
    );

    // A command that fails fails the build, with its own exit code; what was there before stays.
    let failing = [
        "image",
        "build",
        "web",
        "--from",
        "debian:12",
        "--run",
        "echo about to fail; exit 7",
        "--format",
        "json",
    ];
    let outcome = home.call(failing).deadline(BUILD).run();
    assert!(outcome.error().contains("about to fail"), "{outcome}");
    let message = outcome.fault(1, "image");
    assert!(
        message.contains("exited with 7") && message.contains("no image was made"),
        "{message}"
    );
    assert_eq!(names(&home), ["tiny", "web"]);
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
    home.empties(Duration::from_secs(5));
    assert_eq!(
        home.ok("run --image web --memory 256M -- hello").text(),
        "Hello, world!\n"
    );
}

#[test]
fn a_root_file_system_is_imported_and_runs_without_an_init() {
    let home = Home::with(Seed::Image);
    let tar = Tarball::busybox(&home)
        .file("etc/mark", 0o600, b"here\n")
        .folder("srv", 0o755)
        .write(&home, "root.tar");
    let image = import(&home, "mine", tar.to_str().unwrap());
    assert_eq!(image["disk"], json!(64 << 20), "{image}");
    home.ok("create box --image mine --memory 128M --start");
    assert_eq!(
        home.sh("box", "cat /etc/mark; ls -l /etc/mark | cut -c1-10"),
        "here\n-rw-------"
    );
    // Whose parent has died becomes the agent's, which must not leave it a zombie.
    home.sh("box", "for n in 1 2 3; do (sleep 0.2 &) ; done");
    let zombies = "for s in /proc/[0-9]*/stat; do read -r line < $s; case \"${line##*) }\" in Z*) echo \"$line\";; esac; done; true";
    until(
        Duration::from_secs(5),
        "all sleepers have ended and been reaped",
        || {
            home.sh("box", "ps | cat").matches("sleep 0.2").count() == 0
                && home.sh("box", zombies).is_empty()
        },
    );
    // What is written is the machine's own.
    home.sh("box", "echo changed > /etc/mark");
    assert_eq!(
        home.ok("run --image mine --memory 128M -- cat /etc/mark")
            .text(),
        "here\n"
    );
}

#[test]
fn an_image_of_the_same_recipe_is_the_same_image_under_another_name() {
    let home = Home::with(Seed::Image);
    let again = home.ok("image build again --from tiny --format json");
    assert_eq!(
        again.json()["digest"],
        home.json("image inspect tiny")["digest"]
    );
    home.ok("image rm tiny");
    assert_eq!(
        home.json("image prune")["images"],
        json!([]),
        "its other name means it"
    );
    home.ok("run --image again --memory 128M -- true");
}

#[test]
fn an_image_without_a_name_goes_when_nothing_needs_it() {
    let home = Home::with(Seed::Image);
    let tar = Tarball::busybox(&home).write(&home, "root.tar");
    import(&home, "mine", tar.to_str().unwrap());
    home.ok("run --image mine --memory 128M -- true");
    home.ok("image rm mine");
    home.vmint("image inspect mine").exits(3);
    home.vmint("image rm mine").exits(3);
    assert_eq!(names(&home), ["tiny"]);
    assert_eq!(
        home.json("image prune")["images"],
        json!([]),
        "its template needs it"
    );
    home.ok("template rm mine");
    let pruned = home.json("image prune");
    assert_eq!(
        pruned["images"].as_array().map(Vec::len),
        Some(1),
        "{pruned}"
    );
    assert!(
        pruned["freed"]
            .as_u64()
            .is_some_and(|bytes| bytes > 1 << 20),
        "{pruned}"
    );
    home.ok("run --memory 128M -- true");
}

/// A name may be given to another image; machines stay what they are.
#[test]
fn a_name_that_is_given_anew_changes_no_machine() {
    let home = Home::with(Seed::Image);
    let root = |mark: &str| {
        let tar = Tarball::busybox(&home)
            .file("etc/mark", 0o644, mark.as_bytes())
            .write(&home, "root.tar");
        import(&home, "mine", tar.to_str().unwrap());
    };
    root("first");
    home.ok("create old --image mine --memory 128M");
    root("second");
    home.ok("start old");
    assert_eq!(home.sh("old", "cat /etc/mark"), "first");
    assert_eq!(
        home.ok("run --image mine --memory 128M -- cat /etc/mark")
            .text(),
        "second"
    );
    home.ok("reset old");
    assert_eq!(home.sh("old", "cat /etc/mark"), "first");
}

/// Its image's name may be gone before it was ever started.
#[test]
fn a_machine_keeps_its_image_although_the_name_is_removed() {
    let home = Home::with(Seed::Image);
    let tar = Tarball::busybox(&home).write(&home, "root.tar");
    import(&home, "mine", tar.to_str().unwrap());
    home.ok("create forked --image mine --memory 128M");
    home.ok("create cold --image mine --memory 128M --cold");
    home.ok("image rm mine");
    home.ok("image prune");
    for name in ["forked", "cold"] {
        home.ok(&format!("start {name}"));
        assert_eq!(home.sh(name, "echo up"), "up");
        home.ok(&format!("stop {name}"));
        home.ok(&format!("start {name}"));
        assert_eq!(home.sh(name, "echo up"), "up");
    }
}

/// Two layers; the upper one hides a file and a folder of the lower. As registries and layouts hold it.
fn layered(home: &Home) -> OciImage {
    let lower = Tarball::busybox(home)
        .file("etc/hidden", 0o644, b"hidden")
        .file("srv/old/file", 0o644, b"old")
        .folder("srv", 0o777);
    let upper = Tarball::new()
        .file("etc/.wh.hidden", 0o644, b"")
        .file("srv/old/.wh..wh..opq", 0o644, b"")
        .file("srv/old/new", 0o644, b"new\n");
    let config = json!({
        "User": "worker", "Env": ["PATH=/bin", "GREETING=hello world", "OTHER=x"], "WorkingDir": "/srv",
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["id -un; pwd; echo $GREETING; test -e /etc/hidden || ls /srv/old"],
    });
    OciImage::new("amd64", config, vec![lower.bytes(), upper.bytes()])
}

#[track_caller]
fn assert_is_layered(home: &Home, name: &str) {
    let run = format!("run --image {name} --memory 128M");
    let text = home.ok(&run).text();
    assert_eq!(
        text, "worker\n/srv\nhello world\nnew\n",
        "its defaults count, whiteouts too"
    );
    let words = run.split(' ').chain([
        "-u",
        "root",
        "-w",
        "/",
        "-e",
        "GREETING=bye",
        "--",
        "sh",
        "-c",
        "id -un; pwd; echo $GREETING $OTHER",
    ]);
    assert_eq!(
        home.call(words).run().ok().text(),
        "root\n/\nbye x\n",
        "and can be overridden"
    );
    let image = home.json(&format!("image inspect {name}"));
    assert_eq!(
        (&image["user"], &image["workdir"]),
        (&json!("worker"), &json!("/srv")),
        "{image}"
    );
    assert_eq!(image["entrypoint"], json!(["/bin/sh", "-c"]), "{image}");
}

#[test]
fn an_oci_layout_is_imported_with_its_layers_and_defaults() {
    let home = Home::with(Seed::Image);
    let layout = home.runtime().join("layout");
    layered(&home).write_layout(&layout);
    import(&home, "layout", &format!("oci:{}", layout.display()));
    assert_is_layered(&home, "layout");
    let archive = home.runtime().join("archive.tar");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(&layout)
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status()
        .unwrap();
    assert!(packed.success());
    import(
        &home,
        "archive",
        &format!("oci-archive:{}", archive.display()),
    );
    assert_is_layered(&home, "archive");

    // A layer with a bit that is another.
    let blobs = layout.join("blobs/sha256");
    let layer = fs::read_dir(&blobs)
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let source = format!("oci:{}", layout.display());
    let message = home
        .call(["image", "import", "flipped", &source, "--format", "json"])
        .run()
        .fault(1, "image");
    assert!(
        message.contains("damaged") && message.contains("digest"),
        "{message}"
    );
    assert_eq!(names(&home), ["archive", "layout", "tiny"]);
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
}

/// Debian's registry on this host's loopback, until dropped.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            folder.join("registry").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .expect("docker-registry is installed (apt-get install docker-registry)");
        until(Duration::from_secs(30), "the registry answers", || {
            TcpStream::connect(&address).is_ok()
        });
        Self { process, address }
    }

    /// One request; gives the answer's head.
    fn request(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 20"),
            "{method} {path}: {answer}"
        );
        answer
    }

    fn push(&self, name: &str, tag: &str, image: &OciImage) {
        for blob in &image.blobs {
            let begun = self.request(
                "POST",
                &format!("/v2/{name}/blobs/uploads/"),
                "text/plain",
                b"",
            );
            let location = begun
                .lines()
                .find_map(|line| line.strip_prefix("Location: "))
                .expect("a place to upload to");
            let path = location
                .trim()
                .split_once(&self.address)
                .map_or(location, |(_, path)| path.trim());
            let path = format!("{path}&digest={}", digest(blob).replace(':', "%3A"));
            self.request("PUT", &path, "application/octet-stream", blob);
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        self.request(
            "PUT",
            &format!("/v2/{name}/manifests/{tag}"),
            kind,
            &image.manifest,
        );
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn an_image_is_pulled_from_a_registry() {
    let home = Home::with(Seed::Image);
    let registry = Registry::start(home.runtime());
    registry.push("team/app", "v1", &layered(&home));
    registry.push(
        "team/app",
        "arm",
        &OciImage::new("arm64", json!({}), vec![Tarball::busybox(&home).bytes()]),
    );
    let source = |tag: &str| format!("docker://{}/team/app:{tag}", registry.address);
    import(&home, "pulled", &source("v1"));
    assert_is_layered(&home, "pulled");
    let import = |tag: &str| {
        home.call(["image", "import", "bad", &source(tag), "--format", "json"])
            .run()
    };
    let message = import("arm").fault(1, "image");
    assert!(message.contains("wrong architecture"), "{message}");
    let message = import("none").fault(3, "not_found");
    assert!(message.contains("team/app:none"), "{message}");
    let gone = source("v1");
    drop(registry);
    let outcome = home.call(["image", "import", "bad", &gone]).run().exits(1);
    assert!(
        outcome.error().contains("cannot pull") && outcome.error().contains("hint"),
        "{outcome}"
    );
    assert_eq!(names(&home), ["pulled", "tiny"]);
    assert_eq!(half_made(home.root()), [] as [PathBuf; 0]);
}

#[test]
fn names_of_images_are_checked_before_anything_is_done() {
    let home = Home::with(Seed::Image);
    for name in [
        "",
        "a b",
        "../x",
        "-x",
        "ü",
        "a\nb",
        "a'b",
        ".x",
        &"x".repeat(200),
    ] {
        home.call(["image", "build", name, "--from", "tiny"])
            .run()
            .exits(2);
        home.call(["image", "import", name, "/no/such/file"])
            .run()
            .exits(2);
    }
    home.vmint("image build x --from debian:7").exits(2);
    home.vmint("image build x --from tiny --size much").exits(2);
    home.call(["image", "build", "Team/App:1.0_a@b+c", "--from", "tiny"])
        .run()
        .ok();
    home.ok("run --image Team/App:1.0_a@b+c --memory 128M -- true");
    assert_eq!(names(&home), ["Team/App:1.0_a@b+c", "tiny"]);
}
