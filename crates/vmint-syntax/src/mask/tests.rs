use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

fn masks(secrets: &[&str]) -> Masks {
    let mut masks = Masks::new();
    for secret in secrets {
        masks.add(secret).unwrap();
    }
    masks
}

fn streamed(masks: &Masks, pieces: &[&[u8]]) -> Vec<u8> {
    let mut masker = Masker::new();
    let mut out = Vec::new();
    for piece in pieces {
        masker.push_to(masks, piece, &mut out);
    }
    masker.finish_to(&mut out);
    out
}

#[test]
fn a_secret_becomes_stars_and_only_it() {
    let masks = masks(&["s3cr3t", "x"]);
    assert_eq!(
        masks.mask("the s3cr3t, the S3CR3T, x."),
        "the ***, the S3CR3T, ***."
    );
    assert!(!masks.finds_in("nothing") && masks.finds_in("a s3cr3t"));
}

#[test]
fn no_tail_of_a_longer_secret_stays_where_secrets_overlap() {
    let masks = masks(&["abcd", "cdefgh", "bc", "zzabcdyy"]);
    assert_eq!(masks.mask("-abcdefgh-"), "-***-");
    assert_eq!(masks.mask("-zzabcdyy-zzabcdy-"), "-***-zz***y-");
    assert_eq!(masks.mask("abcdabcd"), "***");
}

#[test]
fn white_space_and_nothing_are_no_secrets() {
    let masks = masks(&["", " ", "\n\r\n\t"]);
    assert!(masks.is_empty());
    assert_eq!(masks.mask("a b\n"), "a b\n");
}

#[test]
fn lines_of_a_secret_are_hidden_but_not_its_braces() {
    let key = "{\n  \"id\": 1,\n  \"key\": \"-----BEGIN\"\n}\n";
    let masks = masks(&[key]);
    assert_eq!(masks.mask("{ \"key\": \"-----BEGIN\" }"), "{ *** }");
    assert_eq!(masks.mask("fn main() {\n}\n"), "fn main() {\n}\n");
    assert_eq!(masks.mask(&format!("<{key}>")), "<***\n***\n***\n***\n>");
    assert_eq!(
        masks.mask(&key.replace('\n', "\r\n")),
        "***\r\n***\r\n***\r\n***\r\n"
    );
}

#[test]
fn base64_is_found_at_every_alignment_in_a_longer_text() {
    let secret = "correct horse battery";
    let masks = masks(&[secret]);
    for before in ["", "u", "us", "use", "user:"] {
        for after in ["", "!", "!!", "!!!"] {
            let text = format!("{before}{secret}{after}");
            for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                let masked = masks.mask(&encoded).to_string();
                let left = masked.replace(STARS, "");
                // Two characters at each end are not the secret's alone.
                assert!(masked.contains(STARS), "{encoded}");
                let around = (before.len() * 8).div_ceil(6) + (after.len() * 8).div_ceil(6) + 4;
                assert!(left.len() <= around, "{encoded} became {masked}");
            }
        }
    }
}

#[test]
fn wrapped_and_indented_base64_is_found_across_its_lines() {
    let secret = "a secret of some length that takes several lines when it is wrapped by a tool";
    let masks = masks(&[secret]);
    for (columns, indent) in [(76, ""), (64, ""), (64, "    "), (20, "\t")] {
        for ending in ["\n", "\r\n"] {
            let text = STANDARD.encode(format!("config: 1\npassword: {secret}\nmore: of it\n"));
            let lines = text.as_bytes().chunks(columns);
            let lines: Vec<&str> = lines
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            let wrapped = lines.join(&format!("{ending}{indent}"));
            let masked = masks.mask(&wrapped).to_string();
            assert_eq!(masked.lines().count(), wrapped.lines().count());
            for window in STANDARD.encode(secret).as_bytes().windows(8) {
                let window = std::str::from_utf8(window).unwrap();
                assert!(!masked.contains(window), "{wrapped} became {masked}");
            }
            let joined: String = masked.split_whitespace().collect();
            assert!(joined.matches("***").count() >= 1 && joined.len() < text.len() / 2 + 20);
        }
    }
}

#[test]
fn printed_forms_are_found() {
    let secret = "p&<w'\"$/ é\\0";
    let masks = masks(&[secret]);
    for form in [
        serde_json::to_string(secret)
            .unwrap()
            .trim_matches('"')
            .to_owned(),
        r#"p&<w'\"$/ \u00e9\\0"#.into(),
        "p&amp;&lt;w&apos;&quot;$/ é\\0".into(),
        "p&amp;&lt;w&#39;&quot;$/ é\\0".into(),
        "p&amp;&lt;w'\"$/ é\\0".into(),
        "p%26%3Cw%27%22%24%2F%20%C3%A9%5C0".into(),
        "p%26%3cw%27%22%24%2f%20%c3%a9%5c0".into(),
        "p%26%3Cw%27%22%24%2F+%C3%A9%5C0".into(),
        "p%26%3Cw'%22%24%2F%20%C3%A9%5C0".into(),
        r#"p&<w'\''"$/ é\0"#.into(),
        r#"p&<w'\"\$/ é\\0"#.into(),
        r#"p\&\<w\'\"\$/\ é\\0"#.into(),
        "70263c7727222 42f20c3a95c30".replace(' ', ""),
        "70263C772722242F20C3A95C30".into(),
    ] {
        assert_eq!(masks.mask(&format!("[{form}]")), "[***]", "{form}");
    }
}

#[test]
fn quotes_around_a_secret_are_no_part_of_it() {
    assert_eq!(masks(&["\"quoted\""]).mask("quoted"), "***");
}

#[test]
fn masks_that_come_later_hide_what_is_held_back() {
    let mut masks = masks(&["secret one"]);
    let mut masker = Masker::new();
    assert_eq!(masker.push(&masks, b"a secret"), b"");
    masks.add("secret two").unwrap();
    assert_eq!(masker.push(&masks, b" two\n"), b"a ***\n");
    assert_eq!(masker.finish(), b"");
}

#[test]
fn only_what_could_begin_a_secret_is_held_back() {
    let masks = masks(&["abcdef", "-----BEGIN\nsecond line\nthird line"]);
    let mut masker = Masker::new();
    assert_eq!(masker.push(&masks, b"hello\nabc"), b"hello\n");
    assert_eq!(masker.push(&masks, b"x\n"), b"abcx\n");
    assert_eq!(masker.push(&masks, b"a line\n"), b"a line\n");
    assert_eq!(masker.push(&masks, b"-----BEGIN\nsecond "), b"");
    assert!(masker.held() > 0);
    assert_eq!(masker.push(&masks, b"chance\n"), b"***\nsecond chance\n");
}

#[test]
fn as_many_masks_as_one_likes_are_refused() {
    let mut masks = Masks::new();
    let refused = (0..1_000_000).find_map(|n| masks.add(&format!("s{n}")).err());
    assert_eq!(refused, Some(MaskError::TooMany));
    assert_eq!(
        Masks::new().add(&"x".repeat(3 << 20)),
        Err(MaskError::TooLarge)
    );
    // GitHub's longest.
    let key: String = (0..48 << 10)
        .map(|n| char::from(b'a' + (n % 23) as u8))
        .collect();
    assert_eq!(Masks::new().add(&key), Ok(()));
}

#[test]
fn many_masks_are_found_as_few_are() {
    let mut masks = Masks::new();
    for n in 0..200 {
        masks.add(&format!("secret-{n:03}!")).unwrap();
        assert_eq!(
            masks.mask(&format!("secret-{n:03}! secret-000!")),
            "*** ***"
        );
    }
}

#[test]
fn what_a_person_reads_as_the_secret_is_hidden() {
    let masks = masks(&["hunter2"]);
    for (text, masked) in [
        ("a hun\x1b[1;31mter2 b", "a *** b"),
        ("a hun\x1b]0;title\x07ter2 b", "a *** b"),
        ("a hun\x1b]8;;http://x\x1b\\ter2 b", "a *** b"),
        ("a hun\u{9b}31mter\u{9d}x\u{9c}2 b", "a *** b"),
        ("a hun\x1bter2 b", "a *** b"),
        ("a h\0u\x7fn\u{200b}t\u{ad}e\u{feff}r\u{fffd}2 b", "a *** b"),
        ("a hunX\x08ter2 b", "a *** b"),
        (
            "a h\x08hu\x08un\x08nt\x08te\x08er\x08r2\x082 b",
            "a h\x08*** b",
        ),
        ("hunXXXX\rhunter2 b", "hunXXXX\r*** b"),
        ("___ter2\rhun", "___***\r"),
        // A sequence goes whole, so that what is left of it swallows nothing.
        ("a\x1b[hunter2mb", "a***mb"),
        ("a \x1bhunter2 b", "a *** b"),
    ] {
        assert_eq!(masks.mask(text), masked, "{text:?}");
    }
    let masked = masks.mask("a \x1b[31mred\x1b[0m hunter2 b\n\x1b[32mgreen\x1b[0m\n");
    assert_eq!(masked, "a \x1b[31mred\x1b[0m *** b\n\x1b[32mgreen\x1b[0m\n");
    assert_eq!(
        streamed(&masks, &[b"hun\xff", b"ter\xe2\x80", b"2"]),
        b"***"
    );
}

#[test]
fn a_secret_with_controls_in_it_is_hidden_as_it_is_and_as_it_is_seen() {
    let masks = masks(&[
        "cor\x1b[1mrect\x07 horse",
        "line\u{200b}one\nline two",
        "a\x1b[0mb",
    ]);
    for text in [
        "cor\x1b[1mrect\x07 horse",
        "correct horse",
        "cor[1mrect horse",
        "c\x1b[7morrect horse",
        "lineone",
        "line two",
        "a\x1b[0mb",
    ] {
        assert_eq!(masks.mask(&format!("<{text}>")), "<***>", "{text:?}");
    }
    // What is left of the third is too short to be hidden everywhere.
    assert_eq!(masks.mask("ab"), "ab");
}

#[test]
fn what_is_not_seen_is_not_held_back_without_end() {
    let masks = masks(&["hunter2"]);
    let mut masker = Masker::new();
    let mut out = 0;
    for _ in 0..1000 {
        out += masker.push(&masks, &[b'h'; 10]).len();
        out += masker.push(&masks, &[0; 10_000]).len();
        assert!(masker.held() < 400 << 10, "{}", masker.held());
    }
    assert!(out > 9_000_000);
}

/// All that a face shows of a text, line by line.
fn faces(text: &str) -> Vec<String> {
    use crate::{ansi, sight::visible};
    let lines = || text.split('\n');
    let plain: Vec<String> = lines().map(ansi::plain).collect();
    let coloured = |line| ansi::plain(&ansi::coloured(line, &mut ansi::Style::default()));
    let pictures = |c: &char| matches!(c, '\u{2400}'..='\u{2426}' | '\u{fffd}');
    let bare = |text: &str| text.chars().filter(|c| !pictures(c)).collect::<String>();
    let valid =
        |c: &char| *c == '\n' || *c == '\t' || *c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}');
    vec![
        text.to_owned(),
        bare(&plain.join("\n")),
        bare(&lines().map(coloured).collect::<Vec<_>>().join("\n")),
        text.chars().filter(valid).collect(),
        bare(&text.chars().map(visible).collect::<String>()),
        text.chars()
            .filter(|c| !c.is_control() || *c == '\n')
            .collect(),
    ]
}

const ODD: &str = "(\x1b\\[[0-9;:?]{0,4}[a-zA-Z~é]|\x1b\\][a-e]{0,3}(\x07|\x1b\\\\|\u{9c})|\u{9b}[0-9]{0,2}m|\u{9d}a\u{9c}|\x1b|\x1b\\(B|\x08|[\x00-\x07\x0b-\x0c\x0e-\x1f\x7f-\u{9f}]|[\u{200b}\u{ad}\u{feff}\u{202e}\u{fffd}\u{fffe}])";

/// Every place in every secret that stands in the text, found in the simplest way.
fn oracle(secrets: &[String], text: &str) -> String {
    let mut hidden = vec![false; text.len()];
    for secret in secrets {
        for start in 0..text.len() {
            if text.as_bytes()[start..].starts_with(secret.as_bytes()) {
                hidden[start..start + secret.len()].fill(true);
            }
        }
    }
    let mut out = String::new();
    for (index, char) in text.char_indices() {
        if !hidden[index] {
            out.push(char);
        } else if index == 0 || !hidden[index - 1] {
            out.push_str(STARS);
        }
    }
    out
}

proptest! {
    #[test]
    fn overlapping_secrets_are_hidden_as_the_simplest_search_hides_them(
        secrets in prop::collection::vec("[ab]{1,4}", 1..6),
        text in "[abc]{0,40}",
    ) {
        let mut masks = Masks::new();
        for secret in &secrets {
            masks.add(secret).unwrap();
        }
        prop_assert_eq!(masks.mask(&text).to_string(), oracle(&secrets, &text));
    }

    #[test]
    fn the_result_is_the_same_however_the_text_is_split(
        secrets in prop::collection::vec("[ab\n]{1,12}", 1..5),
        pieces in prop::collection::vec("([ab\n]{0,6}|YWJh|YmFh|616|2 )", 0..30),
        encoded in "[ab\n]{0,12}",
    ) {
        let mut masks = Masks::new();
        for secret in &secrets {
            masks.add(secret).unwrap();
        }
        let mut pieces = pieces;
        pieces.extend(secrets.iter().map(|secret| STANDARD.encode(format!("{encoded}{secret}"))));
        let whole = pieces.concat();
        let expected = masks.mask(&whole).to_string();
        let split: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
        prop_assert_eq!(String::from_utf8(streamed(&masks, &split)).unwrap(), expected.clone());
        let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        prop_assert_eq!(String::from_utf8(streamed(&masks, &bytes)).unwrap(), expected.clone());
        for secret in secrets.iter().map(|secret| secret.trim()).filter(|secret| !secret.is_empty()) {
            prop_assert!(!expected.contains(secret));
        }
        prop_assert_eq!(expected.matches('\n').count(), whole.matches('\n').count());
    }

    #[test]
    fn no_face_shows_a_secret_whatever_stands_between_its_letters(
        secret in "[a-f0-9é\\[;m]{5,9}",
        odd in prop::collection::vec((ODD, 0usize..10), 0..8),
        around in prop::collection::vec(prop_oneof![ODD, "[a-f \n]{0,3}"], 0..8),
        sizes in prop::collection::vec(1usize..9, 1..4),
    ) {
        let masks = masks(&[&secret]);
        // Once whole, once with something between its letters.
        let mut letters: Vec<String> = secret.chars().map(String::from).collect();
        for (odd, at) in odd {
            let at = at % letters.len();
            letters[at].push_str(&odd);
        }
        let text = format!("{}{}{}{secret}", around.concat(), letters.concat(), around.concat());
        let masked = masks.mask(&text).to_string();
        for face in faces(&masked) {
            prop_assert!(!face.contains(&secret), "{text:?} became {masked:?}, shown as {face:?}");
        }
        prop_assert_eq!(masked.matches('\n').count(), text.matches('\n').count());
        let (mut pieces, mut rest, mut n) = (Vec::new(), text.as_bytes(), 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(sizes[n % sizes.len()].min(rest.len()));
            pieces.push(now);
            (rest, n) = (later, n + 1);
        }
        let streamed = streamed(&masks, &pieces);
        prop_assert_eq!(String::from_utf8_lossy(&streamed), masked);
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is(
        text in prop::collection::vec(prop_oneof![ODD, "[a-f \n\r]{0,3}"], 0..20),
    ) {
        let text = text.concat();
        prop_assert_eq!(masks(&["SECRET-SECRET", "TWO\nLINES"]).mask(&text), &*text);
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
        let masks = masks(&["ab", "\u{e9}\u{e8}", "secret"]);
        let (one, two) = bytes.split_at(at.min(bytes.len()));
        prop_assert_eq!(streamed(&masks, &[one, two]), streamed(&masks, &[&bytes]));
    }
}
