//! The beginning of a TLS connection, from either side.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_egress::Seen;
use vmint_egress::hello::{MOST, asks_again, second_name, server_name};

fuzz_target!(|stream: &[u8]| {
    let whole = server_name(stream);
    if let Ok(Seen::Whole((name, length))) = &whole {
        assert!(*length <= stream.len() && *length <= 2 * MOST + 5);
        // A part of it is no other name.
        for cut in [length / 2, length - 1] {
            assert_eq!(server_name(&stream[..cut]), Ok(Seen::More));
        }
        assert_eq!(
            server_name(&stream[..*length]),
            Ok(Seen::Whole((name.clone(), *length)))
        );
    }
    let _ = (second_name(stream), asks_again(stream));
});
