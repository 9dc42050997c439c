//! GitHub's comparisons: values of different kinds are compared as numbers, text without regard to case, lists and
//! mappings by identity.

use super::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;

impl Value {
    /// `==`.
    pub fn loosely_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => text_equals(a, b),
            (Self::Array(a), Self::Array(b)) => Arc::ptr_eq(a, b),
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            // A list or a mapping is no number, and `NaN` equals nothing.
            #[expect(clippy::float_cmp, reason = "GitHub compares numbers exactly")]
            (a, b) => a.to_number() == b.to_number(),
        }
    }

    /// How they are ordered; nothing where they are not: `NaN`, `null`, lists and mappings.
    pub fn loosely_ordered(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(text_order(a, b)),
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            (Self::Array(a), Self::Array(b)) => Arc::ptr_eq(a, b).then_some(Ordering::Equal),
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b).then_some(Ordering::Equal),
            (a, b) => a.to_number().partial_cmp(&b.to_number()),
        }
    }
}

/// The upper case of one character, where that is one character: .NET's ordinal comparison knows no other. `ı` stays.
fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(upper), None) if c != 'ı' => upper,
        _ => c,
    }
}

fn text_equals(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || !(a.is_ascii() && b.is_ascii()) && folded(a).eq(folded(b))
}

/// In the order of UTF-16, which is .NET's.
fn text_order(a: &str, b: &str) -> Ordering {
    let units = |text| folded(text).flat_map(Utf16::new);
    units(a).cmp(units(b))
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(upper)
}

/// The one or two UTF-16 units of a character.
struct Utf16 {
    units: [u16; 2],
    next: usize,
    len: usize,
}

impl Utf16 {
    fn new(c: char) -> Self {
        let mut units = [0; 2];
        let len = c.encode_utf16(&mut units).len();
        Self {
            units,
            next: 0,
            len,
        }
    }
}

impl Iterator for Utf16 {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let unit = *self.units[..self.len].get(self.next)?;
        self.next += 1;
        Some(unit)
    }
}

/// Text in which what differs only in case is the same.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        text.to_ascii_uppercase()
    } else {
        folded(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_compared_without_case() {
        for (a, b) in [("ABC", "abc"), ("Größe", "GRÖßE"), ("", "")] {
            assert!(text_equals(a, b), "{a} {b}");
        }
        for (a, b) in [("ß", "SS"), ("ı", "I"), ("a", "ab"), ("K", "Ω")] {
            assert!(!text_equals(a, b), "{a} {b}");
        }
        assert_eq!(text_order("a", "B"), Ordering::Less);
        assert_eq!(text_order("_", "a"), Ordering::Greater);
        assert_eq!(text_order("\u{1F600}", "\u{FFFD}"), Ordering::Less);
    }

    proptest! {
        #[test]
        fn equality_and_order_agree(a in "\\PC{0,6}", b in "\\PC{0,6}") {
            prop_assert_eq!(text_equals(&a, &b), text_order(&a, &b) == Ordering::Equal);
            prop_assert_eq!(text_equals(&a, &b), fold(&a) == fold(&b));
            prop_assert_eq!(text_order(&a, &b), text_order(&b, &a).reverse());
        }
    }
}
