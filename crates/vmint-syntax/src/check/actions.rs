//! Where actions of other repositories are found: vmint's own equivalents, copies, and what stands in.

use crate::equipment::Equipment;
use crate::replace::{self, Choice, Choices, Replaced, Why};
use crate::setup;
use crate::uses::RepositoryUses;
use std::path::PathBuf;

/// Looks up actions and workflows of other repositories.
pub trait Actions: Send + Sync {
    /// What `OWNER/REPO[/PATH]@REF` stands for.
    fn find(&self, uses: &RepositoryUses) -> Found;
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// vmint does it itself.
    Builtin(Builtin),
    /// The folder of the whole repository.
    Repository(PathBuf),
    /// Something else stands in for it.
    Replaced(Replaced),
    /// Nothing; the help says what to do.
    Nothing {
        /// What to do.
        help: String,
    },
}

/// Actions that vmint does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// `actions/checkout`.
    Checkout,
    /// `actions/upload-artifact`.
    UploadArtifact,
    /// `actions/download-artifact`.
    DownloadArtifact,
    /// `actions/cache`.
    Cache,
    /// `actions/cache/save`.
    CacheSave,
    /// `actions/cache/restore`.
    CacheRestore,
    /// `actions/setup-python` and its like: one of [`setup::TOOLS`].
    Setup(&'static setup::Tool),
}

/// What is known of one.
struct Known {
    builtin: Builtin,
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

static KNOWN: [Known; 6] = [
    Known {
        builtin: Builtin::Checkout,
        name: "actions/checkout",
        required: &[],
        optional: &[
            "repository",
            "ref",
            "token",
            "ssh-key",
            "ssh-known-hosts",
            "ssh-strict",
            "ssh-user",
            "persist-credentials",
            "path",
            "clean",
            "filter",
            "sparse-checkout",
            "sparse-checkout-cone-mode",
            "fetch-depth",
            "fetch-tags",
            "show-progress",
            "lfs",
            "submodules",
            "set-safe-directory",
            "github-server-url",
        ],
    },
    Known {
        builtin: Builtin::UploadArtifact,
        name: "actions/upload-artifact",
        required: &["path"],
        optional: &[
            "name",
            "if-no-files-found",
            "retention-days",
            "compression-level",
            "overwrite",
            "include-hidden-files",
            "archive",
        ],
    },
    Known {
        builtin: Builtin::DownloadArtifact,
        name: "actions/download-artifact",
        required: &[],
        optional: &[
            "name",
            "artifact-ids",
            "path",
            "pattern",
            "merge-multiple",
            "github-token",
            "repository",
            "run-id",
        ],
    },
    Known {
        builtin: Builtin::Cache,
        name: "actions/cache",
        required: &["path", "key"],
        optional: &[
            "restore-keys",
            "upload-chunk-size",
            "enableCrossOsArchive",
            "fail-on-cache-miss",
            "lookup-only",
            "save-always",
        ],
    },
    Known {
        builtin: Builtin::CacheSave,
        name: "actions/cache/save",
        required: &["path", "key"],
        optional: &["upload-chunk-size", "enableCrossOsArchive"],
    },
    Known {
        builtin: Builtin::CacheRestore,
        name: "actions/cache/restore",
        required: &["path", "key"],
        optional: &[
            "restore-keys",
            "enableCrossOsArchive",
            "fail-on-cache-miss",
            "lookup-only",
        ],
    },
];

impl Builtin {
    /// By its name, whatever the case: `actions/cache/save`.
    pub fn named(name: &str) -> Option<Self> {
        let mut known = KNOWN.iter();
        let known = known.find(|known| known.name.eq_ignore_ascii_case(name));
        let setup = || setup::Tool::of(name).map(Self::Setup);
        known.map(|known| known.builtin).or_else(setup)
    }

    fn known(self) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.builtin == self)
    }

    /// What the image must have.
    pub fn equipment(self) -> Option<Equipment> {
        match self {
            Self::Setup(tool) => Some(tool.brings),
            _ => None,
        }
    }

    /// The inputs that must be given.
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::Setup(tool) => tool.required,
            other => other.known().map_or(&[], |known| known.required),
        }
    }

    /// The inputs that may be given.
    pub fn optional(self) -> &'static [&'static str] {
        match self {
            Self::Setup(tool) => tool.optional,
            other => other.known().map_or(&[], |known| known.optional),
        }
    }

    /// Why it cannot be done with an input, whatever else comes. `own` is `OWNER/NAME` of the repository.
    pub fn refuses(self, input: &str, value: &str, own: &str) -> Option<String> {
        let (input, value) = (input.to_ascii_lowercase(), value.trim());
        if value.is_empty() {
            return None;
        }
        match (self, input.as_str()) {
            (Self::Checkout, "repository") if !value.eq_ignore_ascii_case(own) => Some(format!(
                "the repository {value} is not {own}, and vmint fetches nothing: clone it in a `run` step, or bring it in the image"
            )),
            (Self::DownloadArtifact, "repository" | "run-id" | "artifact-ids") => Some(format!(
                "`{input}: {value}`: vmint has only the artifacts of this run, by their names"
            )),
            _ => None,
        }
    }
}

/// What an action stands for. The order: the settings; what vmint does itself; a copy, which somebody put there on purpose; what
/// usually stands in.
pub fn choose(
    uses: &RepositoryUses,
    choices: &Choices,
    copy: impl FnOnce(&RepositoryUses) -> Found,
) -> Found {
    let name = replace::name(uses);
    let choice = choices.of(uses);
    if let Some(Choice::Replaced(stand_in)) = choice {
        return Found::Replaced(Replaced {
            stand_in: stand_in.clone(),
            why: Why::Settings,
        });
    }
    let itself = choice == Some(&Choice::Itself);
    if let Some(builtin) = Builtin::named(&name).filter(|_| !itself) {
        return Found::Builtin(builtin);
    }
    match (copy(uses), replace::usual(&name)) {
        (Found::Nothing { .. }, Some(replaced)) if !itself => Found::Replaced(replaced),
        (found, _) => found,
    }
}
