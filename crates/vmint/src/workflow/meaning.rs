//! What labels of `runs-on` stand for by the settings: an image or a pool, and what is to be known of that before anything
//! runs.

use super::site::PoolOptions;
use crate::config::{Config, ImageDefinition};
use vmint_image::{Base, Recipe};
use vmint_model::{ErrorKind, Fault};
use vmint_workflow::equipment::{Equipment, Known};
use vmint_workflow::labels::{Architecture, Labels, Meaning, NoMeaning, matches};

/// Labels of GitHub's own Linux runners, by how they begin.
const GITHUB_LINUX: &str = "ubuntu-";
/// Labels that every self-hosted runner has, besides that of its architecture.
const OF_EVERY_RUNNER: [&str; 2] = ["self-hosted", "linux"];

/// The settings, and what a command says of the machines.
#[derive(Clone, Copy, Debug)]
pub struct Meanings<'a> {
    config: &'a Config,
    options: &'a PoolOptions,
}

impl<'a> Meanings<'a> {
    /// By these.
    pub fn new(config: &'a Config, options: &'a PoolOptions) -> Self {
        Self { config, options }
    }

    /// The pool or image that labels stand for, by its name, and what should be known of it.
    pub fn target(&self, labels: &[String]) -> Result<(String, Option<String>), Fault> {
        let here = Architecture::here();
        let foreign = labels.iter().find(|label| {
            let wanted = Architecture::of_label(label);
            wanted.is_some_and(|wanted| Some(wanted) != here)
        });
        let pool = self.options.pool.as_ref().map(ToString::to_string);
        let asked = pool.or_else(|| self.options.image.clone());
        if let Some((target, by)) = asked
            .map(|asked| (asked, "the command"))
            .or_else(|| Some((self.mapped(labels)?, "[workflow.runs-on]")))
        {
            let note = foreign.map(|label| {
                format!(
                    "the label `{label}` asks for {}, and {by} gives it `{target}`, whose machines are {}",
                    wanted(label),
                    names(here)
                )
            });
            return Ok((target, note));
        }
        if let Some(label) = foreign {
            let message = format!(
                "the label `{label}` asks for {}, and machines here are {}",
                wanted(label),
                names(here)
            );
            return Err(Fault::new(ErrorKind::Usage, message).hint(format!(
                "to run the job all the same, say in vmint.toml where: [workflow.runs-on] {label:?} = \"IMAGE\""
            )));
        }
        let of_every_runner = |label: &String| {
            let mut known = OF_EVERY_RUNNER.iter();
            known.any(|known| known.eq_ignore_ascii_case(label))
                || Architecture::named(label).is_some_and(|named| Some(named) == here)
        };
        let particular = labels.iter().find(|label| !of_every_runner(label));
        let settings = &self.config.workflow;
        let image = settings.image.as_ref();
        let usual = image.unwrap_or(&self.config.defaults.image).to_string();
        match particular {
            None => Ok((usual, None)),
            Some(label) if label.to_ascii_lowercase().starts_with(GITHUB_LINUX) => {
                let is_x64 = Architecture::of_label(label).is_none() && here != Some(Architecture::X64);
                let note = is_x64.then(|| {
                    format!(
                        "`{label}` is x86-64 on GitHub, and machines here are {}",
                        names(here)
                    )
                });
                Ok((usual, note))
            }
            Some(label) => Err(Fault::new(
                ErrorKind::Usage,
                format!("no machine is known for the label `{label}` of runs-on"),
            )
            .hint(format!(
                "say in vmint.toml which image or pool it stands for, alone or with others like it: \
                 [workflow.runs-on] {label:?} = \"IMAGE\""
            ))),
        }
    }

    /// What the settings say of labels: of one that is named so first, then of the family that says most of its name.
    fn mapped(&self, labels: &[String]) -> Option<String> {
        let known = &self.config.workflow.runs_on;
        let exact = labels.iter().find_map(|label| {
            let mut known = known.iter();
            known.find(|(known, _)| known.eq_ignore_ascii_case(label.trim()))
        });
        let family = || {
            let families = known.iter().filter(|(pattern, _)| pattern.contains('*'));
            let families = families.filter(|(pattern, _)| {
                let mut labels = labels.iter();
                labels.any(|label| matches(pattern, label))
            });
            families.max_by_key(|(pattern, _)| pattern.chars().filter(|c| *c != '*').count())
        };
        exact.or_else(family).map(|(_, target)| target.clone())
    }

    /// Whether somebody has said which machine these labels get. What is only the default may be another for the run.
    fn is_chosen(&self, labels: &[String]) -> bool {
        self.options.pool.is_some()
            || self.options.image.is_some()
            || self.config.workflow.image.is_some()
            || self.config.defaults.image.as_str() != Base::Tiny.as_str()
            || self.mapped(labels).is_some()
    }

    /// What is known of what an image has; nothing of a pool, or of an image that is not declared.
    fn known(&self, target: &str) -> Known {
        let target = self.image_of(target);
        let known = self.known_of_image(&target);
        let mut nodes = self.config.nodes.keys();
        match (nodes.any(|name| name.as_str() == target), known) {
            (false, known) | (true, known @ Known::Nothing) => known,
            (true, Known::Bare) => Known::Packages(vec![Equipment::Node]),
            (true, Known::Packages(mut brought)) => {
                brought.push(Equipment::Node);
                Known::Packages(brought)
            }
        }
    }

    /// The image of what is a pool or an image.
    fn image_of(&self, target: &str) -> String {
        let mut pools = self.config.pools.iter();
        let pool = pools.find(|(name, _)| name.as_str() == target);
        pool.map_or(target.to_owned(), |(_, pool)| pool.image.to_string())
    }

    fn known_of_image(&self, target: &str) -> Known {
        if self.config.workflow.setup.is_some() {
            return Known::Nothing;
        }
        let mut images = self.config.images.iter();
        match images.find(|(name, _)| name.as_str() == target) {
            Some((_, ImageDefinition::Build(recipe))) => of_recipe(recipe),
            Some(_) => Known::Nothing,
            None if target == Base::Tiny.as_str() => Known::Bare,
            None => Known::Nothing,
        }
    }
}

impl Labels for Meanings<'_> {
    fn meaning(&self, labels: &[String]) -> Result<Meaning, NoMeaning> {
        let target = self.target(labels).map_err(|fault| NoMeaning {
            message: fault.message,
            hint: fault.hint,
        });
        let (target, note) = target?;
        let known = if self.is_chosen(labels) {
            self.known(&target)
        } else {
            Known::Nothing
        };
        Ok(Meaning {
            target,
            note,
            known,
        })
    }
}

/// What a recipe brings. A command in it may bring anything.
fn of_recipe(recipe: &Recipe) -> Known {
    if !recipe.run.is_empty() || !recipe.copy.is_empty() {
        return Known::Nothing;
    }
    match recipe.base {
        Base::Tiny => Known::Bare,
        Base::Debian(_) if recipe.packages.is_empty() => Known::Bare,
        // Packages bring others that they depend on.
        Base::Debian(_) => {
            let brings = |tool: &Equipment| {
                let mut packages = recipe.packages.iter();
                packages.any(|package| tool.is_brought_by(package))
            };
            Known::Packages(Equipment::ALL.into_iter().filter(brings).collect())
        }
    }
}

fn wanted(label: &str) -> &'static str {
    names(Architecture::of_label(label))
}

fn names(architecture: Option<Architecture>) -> &'static str {
    architecture.map_or("of another architecture", Architecture::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vmint.toml"), text).unwrap();
        Config::load(folder.path(), |_| None).unwrap()
    }

    fn target(config: &Config, labels: &[&str]) -> Result<(String, Option<String>), Fault> {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        Meanings::new(config, &PoolOptions::default()).target(&labels)
    }

    #[test]
    fn the_closest_label_decides_then_the_family_that_says_most() {
        let config = config(
            "[workflow]\nimage = \"usual\"\n[workflow.runs-on]\n\"depot-*\" = \"a\"\n\"depot-ubuntu-*\" = \"b\"\n\"depot-ubuntu-22.04\" = \"c\"\n\"*\" = \"any\"\n",
        );
        for (labels, image) in [
            (&["depot-ubuntu-22.04"][..], "c"),
            (&["Depot-Ubuntu-24.04-8"], "b"),
            (&["depot-macos"], "a"),
            (&["self-hosted", "depot-ubuntu-24.04"], "b"),
            (&["gpu"], "any"),
        ] {
            assert_eq!(target(&config, labels).unwrap().0, image, "{labels:?}");
        }
    }

    #[test]
    fn another_architecture_is_refused_or_told() {
        let (other, arm) = match Architecture::here() {
            Some(Architecture::X64) => ("ubuntu-24.04-arm", true),
            _ => ("self-hosted-x64", false),
        };
        let fault = target(&config(""), &["self-hosted", "linux", other]).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Usage);
        assert!(fault.message.contains(other), "{fault}");
        if arm {
            for labels in [
                &["self-hosted", "linux", "arm64"][..],
                &["ubuntu-22.04-arm64"],
                &["aarch64"],
            ] {
                let fault = target(&config(""), labels).unwrap_err();
                assert!(
                    fault
                        .message
                        .ends_with("asks for ARM64, and machines here are x86-64"),
                    "{fault}"
                );
            }
            assert_eq!(
                target(&config(""), &["self-hosted", "Linux", "X64"])
                    .unwrap()
                    .1,
                None
            );
        }
        let mapped = config(&format!("[workflow.runs-on]\n\"{other}\" = \"ci\"\n"));
        let (image, note) = target(&mapped, &[other]).unwrap();
        assert_eq!(image, "ci");
        assert!(note.unwrap().contains("[workflow.runs-on] gives it `ci`"));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_to_write() {
        let fault = target(&config(""), &["gpu"]).unwrap_err();
        assert_eq!(
            fault.message,
            "no machine is known for the label `gpu` of runs-on"
        );
        assert!(
            fault
                .hint
                .unwrap()
                .contains("[workflow.runs-on] \"gpu\" = \"IMAGE\"")
        );
    }

    #[test]
    fn what_an_image_lacks_is_known_from_its_recipe() {
        let known = |text: &str, image: &str| {
            let config = config(text);
            Meanings::new(&config, &PoolOptions::default()).known(image)
        };
        assert_eq!(known("", "tiny"), Known::Bare);
        assert_eq!(known("", "imported"), Known::Nothing);
        let image = |rest: &str| format!("[images.ci]\nfrom = \"debian:12\"\n{rest}\n");
        assert_eq!(known(&image(""), "ci"), Known::Bare);
        assert_eq!(known(&image("run = [\"x\"]"), "ci"), Known::Nothing);
        // What it names itself it has, or the step says so.
        let named = known(&image("node = \"/n\""), "ci");
        assert_eq!(named, Known::Packages(vec![Equipment::Node]));
        // An image that nobody has chosen may be another when the workflow is run.
        for (text, chosen) in [
            ("", Known::Nothing),
            ("[workflow]\nimage = \"tiny\"\n", Known::Bare),
        ] {
            let config = config(text);
            let options = PoolOptions::default();
            let meaning = Meanings::new(&config, &options).meaning(&["ubuntu-latest".to_owned()]);
            assert_eq!(meaning.unwrap().known, chosen, "{text}");
        }
        let packages = known(&image("packages = [\"git\", \"nodejs\"]"), "ci");
        let brought = vec![Equipment::Node, Equipment::Python];
        assert_eq!(packages, Known::Packages(brought));
        let hook = format!("[workflow]\nsetup = \"x\"\n{}", image(""));
        assert_eq!(known(&hook, "ci"), Known::Nothing);
    }
}
