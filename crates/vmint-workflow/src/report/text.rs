//! Text for people: durations, sizes, and what must be escaped before it is shown.

use crate::record::RunRecord;
use std::fmt::{self, Write as _};
use std::path::{Component, Path};
use vmint_model::Accelerator;

pub use crate::sight::visible;

/// A duration in milliseconds: `850 ms`, `2.3 s`, `1 min 05 s`, `2 h 03 min`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// The time from one moment to another. A clock that was set back makes it 0.
pub fn between(from_ms: Option<i64>, to_ms: Option<i64>) -> Option<u64> {
    Some(u64::try_from(to_ms?.saturating_sub(from_ms?)).unwrap_or(0))
}

/// A size: `512 B`, `12.5 kB`, `3.4 MB`.
pub fn size(bytes: u64) -> String {
    let scaled = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{} kB", scaled(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", scaled(1_000_000)),
        _ => format!("{} GB", scaled(1_000_000_000)),
    }
}

/// What executed a machine, as people call it.
pub fn accelerator(accelerator: Option<Accelerator>) -> &'static str {
    match accelerator {
        Some(Accelerator::Kvm) => "KVM",
        Some(Accelerator::Tcg) => "emulation",
        None => "unknown accelerator",
    }
}

/// What executed the machines of a run; empty if it had none.
pub fn accelerators(run: &RunRecord) -> String {
    let mut names: Vec<_> = run
        .machines
        .iter()
        .map(|machine| accelerator(machine.accelerator))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join(" and ")
}

/// A word for a POSIX shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Text as HTML, in an element or in a quoted attribute.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(visible(c))?,
            }
        }
        Ok(())
    }
}

/// A relative path as a URL, escaped for an attribute.
pub(super) fn href(path: &Path) -> String {
    let mut url = String::new();
    for part in path.components() {
        if let Component::Normal(part) = part {
            if !url.is_empty() {
                url.push('/');
            }
            for byte in part.as_encoded_bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                        url.push(char::from(*byte));
                    }
                    byte => drop(write!(url, "%{byte:02X}")),
                }
            }
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let shown = [0, 850, 2_340, 59_999, 65_000, 7_384_000].map(duration);
        insta::assert_snapshot!(shown.join(", "), @"0 ms, 850 ms, 2.3 s, 59.9 s, 1 min 05 s, 2 h 03 min");
        assert_eq!(between(Some(5), Some(3)), Some(0));
        assert_eq!(between(None, Some(3)), None);
    }

    #[test]
    fn sizes_are_decimal() {
        let shown = [999, 12_500, 3_400_000, 5_000_000_000].map(size);
        assert_eq!(shown.join(", "), "999 B, 12.5 kB, 3.4 MB, 5.0 GB");
    }

    #[test]
    fn nothing_of_a_text_is_markup_or_obeyed() {
        let text = "<script>\"x\" & 'y'</script>\0\x1b[2J\u{202e}\u{9b}";
        insta::assert_snapshot!(Escaped(text), @"&lt;script&gt;&quot;x&quot; &amp; &#39;y&#39;&lt;/script&gt;␀␛[2J��");
    }

    #[test]
    fn words_are_quoted_as_a_shell_needs_them() {
        assert_eq!(quoted("test/ci.yml"), "test/ci.yml");
        assert_eq!(quoted("it's; rm -rf"), r"'it'\''s; rm -rf'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_path_is_a_url_that_stays_in_its_folder() {
        let path = Path::new("/../logs/a b/\"1%.txt");
        assert_eq!(href(path), "logs/a%20b/%221%25.txt");
    }
}
