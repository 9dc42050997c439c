//! Labels of `runs-on`: their patterns, what they say of the machine, which jobs are left out because no machine here is what
//! they ask for, and what settings make of them.

use crate::equipment::Known;
use crate::expr::{self, Scope, Value};
use crate::spec::Text;

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

/// The labels of `runs-on`, evaluated.
pub fn evaluate(texts: &[Text], scope: &Scope) -> Result<Vec<String>, String> {
    let mut labels = Vec::new();
    let mut add = |value: &Value| match value {
        Value::Array(items) => labels.extend(items.iter().map(|i| i.to_text().into_owned())),
        other => labels.push(other.to_text().into_owned()),
    };
    for text in texts {
        let value = expr::evaluate_text(&text.text, scope)
            .map_err(|e| format!("`runs-on` cannot be evaluated: {e}"))?;
        match &value {
            Value::Object(object) => {
                add(&object.get("labels").cloned().unwrap_or_default());
            }
            other => add(other),
        }
    }
    labels.retain(|label| !label.trim().is_empty());
    if labels.is_empty() {
        return Err("`runs-on` has no label".into());
    }
    Ok(labels)
}

/// What a processor executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    X64,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM.
    Arm,
    /// IBM Z.
    S390x,
    /// POWER.
    Power,
    /// RISC-V.
    Riscv,
}

impl Architecture {
    /// That of this host, which is that of its machines.
    pub fn here() -> Option<Self> {
        Self::named(std::env::consts::ARCH)
    }

    /// By its name, whatever the case.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "x64" | "amd64" | "x86_64" | "x86-64" => Self::X64,
            "x86" | "i386" | "i686" => Self::X86,
            "arm64" | "aarch64" => Self::Arm64,
            "arm" | "arm32" | "armv7" | "armv7l" => Self::Arm,
            "s390x" => Self::S390x,
            "ppc64le" | "ppc64" | "powerpc64" => Self::Power,
            "riscv64" | "riscv" => Self::Riscv,
            _ => return None,
        })
    }

    /// Which one a label asks for: `arm64`, `ubuntu-24.04-arm`, `depot-ubuntu-22.04-arm-8`. A part of GitHub's own that says
    /// `arm` is 64 bits wide.
    pub fn of_label(label: &str) -> Option<Self> {
        let label = label.trim().to_ascii_lowercase();
        if let Some(named) = Self::named(&label) {
            return Some(named);
        }
        if label.contains("x86_64") || label.contains("x86-64") {
            return Some(Self::X64);
        }
        let mut parts = label.split(['-', '_', '.', '/', ':']);
        let part = parts.find_map(Self::named)?;
        Some(match part {
            Self::Arm => Self::Arm64,
            other => other,
        })
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X64 => "x86-64",
            Self::X86 => "x86",
            Self::Arm64 => "ARM64",
            Self::Arm => "ARM",
            Self::S390x => "s390x",
            Self::Power => "POWER",
            Self::Riscv => "RISC-V",
        }
    }
}

/// What settings make of labels.
pub trait Labels: Send + Sync {
    /// What these stand for.
    fn meaning(&self, labels: &[String]) -> Result<Meaning, NoMeaning>;
}

/// Why labels stand for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMeaning {
    /// What is wrong with them.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What labels stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The image or the pool.
    pub target: String,
    /// What of it is not as on GitHub.
    pub note: Option<String>,
    /// What is known of what it has.
    pub known: Known,
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

    #[test]
    fn labels_tell_architectures() {
        for (label, found) in [
            ("ubuntu-24.04-arm", Some(Architecture::Arm64)),
            ("depot-ubuntu-22.04-arm-8", Some(Architecture::Arm64)),
            ("ARM64", Some(Architecture::Arm64)),
            ("arm", Some(Architecture::Arm)),
            ("linux-x86_64", Some(Architecture::X64)),
            ("X64", Some(Architecture::X64)),
            ("ubuntu-24.04-s390x", Some(Architecture::S390x)),
            ("ubuntu-latest", None),
            ("warm-pool", None),
            ("", None),
        ] {
            assert_eq!(Architecture::of_label(label), found, "{label}");
        }
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
