//! A short run of `vmint bench pool-soak`: owners of leases are killed at random, and nothing is left over. The long run is
//! for `make bench`.

use std::time::Duration;
use vmint_tests::Home;

#[test]
fn leases_whose_owners_are_killed_leave_nothing_over() {
    let home = Home::new();
    let soak = home
        .call("bench pool-soak --leases 60 --format json".split(' '))
        .deadline(Duration::from_secs(280))
        .run()
        .ok();
    let report = soak.json();
    assert_eq!(report["failures"], serde_json::json!([]), "{soak}");
    let left = &report["rows"][0];
    let what = left["what"].as_str().unwrap();
    assert!(what.contains("after 60 leases"), "{soak}");
    assert!(!what.contains("which 0 ended"), "{soak}");
    assert_eq!(
        (&left["unit"], &left["p50"]),
        (&"count".into(), &0.0.into()),
        "{soak}"
    );
    assert!(report["host"]["accelerator"].is_string(), "{soak}");
    // Nothing that needs the next command to be cleared up, either: neither pool nor machine.
    home.empties(Duration::from_secs(10));
    assert_eq!(home.json("pool ls"), serde_json::json!([]));
}
