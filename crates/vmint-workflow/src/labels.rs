//! Labels of `runs-on` by their patterns: which jobs are left out because no machine here is what they ask for.

/// Whether a label is what a pattern says, whatever the case. `*` is any text, also none; all else stands for itself.
///
/// Costs the product of the lengths at worst, and no stack: both come from files of others.
pub fn matches(pattern: &str, label: &str) -> bool {
    let (pattern, label): (Vec<char>, Vec<char>) = (folded(pattern), folded(label));
    let (mut p, mut l) = (0, 0);
    // The last star, and how much of the label it covers so far.
    let mut star: Option<(usize, usize)> = None;
    while l < label.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, l));
                p += 1;
            }
            Some(char) if *char == label[l] => {
                p += 1;
                l += 1;
            }
            _ => match &mut star {
                Some((at, covered)) => {
                    *covered += 1;
                    (p, l) = (*at + 1, *covered);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|char| *char == '*')
}

fn folded(text: &str) -> Vec<char> {
    text.trim().to_lowercase().chars().collect()
}

/// `skip-runs-on`: jobs with a label like these are not run, and are shown as skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut(Vec<String>);

impl LeftOut {
    /// By these patterns.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        Self(patterns.into_iter().collect())
    }

    /// The pattern that a label is like.
    pub fn pattern(&self, label: &str) -> Option<&str> {
        let mut patterns = self.0.iter().map(String::as_str);
        patterns.find(|pattern| matches(pattern, label))
    }

    /// Of a job's labels the first that is like a pattern, with that.
    pub fn first<'a>(&'a self, labels: &'a [String]) -> Option<(&'a str, &'a str)> {
        let mut labels = labels.iter().map(String::as_str);
        labels.find_map(|label| Some((label, self.pattern(label)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_text_and_the_case_does_not_matter() {
        for (pattern, label, is) in [
            ("macos-*", "macos-14", true),
            ("macos-*", "macOS-latest", true),
            ("macos-*", "macos", false),
            ("macos*", "macos", true),
            ("windows-*", "macos-14", false),
            ("*-arm", "ubuntu-24.04-arm", true),
            ("*-arm", "ubuntu-24.04-arm64", false),
            ("*arm*", "ubuntu-24.04-arm64", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("", "x", false),
            ("u?untu", "ubuntu", false),
            ("[ab]", "a", false),
            (" macos-* ", "macos-14 ", true),
        ] {
            assert_eq!(matches(pattern, label), is, "{pattern:?} {label:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_costs_no_more_than_its_length_times_the_label_s() {
        // A matcher that goes back at every star would not end.
        assert!(!matches(&"a*".repeat(500), &"a".repeat(499)));
        assert!(matches(&"*a".repeat(500), &"ba".repeat(500)));
    }

    proptest! {
        #[test]
        fn text_matches_itself_and_what_stars_were_put_into(
            parts in prop::collection::vec("[a-z0-9.-]{0,4}", 1..6),
            between in "[a-z0-9.-]{0,6}",
        ) {
            let label = parts.join(&between);
            prop_assert!(matches(&label, &label));
            prop_assert!(matches(&parts.join("*"), &label));
            let longer = format!("{label}x");
            prop_assert!(!matches(&longer, &label));
        }
    }
}
