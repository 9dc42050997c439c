//! A build that is killed half way: everything it started ends with it, and nothing of it is taken for an image.

mod common;

use common::assert_nothing_left;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vmint_image::{Base, Built, Debian, ImageStore, Progress, Recipe};
use vmint_model::Home;

const HOME: &str = "VMINT_TEST_KILLED_HOME";

fn open(home: &Path) -> ImageStore {
    ImageStore::open(&Home::new(home, home.join("run"))).unwrap()
}

/// Tells the parent, by a file, that mmdebstrap is at work.
struct Tell<'a>(&'a Path);

impl Progress for Tell<'_> {
    fn output(&self, line: &str) {
        if line.contains("installing") || line.contains("extracting") {
            fs::write(self.0.join("at-work"), line).unwrap();
        }
    }
}

/// Not a test of its own: what the other test starts and kills.
#[test]
fn the_builder_that_is_killed() {
    let Some(home) = std::env::var_os(HOME) else {
        return;
    };
    let home = Path::new(&home);
    let built = open(home)
        .build(
            "x",
            &Recipe::new(Base::Debian(Debian::Bookworm)),
            &Tell(home),
        )
        .unwrap();
    assert!(matches!(built, Built::Draft(_)));
    panic!("it was to be killed before");
}

/// Processes that have this home in their arguments or environment.
fn processes_of(home: &Path) -> Vec<String> {
    let home = home.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        path.file_name()?
            .to_str()?
            .parse::<u32>()
            .ok()
            .filter(|pid| *pid != std::process::id())?;
        let read = |name: &str| fs::read(path.join(name)).unwrap_or_default();
        let (arguments, environment) = (read("cmdline"), read("environ"));
        let all = String::from_utf8_lossy(&[&arguments[..], &environment].concat()).into_owned();
        all.contains(home)
            .then(|| String::from_utf8_lossy(&arguments).replace('\0', " "))
    });
    processes.collect()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "{what} did not happen in two minutes"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_build_takes_everything_with_it_and_leaves_no_image() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut builder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_builder_that_is_killed"])
        .env(HOME, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the installation", || {
        assert!(
            builder.try_wait().unwrap().is_none(),
            "the builder has ended by itself"
        );
        home.join("at-work").exists()
    });
    assert!(processes_of(home).len() > 1);
    builder.kill().unwrap();
    builder.wait().unwrap();
    wait_for("the end of all that the build had started", || {
        processes_of(home).is_empty()
    });

    let store = open(home);
    assert_nothing_left(home);
    assert!(store.find("x").unwrap().is_none() && store.list().unwrap().is_empty());
    assert!(
        !fs::read_to_string("/proc/self/mounts")
            .unwrap()
            .contains(home.to_str().unwrap())
    );
}
