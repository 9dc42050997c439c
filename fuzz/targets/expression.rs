//! An expression: parsed, inspected, evaluated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_fuzz::{evaluated, place};
use vmint_syntax::expr;

/// What an evaluation may make, with room for what a context gives as it is.
const MOST: usize = 11 << 20;

fuzz_target!(|text: &str| {
    match evaluated(|scope| expr::evaluate(text, scope)) {
        Ok(value) => {
            assert!(value.to_text().len() < MOST);
            assert!(value.to_json_pretty().len() < 4 * MOST);
            let _ = (value.is_truthy(), value.to_number());
        }
        Err(error) => place(text, &error),
    }
    if let Err(error) = evaluated(|scope| expr::condition(Some(text), scope)) {
        place(text, &error);
    }
});
