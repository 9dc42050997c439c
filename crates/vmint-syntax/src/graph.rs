//! `needs`: which job comes after which.
//!
//! This is the one place that knows which job a name means. The check, the engine and the selection of jobs ask by index:
//! a job is its place in the file. Names are found whatever their case, as on GitHub, so `needs: [Build]` is the job `build`.

use crate::spec::Workflow;
use std::collections::{BTreeSet, HashMap};
use thiserror::Error;
use vmint_text::nearest;

/// The names of a workflow's jobs.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    folded: HashMap<String, usize>,
}

impl Ids {
    /// Of jobs in the file's order.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut folded = HashMap::new();
        for (index, name) in names.into_iter().enumerate() {
            folded.entry(name.to_lowercase()).or_insert(index);
        }
        Self { folded }
    }

    /// The job that a name means. Of several that differ by case alone, which the check refuses, it is the first.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.folded.get(&name.to_lowercase()).copied()
    }
}

/// Jobs and what each needs, checked: every need is there, and no job waits for itself.
#[derive(Clone, Debug)]
pub struct Graph {
    ids: Ids,
    /// In the file's order. Needs are indices into it.
    jobs: Vec<(String, Vec<usize>)>,
    /// For each job, how many jobs follow each other up to it, without itself.
    depth: Vec<usize>,
}

/// Why jobs cannot be ordered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GraphError {
    /// A need that is no job.
    #[error("job `{job}` needs `{need}`, which is not a job of this workflow{}", meant(.nearest.as_deref()))]
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
    /// The jobs of a workflow.
    pub fn of(workflow: &Workflow) -> Result<Self, GraphError> {
        Self::new(workflow.jobs.values().map(|job| {
            let needs = job.needs.iter().map(|need| need.text.as_str());
            (job.id.as_str(), needs)
        }))
    }

    /// Orders jobs by their needs.
    pub fn new<'a, N>(jobs: impl IntoIterator<Item = (&'a str, N)>) -> Result<Self, GraphError>
    where
        N: IntoIterator<Item = &'a str>,
    {
        let named: Vec<(&str, Vec<&str>)> = jobs
            .into_iter()
            .map(|(job, needs)| (job, needs.into_iter().collect()))
            .collect();
        let ids = Ids::new(named.iter().map(|(job, _)| *job));
        let mut jobs = Vec::with_capacity(named.len());
        for (job, needs) in &named {
            let find = |need: &&str| {
                ids.find(need).ok_or_else(|| GraphError::Unknown {
                    job: (*job).to_owned(),
                    need: (*need).to_owned(),
                    nearest: nearest(need, named.iter().map(|(job, _)| *job)).map(str::to_owned),
                })
            };
            let needs: BTreeSet<usize> = needs.iter().map(find).collect::<Result<_, _>>()?;
            jobs.push(((*job).to_owned(), needs.into_iter().collect::<Vec<_>>()));
        }
        let mut graph = Self {
            depth: vec![0; jobs.len()],
            ids,
            jobs,
        };
        graph.measure()?;
        Ok(graph)
    }

    /// Finds how deep every job is, or a cycle.
    fn measure(&mut self) -> Result<(), GraphError> {
        let edges: Vec<&[usize]> = self.jobs.iter().map(|(_, needs)| &**needs).collect();
        let walk = walk(&edges, 1);
        if let Some(cycle) = walk.cycles.first() {
            let path = cycle.iter().map(|job| self.name(*job).to_owned()).collect();
            return Err(GraphError::Cycle { path });
        }
        for job in walk.ended {
            let deepest = self.jobs[job].1.iter().map(|need| self.depth[*need] + 1);
            self.depth[job] = deepest.max().unwrap_or(0);
        }
        Ok(())
    }

    /// The job that a name means.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.ids.find(name)
    }

    /// A job's name as it stands in the file.
    pub fn name(&self, job: usize) -> &str {
        self.jobs.get(job).map_or("", |(name, _)| name)
    }

    /// How many jobs there are; their indices are below that.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The jobs in an order in which each comes after all that it needs; otherwise as in the file.
    pub fn order(&self) -> Vec<usize> {
        self.stages().concat()
    }

    /// The jobs by stages: those of one need only such of the stages before it.
    pub fn stages(&self) -> Vec<Vec<usize>> {
        let count = self.depth.iter().max().map_or(0, |deepest| deepest + 1);
        let mut stages = vec![Vec::new(); count];
        for (job, depth) in self.depth.iter().enumerate() {
            stages[*depth].push(job);
        }
        stages
    }

    /// What a job needs itself, in the file's order; nothing of a job that there is not.
    pub fn needs(&self, job: usize) -> &[usize] {
        self.jobs.get(job).map_or(&[], |(_, needs)| needs)
    }

    /// What a job waits for, near and far, in the file's order: what `success()` and `failure()` look at.
    pub fn ancestors(&self, job: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        self.reach(self.needs(job), &mut reached);
        reached
    }

    /// The jobs that are asked for, with all that they need, in order.
    pub fn select<S: AsRef<str>>(&self, asked: &[S]) -> Result<Vec<usize>, GraphError> {
        let mut reached = BTreeSet::new();
        for name in asked {
            let name = name.as_ref();
            // One that is written exactly so comes first.
            let exact = self.jobs.iter().position(|(job, _)| job == name);
            let found = exact.or_else(|| self.find(name));
            let found = found.ok_or_else(|| GraphError::NoJob {
                asked: name.to_owned(),
                there: self.jobs.iter().map(|(job, _)| job.clone()).collect(),
            })?;
            self.reach(&[found], &mut reached);
        }
        let mut jobs: Vec<usize> = reached.into_iter().collect();
        jobs.sort_by_key(|job| self.depth[*job]);
        Ok(jobs)
    }

    fn reach(&self, from: &[usize], reached: &mut BTreeSet<usize>) {
        let mut waiting = from.to_vec();
        while let Some(job) = waiting.pop() {
            if reached.insert(job) {
                waiting.extend(&self.jobs[job].1);
            }
        }
    }
}

/// What a walk along all edges has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Cycles, each once: the nodes in order with the first one again at the end.
    pub cycles: Vec<Vec<usize>>,
    /// All nodes; where there is no cycle, each after those that its edges lead to.
    pub ended: Vec<usize>,
}

/// Walks along all edges, and notes `most` cycles. Without recursion: a file can name hundreds of thousands of jobs.
pub fn walk<E: AsRef<[usize]>>(edges: &[E], most: usize) -> Walk {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Never,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::Never; edges.len()];
    let mut walk = Walk::default();
    for start in 0..edges.len() {
        if seen[start] != Seen::Never {
            continue;
        }
        seen[start] = Seen::OnPath;
        // A node and how many of its edges were looked at.
        let mut path = vec![(start, 0)];
        while let Some((node, next)) = path.last_mut() {
            let (node, to) = (*node, edges[*node].as_ref().get(*next).copied());
            *next += 1;
            match to.map(|to| (to, seen[to])) {
                None => {
                    seen[node] = Seen::Done;
                    walk.ended.push(node);
                    path.pop();
                }
                Some((to, Seen::Never)) => {
                    seen[to] = Seen::OnPath;
                    path.push((to, 0));
                }
                Some((to, Seen::OnPath)) if walk.cycles.len() < most => {
                    let from = path.iter().position(|(on, _)| *on == to).unwrap_or(0);
                    let cycle = path[from..].iter().map(|(on, _)| *on).chain([to]);
                    walk.cycles.push(cycle.collect());
                }
                Some(_) => {}
            }
        }
    }
    walk
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

    fn names(graph: &Graph, jobs: impl IntoIterator<Item = usize>) -> Vec<&str> {
        jobs.into_iter().map(|job| graph.name(job)).collect()
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
        let order = names(&graph, graph.order());
        assert_eq!(order, ["build", "lint", "test", "deploy"]);
        assert_eq!(graph.stages(), [vec![2, 3], vec![1], vec![0]]);
        assert_eq!(graph.needs(0), [1, 3]);
        assert_eq!(names(&graph, graph.ancestors(0)), ["test", "build", "lint"]);
    }

    #[test]
    fn a_name_means_a_job_whatever_its_case() {
        let graph = graph(&[("build", &[]), ("Test", &["BUILD"]), ("deploy", &["tEST"])]).unwrap();
        assert_eq!(graph.find("Build"), Some(0));
        assert_eq!(graph.needs(1), [0]);
        assert_eq!(names(&graph, graph.ancestors(2)), ["build", "Test"]);
        // The check refuses it; that indices are places in the file holds all the same.
        let twins = super::Graph::new([("a", vec![]), ("A", vec![]), ("b", vec!["A"])]).unwrap();
        assert_eq!(
            (twins.len(), twins.name(2), twins.needs(2)),
            (3, "b", &[0][..])
        );
    }

    #[test]
    fn a_selected_job_brings_what_it_needs() {
        let graph = graph(&[("c", &["b"]), ("b", &["a"]), ("a", &[]), ("d", &["A"])]).unwrap();
        let selected = |asked: &[&str]| names(&graph, graph.select(asked).unwrap());
        assert_eq!(selected(&["b"]), ["a", "b"]);
        assert_eq!(selected(&["D", "b"]), ["a", "b", "d"]);
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
        job `test` needs `biuld`, which is not a job of this workflow; was `build` meant?
        job `test` needs `other`, which is not a job of this workflow
        ");
    }

    #[test]
    fn a_very_long_chain_is_ordered() {
        let names: Vec<String> = (0..50_000).map(|i| format!("j{i}")).collect();
        let jobs = (0..names.len()).map(|i| (&*names[i], names.get(i + 1).map(|n| &**n)));
        let graph = Graph::new(jobs).unwrap();
        assert_eq!(graph.order()[0], 49_999);
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
                        prop_assert!(graph.needs(*job).iter().all(|need| place(*need) < place(*job)));
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
