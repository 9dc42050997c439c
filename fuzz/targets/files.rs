//! What steps write to `GITHUB_ENV` and its like.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_syntax::files::{File, pairs, paths, summary, variables};

fuzz_target!(|bytes: &[u8]| {
    for file in [File::Env, File::Output, File::State] {
        match pairs(file, bytes) {
            Ok(pairs) => {
                // What is not UTF-8 grows threefold when it is replaced.
                let size: usize = pairs
                    .iter()
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                assert!(size <= 3 * bytes.len(), "{pairs:?}");
                assert!(pairs.iter().all(|(name, _)| !name.is_empty()), "{pairs:?}");
            }
            Err(error) => assert!(error.to_string().len() < 4096, "{error}"),
        }
    }
    let _ = variables(bytes).map_err(|error| error.to_string());
    let _ = paths(bytes).map_err(|error| error.to_string());
    let _ = summary(bytes).map_err(|error| error.to_string());
});
