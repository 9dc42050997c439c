//! Actions for which something else stands in: by the user's settings, or by vmint's own table.
//!
//! An action that saves a cache at GitHub, or uploads to a service, does nothing useful on this host; one that downloads a
//! tool is not needed when the image has it. What stands in is never silent: the check warns, the step's log and the
//! run's notes say so, and the step carries it in its record. The order: the settings; what vmint does itself; a copy in
//! the mirror, which somebody put there on purpose; this table.

use crate::uses::{RepositoryUses, Uses};

/// What is run in place of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// Nothing.
    Nothing,
    /// A script, in the shell that a step without `shell` has. It sees the action's inputs as the action would, in
    /// `INPUT_NAME`, and in `VMINT_ACTION` and `VMINT_ACTION_REF` which action it stands in for.
    Run(String),
}

/// What the settings say of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This stands in for it.
    Replaced(StandIn),
    /// Nothing stands in for it: it is run as it is in the mirror.
    Itself,
}

/// An action that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// What is run.
    pub stand_in: StandIn,
    /// Why.
    pub why: Why,
}

/// Why an action is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The settings say so.
    Settings,
    /// vmint's own table says so: the action does this.
    Usual(&'static str),
}

impl Replaced {
    /// What stands in, to be read after “is replaced by”.
    pub fn by(&self) -> &'static str {
        match (&self.stand_in, self.why) {
            (StandIn::Nothing, _) => "nothing",
            (StandIn::Run(_), Why::Settings) => "a script of vmint.toml",
            (StandIn::Run(_), Why::Usual(_)) => "a look for the tool in the image",
        }
    }

    /// Where that comes from, and how it is changed.
    pub fn help(&self, name: &str) -> String {
        match self.why {
            Why::Settings => "`[workflow.replace]` of vmint.toml says so".to_owned(),
            Why::Usual(does) => format!(
                "it {does}; to run it all the same, put it into the mirror: `vmint workflow fetch-actions FILE`, with \
                 `[workflow.replace]` `\"{name}\" = \"itself\"`"
            ),
        }
    }
}

/// `[workflow.replace]`: what the user says of actions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices(Vec<(String, Choice)>);

impl Choices {
    /// By the names of actions, `OWNER/REPOSITORY[/PATH][@REF]`.
    pub fn new(choices: impl IntoIterator<Item = (String, Choice)>) -> Self {
        Self(choices.into_iter().collect())
    }

    /// What is said of an action: with its ref, else of all its refs.
    pub fn of(&self, uses: &RepositoryUses) -> Option<&Choice> {
        let name = name(uses);
        let exact = format!("{name}@{}", uses.git_ref());
        let find = |wanted: &str| {
            let mut choices = self.0.iter();
            choices.find(|(key, _)| key.eq_ignore_ascii_case(wanted))
        };
        find(&exact)
            .or_else(|| find(&name))
            .map(|(_, choice)| choice)
    }
}

/// Whether a text names an action as [`Choices`] know it.
pub fn is_name(text: &str) -> bool {
    let whole = if text.contains('@') {
        text.to_owned()
    } else {
        format!("{text}@v1")
    };
    let has_parts = || text.split('/').all(|part| !part.is_empty());
    has_parts() && matches!(Uses::parse(whole.as_str()), Ok(Uses::Repository(_)))
}

/// `OWNER/REPOSITORY[/PATH]`.
pub fn name(uses: &RepositoryUses) -> String {
    match uses.subpath() {
        Some(path) => format!("{}/{}", uses.slug(), path.trim_matches('/')),
        None => uses.slug().to_owned(),
    }
}

/// What vmint's own table says of an action, by its name.
pub fn usual(name: &str) -> Option<Replaced> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    for (names, does) in NOTHING {
        if names.iter().any(|known| is(known)) {
            return Some(Replaced {
                stand_in: StandIn::Nothing,
                why: Why::Usual(does),
            });
        }
    }
    let (_, tools) = TOOLS.iter().find(|(known, _)| is(known))?;
    Some(Replaced {
        stand_in: StandIn::Run(format!("{LOOK}\nlook {tools}\n")),
        why: Why::Usual("installs a tool, which here the image has"),
    })
}

/// Actions that serve GitHub or another service alone, and what they do.
const NOTHING: [(&[&str], &str); 4] = [
    (
        &[
            "Swatinem/rust-cache",
            "useblacksmith/rust-cache",
            "useblacksmith/cache",
            "buildjet/cache",
            "pyTooling/Actions/cache",
            "satackey/action-docker-layer-caching",
            "ScribeMD/docker-cache",
        ],
        "keeps a cache at GitHub",
    ),
    (
        &[
            "codecov/codecov-action",
            "codecov/test-results-action",
            "coverallsapp/github-action",
            "codacy/codacy-coverage-reporter-action",
            "github/codeql-action/upload-sarif",
        ],
        "uploads what was found to a service",
    ),
    (
        &[
            "actions/attest",
            "actions/attest-build-provenance",
            "actions/attest-sbom",
        ],
        "has GitHub sign what was built",
    ),
    (
        &["step-security/harden-runner"],
        "watches GitHub's own runners",
    ),
];

/// Actions that install a tool, and the words of the shell that give its name.
const TOOLS: [(&str, &str); 19] = [
    (
        "taiki-e/install-action",
        r#""${INPUT_TOOL:-$VMINT_ACTION_REF}""#,
    ),
    ("baptiste0928/cargo-install", r#""$INPUT_CRATE""#),
    ("dtolnay/install", r#""${INPUT_CRATE:-$VMINT_ACTION_REF}""#),
    ("extractions/setup-just", "just"),
    ("extractions/setup-crate", r#""${INPUT_REPO##*/}""#),
    ("arduino/setup-protoc", "protoc"),
    ("mozilla-actions/sccache-action", "sccache"),
    ("hendrikmuhs/ccache-action", r#""${INPUT_VARIANT:-ccache}""#),
    ("rui314/setup-mold", "mold"),
    ("ilammy/setup-nasm", "nasm"),
    ("seanmiddleditch/gha-setup-ninja", "ninja"),
    ("lukka/get-cmake", "cmake ninja"),
    ("jwlawson/actions-setup-cmake", "cmake"),
    ("actions/setup-dotnet", "dotnet"),
    ("azure/setup-helm", "helm"),
    ("azure/setup-kubectl", "kubectl"),
    ("hashicorp/setup-terraform", "terraform"),
    ("sigstore/cosign-installer", "cosign"),
    ("bufbuild/buf-setup-action", "buf"),
];

/// Looks for tools: those of its arguments, which may be lists with commas and versions. A tool of Cargo's may be named
/// without `cargo-`.
const LOOK: &str = r#"look() {
    set -f
    missing=
    for tool in $(printf '%s ' "$@" | tr ',' ' '); do
        tool=${tool%%@*}
        if command -v "$tool" || command -v "cargo-$tool"; then continue; fi
        missing="$missing $tool"
    done
    if [ -n "$missing" ]; then
        echo "::error::the image does not have$missing; install it with \`packages\` or \`run\` of its recipe in vmint.toml"
        return 1
    fi
}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn uses(text: &str) -> RepositoryUses {
        match Uses::parse(text) {
            Ok(Uses::Repository(uses)) => uses,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn what_is_said_of_a_ref_comes_before_what_is_said_of_all() {
        let choices = Choices::new([
            ("Swatinem/rust-cache".to_owned(), Choice::Itself),
            ("o/r/sub".to_owned(), Choice::Replaced(StandIn::Nothing)),
            (
                "o/r@v2".to_owned(),
                Choice::Replaced(StandIn::Run("true".to_owned())),
            ),
        ]);
        let nothing = Choice::Replaced(StandIn::Nothing);
        let run = Choice::Replaced(StandIn::Run("true".to_owned()));
        for (text, choice) in [
            ("swatinem/Rust-Cache@v2", Some(&Choice::Itself)),
            ("o/r/sub@v9", Some(&nothing)),
            ("o/r@v2", Some(&run)),
            ("o/r@v1", None),
            ("o/r/other@v2", None),
        ] {
            assert_eq!(choices.of(&uses(text)), choice, "{text}");
        }
    }

    #[test]
    fn a_name_is_that_of_an_action_of_a_repository() {
        for name in ["o/r", "o/r/p/q", "o/r@v1", "o/r/p@main"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "o", "./a", "docker://x", "o/", "@v1"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn every_name_of_the_table_is_the_name_of_an_action_and_stands_there_once() {
        let nothing = NOTHING.iter().flat_map(|(names, _)| names.iter());
        let mut names: Vec<&str> = nothing
            .copied()
            .chain(TOOLS.map(|(name, _)| name))
            .collect();
        assert!(
            names
                .iter()
                .all(|name| is_name(name) && usual(name).is_some())
        );
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(usual("nobody/nothing"), None);
    }

    /// What stands in for an action, run here.
    fn run(action: &str, env: &[(&str, &str)]) -> (bool, String) {
        let Some(Replaced {
            stand_in: StandIn::Run(script),
            ..
        }) = usual(action)
        else {
            panic!("{action} is not replaced by a script");
        };
        let output = Command::new("sh")
            .args(["-e", "-c", &script])
            .envs(env.iter().copied())
            .output()
            .expect("sh is there");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    }

    #[test]
    fn a_tool_that_the_image_has_is_found_and_one_that_it_lacks_is_told() {
        let install = "taiki-e/install-action";
        let (well, said) = run(
            install,
            &[("INPUT_TOOL", "sh@1.2,cat, ls"), ("VMINT_ACTION_REF", "v2")],
        );
        assert!(well && said.lines().count() == 3, "{said}");
        // `@nextest` names the tool by the ref.
        let (well, said) = run(install, &[("VMINT_ACTION_REF", "no-such-tool")]);
        assert!(
            !well && said.contains("does not have no-such-tool"),
            "{said}"
        );
        let (well, said) = run(install, &[("INPUT_TOOL", "sh,nope-1,nope-2@3")]);
        assert!(
            !well && said.contains("does not have nope-1 nope-2;"),
            "{said}"
        );
        let (well, said) = run("extractions/setup-crate", &[("INPUT_REPO", "owner/cat@v1")]);
        assert!(well && said.ends_with("/cat\n"), "{said}");
        // What is given is a name, never a command.
        let (well, said) = run(install, &[("INPUT_TOOL", "$(touch x);`touch y` *")]);
        assert!(
            !well && said.contains("does not have $(touch x);`touch"),
            "{said}"
        );
    }
}
