//! What a plain scalar is, by YAML 1.2's core schema, and how GitHub writes a number as text.

use super::Data;

/// The value of a plain scalar.
pub(crate) fn plain(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" | "True" | "TRUE" => Data::Bool(true),
        "false" | "False" | "FALSE" => Data::Bool(false),
        _ => match number(text) {
            Some(number) => Data::Number(number, text.to_owned()),
            None => Data::String(text.to_owned()),
        },
    }
}

/// A number of the core schema: `12`, `-1.5e3`, `0o17`, `0x1F`, `.inf`, `.nan`.
pub(super) fn number(text: &str) -> Option<f64> {
    let digits = |prefix, radix: u32| {
        let digits = text.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        digits.chars().try_fold(0.0, |sum, c| {
            Some(sum * f64::from(radix) + f64::from(c.to_digit(radix)?))
        })
    };
    if let Some(number) = digits("0x", 16).or_else(|| digits("0o", 8)) {
        return Some(number);
    }
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    // Rust's own grammar also has `inf`, `nan` and `infinity`: only digits, one point and an exponent are let through.
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    if !all_digits(whole) || !all_digits(part) || whole.len() + part.len() == 0 || !exponent_fits {
        return None;
    }
    unsigned.parse::<f64>().ok().map(|number| sign * number)
}

/// A number as GitHub writes it: .NET's `G15`, so that `1.10` becomes `1.1` and `1e3` becomes `1000`.
pub fn number_text(number: f64) -> String {
    const DIGITS: i32 = 15;
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let scientific = format!("{:.14e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.replace('.', "");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    let count = digits.len() as i32;
    if !(-4..DIGITS).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!(
            "{sign}{first}{point}{rest}E{exponent_sign}{:02}",
            exponent.abs()
        );
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    if count <= exponent + 1 {
        let zeros = "0".repeat((exponent + 1 - count) as usize);
        return format!("{sign}{digits}{zeros}");
    }
    let (whole, part) = digits.split_at((exponent + 1) as usize);
    format!("{sign}{whole}.{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for text in [
            "on", "yes", "off", "no", "y", "tRue", "0b1", "1_000", "12:30", "1.2.3", "inf", "nan",
            "+.nan", "-", "+", ".", "e3", "1e", "1e+", "0x", "0o8", "-0x1F", "infinity", "--1",
        ] {
            assert_eq!(plain(text), Data::String(text.to_owned()), "{text}");
        }
        for (text, number) in [
            ("0", 0.0),
            ("010", 10.0),
            ("+1", 1.0),
            ("-1.5", -1.5),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("1.10", 1.1),
            ("0o17", 15.0),
            ("0x1F", 31.0),
            ("-.inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(plain(text), Data::Number(number, text.to_owned()), "{text}");
        }
        assert!(matches!(plain(".nan"), Data::Number(n, _) if n.is_nan()));
    }

    #[test]
    fn numbers_are_written_as_github_writes_them() {
        for (number, text) in [
            (1.1, "1.1"),
            (1000.0, "1000"),
            (0.0, "0"),
            (-1.5, "-1.5"),
            (0.1 + 0.2, "0.3"),
            (0.00001, "1E-05"),
            (0.0001, "0.0001"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1E+15"),
            (12_345_678_901_234_567_890.0, "1.23456789012346E+19"),
            (1e300, "1E+300"),
            (f64::INFINITY, "Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }
}
