//! `needs`: which job comes after which.

use indexmap::{IndexMap, IndexSet};
use std::collections::BTreeSet;
use thiserror::Error;

/// Jobs and what each needs, checked: every need is there, and no job waits for itself.
#[derive(Clone, Debug)]
pub struct Graph {
    /// In the file's order. Needs are indices into it.
    jobs: IndexMap<String, Vec<usize>>,
    /// For each job, how many jobs follow each other up to it, without itself.
    depth: Vec<usize>,
}

/// Why jobs cannot be ordered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GraphError {
    /// A need that is no job.
    #[error("job `{job}` needs `{need}`, which is no job of this workflow{}", meant(.nearest.as_deref()))]
    Unknown {
        /// The job.
        job: String,
        /// What it needs.
        need: String,
        /// A job with a similar name.
        nearest: Option<String>,
    },
    /// Jobs that wait for each other.
    #[error("these jobs wait for each other: {}", .path.join(" -> "))]
    Cycle {
        /// From a job over its needs back to it.
        path: Vec<String>,
    },
    /// A selection that is no job.
    #[error("there is no job `{asked}`; there are {}", .there.join(", "))]
    NoJob {
        /// The selection.
        asked: String,
        /// The jobs.
        there: Vec<String>,
    },
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; was `{name}` meant?"))
}

impl Graph {
    /// Orders jobs by their needs. Names are found whatever their case, as on GitHub.
    pub fn new<'a, N>(jobs: impl IntoIterator<Item = (&'a str, N)>) -> Result<Self, GraphError>
    where
        N: IntoIterator<Item = &'a str>,
    {
        let named: Vec<(&str, Vec<&str>)> = jobs
            .into_iter()
            .map(|(job, needs)| (job, needs.into_iter().collect()))
            .collect();
        let index: IndexSet<String> = named.iter().map(|(job, _)| job.to_lowercase()).collect();
        let mut jobs = IndexMap::new();
        for (job, needs) in &named {
            let find = |need: &&str| {
                index
                    .get_index_of(&need.to_lowercase())
                    .ok_or_else(|| GraphError::Unknown {
                        job: (*job).to_owned(),
                        need: (*need).to_owned(),
                        nearest: nearest(need, named.iter().map(|(job, _)| *job)),
                    })
            };
            let needs: BTreeSet<usize> = needs.iter().map(find).collect::<Result<_, _>>()?;
            jobs.insert((*job).to_owned(), needs.into_iter().collect::<Vec<_>>());
        }
        let mut graph = Self {
            depth: vec![0; jobs.len()],
            jobs,
        };
        graph.measure()?;
        Ok(graph)
    }

    /// Finds how deep every job is, or a cycle. Without recursion: a chain of jobs may be as long as a file.
    fn measure(&mut self) -> Result<(), GraphError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            Never,
            OnPath,
            Done,
        }
        let mut seen = vec![Seen::Never; self.jobs.len()];
        for start in 0..self.jobs.len() {
            if seen[start] != Seen::Never {
                continue;
            }
            seen[start] = Seen::OnPath;
            // A job and how many of its needs were looked at.
            let mut path = vec![(start, 0)];
            while let Some((job, next)) = path.last_mut() {
                let needs = &self.jobs[*job];
                if let Some(&need) = needs.get(*next) {
                    *next += 1;
                    match seen[need] {
                        Seen::Never => {
                            seen[need] = Seen::OnPath;
                            path.push((need, 0));
                        }
                        Seen::OnPath => {
                            let from = path.iter().position(|(job, _)| *job == need).unwrap_or(0);
                            let cycle = path[from..].iter().map(|(job, _)| *job).chain([need]);
                            let path = cycle.map(|job| self.name(job).to_owned()).collect();
                            return Err(GraphError::Cycle { path });
                        }
                        Seen::Done => {}
                    }
                } else {
                    let deepest = needs.iter().map(|need| self.depth[*need] + 1).max();
                    self.depth[*job] = deepest.unwrap_or(0);
                    seen[*job] = Seen::Done;
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn name(&self, job: usize) -> &str {
        self.jobs.get_index(job).map_or("", |(name, _)| name)
    }

    /// The jobs in an order in which each comes after all that it needs; otherwise as in the file.
    pub fn order(&self) -> Vec<&str> {
        self.stages().concat()
    }

    /// The jobs by stages: those of one need only such of the stages before it.
    pub fn stages(&self) -> Vec<Vec<&str>> {
        let count = self.depth.iter().max().map_or(0, |deepest| deepest + 1);
        let mut stages = vec![Vec::new(); count];
        for (name, depth) in self.jobs.keys().zip(&self.depth) {
            stages[*depth].push(name.as_str());
        }
        stages
    }

    /// What a job needs itself, in the file's order; nothing of a job that there is not.
    pub fn needs(&self, job: &str) -> Vec<&str> {
        let needs = self.jobs.get(job).map_or(&[][..], Vec::as_slice);
        needs.iter().map(|need| self.name(*need)).collect()
    }

    /// What a job waits for, near and far, in the file's order: what `success()` and `failure()` look at.
    pub fn ancestors(&self, job: &str) -> Vec<&str> {
        let mut reached = BTreeSet::new();
        if let Some(needs) = self.jobs.get(job) {
            self.reach(needs, &mut reached);
        }
        reached.into_iter().map(|job| self.name(job)).collect()
    }

    /// The jobs that are asked for, with all that they need, in order.
    pub fn select<S: AsRef<str>>(&self, asked: &[S]) -> Result<Vec<&str>, GraphError> {
        let mut reached = BTreeSet::new();
        for name in asked {
            let name = name.as_ref();
            let found = self.jobs.get_index_of(name).or_else(|| {
                let folded = name.to_lowercase();
                self.jobs
                    .keys()
                    .position(|job| job.to_lowercase() == folded)
            });
            let found = found.ok_or_else(|| GraphError::NoJob {
                asked: name.to_owned(),
                there: self.jobs.keys().cloned().collect(),
            })?;
            self.reach(&[found], &mut reached);
        }
        let mut jobs: Vec<usize> = reached.into_iter().collect();
        jobs.sort_by_key(|job| self.depth[*job]);
        Ok(jobs.into_iter().map(|job| self.name(job)).collect())
    }

    fn reach(&self, from: &[usize], reached: &mut BTreeSet<usize>) {
        let mut waiting = from.to_vec();
        while let Some(job) = waiting.pop() {
            if reached.insert(job) {
                waiting.extend(&self.jobs[job]);
            }
        }
    }
}

/// The name that differs least, when it is by few letters.
fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<String> {
    // Names are compared in the square of their length.
    const LONGEST: usize = 100;
    let near = among
        .filter(|other| other.len() <= LONGEST && name.len() <= LONGEST)
        .map(|other| (distance(name, other), other))
        .min_by_key(|(distance, _)| *distance)?;
    (near.0 <= name.len().div_ceil(3)).then(|| near.1.to_owned())
}

fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn graph(jobs: &[(&'static str, &[&'static str])]) -> Result<Graph, GraphError> {
        Graph::new(
            jobs.iter()
                .map(|(job, needs)| (*job, needs.iter().copied())),
        )
    }

    #[test]
    fn jobs_come_after_what_they_need_and_otherwise_as_in_the_file() {
        let graph = graph(&[
            ("deploy", &["test", "lint"]),
            ("test", &["build"]),
            ("build", &[]),
            ("lint", &[]),
        ])
        .unwrap();
        assert_eq!(graph.order(), ["build", "lint", "test", "deploy"]);
        assert_eq!(
            graph.stages(),
            [vec!["build", "lint"], vec!["test"], vec!["deploy"]]
        );
        assert_eq!(graph.needs("deploy"), ["test", "lint"]);
        assert_eq!(graph.ancestors("deploy"), ["test", "build", "lint"]);
    }

    #[test]
    fn a_selected_job_brings_what_it_needs() {
        let graph = graph(&[("c", &["b"]), ("b", &["a"]), ("a", &[]), ("d", &["A"])]).unwrap();
        assert_eq!(graph.select(&["b"]).unwrap(), ["a", "b"]);
        assert_eq!(graph.select(&["D", "b"]).unwrap(), ["a", "b", "d"]);
        insta::assert_snapshot!(graph.select(&["x"]).unwrap_err(), @"there is no job `x`; there are c, b, a, d");
    }

    #[test]
    fn cycles_and_strangers_are_named() {
        let own = graph(&[("a", &["a"])]).unwrap_err();
        let long =
            graph(&[("x", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])]).unwrap_err();
        let typo = graph(&[("build", &[]), ("test", &["biuld"])]).unwrap_err();
        let stranger = graph(&[("build", &[]), ("test", &["other"])]).unwrap_err();
        insta::assert_snapshot!([own, long, typo, stranger].map(|e| e.to_string()).join("\n"), @r"
        these jobs wait for each other: a -> a
        these jobs wait for each other: a -> b -> c -> a
        job `test` needs `biuld`, which is no job of this workflow; was `build` meant?
        job `test` needs `other`, which is no job of this workflow
        ");
    }

    #[test]
    fn a_very_long_chain_is_ordered() {
        let names: Vec<String> = (0..50_000).map(|i| format!("j{i}")).collect();
        let jobs = (0..names.len()).map(|i| (&*names[i], names.get(i + 1).map(|n| &**n)));
        let graph = Graph::new(jobs).unwrap();
        assert_eq!(graph.order()[0], "j49999");
        assert_eq!(graph.stages().len(), 50_000);
    }

    proptest! {
        #[test]
        fn an_order_is_valid_or_there_is_a_cycle(needs in proptest::collection::vec(proptest::collection::vec(0..8usize, 0..3), 8)) {
            let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let jobs = needs.iter().enumerate().map(|(i, needs)| (names[i], needs.iter().map(|n| names[*n])));
            match Graph::new(jobs) {
                Ok(graph) => {
                    let order = graph.order();
                    let place = |job| order.iter().position(|own| *own == job);
                    for job in &order {
                        prop_assert!(graph.needs(job).iter().all(|need| place(*need) < place(*job)));
                    }
                }
                Err(GraphError::Cycle { path }) => {
                    prop_assert_eq!(path.first(), path.last());
                    for pair in path.windows(2) {
                        let index = |name: &str| names.iter().position(|own| *own == name).unwrap();
                        prop_assert!(needs[index(&pair[0])].contains(&index(&pair[1])));
                    }
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
