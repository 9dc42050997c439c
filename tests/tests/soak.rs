//! A short run of `vmint bench pool-soak`: owners, runners and hypervisors are killed at random, and nothing is lent
//! twice, lost or left over. The long run is
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
    for (row, what) in [
        "60 leases: lent twice",
        "60 leases: lost although nobody had killed them",
        "60 leases: acquires that failed",
        "left over after 60 leases",
    ]
    .into_iter()
    .enumerate()
    {
        let row = &report["rows"][row];
        assert!(row["what"].as_str().unwrap().contains(what), "{soak}");
        assert_eq!(
            (&row["unit"], &row["p50"]),
            (&"count".into(), &0.0.into()),
            "{soak}"
        );
    }
    assert!(report["host"]["accelerator"].is_string(), "{soak}");
    // Nothing that needs the next command to be cleared up, either: neither pool nor machine.
    home.empties(Duration::from_secs(10));
    assert_eq!(home.json("pool ls"), serde_json::json!([]));
}
