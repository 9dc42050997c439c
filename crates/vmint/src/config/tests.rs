mod declared;
mod trusted;

use super::*;
use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use vmint_image::{Base, CopyIn, Debian, KernelSource};
use vmint_model::{ErrorKind, Explained, Fault, Limits};

/// A folder with a `vmint.toml`, and an environment.
struct World {
    dir: tempfile::TempDir,
    env: HashMap<&'static str, OsString>,
}

impl World {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = HashMap::new();
        Self { dir, env }
    }

    fn with(text: impl AsRef<[u8]>) -> Self {
        let world = Self::empty();
        fs::write(world.file(), text).unwrap();
        world
    }

    fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.into());
        self
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("vmint.toml")
    }

    fn load_in(&self, folder: &Path) -> Result<Config, ConfigError> {
        Config::load(folder, |name| self.env.get(name).cloned())
    }

    fn load(&self) -> Config {
        self.load_in(self.dir.path())
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// The message, without the file's folder.
    fn error(&self) -> String {
        let error = self.load_in(self.dir.path()).expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::Usage);
        let folder = format!("{}/", self.dir.path().display());
        error.to_string().replace(&folder, "")
    }
}

fn source(config: &Config, key: &str) -> (String, Source) {
    let shown = config.show();
    let setting = shown.iter().find(|s| s.key == key);
    let setting = setting.unwrap_or_else(|| panic!("{key} in {shown:#?}"));
    (setting.value.to_string(), setting.source.clone())
}

#[test]
fn without_file_and_environment_there_are_defaults() {
    let config = World::empty().load();
    assert_eq!(config.file, None);
    assert_eq!(config.accelerator, AcceleratorChoice::Auto);
    assert_eq!(config.defaults.image.as_str(), "tiny");
    assert_eq!(config.defaults.memory, ByteSize::mib(512));
    assert_eq!(config.defaults.cpus, 1);
    assert_eq!(config.defaults.net, NetMode::None);
    assert_eq!(config.defaults.start_timeout, None);
    assert!(!config.snapshots.full);
    assert_eq!(config.admission, crate::Admission::default());
    assert!(config.images.is_empty() && config.pools.is_empty());
    assert_eq!(config.workflow, super::WorkflowSettings::default());
    let shown = config.show();
    assert_eq!(shown.len(), 33);
    assert!(shown.iter().all(|s| s.source == Source::Default));
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
    let text = "[defaults]\nmemory = \"1G\"\ncpus = 0x2\n";
    let world = World::with(text)
        .env("VMINT_MEMORY", "2G")
        .env("VMINT_NET", "");
    let config = world.load();
    assert_eq!(config.defaults.memory, ByteSize::mib(2048));
    assert_eq!(config.defaults.cpus, 2);
    let environment = Source::Environment {
        name: "VMINT_MEMORY",
    };
    let file = Source::File {
        path: world.file(),
        line: 3,
    };
    assert_eq!(
        source(&config, "defaults.memory"),
        ("\"2G\"".into(), environment)
    );
    assert_eq!(source(&config, "defaults.cpus"), ("2".into(), file));
    assert_eq!(
        source(&config, "defaults.net"),
        ("\"none\"".into(), Source::Default)
    );
}

#[test]
fn workflows_have_images_limits_and_labels_of_their_own() {
    let text = "[workflow]\nnet = \"allow:Example.com\"\nimage = \"ci\"\nmemory = \"2G\"\nmax = 2\nactions = \"mirror\"\nskip-runs-on = [\"macos-*\"]\nsnapshot-age = \"1d\"\n\
                setup = \"mount -a\"\n[workflow.runs-on]\ngpu = \"cuda\"\n\"ubuntu-24.04\" = \"noble\"\n";
    let world = World::with(text);
    let config = world.load();
    let workflow = &config.workflow;
    assert_eq!(workflow.image.as_ref().map(ImageName::as_str), Some("ci"));
    assert_eq!((workflow.memory, workflow.max), (ByteSize::mib(2048), 2));
    assert_eq!(workflow.net.to_string(), "allow:example.com");
    assert_eq!(
        workflow.actions,
        Some(world.file().with_file_name("mirror"))
    );
    assert_eq!(workflow.snapshot_age, Duration::from_secs(86_400));
    assert_eq!(workflow.skip_runs_on.pattern("macOS-14"), Some("macos-*"));
    assert_eq!(workflow.setup.as_deref(), Some("mount -a"));
    let runs_on: Vec<_> = workflow
        .runs_on
        .iter()
        .map(|(l, i)| (l.as_str(), i.as_str()))
        .collect();
    assert_eq!(runs_on, [("gpu", "cuda"), ("ubuntu-24.04", "noble")]);
    assert_eq!(source(&config, "workflow.runs-on.gpu").0, "\"cuda\"");
    let world = World::with("[workflow]\nimgae = \"ci\"\n").env("VMINT_WORKFLOW_IMAGE", "x");
    let error = world.error();
    assert!(
        error.contains("`imgae`") && error.contains("`image`"),
        "{error}"
    );
}

#[test]
fn what_stands_in_for_actions_is_nothing_itself_or_a_script() {
    let text = "[workflow.replace]\n\"o/a\" = \"nothing\"\n\"o/b@v1\" = { run = \"make b\" }\n\"o/c\" = \"itself\"\n";
    let config = World::with(text).load();
    let shown = |name: &str| source(&config, &format!("workflow.replace.{name}")).0;
    assert_eq!(shown("o/a"), "\"nothing\"");
    assert_eq!(shown("o/b@v1"), "\"run: make b\"");
    assert_eq!(shown("o/c"), "\"itself\"");
    for (line, why) in [
        ("\"o/a\" = \"noting\"", "nothing"),
        ("\"o/a\" = 1", "or { run"),
        ("\"o/a\" = {}", "needs `run`"),
        ("\"o/a\" = { rnu = \"x\" }", "`run`"),
        ("\"a\" = \"nothing\"", "OWNER/REPOSITORY"),
        ("\"./a\" = { run = \"x\" }", "OWNER/REPOSITORY"),
    ] {
        let error = World::with(format!("[workflow.replace]\n{line}\n")).error();
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn every_variable_is_read() {
    let config = World::empty()
        .env("VMINT_IMAGE", "debian:12")
        .env("VMINT_MEMORY", "64M")
        .env("VMINT_CPUS", "4")
        .env("VMINT_NET", "nat")
        .env("VMINT_ACCELERATOR", "tcg")
        .env("VMINT_SNAPSHOT_FULL", "1")
        .load();
    assert_eq!(config.defaults.image.as_str(), "debian:12");
    assert_eq!(config.defaults.memory, LEAST_MEMORY);
    assert_eq!(config.defaults.cpus, 4);
    assert_eq!(config.defaults.net, NetMode::Nat);
    assert_eq!(
        config.accelerator,
        AcceleratorChoice::Only(Accelerator::Tcg)
    );
    assert!(config.snapshots.full);
}

#[test]
fn admission_is_set_in_the_file_and_by_variables() {
    use crate::{OnPressure, Terms};
    let text = "[admission]\non-pressure = 'skip'\ntimeout = '5s'\novercommit = 1_0.25\npressure = 0\nforks = 3\n";
    let world = World::with(text)
        .env("VMINT_ADMISSION_ON_PRESSURE", "fail")
        .env("VMINT_ADMISSION_SWAP_PERCENT", "100")
        .env("VMINT_ADMISSION_COLD_BOOTS", "1");
    let config = world.load();
    let expected = crate::Admission {
        terms: Terms {
            on_pressure: OnPressure::Fail,
            timeout: Duration::from_secs(5),
        },
        overcommit: "10.25".parse().unwrap(),
        swap_percent: 100,
        pressure: 0,
        cold_boots: 1,
        forks: 3,
    };
    assert_eq!(config.admission, expected);
    let (value, source) = source(&config, "admission.overcommit");
    assert_eq!(value, "10.25");
    assert!(matches!(source, Source::File { line: 4, .. }), "{source:?}");
    for (name, value, set) in [
        ("VMINT_ADMISSION_TIMEOUT", "2m", "\"2m\""),
        ("VMINT_ADMISSION_OVERCOMMIT", "2", "2"),
        ("VMINT_ADMISSION_PRESSURE", "7", "7"),
        ("VMINT_ADMISSION_FORKS", "9", "9"),
    ] {
        let config = World::with(text).env(name, value).load();
        let shown = config.show();
        let setting = shown
            .iter()
            .find(|s| s.source == Source::Environment { name })
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(setting.value.to_string(), set);
    }
    for (text, expected) in [
        (
            "[admission]\ncold_boots = 1\n",
            "vmint.toml:2:1: unknown key `cold_boots` in [admission]; did you mean `cold-boots`?",
        ),
        (
            "[admission]\novercommit = 0.0\n",
            "vmint.toml:2:14: `overcommit` in [admission] cannot be 0.0: it must be a number from 0.001 to 100, such as 1.5",
        ),
        (
            "[admission]\novercommit = '1'\n",
            "vmint.toml:2:14: `overcommit` in [admission] must be a number, and is the string '1'",
        ),
        (
            "[admission]\ncold-boots = 0\n",
            "vmint.toml:2:14: `cold-boots` in [admission] cannot be 0: it must be a whole number from 1 to 4294967295",
        ),
        (
            "[admission]\non-pressure = 'panic'\n",
            "vmint.toml:2:15: `on-pressure` in [admission] cannot be 'panic': it is wait, fail or skip",
        ),
    ] {
        assert_eq!(World::with(text).error(), expected, "{text}");
    }
}

#[test]
fn a_wrong_variable_is_named_with_its_value() {
    for (name, value) in [
        ("VMINT_IMAGE", "../x"),
        ("VMINT_MEMORY", "16M"),
        ("VMINT_MEMORY", "lots"),
        ("VMINT_CPUS", "0"),
        ("VMINT_CPUS", "-1"),
        ("VMINT_NET", "bridge"),
        ("VMINT_NET", "allow:*.com"),
        ("VMINT_ACCELERATOR", "hvf"),
        ("VMINT_SNAPSHOT_FULL", "yes"),
        ("VMINT_ADMISSION_ON_PRESSURE", "panic"),
        ("VMINT_ADMISSION_TIMEOUT", "soon"),
        ("VMINT_ADMISSION_OVERCOMMIT", "0"),
        ("VMINT_ADMISSION_SWAP_PERCENT", "101"),
        ("VMINT_ADMISSION_PRESSURE", "-1"),
        ("VMINT_ADMISSION_COLD_BOOTS", "0"),
        ("VMINT_ADMISSION_FORKS", "many"),
    ] {
        let world = World::empty().env(name, value);
        let error = world.error();
        assert!(
            error.starts_with(&format!("{name} cannot be \"{value}\": ")),
            "{error}"
        );
        let fault = Fault::from(world.load_in(world.dir.path()).unwrap_err());
        assert!(fault.hint.unwrap().contains(name));
    }
    let mut world = World::empty();
    world
        .env
        .insert("VMINT_NET", OsString::from_vec(vec![b'n', 0xff]));
    assert!(
        world.error().ends_with("it is not UTF-8"),
        "{}",
        world.error()
    );
}

#[test]
fn the_nearest_file_above_is_the_one() {
    let world = World::with("[defaults]\ncpus = 3\n");
    let (near, far) = (world.dir.path().join("a"), world.dir.path().join("a/b/c"));
    fs::create_dir_all(&far).unwrap();
    assert_eq!(world.load_in(&far).unwrap().defaults.cpus, 3);
    fs::write(near.join("vmint.toml"), "[defaults]\nmemory = \"1G\"\n").unwrap();
    let config = world.load_in(&far).unwrap();
    assert_eq!(config.file, Some(near.join("vmint.toml")));
    assert_eq!(config.defaults.cpus, 1, "the farther file is not merged");
    // A folder that has been removed while one stands in it has parents still.
    assert_eq!(
        world.load_in(&near.join("gone/gone")).unwrap().file,
        Some(near.join("vmint.toml"))
    );
}

#[test]
fn mistakes_are_told_with_their_place_and_what_was_meant() {
    for (text, expected) in [
        (
            "[defaults]\n  memroy = \"1G\"\n",
            "vmint.toml:2:3: unknown key `memroy` in [defaults]; did you mean `memory`?",
        ),
        (
            "[defualts]\ncpus = 1\n",
            "vmint.toml:1:2: unknown key `defualts` outside of all tables; did you mean `defaults`?",
        ),
        (
            "memory = \"1G\"\n",
            "vmint.toml:1:1: unknown key `memory` outside of all tables; did you mean `defaults.memory`?",
        ),
        (
            "[defaults]\naccelerator = \"kvm\"\n",
            "vmint.toml:2:1: unknown key `accelerator` in [defaults]; did you mean `accelerator` outside of all tables?",
        ),
        (
            "[pools.ci]\nimage = 'tiny'\nmax_uses = 1\n",
            "vmint.toml:3:1: unknown key `max_uses` in [pools.ci]; did you mean `max-uses`?",
        ),
        (
            "[defaults]\nquantum = 1\n",
            "vmint.toml:2:1: unknown key `quantum` in [defaults]",
        ),
        (
            "# ä\n[defaults]\n\"ä\" = 1\n",
            "vmint.toml:3:1: unknown key `ä` in [defaults]",
        ),
        (
            "[defaults]\ncpus = \"two\"\n",
            "vmint.toml:2:8: `cpus` in [defaults] must be a whole number, and is the string \"two\"",
        ),
        (
            "defaults = 3\n",
            "vmint.toml:1:12: `defaults` outside of all tables must be a table, and is the integer 3",
        ),
        (
            "[defaults]\nmemory = \"63M\"\n",
            "vmint.toml:2:10: `memory` in [defaults] cannot be \"63M\": the minimum is 64 MiB",
        ),
        (
            "[defaults]\nmemory = \"100.3M\"\n",
            "vmint.toml:2:10: `memory` in [defaults] cannot be \"100.3M\": it must be a whole number of MiB",
        ),
        (
            "[defaults]\ncpus = 99999999999999999999999999999999999999999\n",
            "vmint.toml:2:8: `cpus` in [defaults] cannot be 99999999999999999999999999999999999999999: it must be a whole number from 1 to 64",
        ),
        (
            "[images.a]\nfrom = \"debian:12\"\npackages = [\n  \"x\",\n  7,\n]\n",
            "vmint.toml:5:3: `packages` in [images.a] must be a string, and is the integer 7",
        ),
        (
            "[images.a]\nfrom = \"debian:12\"\nrun = \"x\"\n",
            "vmint.toml:3:7: `run` in [images.a] must be a list of strings, and is the string \"x\"",
        ),
        (
            "[defaults]\nmemory = \"1G\"\nmemory = \"2G\"\n",
            "vmint.toml:3:1: duplicate key",
        ),
    ] {
        assert_eq!(World::with(text).error(), expected, "{text}");
    }
}

#[test]
fn an_unknown_key_comes_with_the_known_ones() {
    let world = World::with("[snapshots]\nquantum = 1\n");
    let error = world.load_in(world.dir.path()).unwrap_err();
    assert_eq!(error.hint().unwrap(), "known in [snapshots]: full");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    for text in [
        "[defaults]\ncpus = = 1\n",
        "[defaults\ncpus = 1",
        "x",
        "\n\n\"\n",
        "\u{1}",
    ] {
        let error = World::with(text).error();
        assert!(error.starts_with("vmint.toml:"), "{error}");
    }
    let error = World::with("[defaults]\ncpus = = 1\n").error();
    assert!(error.starts_with("vmint.toml:2:"), "{error}");
    assert_eq!(
        World::with(b"a = 1\nb = \"\xff\"").error(),
        "vmint.toml:2:6: the file is not UTF-8"
    );
}

#[test]
fn a_file_that_is_none_or_too_large_is_refused() {
    let large = World::with(vec![b'\n'; (1 << 20) + 1]);
    assert_eq!(large.error(), "vmint.toml is larger than 1024 KiB");
    assert_eq!(World::with(vec![b'\n'; 1 << 20]).load().defaults.cpus, 1);
    let folder = World::empty();
    fs::create_dir(folder.file()).unwrap();
    assert_eq!(folder.error(), "vmint.toml is not a file");
}
