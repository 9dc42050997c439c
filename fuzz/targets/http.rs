//! Requests on a connection: however the bytes come in pieces, the same hosts are seen.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_egress::http::{HeadFault, Requests, Step, switches};

fn hosts(bytes: &[u8], piece: usize) -> Result<Vec<String>, HeadFault> {
    let (mut requests, mut held, mut found) = (Requests::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        held.extend(piece);
        while !held.is_empty() {
            match requests.step(&held)? {
                Step::More | Step::Wait => break,
                Step::Request { host, head } => {
                    found.push(host.to_string());
                    held.drain(..head);
                }
                Step::Pass(n) => {
                    assert!(n > 0);
                    held.drain(..n);
                }
                Step::All => held.clear(),
            }
        }
    }
    Ok(found)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = hosts(bytes, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(hosts(bytes, piece), whole);
    }
    let _ = switches(bytes);
});
