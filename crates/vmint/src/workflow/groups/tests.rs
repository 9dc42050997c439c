use super::*;
use crate::workflow::testing::{Place, open};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, LazyLock};

/// What a test waits for at most, on a host that does other things, too.
const LONG: Duration = Duration::from_secs(60);
/// The home in which a child process enters a group.
const HOME: &str = "VMINT_TEST_GROUPS_HOME";

fn entrance(in_progress: InProgress) -> Entrance<'static> {
    static SHOWN: LazyLock<Masked> = LazyLock::new(|| "ci-main".into());
    Entrance {
        repository: Path::new("/repo"),
        group: "ci-main",
        shown: &SHOWN,
        in_progress,
        who: "run r1",
    }
}

fn entry(ticket: &str) -> Entry {
    Entry {
        ticket: ticket.into(),
        who: format!("run {ticket}"),
        process: process::current().unwrap(),
        bell: Bell(ticket.into()),
        cancelled_by: None,
    }
}

fn files_of_groups(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path().join("groups")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.collect()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(LONG, work).await;
    done.expect("it takes no minute")
}

/// Enters, hearing whom it waits for.
async fn enter(
    vmint: &Vmint,
    entrance: Entrance<'_>,
    told: tokio::sync::mpsc::UnboundedSender<String>,
    cancel: &Cancel,
) -> Result<Membership, Fault> {
    let say = move |text: &str| told.send(text.to_owned()).unwrap_or_default();
    within(vmint.enter_group(entrance, &say, cancel)).await
}

#[test]
fn the_newest_waits_and_the_one_before_it_is_replaced() {
    let mut state = State::default();
    let finishes = entrance(InProgress::Finishes);
    assert_eq!(state.arrive(entry("a"), &finishes), []);
    assert_eq!(state.arrive(entry("b"), &finishes), []);
    assert_eq!(state.arrive(entry("c"), &finishes), [Bell("b".into())]);
    assert_eq!(state.standing("a"), Standing::Running);
    assert_eq!(state.standing("b"), Standing::Replaced);
    let ahead = entry("a");
    assert_eq!(state.standing("c"), Standing::Waiting { ahead });
    // The one that runs is dead: the one that waits is next, also before one that arrives now.
    assert_eq!(state.bury(|e| e.ticket != "a"), [Bell("c".into())]);
    assert_eq!(state.arrive(entry("d"), &finishes), []);
    assert_eq!(state.standing("c"), Standing::Running);
    assert_eq!(state.bury(|_| false), []);
    assert_eq!(state, State::default());
}

#[test]
fn the_one_that_runs_is_cancelled_once() {
    let mut state = State::default();
    let cancels = entrance(InProgress::IsCancelled);
    assert_eq!(state.arrive(entry("a"), &cancels), []);
    assert_eq!(state.arrive(entry("b"), &cancels), [Bell("a".into())]);
    assert_eq!(state.arrive(entry("c"), &cancels), [Bell("b".into())]);
    let by = state.running.unwrap().cancelled_by;
    assert_eq!(
        by.as_deref(),
        Some("run b of the concurrency group ci-main")
    );
}

#[test]
fn groups_are_of_their_repository_and_upper_case_is_lower_case() {
    let place = Place::new();
    let key = |repository: &str, group: &str| {
        let entrance = Entrance {
            repository: Path::new(repository),
            group,
            ..entrance(InProgress::Finishes)
        };
        Files::of(place.vmint.home(), &entrance).unwrap().key
    };
    assert_eq!(key("/a", "Deploy"), key("/a", "deploy"));
    assert_ne!(key("/a", "deploy"), key("/b", "deploy"));
    assert_ne!(key("/a", "b"), key("/", "ab"));
}

#[test]
fn of_twenty_that_race_each_runs_alone_or_is_replaced_and_nothing_is_left() {
    const ENTRANTS: usize = 20;
    let place = Place::new();
    let (inside, ran, replaced) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let barrier = Barrier::new(ENTRANTS);
    std::thread::scope(|scope| {
        for _ in 0..ENTRANTS {
            scope.spawn(|| {
                let vmint = open(place.path());
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                barrier.wait();
                runtime.block_on(async {
                    let cancel = Cancel::new();
                    let finishes = entrance(InProgress::Finishes);
                    let entered = within(vmint.enter_group(finishes, &|_| {}, &cancel)).await;
                    let Ok(membership) = entered else {
                        let fault = entered.unwrap_err();
                        assert_eq!(fault.kind, ErrorKind::Interrupted, "{fault}");
                        assert_eq!(
                            fault.message,
                            "cancelled: a newer run of the concurrency group ci-main waits"
                        );
                        replaced.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two run at once");
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(membership);
                    ran.fetch_add(1, Ordering::SeqCst);
                });
            });
        }
    });
    let (ran, replaced) = (ran.into_inner(), replaced.into_inner());
    assert_eq!(ran + replaced, ENTRANTS as u32);
    // The first one and the last one always run.
    assert!(ran >= 2, "{ran} ran");
    assert_eq!(files_of_groups(&place), Vec::<String>::new());
    let bells = std::fs::read_dir(place.vmint.home().runtime()).unwrap();
    let bells = bells.filter(|e| {
        let name = e.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with(bell::PREFIX)
    });
    assert_eq!(bells.count(), 0);
}

#[tokio::test]
async fn who_waits_is_replaced_by_a_newer_one_which_runs_when_the_first_leaves() {
    let place = Place::new();
    let (vmint, cancel) = (&place.vmint, Cancel::new());
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let finishes = entrance(InProgress::Finishes);
    let first = enter(vmint, finishes, told.clone(), &cancel).await.unwrap();
    let second = enter(vmint, finishes, told.clone(), &cancel);
    let rest = async {
        // The second one waits.
        let text = within(hear.recv()).await.unwrap();
        assert!(text.starts_with("waiting for run r1 (process "), "{text}");
        let third = enter(vmint, finishes, told.clone(), &cancel);
        let leave = async {
            within(hear.recv()).await.unwrap();
            drop(first);
        };
        tokio::join!(third, leave).0
    };
    let (second, third) = tokio::join!(second, rest);
    assert_eq!(second.unwrap_err().kind, ErrorKind::Interrupted);
    drop(third.unwrap());
    assert_eq!(files_of_groups(&place), Vec::<String>::new());
}

#[tokio::test]
async fn a_newer_one_cancels_the_one_that_runs_and_has_its_place_when_that_has_ended() {
    let place = Place::new();
    let (vmint, cancel) = (&place.vmint, Cancel::new());
    let cancels = entrance(InProgress::IsCancelled);
    let silent = |_: &str| {};
    let mut first = within(vmint.enter_group(cancels, &silent, &cancel))
        .await
        .unwrap();
    let newer = Entrance {
        who: "run r2",
        ..cancels
    };
    let ends = async {
        let by = within(first.cancelled()).await;
        assert_eq!(by, "run r2 of the concurrency group ci-main");
        // Still there: the one that cancels waits for it.
        assert_eq!(within(first.cancelled()).await, by);
        drop(first);
    };
    let (second, ()) = tokio::join!(within(vmint.enter_group(newer, &silent, &cancel)), ends);
    let mut second = second.unwrap();
    let not_yet = tokio::time::timeout(Duration::from_millis(20), second.cancelled());
    assert!(not_yet.await.is_err());
}

#[tokio::test]
async fn who_is_cancelled_while_it_waits_leaves_the_line() {
    let place = Place::new();
    let (vmint, cancel) = (&place.vmint, Cancel::new());
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let finishes = entrance(InProgress::Finishes);
    let first = enter(vmint, finishes, told.clone(), &cancel).await.unwrap();
    let part = cancel.part();
    let wait = enter(vmint, finishes, told.clone(), &part);
    let cancels = async {
        within(hear.recv()).await.unwrap();
        part.cancel("Ctrl-C");
    };
    let (waited, ()) = tokio::join!(wait, cancels);
    let fault = waited.unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Interrupted);
    assert_eq!(
        fault.message,
        "cancelled by Ctrl-C while it waited for the concurrency group ci-main"
    );
    drop(first);
    assert_eq!(files_of_groups(&place), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_that_cannot_be_understood_lets_nobody_in() {
    let place = Place::new();
    let finishes = entrance(InProgress::Finishes);
    let files = Files::of(place.vmint.home(), &finishes).unwrap();
    std::fs::write(files.path("json"), "{").unwrap();
    let cancel = Cancel::new();
    let entered = within(place.vmint.enter_group(finishes, &|_| {}, &cancel)).await;
    assert_eq!(entered.unwrap_err().kind, ErrorKind::Corrupt);
}

/// Runs in a process of its own, for the test below: enters, says so, and stays until it is killed.
#[tokio::test]
#[ignore = "a part of another test, in a process that is killed"]
async fn a_member_of_its_own() {
    let home = std::env::var_os(HOME).expect("the other test says where");
    let vmint = open(Path::new(&home));
    let cancel = Cancel::new();
    let finishes = entrance(InProgress::Finishes);
    let say = |text: &str| println!("said: {text}");
    let entered = vmint.enter_group(finishes, &say, &cancel).await;
    say(entered
        .as_ref()
        .map_or_else(|fault| &*fault.message, |_| "inside"));
    if entered.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// A process in the group; killed when it is dropped.
struct Member(Child, BufReader<std::process::ChildStdout>);

impl Member {
    fn start(place: &Place) -> Self {
        let name = "workflow::groups::tests::a_member_of_its_own";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(HOME, place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self(child, stdout)
    }

    /// What it says next.
    fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.1.read_line(&mut line).unwrap(), 0, "it has ended");
            if let Some((_, said)) = line.split_once("said: ") {
                return said.trim().to_owned();
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_member_that_is_killed_blocks_nobody() {
    let place = Arc::new(Place::new());
    let mut holder = Member::start(&place);
    assert_eq!(holder.hears(), "inside");
    // One in another process waits, and one in this one replaces it.
    let mut waiter = Member::start(&place);
    assert!(waiter.hears().starts_with("waiting for run r1"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let cancel = Cancel::new();
        let enter = enter(&place.vmint, entrance(InProgress::Finishes), told, &cancel);
        let kill = async {
            within(hear.recv()).await.unwrap();
            holder.0.kill().unwrap();
            std::time::Instant::now()
        };
        let (entered, killed) = tokio::join!(enter, kill);
        entered.unwrap();
        // By the end of the process, not by looking every few seconds.
        assert!(killed.elapsed() < SELDOM, "{:?}", killed.elapsed());
    });
    let said = waiter.hears();
    assert!(said.starts_with("cancelled: a newer run"), "{said}");
    assert!(waiter.0.wait().unwrap().success());
    drop(holder);
    assert_eq!(files_of_groups(&place), Vec::<String>::new());
}
