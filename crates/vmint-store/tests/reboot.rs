//! A reboot of the host, as the next process sees it.

use std::process::Command;
use vmint_store::process::{boot_id, current, is_alive};

/// Set for the process that looks at this one: what it must see.
const EXPECTED: &str = "VMINT_STORE_TEST_EXPECTED";
/// And whom to look at.
const PROCESS: &str = "VMINT_STORE_TEST_PROCESS";

/// Not a test but the process that the next one starts.
#[test]
fn witness() {
    if let Ok(expected) = std::env::var(EXPECTED) {
        let process = serde_json::from_str(&std::env::var(PROCESS).unwrap()).unwrap();
        assert_eq!(is_alive(&process).to_string(), expected);
    }
}

#[test]
fn after_a_reboot_no_process_from_before_is_alive() {
    let me = serde_json::to_string(&current().unwrap()).unwrap();
    for (boot, expected) in [
        (boot_id().unwrap(), "true"),
        ("", "true"),
        ("another", "false"),
    ] {
        let witness = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "witness"])
            .envs([
                ("VMINT_BOOT_ID", boot),
                (EXPECTED, expected),
                (PROCESS, me.as_str()),
            ])
            .output()
            .unwrap();
        assert!(witness.status.success(), "boot {boot:?}: {witness:?}");
    }
}
