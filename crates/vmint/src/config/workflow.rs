//! The table `[workflow]`.

use super::document::{Form, Named};
use super::error::ConfigError;
use super::keys;
use super::parse;
use super::sections::{Env, Settings, nowhere, variable};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_image::ImageName;
use vmint_model::{ByteSize, NetMode};
use vmint_workflow::labels::LeftOut;
use vmint_workflow::replace::{Choice, Choices, StandIn, is_name};

/// How workflows are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowSettings {
    /// What labels of `runs-on` stand for: an image, or a pool that exists or is declared.
    pub runs_on: Vec<(String, String)>,
    /// Jobs with a label like these are not run, and are shown as skipped.
    pub skip_runs_on: LeftOut,
    /// What stands in for actions.
    pub replace: Choices,
    /// What the labels of GitHub's own Linux runners stand for unless they are in `runs_on`; the default image when
    /// absent.
    pub image: Option<ImageName>,
    /// Guest memory, where no pool says otherwise.
    pub memory: ByteSize,
    /// Virtual processors, where no pool says otherwise.
    pub cpus: u32,
    /// The machines' network, where no pool says otherwise.
    pub net: NetMode,
    /// How many machines workflows have at once of an image, where no pool says otherwise.
    pub max: u32,
    /// Who runs the steps; the image's user when absent.
    pub user: Option<String>,
    /// The folder with copies of actions.
    pub actions: Option<PathBuf>,
    /// A shell script that the set-up of each job ends with.
    pub setup: Option<String>,
    /// A shell script that the clean-up of each job begins with.
    pub cleanup: Option<String>,
    /// How long a run may take; for ever when absent.
    pub timeout: Option<Duration>,
    /// How many runs are kept.
    pub keep_runs: u32,
    /// How long snapshots of steps are kept.
    pub snapshot_age: Duration,
    /// How much room snapshots of steps may take; then the oldest go.
    pub snapshot_quota: ByteSize,
    /// How much room caches may take; then those go that were not used for the longest time.
    pub cache_quota: ByteSize,
}

impl Default for WorkflowSettings {
    fn default() -> Self {
        Self {
            runs_on: Vec::new(),
            skip_runs_on: LeftOut::default(),
            replace: Choices::default(),
            image: None,
            memory: ByteSize::mib(1024),
            cpus: 1,
            net: NetMode::Nat,
            max: 4,
            user: None,
            actions: None,
            setup: None,
            cleanup: None,
            timeout: None,
            keep_runs: 100,
            snapshot_age: Duration::from_secs(7 * 86_400),
            snapshot_quota: ByteSize::mib(10 << 10),
            cache_quota: ByteSize::mib(10 << 10),
        }
    }
}

pub(super) fn workflow(
    table: &Named<'_>,
    folder: &Path,
    env: Env<'_>,
    settings: &mut Settings,
) -> Result<WorkflowSettings, ConfigError> {
    table.only(&keys::WORKFLOW, nowhere)?;
    let usual = WorkflowSettings::default();
    macro_rules! setting {
        ($key:literal, $form:expr, $parse:expr, $default:expr) => {{
            let given = table.get($key, $form, $parse)?;
            settings.keep(table.key($key), given, $default)
        }};
        // Nothing, unless it is given.
        ($key:literal, $form:expr, $parse:expr) => {{
            let given = table.get($key, $form, |s| $parse(s).map(Some))?;
            settings.keep(table.key($key), given, None)
        }};
    }
    let runs_on = table.table("runs-on")?.texts(parse::text)?;
    let runs_on = runs_on.into_iter().map(|(label, given)| {
        let key = format!("{}.{label}", table.key("runs-on"));
        let target = settings.keep(key, Some(given), String::new());
        (label, target)
    });
    let runs_on = runs_on.collect();
    let given = table.list("skip-runs-on", parse::text)?;
    let skipped = settings.keep(table.key("skip-runs-on"), given, Vec::new());
    let image = table.get("image", Form::Text, |s| parse::image(s).map(Some))?;
    let given = variable(env, "VMINT_WORKFLOW_IMAGE", |s| parse::image(s).map(Some))?;
    Ok(WorkflowSettings {
        runs_on,
        skip_runs_on: LeftOut::new(skipped),
        replace: replace(&table.table("replace")?, settings)?,
        image: settings.keep(table.key("image"), given.or(image), None),
        memory: setting!("memory", Form::TextOrNumber, parse::memory, usual.memory),
        cpus: setting!("cpus", Form::Number, parse::cpus, usual.cpus),
        net: setting!("net", Form::Text, parse::net, usual.net),
        max: setting!("max", Form::Number, parse::one_or_more, usual.max),
        user: setting!("user", Form::Text, parse::text),
        actions: setting!("actions", Form::Text, |s| {
            parse::text(s).map(|s| folder.join(s))
        }),
        setup: setting!("setup", Form::Text, parse::text),
        cleanup: setting!("cleanup", Form::Text, parse::text),
        timeout: setting!("timeout", Form::TextOrNumber, parse::duration),
        keep_runs: setting!(
            "keep-runs",
            Form::Number,
            parse::one_or_more,
            usual.keep_runs
        ),
        snapshot_age: setting!(
            "snapshot-age",
            Form::TextOrNumber,
            parse::duration,
            usual.snapshot_age
        ),
        snapshot_quota: setting!(
            "snapshot-quota",
            Form::TextOrNumber,
            parse::memory,
            usual.snapshot_quota
        ),
        cache_quota: setting!(
            "cache-quota",
            Form::TextOrNumber,
            parse::memory,
            usual.cache_quota
        ),
    })
}

/// `[workflow.replace]`: by the names of actions `"nothing"`, `"itself"`, or `{ run = "…" }`.
fn replace(table: &Named<'_>, settings: &mut Settings) -> Result<Choices, ConfigError> {
    const FORMS: &str = "it must be \"nothing\", \"itself\" or { run = \"…\" }";
    let mut choices = Vec::new();
    for name in table.keys() {
        if !is_name(name) {
            return Err(table.invalid(name, "an action is named as `OWNER/REPOSITORY`"));
        }
        let given = if table.is_table(name) {
            let inner = table.table(name)?;
            inner.only(&keys::REPLACED, nowhere)?;
            let run = inner.get("run", Form::Text, |s| {
                parse::text(s).map(|s| Choice::Replaced(StandIn::Run(s)))
            })?;
            run.ok_or_else(|| inner.lacks("needs `run`"))?
        } else if !table.is_text(name) {
            return Err(table.invalid(name, FORMS));
        } else {
            let given = table.get(name, Form::Text, |s| match s {
                "nothing" => Ok(Choice::Replaced(StandIn::Nothing)),
                "itself" => Ok(Choice::Itself),
                _ => Err(FORMS.to_owned()),
            })?;
            match given {
                Some(given) => given,
                None => continue,
            }
        };
        let choice = settings.keep(table.key(name), Some(given), Choice::Itself);
        choices.push((name.to_owned(), choice));
    }
    Ok(Choices::new(choices))
}
