//! Files of a machine that patterns name: listed, digested, fetched.

use super::end::End;
use super::found::{Follow, LIST, Target, Tree, Walked};
use super::instance::{Instance, Trouble};
use crate::glob::Patterns;
use crate::guest::Command;
use sha2::{Digest, Sha256};

/// What a list of files may take, in bytes.
const MOST_LISTED: usize = 64 << 20;

/// Digests each file that an argument names.
const DIGEST: &str = r#"
for file do
    digest=$(sha256sum < "$file") || exit 1
    printf '%s\n' "${digest%% *}"
done
"#;

/// How often links may lead to folders that were not looked into yet.
const MOST_ROUNDS: usize = 40;

/// What patterns name, in the order of the walk.
pub(super) async fn list(
    instance: &mut Instance<'_>,
    patterns: &Patterns,
    follow: Follow,
) -> Result<Walked, Trouble> {
    need(instance, "find", "to list files")?;
    let mut tree = Tree::default();
    let mut wanted: Vec<String> = patterns.search_roots().to_vec();
    let mut room = MOST_LISTED;
    for _ in 0..MOST_ROUNDS {
        if wanted.is_empty() {
            break;
        }
        let mut argv = vec!["sh".to_owned(), "-c".into(), LIST.into(), "sh".into()];
        argv.append(&mut wanted);
        let command = Command {
            argv,
            ..Command::default()
        };
        let (end, output) = instance.ask(command, room).await?;
        if !matches!(end, End::Exited { .. }) {
            return Err(Trouble::Step(format!(
                "the files of the machine cannot be listed: {end:?}"
            )));
        }
        room = room.saturating_sub(output.len());
        tree.add(&output);
        let mut walked = tree.walk(patterns, follow);
        if walked.missing.is_empty() {
            for mount in &mut walked.mounts {
                mount.real = instance.in_machine(&mount.real).await?;
            }
            return Ok(walked);
        }
        wanted = std::mem::take(&mut walked.missing);
        wanted.sort();
        wanted.dedup();
    }
    if wanted.is_empty() {
        return Ok(Walked::default());
    }
    Err(Trouble::Step(format!(
        "links lead from folder to folder more than {MOST_ROUNDS} times"
    )))
}

/// Refuses to go on without a program that a container may lack.
fn need(instance: &Instance<'_>, program: &str, what: &str) -> Result<(), Trouble> {
    if instance.view.container().is_none() || instance.inventory.program(program).is_some() {
        return Ok(());
    }
    Err(Trouble::Step(format!(
        "the image of the job's container has no `{program}`, which vmint needs in it {what}"
    )))
}

/// `hashFiles`: a digest over the digests of all files that match; nothing when none does.
pub(super) async fn hash(
    instance: &mut Instance<'_>,
    patterns: &[String],
) -> Result<String, Trouble> {
    /// As many arguments as surely fit.
    const AT_ONCE: usize = 500;
    let workspace = instance.workspace();
    let (follow, patterns) = option(patterns);
    let parsed = Patterns::parse(&patterns.join("\n"), &workspace, &instance.inventory.home);
    let parsed = parsed.map_err(|e| Trouble::Step(format!("hashFiles: {e}")))?;
    let listed = list(instance, &parsed, follow).await?.files;
    let inside = format!("{workspace}/");
    // GitHub takes only files of the workspace.
    let files = listed.into_iter();
    let files = files.filter(|file| !file.is_folder && file.path.starts_with(&inside));
    // Of a link, what it leads to is read; folders have no digest.
    let files = files.filter(|file| !matches!(file.link, Some(Target::Folder(_))));
    let files: Vec<_> = files.collect();
    let mut links = files.iter();
    if let Some(broken) = links.find(|file| file.link == Some(Target::Nothing)) {
        let path = &broken.path;
        return Err(Trouble::Step(format!(
            "hashFiles: {path} is a link to something that is not there"
        )));
    }
    if files.is_empty() {
        return Ok(String::new());
    }
    need(instance, "sha256sum", "for hashFiles")?;
    let mut all = Sha256::new();
    for files in files.chunks(AT_ONCE) {
        let mut argv = vec!["sh".to_owned(), "-c".into(), DIGEST.into(), "sh".into()];
        argv.extend(files.iter().map(|file| file.path.clone()));
        let command = Command {
            argv,
            ..Command::default()
        };
        let (end, output) = instance.ask(command, MOST_LISTED).await?;
        if end != (End::Exited { code: 0 }) {
            let said = String::from_utf8_lossy(&output).trim().to_owned();
            return Err(Trouble::Step(format!(
                "hashFiles: a file cannot be read: {said}"
            )));
        }
        for line in String::from_utf8_lossy(&output).lines() {
            let bytes = (0..line.len() / 2)
                .map(|n| u8::from_str_radix(line.get(2 * n..2 * n + 2).unwrap_or(""), 16));
            let bytes: Result<Vec<u8>, _> = bytes.collect();
            let bytes =
                bytes.map_err(|_| Trouble::Step(format!("hashFiles: sha256sum says {line:?}")))?;
            all.update(&bytes);
        }
    }
    Ok(all
        .finalize()
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")))
}

/// Whether links are followed, as the first argument may say, and the patterns. Other options were refused where they stand.
fn option(patterns: &[String]) -> (Follow, &[String]) {
    match patterns {
        [first, rest @ ..] if first.starts_with("--") => (Follow::All, rest),
        patterns => (Follow::Never, patterns),
    }
}
