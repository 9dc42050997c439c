//! What a process inside a fence can and cannot do, asked from the inside: this program runs itself in a fence, makes system
//! calls, and prints what the kernel answered. Once for each version of Landlock that this kernel can be taken for.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use vmint_confine::{Confine, Confinement, Fence, Network, Role, Rules, paths};

/// The number of a socket that the process is given; nothing is there.
const GIVEN: i32 = 9;

/// Folders of the test's own: `mine` is allowed, `other` is not.
struct World {
    root: tempfile::TempDir,
    bystander: std::process::Child,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["mine", "other"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join("key"), "secret").unwrap();
        }
        let mut sleep = Command::new("sleep");
        let bystander = sleep.arg("1000").stdin(Stdio::null()).spawn().unwrap();
        Self { root, bystander }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    fn rules(&self, network: Network) -> Rules {
        self.of(Rules::new(network))
    }

    fn of(&self, rules: Rules) -> Rules {
        let program = std::env::current_exe().unwrap();
        ["/lib", "/lib64", "/usr/lib"]
            .iter()
            .fold(rules, Rules::run)
            .run(&program)
            .read("/etc/ld.so.cache")
            .own(self.path("mine"))
    }

    /// What each call answered: `-1` and worse are refusals, by their errno.
    fn answers(&self, fence: Option<Fence>) -> BTreeMap<String, i32> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "inside",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("FENCED_ROOT", self.root.path())
            .env("FENCED_BYSTANDER", self.bystander.id().to_string())
            .stdout(Stdio::piped());
        if let Some(mut fence) = fence {
            // SAFETY: `enter` is async-signal-safe.
            unsafe { command.pre_exec(move || fence.enter()) };
        }
        let mut child = command.spawn().unwrap();
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
        let answers = text.lines().filter_map(|line| {
            let (what, answer) = line.strip_prefix("> ")?.rsplit_once(": ")?;
            Some((what.to_owned(), answer.parse().unwrap()))
        });
        answers.collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.bystander.kill();
        let _ = self.bystander.wait();
    }
}

fn say(what: &str, answer: libc::c_long) {
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(1);
    println!("> {what}: {}", if answer < 0 { -errno } else { 0 });
}

fn c(path: &Path) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Not a test: what the others run inside.
#[test]
#[ignore = "is run inside a fence by the others"]
fn inside() {
    let Some(root) = std::env::var_os("FENCED_ROOT").map(std::path::PathBuf::from) else {
        return;
    };
    let bystander: i32 = std::env::var("FENCED_BYSTANDER").unwrap().parse().unwrap();
    let (mine, other) = (c(&root.join("mine/key")), c(&root.join("other/key")));
    let (new, there) = (c(&root.join("mine/new")), c(&root.join("other/new")));
    let folder = c(&root.join("other"));
    let signal_0 = 0;
    // SAFETY: all pointers are to strings and buffers that outlive their call; the calls change nothing but this test's own
    // files, or are refused.
    unsafe {
        let open =
            |path: &std::ffi::CString, flags| i64::from(libc::open(path.as_ptr(), flags, 0o600));
        println!();
        say("read mine", open(&mine, libc::O_RDONLY));
        say(
            "append to mine",
            open(&mine, libc::O_WRONLY | libc::O_APPEND),
        );
        say("create in mine", open(&new, libc::O_WRONLY | libc::O_CREAT));
        say("unlink in mine", libc::unlink(new.as_ptr()).into());
        say("read other", open(&other, libc::O_RDONLY));
        say(
            "append to other",
            open(&other, libc::O_WRONLY | libc::O_APPEND),
        );
        say(
            "create in other",
            open(&there, libc::O_WRONLY | libc::O_CREAT),
        );
        say(
            "list other",
            open(&folder, libc::O_RDONLY | libc::O_DIRECTORY),
        );
        say(
            "read passwd",
            open(&c(Path::new("/etc/passwd")), libc::O_RDONLY),
        );
        say(
            "link other",
            libc::link(other.as_ptr(), new.as_ptr()).into(),
        );
        say("chmod mine", libc::chmod(mine.as_ptr(), 0o777).into());
        say(
            "times of mine",
            libc::utimes(mine.as_ptr(), std::ptr::null()).into(),
        );
        let linked = c(&root.join("mine/linked"));
        say(
            "link mine",
            libc::link(mine.as_ptr(), linked.as_ptr()).into(),
        );
        let file = open(&mine, libc::O_RDONLY) as i32;
        say("freeze mine", libc::fchmod(file, 0o400).into());
        say("thaw mine", libc::fchmod(file, 0o600).into());
        say(
            "unix datagrams",
            libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).into(),
        );
        let mut pair = [0; 2];
        say(
            "unix pair",
            libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()).into(),
        );
        say(
            "unix socket",
            libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).into(),
        );
        let inet = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        say("inet socket", inet.into());
        if inet >= 0 {
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            address.sin_family = libc::AF_INET as u16;
            address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            let size = size_of::<libc::sockaddr_in>() as u32;
            say(
                "bind any port",
                libc::bind(inet, (&raw const address).cast(), size).into(),
            );
        }
        let datagram = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        if datagram >= 0 {
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            address.sin_family = libc::AF_INET as u16;
            address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            address.sin_port = 9_u16.to_be();
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_name = (&raw mut address).cast();
            message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            say(
                "message to a name",
                libc::sendmsg(datagram, &raw const message, 0) as i64,
            );
            say("take the given number", libc::dup2(datagram, GIVEN).into());
        }
        say("close the given", libc::close(GIVEN).into());
        say(
            "packet socket",
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into(),
        );
        say("signal another", libc::kill(bystander, signal_0).into());
        say("signal all", libc::kill(-1, signal_0).into());
        say("signal itself", libc::kill(libc::getpid(), signal_0).into());
        say(
            "pidfd of another",
            libc::syscall(libc::SYS_pidfd_open, bystander, 0),
        );
        // PTRACE_SEIZE
        say(
            "trace another",
            libc::syscall(libc::SYS_ptrace, 0x4206, bystander, 0, 0),
        );
        say("unshare", libc::unshare(libc::CLONE_NEWUSER).into());
        say("io_uring", libc::syscall(libc::SYS_io_uring_setup, 4, 0));
        say("userfaultfd", libc::syscall(libc::SYS_userfaultfd, 0));
        say("bpf", libc::syscall(libc::SYS_bpf, 0, 0, 0));
        say(
            "become another",
            libc::syscall(libc::SYS_setresuid, 1234, 1234, 1234),
        );
    }
    // Threads are made by `clone` where `clone3` is absent.
    std::thread::spawn(|| println!("> thread: 0"))
        .join()
        .unwrap();
}

const REFUSED: &[&str] = &[
    "chmod mine",
    "times of mine",
    "link other",
    "packet socket",
    "signal another",
    "signal all",
    "pidfd of another",
    "trace another",
    "unshare",
    "io_uring",
    "userfaultfd",
    "bpf",
];
const REFUSED_BY_FILES: &[&str] = &[
    "read other",
    "append to other",
    "create in other",
    "list other",
    "read passwd",
];
const ALLOWED: &[&str] = &[
    "read mine",
    "append to mine",
    "create in mine",
    "unlink in mine",
    "signal itself",
    "thread",
];

#[track_caller]
fn refused(answers: &BTreeMap<String, i32>, names: &[&str], level: Confinement) {
    for name in names {
        assert!(answers[*name] < 0, "{level}: {name} worked: {answers:?}");
    }
}

#[track_caller]
fn allowed(answers: &BTreeMap<String, i32>, names: &[&str], level: Confinement) {
    for name in names {
        assert_eq!(answers[*name], 0, "{level}: {name}: {answers:?}");
    }
}

#[test]
fn without_a_fence_the_calls_work_so_that_their_refusal_says_something() {
    let world = World::new();
    let answers = world.answers(None);
    allowed(&answers, ALLOWED, Confinement::OFF);
    let plain = [
        "read other",
        "list other",
        "unix socket",
        "inet socket",
        "bind any port",
        "signal another",
        "chmod mine",
        "message to a name",
        "take the given number",
    ];
    allowed(&answers, &plain, Confinement::OFF);
}

#[test]
fn at_each_level_what_it_promises_is_refused_and_the_rest_works() {
    for version in 0..=paths::version() {
        let world = World::new();
        let rules = world.rules(Network::None);
        let fence = Fence::build_up_to(&rules, Confine::Best, version).unwrap();
        let fence = fence.expect("it is not off");
        let level = fence.level();
        assert_eq!(level.landlock, version);
        let answers = world.answers(Some(fence));
        allowed(&answers, ALLOWED, level);
        refused(&answers, REFUSED, level);
        refused(&answers, &["unix socket", "inet socket"], level);
        if level.files {
            refused(&answers, REFUSED_BY_FILES, level);
        } else {
            allowed(&answers, &REFUSED_BY_FILES[..1], level);
        }
        // SAFETY: it takes nothing.
        if unsafe { libc::geteuid() } == 0 {
            refused(&answers, &["become another"], level);
        }
    }
}

/// What a runner needs, and a program does not.
const OF_RUNNERS: &[&str] = &[
    "link mine",
    "freeze mine",
    "unix datagrams",
    "pidfd of another",
];

#[test]
fn a_runner_links_and_watches_and_reaches_no_more_than_a_program_of_files_and_the_kernel() {
    for version in 0..=paths::version() {
        for network in [
            Network::None,
            Network::Inet {
                bind: vec![],
                given: vec![],
            },
        ] {
            let world = World::new();
            let mut rules = world.of(Rules::of(Role::Runner, network.clone()));
            rules = rules.manage(world.path("mine"));
            let fence = Fence::build_up_to(&rules, Confine::Best, version).unwrap();
            let fence = fence.expect("it is not off");
            let level = fence.level();
            assert_eq!(level.landlock, if version == 1 { 0 } else { version });
            let answers = world.answers(Some(fence));
            allowed(&answers, ALLOWED, level);
            allowed(&answers, OF_RUNNERS, level);
            allowed(&answers, &["unix pair"], level);
            let refused_to_it: Vec<_> = REFUSED
                .iter()
                .filter(|name| !OF_RUNNERS.contains(name) && **name != "signal another")
                .filter(|name| level.files || **name != "link other")
                .copied()
                .collect();
            refused(&answers, &refused_to_it, level);
            refused(&answers, &["thaw mine", "unix socket"], level);
            if level.files {
                refused(&answers, REFUSED_BY_FILES, level);
            }
            if level.signals {
                refused(&answers, &["signal another"], level);
            }
            if network == Network::None {
                refused(&answers, &["inet socket"], level);
            } else if level.ports {
                refused(&answers, &["bind any port"], level);
            }
        }
    }
}

#[test]
fn a_program_has_nothing_of_what_a_runner_needs() {
    let world = World::new();
    let fence = Fence::build(&world.rules(Network::None), Confine::Best).unwrap();
    let fence = fence.expect("it is not off");
    let level = fence.level();
    refused(&world.answers(Some(fence)), OF_RUNNERS, level);
}

#[test]
fn a_runner_that_cannot_link_is_not_what_was_required() {
    let rules = Rules::of(Role::Runner, Network::None);
    for version in [0, 1] {
        let error = Fence::build_up_to(&rules, Confine::Require, version).unwrap_err();
        assert!(error.to_string().contains("Landlock 2"), "{error}");
    }
    if paths::version() >= 2 {
        assert!(
            Fence::build_up_to(&rules, Confine::Require, 2)
                .unwrap()
                .is_some()
        );
    }
}

#[test]
fn with_a_network_there_are_inet_sockets_and_the_ports_that_were_given() {
    for version in [0, 3, 4, paths::version()] {
        let world = World::new();
        let rules = world.rules(Network::Inet {
            bind: vec![],
            given: vec![GIVEN],
        });
        let fence = Fence::build_up_to(&rules, Confine::Best, version).unwrap();
        let fence = fence.expect("it is not off");
        let level = fence.level();
        let answers = world.answers(Some(fence));
        allowed(&answers, &["inet socket"], level);
        refused(&answers, &["unix socket", "packet socket"], level);
        for call in [
            "message to a name",
            "take the given number",
            "close the given",
        ] {
            assert_eq!(answers[call], -libc::EPERM, "{level}: {call}: {answers:?}");
        }
        if level.ports {
            refused(&answers, &["bind any port"], level);
        }
    }
}

#[test]
fn a_port_that_was_given_can_be_bound() {
    let world = World::new();
    let rules = world.rules(Network::Inet {
        bind: vec![0],
        given: vec![],
    });
    let fence = Fence::build(&rules, Confine::Best).unwrap().unwrap();
    let level = fence.level();
    allowed(&world.answers(Some(fence)), &["bind any port"], level);
}

#[test]
fn require_is_refused_where_a_part_is_missing_and_off_is_no_fence() {
    let rules = Rules::new(Network::None);
    let error = Fence::build_up_to(&rules, Confine::Require, 0).unwrap_err();
    assert!(error.to_string().contains("files"), "{error}");
    assert!(Fence::build(&rules, Confine::Off).unwrap().is_none());
    if paths::version() > 0 {
        assert!(Fence::build(&rules, Confine::Require).unwrap().is_some());
    }
}
