//! Patterns, and what is held against them: the first line is the text, the others are patterns.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_syntax::event::pattern;
use vmint_syntax::glob::{Entry, Patterns, least_common_ancestor};

fuzz_target!(|input: &str| {
    let (text, list) = input.split_once('\n').unwrap_or((input, ""));
    let lines: Vec<&str> = list.lines().collect();
    match pattern::Patterns::parse(&lines) {
        Ok(patterns) => {
            patterns.matches(text);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Patterns::parse(list, "/work/space", "/root") {
        Ok(patterns) => {
            let below = format!("/work/space/{text}");
            for path in [text, &*below] {
                patterns.matches(path, Entry::File);
                patterns.matches(path, Entry::Folder);
                patterns.is_hidden(path);
                patterns.upload_root(&[path, "/work/space/a"]);
            }
            // None, where all patterns take something out.
            let _ = patterns.search_roots();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    least_common_ancestor(&lines);
});
