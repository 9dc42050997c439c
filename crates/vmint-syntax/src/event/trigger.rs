//! Whether an event starts a workflow.

use super::on::{Filter, Filters, On, Sense};
use super::pattern::Pattern;
use super::payload::Event;
use serde_json::Value as Json;

/// Whether an event starts a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Triggered,
    /// It does not, for this reason: a sentence for the user, without a full stop.
    NotTriggered(String),
}

/// Activity types that count when none are given; the other events count whatever their type.
const PULL_REQUEST_TYPES: [&str; 3] = ["opened", "synchronize", "reopened"];

/// The event that is simulated: the one asked for; else `push`, `pull_request` or `workflow_dispatch`, whichever of them
/// starts the workflow, in this order; else the first in the file.
pub fn choose<'a>(on: &'a On, asked: Option<&'a str>) -> &'a str {
    asked
        .or_else(|| {
            ["push", "pull_request", "workflow_dispatch"]
                .into_iter()
                .find(|name| on.get(name).is_some())
        })
        .or_else(|| on.names().next())
        .unwrap_or("push")
}

/// The activity type to simulate: the first that starts the workflow. Absent when any does, or none.
pub fn activity<'a>(on: &'a On, event: &str) -> Option<&'a str> {
    let first = on.get(event)?.types.first().map(String::as_str);
    first.or_else(|| is_pull_request(event).then_some(PULL_REQUEST_TYPES[0]))
}

fn is_pull_request(event: &str) -> bool {
    matches!(event, "pull_request" | "pull_request_target")
}

/// Whether an event starts a workflow.
pub fn decide(on: &On, event: &Event) -> Decision {
    let reason = if let Some(filters) = on.get(&event.name) {
        refusal(filters, event)
    } else {
        let names: Vec<&str> = on.names().collect();
        let (names, name) = (names.join(", "), &event.name);
        Some(format!("the workflow is started by {names}, not by {name}"))
    };
    reason.map_or(Decision::Triggered, Decision::NotTriggered)
}

/// Why the event's filters let it not pass.
fn refusal(filters: &Filters, event: &Event) -> Option<String> {
    wrong_type(filters, event).or_else(|| match &*event.name {
        "push" => push(filters, event),
        "pull_request" | "pull_request_target" => {
            let base = &event.base_ref;
            let named = |filter| by_name(filter, base, &format!("a pull request against {base}"));
            named(filters.branches.as_ref()).or_else(|| by_paths(filters.paths.as_ref(), event))
        }
        "merge_group" => {
            let base = event.text(&["merge_group", "base_ref"]).unwrap_or_default();
            let base = base.strip_prefix("refs/heads/").unwrap_or(base);
            by_name(
                filters.branches.as_ref(),
                base,
                &format!("a merge group for {base}"),
            )
        }
        "workflow_run" => {
            let branch = event
                .text(&["workflow_run", "head_branch"])
                .unwrap_or_default();
            let name = event.text(&["workflow_run", "name"]).unwrap_or_default();
            let what = format!("a run of workflow {name}");
            by_workflow(&filters.workflows, name, &what).or_else(|| {
                by_name(
                    filters.branches.as_ref(),
                    branch,
                    &format!("{what} on {branch}"),
                )
            })
        }
        "schedule" => schedule(filters, event),
        _ => None,
    })
}

fn wrong_type(filters: &Filters, event: &Event) -> Option<String> {
    let declared: Vec<&str> = filters.types.iter().map(String::as_str).collect();
    let types = match (declared.is_empty(), is_pull_request(&event.name)) {
        (false, _) => &declared[..],
        (true, true) => &PULL_REQUEST_TYPES[..],
        (true, false) => return None,
    };
    let (name, list) = (&event.name, types.join(", "));
    match event.text(&["action"]) {
        Some(action) if types.contains(&action) => None,
        Some(action) => Some(format!(
            "a {name} of type {action} does not match types: [{list}]"
        )),
        None => Some(format!(
            "the {name} event has no `action`, and only these count: types: [{list}]"
        )),
    }
}

fn push(filters: &Filters, event: &Event) -> Option<String> {
    if event.payload.get("deleted") == Some(&Json::Bool(true)) {
        return Some("a push that deletes a branch or tag starts no workflow".to_owned());
    }
    let (branches, tags) = (filters.branches.as_ref(), filters.tags.as_ref());
    // A filter for the one kind, and none for the other: the other does not count.
    let unmentioned = |other: Option<&Filter>, what: &str| {
        let key = other?.key;
        Some(format!("{what} does not count: only `{key}` is given"))
    };
    if let Some(tag) = event.git_ref.strip_prefix("refs/tags/") {
        let what = format!("a push of tag {tag}");
        return match tags {
            Some(_) => by_name(tags, tag, &what),
            None => unmentioned(branches, &what),
        };
    }
    let branch = event
        .git_ref
        .strip_prefix("refs/heads/")
        .unwrap_or(&event.git_ref);
    let what = format!("a push to {branch}");
    match branches {
        Some(_) => by_name(branches, branch, &what),
        None => unmentioned(tags, &what),
    }
    .or_else(|| by_paths(filters.paths.as_ref(), event))
}

fn by_name(filter: Option<&Filter>, name: &str, what: &str) -> Option<String> {
    let filter = filter.filter(|filter| !filter.passes(name))?;
    let verb = match filter.sense {
        Sense::Only => "does not match",
        Sense::Ignore => "matches",
    };
    Some(format!("{what} {verb} {}", shown(filter)))
}

/// Names of workflows are documented as plain names, and `C++` is one; GitHub takes patterns, too.
fn by_workflow(workflows: &[String], name: &str, what: &str) -> Option<String> {
    let meant = |own: &String| own == name || Pattern::parse(own).is_ok_and(|p| p.matches(name));
    let refused = !workflows.is_empty() && !workflows.iter().any(meant);
    refused.then(|| {
        format!(
            "{what} does not match workflows: [{}]",
            workflows.join(", ")
        )
    })
}

/// One changed file that passes is enough. What is not known is not held against the event, as on GitHub, where filters
/// are not applied to changes that are too many.
fn by_paths(filter: Option<&Filter>, event: &Event) -> Option<String> {
    let (filter, changed) = (filter?, event.changed.as_ref()?);
    if changed.iter().any(|file| filter.passes(file)) {
        return None;
    }
    let files = match &changed[..] {
        [] => "no file was changed".to_owned(),
        [one] => format!("the changed file {one}"),
        [first, rest @ ..] => format!("none of the {} changed files ({first}, …)", rest.len() + 1),
    };
    let list = shown(filter);
    Some(match (filter.sense, changed.len()) {
        (_, 0) => format!("{files}, so nothing is left by {list}"),
        (Sense::Only, 1) => format!("{files} does not match {list}"),
        (Sense::Only, _) => format!("{files} matches {list}"),
        (Sense::Ignore, 1) => format!("{files} matches {list}"),
        (Sense::Ignore, _) => format!("{files} is outside of {list}"),
    })
}

fn schedule(filters: &Filters, event: &Event) -> Option<String> {
    let cron = event.text(&["schedule"])?;
    let known = filters.crons.iter().any(|own| own == cron);
    let list = filters.crons.join("', '");
    (!known).then(|| format!("the schedule '{cron}' is none of the workflow's: '{list}'"))
}

/// `branches: [main, 'releases/**']`, shortened.
fn shown(filter: &Filter) -> String {
    const MOST: usize = 10;
    let mut list = filter.source.iter().take(MOST).cloned().collect::<Vec<_>>();
    if filter.source.len() > MOST {
        list.push("…".to_owned());
    }
    format!("{}: [{}]", filter.key, list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::on::testing::on;
    use super::*;
    use serde_json::json;

    fn event(name: &str, git_ref: &str, changed: &[&str]) -> Event {
        Event {
            git_ref: git_ref.to_owned(),
            changed: Some(changed.iter().map(ToString::to_string).collect()),
            ..Event::empty(name)
        }
    }

    fn pull_request(action: &str, base: &str, changed: &[&str]) -> Event {
        let mut event = event("pull_request", "refs/pull/1/merge", changed);
        event.payload.insert("action".to_owned(), json!(action));
        base.clone_into(&mut event.base_ref);
        event
    }

    #[track_caller]
    fn starts(yaml: &str, event: &Event) {
        assert_eq!(decide(&on(yaml), event), Decision::Triggered, "{yaml}");
    }

    #[track_caller]
    fn reason(yaml: &str, event: &Event) -> String {
        match decide(&on(yaml), event) {
            Decision::NotTriggered(reason) => reason,
            Decision::Triggered => panic!("{yaml} should not be started"),
        }
    }

    #[test]
    fn the_event_must_be_named() {
        let push = event("push", "refs/heads/main", &[]);
        starts("push", &push);
        starts("[fork, push]", &push);
        starts("{push: }", &push);
        insta::assert_snapshot!(reason("[fork, issues]", &push), @"the workflow is started by fork, issues, not by push");
    }

    #[test]
    fn a_push_to_a_branch_is_filtered_by_branches() {
        let main = event("push", "refs/heads/main", &["a"]);
        let feature = event("push", "refs/heads/feature-x", &["a"]);
        starts("{push: {branches: [main]}}", &main);
        starts("{push: {branches-ignore: [main]}}", &feature);
        insta::assert_snapshot!(reason("{push: {branches: [main]}}", &feature), @"a push to feature-x does not match branches: [main]");
        insta::assert_snapshot!(reason("{push: {branches-ignore: [main]}}", &main), @"a push to main matches branches-ignore: [main]");
        insta::assert_snapshot!(reason("{push: {tags: ['v*']}}", &main), @"a push to main does not count: only `tags` is given");
        starts("{push: {tags: ['v*'], branches: ['**']}}", &main);
    }

    #[test]
    fn a_push_of_a_tag_is_filtered_by_tags_and_never_by_paths() {
        let tag = event("push", "refs/tags/v1", &["a"]);
        starts("push", &tag);
        starts("{push: {tags: ['v*']}}", &tag);
        starts("{push: {tags: ['v*'], paths: [src/**]}}", &tag);
        starts("{push: {paths: [src/**]}}", &tag);
        starts("{push: {branches: [main], tags-ignore: ['x*']}}", &tag);
        insta::assert_snapshot!(reason("{push: {branches: [main]}}", &tag), @"a push of tag v1 does not count: only `branches` is given");
        insta::assert_snapshot!(reason("{push: {tags-ignore: ['v*']}}", &tag), @"a push of tag v1 matches tags-ignore: [v*]");
    }

    #[test]
    fn one_changed_file_that_passes_is_enough() {
        let both = event("push", "refs/heads/main", &["docs/a.md", "src/a.rs"]);
        let docs = event("push", "refs/heads/main", &["docs/a.md"]);
        let none = event("push", "refs/heads/main", &[]);
        starts("{push: {paths: [src/**]}}", &both);
        starts("{push: {paths-ignore: [docs/**]}}", &both);
        insta::assert_snapshot!(reason("{push: {paths: [src/**]}}", &docs), @"the changed file docs/a.md does not match paths: [src/**]");
        insta::assert_snapshot!(reason("{push: {paths-ignore: [docs/**]}}", &docs), @"the changed file docs/a.md matches paths-ignore: [docs/**]");
        insta::assert_snapshot!(reason("{push: {paths: ['*.c', '!a.c']}}", &both), @"none of the 2 changed files (docs/a.md, …) matches paths: [*.c, !a.c]");
        insta::assert_snapshot!(reason("{push: {paths-ignore: ['**']}}", &both), @"none of the 2 changed files (docs/a.md, …) is outside of paths-ignore: [**]");
        insta::assert_snapshot!(reason("{push: {paths: [src/**]}}", &none), @"no file was changed, so nothing is left by paths: [src/**]");
    }

    #[test]
    fn changes_that_are_not_known_are_not_held_against_the_event() {
        let unknown = Event {
            changed: None,
            ..event("push", "refs/heads/main", &[])
        };
        starts("{push: {paths: [src/**]}}", &unknown);
    }

    #[test]
    fn a_deleted_branch_starts_nothing() {
        let mut deleted = event("push", "refs/heads/main", &[]);
        deleted.payload.insert("deleted".to_owned(), json!(true));
        insta::assert_snapshot!(reason("push", &deleted), @"a push that deletes a branch or tag starts no workflow");
    }

    #[test]
    fn a_pull_request_is_filtered_by_its_type_and_base() {
        starts("pull_request", &pull_request("opened", "main", &[]));
        starts(
            "{pull_request: {branches: [main]}}",
            &pull_request("synchronize", "main", &[]),
        );
        starts(
            "{pull_request: {types: [labeled]}}",
            &pull_request("labeled", "main", &[]),
        );
        insta::assert_snapshot!(reason("pull_request", &pull_request("labeled", "main", &[])), @"a pull_request of type labeled does not match types: [opened, synchronize, reopened]");
        insta::assert_snapshot!(
            reason("{pull_request: {branches: ['v*']}}", &pull_request("opened", "main", &[])), @"a pull request against main does not match branches: [v*]");
        insta::assert_snapshot!(
            reason("{pull_request: {paths: [a]}}", &pull_request("opened", "main", &["b"])), @"the changed file b does not match paths: [a]");
        insta::assert_snapshot!(
            reason("{issues: {types: [opened]}}", &event("issues", "refs/heads/main", &[])), @"the issues event has no `action`, and only these count: types: [opened]");
    }

    #[test]
    fn a_schedule_must_be_one_of_the_workflows() {
        let mut night = event("schedule", "refs/heads/main", &[]);
        starts("{schedule: [{cron: 0 3 * * *}]}", &night);
        night
            .payload
            .insert("schedule".to_owned(), json!("0 3 * * *"));
        starts("{schedule: [{cron: 0 3 * * *}]}", &night);
        insta::assert_snapshot!(reason("{schedule: [{cron: 0 4 * * *}]}", &night), @"the schedule '0 3 * * *' is none of the workflow's: '0 4 * * *'");
    }

    #[test]
    fn other_workflows_count_by_name_and_branch() {
        let mut run = event("workflow_run", "refs/heads/main", &[]);
        let payload = json!({"name": "Build", "head_branch": "main"});
        run.payload.insert("workflow_run".to_owned(), payload);
        run.payload.insert("action".to_owned(), json!("completed"));
        starts(
            "{workflow_run: {workflows: [Build], types: [completed]}}",
            &run,
        );
        insta::assert_snapshot!(reason("{workflow_run: {workflows: [Test]}}", &run), @"a run of workflow Build does not match workflows: [Test]");
        insta::assert_snapshot!(
            reason("{workflow_run: {workflows: [Build], branches: [x]}}", &run), @"a run of workflow Build on main does not match branches: [x]");
    }

    #[test]
    fn the_most_usual_event_is_simulated_unless_another_is_asked_for() {
        assert_eq!(choose(&on("[issues, pull_request, push]"), None), "push");
        assert_eq!(
            choose(&on("[workflow_dispatch, pull_request]"), None),
            "pull_request"
        );
        assert_eq!(choose(&on("[issues, fork]"), None), "issues");
        assert_eq!(choose(&on("[push]"), Some("issues")), "issues");
    }

    #[test]
    fn the_type_that_is_simulated_starts_the_workflow() {
        assert_eq!(
            activity(&on("pull_request"), "pull_request"),
            Some("opened")
        );
        let labeled = on("{pull_request: {types: [labeled, opened]}}");
        assert_eq!(activity(&labeled, "pull_request"), Some("labeled"));
        assert_eq!(activity(&on("push"), "push"), None);
    }
}
