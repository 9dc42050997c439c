//! Numbers to text and back, as .NET does it for GitHub's runner.

/// The number that a text stands for: nothing is `0`, what is no number is `NaN`. White space around it is ignored.
pub fn from_text(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return whole(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return whole(digits, 8);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Rust knows `inf`, too, which .NET does not.
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if numeric || unsigned.eq_ignore_ascii_case("infinity") {
        text.parse().unwrap_or(f64::NAN)
    } else {
        f64::NAN
    }
}

/// Hexadecimal and octal are signed and of 32 bits: `0xFFFFFFFF` is -1.
fn whole(digits: &str, radix: u32) -> f64 {
    // `from_str_radix` takes a sign, too.
    if digits.starts_with('+') {
        return f64::NAN;
    }
    u32::from_str_radix(digits, radix).map_or(f64::NAN, |bits| f64::from(bits.cast_signed()))
}

/// Digits that are printed: .NET's `G15`.
const DIGITS: i32 = 15;

/// The text of a number: at most 15 significant digits, and with an exponent from `1E+15` up and below `0.0001`.
pub fn to_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}Infinity");
    }
    if let Some(whole) = as_whole(number) {
        return whole.to_string();
    }
    // `1.23450000000000e-7`, rounded.
    let rounded = format!("{:.14e}", number.abs());
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    let sign = if number < 0.0 { "-" } else { "" };

    if !(-4..DIGITS).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!(
            "{sign}{first}{point}{rest}E{direction}{:02}",
            exponent.abs()
        );
    }
    // With the zeros that stand before the first digit of a fraction.
    let digits = "0".repeat(usize::try_from(-exponent).unwrap_or(0)) + digits;
    let point = usize::try_from(exponent).unwrap_or(0) + 1;
    match digits.split_at_checked(point) {
        Some((whole, fraction)) if !fraction.is_empty() => format!("{sign}{whole}.{fraction}"),
        // Rounding has made it whole.
        _ => format!("{sign}{digits:0<point$}"),
    }
}

/// The number, if it is whole and printed without an exponent.
pub(super) fn as_whole(number: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole and below 2^50"
    )]
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_becomes_numbers() {
        for (text, number) in [
            ("", 0.0),
            (" \t\n", 0.0),
            ("12", 12.0),
            (" +1.5 ", 1.5),
            ("-.5", -0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-2", 0.01),
            ("0x1F", 31.0),
            ("0xFFFFFFFF", -1.0),
            ("0o17", 15.0),
            ("Infinity", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
            ("1e999", f64::INFINITY),
        ] {
            assert_eq!(from_text(text).to_bits(), number.to_bits(), "{text:?}");
        }
        for text in [
            "abc",
            "1 2",
            "1_0",
            "inf",
            "-inf",
            "nan",
            "0x",
            "0x+1",
            "-0x1",
            "0x100000000",
            "0o8",
            "0X1",
            "1e",
            "--1",
            ".",
            "true",
            "١",
        ] {
            assert!(from_text(text).is_nan(), "{text:?}: {}", from_text(text));
        }
    }

    #[test]
    fn numbers_become_text_of_fifteen_digits() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-2.0, "-2"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333333333333"),
            (123_456.789, "123456.789"),
            (999_999_999_999_999.0, "999999999999999"),
            (1e15, "1E+15"),
            (123_456_789_012_345.7, "123456789012346"),
            (1_234_567_890_123.999_9, "1234567890124"),
            (-0.5, "-0.5"),
            (12.5, "12.5"),
            (-1.5e300, "-1.5E+300"),
            (1_234_567_890_123_456_789.0, "1.23456789012346E+18"),
            (0.000_012, "1.2E-05"),
            (0.000_1, "0.0001"),
            (0.000_01, "1E-05"),
            (5e-324, "4.94065645841247E-324"),
            (999_999_999_999_999.9, "1E+15"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(to_text(number), text);
        }
    }

    proptest! {
        #[test]
        fn text_of_a_number_is_that_number_again(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let again = from_text(&to_text(number));
            prop_assert!((again - number).abs() <= number.abs() * 1e-14 || again.is_infinite() || number.abs() < 1e-300);
        }

        #[test]
        fn any_text_can_be_asked(text in ".*") {
            from_text(&text);
        }
    }
}
