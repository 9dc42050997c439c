//! Which known key was meant.

/// The known key nearest to `key`, if it is near enough to have been meant: a third of its letters may be wrong, or two.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let of = |candidate: &str| distance(&key.to_lowercase(), candidate);
    let best = known.iter().copied().min_by_key(|k| of(k))?;
    let allowed = (best.chars().count() / 3).max(2);
    // With everything wrong, nothing is near: `x` is not a misspelt `to`.
    (of(best) <= allowed && of(best) < best.chars().count()).then_some(best)
}

/// How many letters must be inserted, left out, exchanged, or swapped with their neighbour (Damerau–Levenshtein, optimal
/// string alignment).
fn distance(a: &str, b: &str) -> usize {
    // Keys are short; who writes a longer one has not misspelt one of ours.
    const LONGEST: usize = 64;
    let a: Vec<char> = a.chars().take(LONGEST).collect();
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in table.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in table[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let exchange = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = exchange.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(table[i - 2][j - 2] + 1);
            }
            table[i][j] = least;
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_of_neighbours_is_one_mistake() {
        for (a, b, expected) in [
            ("memory", "memory", 0),
            ("memroy", "memory", 1),
            ("memry", "memory", 1),
            ("mmemory", "memory", 1),
            ("", "cpus", 4),
            ("kitten", "sitting", 3),
            ("größe", "grösse", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

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
            ("", None),
            ("colour-of-the-sky", None),
        ] {
            assert_eq!(nearest(key, &known), expected, "{key}");
        }
        assert_eq!(nearest("x", &[]), None);
    }
}
