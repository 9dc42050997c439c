//! A file, checked in an empty repository without any action; also read as an action. Both are what another reader, with the types of
//! `github-actions-models`, takes them for.
#![no_main]

#[path = "../../crates/vmint-syntax/tests/models/compare.rs"]
mod compare;

use compare::Compared;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use vmint_syntax::check::actions::choose;
use vmint_syntax::check::{Actions, Found, NoFiles, Options, Selection, check};
use vmint_syntax::diagnostic::{Diagnostic, SHOWN};
use vmint_syntax::labels::LeftOut;
use vmint_syntax::load;
use vmint_syntax::replace::Choices;
use vmint_syntax::uses::RepositoryUses;

/// Where there are no copies of actions.
struct NoCopies;

impl Actions for NoCopies {
    fn find(&self, uses: &RepositoryUses) -> Found {
        let help = String::from("fetch it");
        choose(uses, &Choices::default(), |_| Found::Nothing { help })
    }
}

fn sound(bytes: &[u8], said: &[Diagnostic]) {
    let is_break = |byte: &&u8| matches!(byte, b'\n' | b'\r');
    let lines = 1 + bytes.iter().filter(is_break).count();
    assert!(said.len() <= 3 * SHOWN + 3, "{} diagnostics", said.len());
    for one in said {
        assert!((1..=lines + 1).contains(&(one.spot.line as usize)), "{one}");
        assert!(
            (1..=bytes.len() + 1).contains(&(one.spot.column as usize)),
            "{one}"
        );
        assert!(
            !one.message.is_empty() && !one.message.contains('\n'),
            "{one}"
        );
        assert!(one.message.len() < 4096, "{one}");
        assert!(
            one.help.as_ref().is_none_or(|help| help.len() < 64 << 10),
            "{one}"
        );
    }
}

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("ci.yml");
    let options = Options {
        repository: Path::new(""),
        files: &NoFiles,
        actions: &NoCopies,
        left_out: &LeftOut::default(),
        labels: None,
        slug: "",
        selection: Selection::default(),
    };
    match check(path, bytes, &options) {
        Ok(checked) => sound(bytes, &checked.warnings),
        Err(wrong) => sound(bytes, &wrong.0),
    }
    match load::action(path, bytes) {
        Ok((_, warnings)) => sound(bytes, &warnings),
        Err(wrong) => sound(bytes, &wrong.0),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for compared in [compare::workflow(text), compare::action(text)] {
            assert!(!matches!(compared, Compared::Differs(_)), "{compared:?}");
        }
    }
});
