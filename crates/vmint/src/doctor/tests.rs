use super::*;
use std::collections::HashSet;
use vmint_model::{Accelerator, ErrorKind};
use vmint_qemu::Qemu;

#[test]
fn the_worst_check_decides() {
    let (ok, warning) = (Check::ok("a", ""), Check::warning("b", "", ""));
    let failure = Check::failure("c", "", "");
    assert_eq!(worst(&[]), Status::Ok);
    assert_eq!(worst(std::slice::from_ref(&ok)), Status::Ok);
    assert_eq!(
        worst(&[ok.clone(), warning.clone(), ok.clone()]),
        Status::Warning
    );
    assert_eq!(worst(&[warning, failure, ok]), Status::Failure);
}

#[test]
fn json_is_flat_and_without_what_is_absent() {
    let json = |check: &Check| serde_json::to_string(check).unwrap();
    assert_eq!(
        json(&Check::ok("swap", "no swap")),
        r#"{"name":"swap","status":"ok","summary":"no swap"}"#
    );
    assert_eq!(
        json(&Check::warning("swap", "full", "add some")),
        r#"{"name":"swap","status":"warning","summary":"full","remedy":"add some"}"#
    );
}

#[test]
fn a_check_is_one_line_whatever_it_quotes() {
    let mut check = Check::failure("x", "a\n  b\t\x1b[31mc", "d\ne");
    check.tidy();
    assert_eq!(check.summary, "a b [31mc");
    assert_eq!(check.remedy.as_deref(), Some("d e"));
}

#[test]
fn why_guests_cannot_ping_is_said_with_the_setting() {
    use rustix::io::Errno;
    let works = network::judge_ping(Ok(()), "0\t2147483647\n");
    assert_eq!(works.status, Status::Ok);
    let refused = network::judge_ping(Err(Errno::ACCESS), "1\t0\n");
    assert_eq!(refused.status, Status::Warning);
    assert!(
        refused.summary.contains("ping_group_range is \"1 0\""),
        "{refused:?}"
    );
    let missing = network::judge_ping(Err(Errno::PROTONOSUPPORT), "");
    assert_sound(&[refused]);
    assert_sound(&[missing]);
}

fn assert_sound(checks: &[Check]) {
    let names: HashSet<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names.len(), checks.len(), "a name twice: {checks:#?}");
    for check in checks {
        let kebab = |b: u8| b.is_ascii_lowercase() || b == b'-';
        assert!(check.name.bytes().all(kebab), "{check:?}");
        assert!(
            !check.summary.is_empty() && !check.summary.contains('\n'),
            "{check:?}"
        );
        assert_eq!(
            check.remedy.is_none(),
            check.status == Status::Ok,
            "{check:?}"
        );
    }
}

#[tokio::test]
async fn a_host_is_checked_in_full_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("h"), dir.path().join("r"));
    for folder in [home.root(), home.runtime()] {
        std::fs::create_dir(folder).unwrap();
    }
    let qemu = Qemu {
        system: "/q".into(),
        img: "/i".into(),
        version: (7, 2, 0),
        banner: String::new(),
        stamp: String::new(),
        device_state: vmint_qemu::DeviceState::Alone,
        board: String::new(),
        boards: Vec::new(),
        features: Vec::new(),
        panic: vmint_qemu::PanicDevice::Pvpanic,
    };
    let host = Host {
        qemu,
        accelerator: Accelerator::Kvm,
        accelerator_reason: None,
        confine: vmint_model::Confine::Best,
        user: None,
    };
    let input = Input {
        root: home.root(),
        home: Ok(&home),
        store: Ok(()),
        host: Ok(&host),
        accelerator: AcceleratorChoice::Auto,
        kit: None,
        swept: &[],
    };
    let checks = doctor(&input).await;
    assert_sound(&checks);
    let of = |name: &str| {
        checks
            .iter()
            .find(|check| check.name == name)
            .unwrap()
            .status
    };
    for name in [
        "accelerator",
        "hard-links",
        "sockets",
        "database",
        "stale-machines",
        "images",
    ] {
        assert_eq!(of(name), Status::Ok, "{checks:#?}");
    }
    // tempfile may have made the folders open to others, as the umask has it.
    assert!(checks.iter().any(|check| check.name == "home"));
    assert_eq!(std::fs::read_dir(home.runtime()).unwrap().count(), 0);
    let stray: Vec<_> = std::fs::read_dir(home.root())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(stray, ["images"], "only the image store was opened");
}

#[tokio::test]
async fn a_home_that_cannot_be_opened_does_not_end_the_other_checks() {
    let fault = Fault::new(ErrorKind::Host, "/h belongs to user 0").hint("another one");
    let input = Input {
        root: Path::new("/nowhere/h"),
        home: Err(&fault),
        store: Err(&fault),
        host: Err(&fault),
        accelerator: AcceleratorChoice::Auto,
        kit: None,
        swept: &[],
    };
    fn from_any_thread<F: Future + Send>(future: F) -> F {
        future
    }
    let checks = from_any_thread(doctor(&input)).await;
    assert_sound(&checks);
    assert_eq!(worst(&checks), Status::Failure);
    for check in &checks {
        let depends = ["home", "database", "accelerator"].contains(&check.name);
        if depends {
            assert_eq!(check.status, Status::Failure, "{check:?}");
            assert_eq!(check.remedy.as_deref(), Some("another one"), "{check:?}");
        }
    }
}
