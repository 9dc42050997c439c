//! Which of the names there are was meant by one that there is not.

/// Longer words are not typing errors, and a distance costs the product of the lengths.
const LONGEST: usize = 64;
/// Whoever has more names than this is not helped by a guess.
const MOST: usize = 1000;

/// The candidate that was probably meant: few edits away, or the same but for case and separators.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = word.chars().take(LONGEST + 1).count();
    if letters > LONGEST {
        return None;
    }
    let (word, allowed) = (folded(word), 1 + letters / 4);
    candidates
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::osa_distance(&word, &folded(candidate)), candidate))
        // With everything wrong, nothing is near: `x` is not a misspelt `to`.
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn folded(text: &str) -> String {
    text.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_from_everything_was_not_meant() {
        let known = ["image", "memory", "cpus", "net", "start-timeout"];
        for (key, expected) in [
            ("memroy", Some("memory")),
            ("Memory", Some("memory")),
            ("cpu", Some("cpus")),
            ("start_timeout", Some("start-timeout")),
            ("starttimeout", Some("start-timeout")),
            ("xyz", None),
            ("x", None),
            ("", None),
            ("colour-of-the-sky", None),
        ] {
            assert_eq!(nearest(key, known), expected, "{key}");
        }
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn a_word_or_a_list_without_end_costs_little() {
        let (long, many) = ("a".repeat(1 << 20), vec!["ab"; 1 << 16]);
        assert_eq!(nearest(&long, [long.as_str()]), None);
        assert_eq!(nearest("ab", [long.as_str()]), None);
        assert_eq!(nearest("ac", many), Some("ab"));
    }
}
