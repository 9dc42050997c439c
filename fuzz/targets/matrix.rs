//! A matrix, as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_syntax::expr::Value;
use vmint_syntax::matrix::{MOST, combinations};

fuzz_target!(|text: &str| {
    let Ok(matrix) = Value::from_json(text) else {
        return;
    };
    match combinations(&matrix) {
        Ok(made) => {
            assert!((1..=MOST).contains(&made.len()), "{}", made.len());
            for combination in &made {
                let name = combination.name("job");
                assert!(name.chars().count() <= 104, "{name}");
                let _ = combination.describe();
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
