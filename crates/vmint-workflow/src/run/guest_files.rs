//! Files of a machine that patterns name: listed, digested, fetched.

use super::instance::{Instance, Trouble};
use crate::glob::{Entry, Patterns};
use crate::guest::Command;
use crate::record::StepEnd;
use sha2::{Digest, Sha256};

/// What a list of files may take, in bytes.
const MOST_LISTED: usize = 64 << 20;

/// Lists what is below each argument, each path followed by a zero byte, with `d` or `f` before it.
const LIST: &str = r#"
for root do
    [ -e "$root" ] || [ -L "$root" ] || continue
    find "$root" -type d -exec sh -c 'for p do printf "d%s\0" "$p"; done' sh {} +
    find "$root" ! -type d -exec sh -c 'for p do printf "f%s\0" "$p"; done' sh {} +
done
"#;

/// Digests each file that an argument names.
const DIGEST: &str = r#"
for file do
    digest=$(sha256sum < "$file") || exit 1
    printf '%s\n' "${digest%% *}"
done
"#;

/// A file or folder of a machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub path: String,
    pub is_folder: bool,
}

/// Lists what patterns match, sorted.
pub(super) async fn list(
    instance: &mut Instance<'_>,
    patterns: &Patterns,
) -> Result<Vec<Listed>, Trouble> {
    let mut argv = vec!["sh".to_owned(), "-c".into(), LIST.into(), "sh".into()];
    argv.extend(patterns.search_roots().iter().cloned());
    if argv.len() == 4 {
        return Ok(Vec::new());
    }
    let command = Command {
        argv,
        ..Command::default()
    };
    let (end, output) = instance.ask(command, MOST_LISTED).await?;
    if !matches!(end, StepEnd::Exited { .. }) {
        return Err(Trouble::Step(format!(
            "the files of the machine cannot be listed: {end:?}"
        )));
    }
    let output = String::from_utf8_lossy(&output);
    let mut listed: Vec<_> = output
        .split('\0')
        .filter_map(|entry| {
            let path = entry.get(1..).filter(|path| !path.is_empty())?;
            let kind = if entry.starts_with('d') {
                Entry::Folder
            } else {
                Entry::File
            };
            patterns.matches(path, kind).then(|| Listed {
                path: path.to_owned(),
                is_folder: kind == Entry::Folder,
            })
        })
        .collect();
    listed.sort();
    listed.dedup();
    Ok(listed)
}

/// `hashFiles`: a digest over the digests of all files that match; nothing when none does.
pub(super) async fn hash(
    instance: &mut Instance<'_>,
    patterns: &[String],
) -> Result<String, Trouble> {
    /// As many arguments as surely fit.
    const AT_ONCE: usize = 500;
    let workspace = instance.workspace();
    let parsed = Patterns::parse(&patterns.join("\n"), &workspace, &instance.inventory.home);
    let parsed = parsed.map_err(|e| Trouble::Step(format!("hashFiles: {e}")))?;
    let listed = list(instance, &parsed).await?;
    let inside = format!("{workspace}/");
    // GitHub takes only files of the workspace.
    let files: Vec<_> = listed
        .into_iter()
        .filter(|file| !file.is_folder && file.path.starts_with(&inside))
        .collect();
    if files.is_empty() {
        return Ok(String::new());
    }
    let mut all = Sha256::new();
    for files in files.chunks(AT_ONCE) {
        let mut argv = vec!["sh".to_owned(), "-c".into(), DIGEST.into(), "sh".into()];
        argv.extend(files.iter().map(|file| file.path.clone()));
        let command = Command {
            argv,
            ..Command::default()
        };
        let (end, output) = instance.ask(command, MOST_LISTED).await?;
        if end != (StepEnd::Exited { code: 0 }) {
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
