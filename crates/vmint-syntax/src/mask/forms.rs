//! The forms in which tools print a value.

use super::{MIN_DERIVED, Reading};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::collections::HashSet;
use std::fmt::Write as _;

/// Something to look for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form {
    pub bytes: Vec<u8>,
    pub reading: Reading,
}

/// All forms of a trimmed value and its lines, each once.
pub fn of(value: &str) -> Vec<Form> {
    let mut forms = HashSet::new();
    // Line breaks are told apart by nobody who copies a secret.
    let value = value.replace("\r\n", "\n").replace('\r', "\n");
    derive(&value, &mut forms);
    if value.contains('\n') {
        plain(&value.replace('\n', "\r\n"), &mut forms);
        for line in value.lines().map(str::trim) {
            if line.len() >= MIN_DERIVED {
                derive(line, &mut forms);
            }
        }
    }
    forms.into_iter().collect()
}

fn plain(text: &str, forms: &mut HashSet<Form>) {
    // A form that starts or ends with white space would be looked for in vain where that was trimmed.
    let text = text.trim();
    if !text.is_empty() {
        forms.insert(Form {
            bytes: text.as_bytes().to_vec(),
            reading: Reading::Plain,
        });
    }
}

fn unwrapped(text: &str, forms: &mut HashSet<Form>) {
    if text.len() >= MIN_DERIVED {
        forms.insert(Form {
            bytes: text.as_bytes().to_vec(),
            reading: Reading::Unwrapped,
        });
    }
}

fn derive(value: &str, forms: &mut HashSet<Form>) {
    plain(value, forms);
    if value.len() < MIN_DERIVED {
        return;
    }
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| inner.trim().len() >= MIN_DERIVED) {
            plain(inner, forms);
        }
    }
    escaped(value, forms);
    for alignment in 0..3 {
        unwrapped(&inside(&STANDARD, value, alignment), forms);
        unwrapped(&inside(&URL_SAFE, value, alignment), forms);
    }
    unwrapped(&STANDARD.encode(value), forms);
    unwrapped(&URL_SAFE.encode(value), forms);
    let (mut lower, mut upper) = (String::new(), String::new());
    for byte in value.bytes() {
        // Writing to a string cannot fail.
        let _ = write!(lower, "{byte:02x}");
        let _ = write!(upper, "{byte:02X}");
    }
    unwrapped(&lower, forms);
    unwrapped(&upper, forms);
}

/// The characters of base64 that are the value's alone when `alignment` bytes that are not its own stand before it:
/// those at its ends that hold bits of its neighbours are left out, as nobody knows them.
fn inside(engine: &impl base64::Engine, value: &str, alignment: usize) -> String {
    let mut bytes = vec![0; alignment];
    bytes.extend(value.bytes());
    let first = (alignment * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    engine
        .encode(&bytes)
        .get(first..last)
        .unwrap_or_default()
        .to_owned()
}

fn escaped(value: &str, forms: &mut HashSet<Form>) {
    // Expressions double quotes, shells leave and reenter them, command lines put a backslash before them.
    plain(&value.replace('\'', "''"), forms);
    plain(&value.replace('\'', r"'\''"), forms);
    plain(&value.replace('\'', r#"'"'"'"#), forms);
    plain(&value.replace('"', "\\\""), forms);
    plain(&escape(value, shell_double), forms);
    plain(&escape(value, shell_bare), forms);
    plain(&escape(value, shell_ansi), forms);
    plain(&escape(value, json), forms);
    plain(&escape(value, json_ascii), forms);
    plain(&escape(value, json).replace('/', "\\/"), forms);
    plain(&escape(value, xml), forms);
    plain(&escape(value, xml_text), forms);
    plain(&escape(value, xml).replace("&apos;", "&#39;"), forms);
    for keep in ["-_.~", "-_.~/", "-_.!~*'()", "*-._"] {
        let upper = url(value, keep);
        plain(&upper.replace("%20", "+"), forms);
        plain(&lower_escapes(&upper), forms);
        plain(&upper, forms);
    }
}

fn escape(value: &str, one: fn(char, &mut String)) -> String {
    let mut text = String::with_capacity(value.len());
    for char in value.chars() {
        one(char, &mut text);
    }
    text
}

fn json(char: char, text: &mut String) {
    match char {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        char if char < ' ' => {
            let _ = write!(text, "\\u{:04x}", char as u32);
        }
        char => text.push(char),
    }
}

fn json_ascii(char: char, text: &mut String) {
    if char.is_ascii() {
        return json(char, text);
    }
    for unit in char.encode_utf16(&mut [0; 2]) {
        let _ = write!(text, "\\u{unit:04x}");
    }
}

fn xml(char: char, text: &mut String) {
    match char {
        '"' => text.push_str("&quot;"),
        '\'' => text.push_str("&apos;"),
        char => xml_text(char, text),
    }
}

fn xml_text(char: char, text: &mut String) {
    match char {
        '&' => text.push_str("&amp;"),
        '<' => text.push_str("&lt;"),
        '>' => text.push_str("&gt;"),
        char => text.push(char),
    }
}

/// Inside of double quotes.
fn shell_double(char: char, text: &mut String) {
    if matches!(char, '"' | '\\' | '$' | '`') {
        text.push('\\');
    }
    text.push(char);
}

/// Without quotes, as `printf %q` does.
fn shell_bare(char: char, text: &mut String) {
    if char.is_ascii() && !char.is_ascii_alphanumeric() && !"-_./:=@%+".contains(char) {
        text.push('\\');
    }
    text.push(char);
}

/// Inside of `$'…'`, as bash's `set -x` shows values with line breaks.
fn shell_ansi(char: char, text: &mut String) {
    match char {
        '\'' => text.push_str("\\'"),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        char => text.push(char),
    }
}

fn url(value: &str, keep: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn lower_escapes(url: &str) -> String {
    let mut text = String::with_capacity(url.len());
    let mut escape = 0;
    for char in url.chars() {
        escape = if char == '%' { 3 } else { escape };
        text.push(if escape > 0 {
            char.to_ascii_lowercase()
        } else {
            char
        });
        escape = usize::saturating_sub(escape, 1);
    }
    text
}
