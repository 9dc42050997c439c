//! One id for the way of one command: through the process that asks, its requests, and the runners that serve them.
//!
//! A process that was told to log ([`VARIABLE`]) chooses an id when it [begins](begin). Its requests carry it in a header, what it
//! starts carries it in `start.json`, and whoever serves them puts it into a span: so all lines of one command are found by it,
//! in the logs of all processes. Without an id, nothing is sent and nothing more is logged.
//!
//! The id says nothing. A span holds it, the command's name, and the path of a request: no argument, no variable, no body.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use tracing::Span;

/// The variable that says how much vmint's processes log: a level, such as `debug`.
pub const VARIABLE: &str = "VMINT_LOG";

/// The header that carries an id.
pub(crate) const HEADER: &str = "vmint-trace";

/// Digits of an id.
const DIGITS: usize = 16;

/// The id of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

/// A text that is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a trace is {DIGITS} hexadecimal digits")]
pub struct InvalidTrace;

impl FromStr for TraceId {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != DIGITS || !text.bytes().all(digit) {
            return Err(InvalidTrace);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| InvalidTrace)
    }
}

static CURRENT: OnceLock<TraceId> = OnceLock::new();

/// Begins the trace of this process, unless it has one.
pub fn begin() -> TraceId {
    *CURRENT.get_or_init(|| {
        let mut bytes = [0; 8];
        // Two commands with one id are a nuisance to a reader, and no more.
        let _ = getrandom::fill(&mut bytes);
        TraceId(u64::from_be_bytes(bytes))
    })
}

/// The trace of this process.
pub fn current() -> Option<TraceId> {
    CURRENT.get().copied()
}

/// What is done for a request that carries this id. Without one, it is no span of its own.
pub(crate) fn serving(trace: Option<TraceId>, path: &str) -> Span {
    match trace {
        Some(trace) => tracing::info_span!("request", %trace, path),
        None => Span::none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_process_has_one_id_and_keeps_it() {
        let first = begin();
        assert_eq!((begin(), current()), (first, Some(first)));
    }

    proptest! {
        #[test]
        fn an_id_is_read_as_it_is_written(bits: u64) {
            let id = TraceId(bits);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().len(), DIGITS);
        }

        #[test]
        fn what_is_read_is_what_is_written_and_nothing_else_gets_into_a_log(text in "\\PC{0,20}|[0-9a-fA-F+]{15,17}") {
            if let Ok(id) = text.parse::<TraceId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
