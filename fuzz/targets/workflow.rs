//! A file, checked in an empty repository without any action; also read as an action.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;
use vmint_workflow::check::{Mirror, Options, Selection, check};
use vmint_workflow::diagnostic::{Diagnostic, SHOWN};
use vmint_workflow::labels::LeftOut;
use vmint_workflow::load;

static EMPTY: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("an empty folder"));

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
        repository: EMPTY.path(),
        actions: &Mirror::default(),
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
});
