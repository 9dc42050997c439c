//! A text with expressions in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_fuzz::{evaluated, place};
use vmint_syntax::expr;
use vmint_syntax::expr::template::{Segment, split};

fuzz_target!(|text: &str| {
    if let Ok(segments) = split(text) {
        let again: String = segments
            .into_iter()
            .map(|segment| match segment {
                Segment::Literal(range) => text[range].to_owned(),
                Segment::Expression(range) => format!("${{{{{}}}}}", &text[range]),
            })
            .collect();
        assert_eq!(again, text);
    }
    let value = evaluated(|scope| expr::evaluate_text(text, scope));
    let interpolated = evaluated(|scope| expr::interpolate(text, scope));
    match (value, interpolated) {
        (Ok(value), Ok(interpolated)) => {
            assert_eq!(value.to_text(), interpolated);
            assert!(interpolated.len() <= text.len() + (11 << 20));
        }
        (Err(error), Err(again)) => {
            assert_eq!(error, again);
            place(text, &error);
        }
        (value, interpolated) => panic!("{value:?}, but {interpolated:?}"),
    }
});
