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

#[test]
fn an_image_is_a_recipe_with_paths_relative_to_the_file() {
    let world = World::with(
        "[images.web]\nfrom = 'debian:13'\npackages = ['nginx']\nrun = ['true', 'echo \"x\"']\n\
         copy = ['site:/var/www/', '/etc/hosts:/h']\nsize = '8G'\nkernel = 'k/vmlinuz'\nmodules = '/m'\n",
    );
    let config = world.load();
    let name: ImageName = "web".parse().unwrap();
    let ImageDefinition::Build(recipe) = &config.images[&name] else {
        panic!("{config:?}");
    };
    assert_eq!(recipe.base, Base::Debian(Debian::Trixie));
    assert_eq!(recipe.packages, ["nginx"]);
    assert_eq!(recipe.run, ["true", "echo \"x\""]);
    assert_eq!(recipe.size, ByteSize::mib(8192));
    let copy = |source: PathBuf, target: &str| CopyIn {
        source,
        target: target.into(),
    };
    assert_eq!(
        recipe.copy,
        [
            copy(world.dir.path().join("site"), "/var/www/"),
            copy("/etc/hosts".into(), "/h")
        ]
    );
    let kernel = world.dir.path().join("k/vmlinuz");
    assert_eq!(
        recipe.kernel,
        KernelSource::File {
            kernel,
            modules: Some("/m".into())
        }
    );
    let file = Source::File {
        path: world.file(),
        line: 4,
    };
    assert_eq!(
        source(&config, "images.web.run"),
        (r#"["true", 'echo "x"']"#.into(), file)
    );
}

#[test]
fn an_image_can_be_imported() {
    let world = World::with(
        "[images]\na.import = 'rootfs.tar'\nb.import = 'oci:layout:1'\nc.import = 'docker://alpine'\nc.size = '1G'\n",
    );
    let config = world.load();
    let import = |name: &str| match &config.images[&name.parse().unwrap()] {
        ImageDefinition::Import { source, options } => (source.clone(), options.size),
        ImageDefinition::Build(recipe) => panic!("{recipe:?}"),
    };
    let here = |name: &str| world.dir.path().join(name);
    assert_eq!(import("a"), (ImportSource::Tar(here("rootfs.tar")), None));
    let tag = Some("1".into());
    assert_eq!(
        import("b").0,
        ImportSource::OciDir {
            dir: here("layout"),
            tag
        }
    );
    let (registry, size) = import("c");
    assert_eq!(
        registry.to_string(),
        "docker://docker.io/library/alpine:latest"
    );
    assert_eq!(size, Some(ByteSize::mib(1024)));
}

#[test]
fn an_image_of_any_kind_names_the_node_of_actions() {
    let world = World::with(
        "[images.a]\nfrom = 'debian:12'\nnode = '/opt/node/bin/node'\n[images.b]\nimport = 'x.tar'\nnode = '/n'\n\
         [images.c]\nimport = 'y.tar'\n",
    );
    let config = world.load();
    let nodes = config.nodes.iter();
    let nodes: Vec<_> = nodes.map(|(name, node)| format!("{name}={node}")).collect();
    assert_eq!(nodes, ["a=/opt/node/bin/node", "b=/n"]);
    let (value, _) = source(&config, "images.b.node");
    assert_eq!(value, "\"/n\"");
}

#[test]
fn an_image_that_contradicts_itself_is_refused() {
    for (text, expected) in [
        (
            "[images.a]\n",
            "vmint.toml:1:9: [images.a] needs `from` or `import`",
        ),
        (
            "[images.a]\nfrom = 'tiny'\nimport = 'x.tar'\n",
            "vmint.toml:1:9: [images.a] has both `from` and `import`",
        ),
        (
            "[images.a]\nimport = 'x.tar'\nrun = ['x']\n",
            "vmint.toml:3:7: `run` in [images.a] cannot be ['x']: it does not go with `import`",
        ),
        (
            "[images.a]\nfrom = 'tiny'\nnode = '/opt/node/bin/node'\n",
            "vmint.toml:3:8: `node` in [images.a] cannot be '/opt/node/bin/node': tiny has no disk to put it on",
        ),
        (
            "[images.a]\nimport = 'x.tar'\nnode = 'node-v24/bin/node'\n",
            "vmint.toml:3:8: `node` in [images.a] cannot be 'node-v24/bin/node': write the absolute path of the program in the image, \
             without “..”, such as /opt/node/bin/node",
        ),
        (
            "[images.a]\nimport = 'x.tar'\nnode = '/opt/../node'\n",
            "vmint.toml:3:8: `node` in [images.a] cannot be '/opt/../node': write the absolute path of the program in the image, \
             without “..”, such as /opt/node/bin/node",
        ),
        (
            "[images.a]\nfrom = 'tiny'\npackages = ['x']\n",
            "vmint.toml:3:12: `packages` in [images.a] cannot be ['x']: tiny has no disk to put it on",
        ),
        (
            "[images.a]\nfrom = 'tiny'\nmodules = 'x'\n",
            "vmint.toml:3:11: `modules` in [images.a] cannot be 'x': `kernel` is missing, to which the modules belong",
        ),
        (
            "[images.a]\nfrom = 'debian:12'\ncopy = ['x:/../y']\n",
            "vmint.toml:3:9: `copy` in [images.a] cannot be 'x:/../y': write SRC:DST with an absolute DST without “..”",
        ),
        (
            "[images.tiny]\nfrom = 'tiny'\n",
            "vmint.toml:1:9: [images.tiny] cannot have this name: it is built in; choose another",
        ),
    ] {
        assert_eq!(World::with(text).error(), expected, "{text}");
    }
    let error = World::with("[images.\"a b\"]\nfrom = 'tiny'\n").error();
    assert!(
        error.starts_with("vmint.toml:1:9: [images.a b] cannot have this name: "),
        "{error}"
    );
    let error = World::with("[images.a]\nfrom = 'fedora'\n").error();
    assert!(
        error.ends_with("what can be built is tiny, debian:12 and debian:13"),
        "{error}"
    );
}

#[test]
fn a_pool_has_the_files_defaults_whatever_the_environment() {
    let text = "[defaults]\nmemory = '1G'\n[pools.ci]\nimage = 'tiny'\nmax = 1\nmax-uses = 5\n";
    let world = World::with(text)
        .env("VMINT_MEMORY", "2G")
        .env("VMINT_CPUS", "8");
    let config = world.load();
    let pool = &config.pools[&"ci".parse().unwrap()];
    let expected = PoolDefinition {
        image: "tiny".parse().unwrap(),
        min: 1,
        max: 1,
        standby: 1,
        memory: ByteSize::mib(1024),
        cpus: 1,
        net: NetMode::None,
        limits: Limits::default(),
        ttl: Duration::from_secs(3600),
        max_uses: Some(5),
    };
    assert_eq!(*pool, expected);
    let file = Source::File {
        path: world.file(),
        line: 2,
    };
    assert_eq!(source(&config, "pools.ci.memory"), ("\"1G\"".into(), file));
}

#[test]
fn a_pool_that_cannot_be_is_refused() {
    for (text, expected) in [
        (
            "[pools.ci]\nmin = 1\n",
            "vmint.toml:1:8: [pools.ci] needs `image`",
        ),
        (
            "[pools.ci]\nimage = 'tiny'\nmin = 9\n",
            "vmint.toml:3:7: `min` in [pools.ci] cannot be 9: `max` is 8, and `min` may not exceed it",
        ),
        (
            "[pools.ci]\nimage = 'tiny'\nmax = 0\n",
            "vmint.toml:3:7: `max` in [pools.ci] cannot be 0: a pool must have room for at least one machine",
        ),
        (
            "[pools.ci]\nimage = 'tiny'\nmax-uses = 0\n",
            "vmint.toml:3:12: `max-uses` in [pools.ci] cannot be 0: it must be a whole number from 1 to 4294967295",
        ),
        (
            "[pools.ci]\nimage = 'tiny'\nttl = '0s'\n",
            "vmint.toml:3:7: `ttl` in [pools.ci] cannot be '0s': the minimum is 1ms",
        ),
    ] {
        assert_eq!(World::with(text).error(), expected, "{text}");
    }
    let error = World::with("[pools.CI]\nimage = 'tiny'\n").error();
    assert!(
        error.starts_with("vmint.toml:1:8: [pools.CI] cannot have this name: "),
        "{error}"
    );
}

#[test]
fn a_file_of_another_user_is_refused_unless_its_folder_is_trusted() {
    use std::os::unix::fs::chown;
    let world = World::with("");
    if chown(world.file(), Some(12345), None).is_err() {
        // Only root can give files away.
        assert!(!rustix::process::geteuid().is_root());
        return;
    }
    assert_eq!(
        world.error(),
        "vmint.toml belongs to user 12345, neither to you nor to root"
    );
    let fault = Fault::from(world.load_in(world.dir.path()).unwrap_err());
    let hint = fault.hint.unwrap();
    let folder = world.dir.path().to_str().unwrap().to_owned();
    assert!(hint.contains(&format!("--trust {folder}")), "{hint}");
    // Root under sudo works in the folders of the caller.
    let world = world.env("SUDO_UID", "12345");
    assert_eq!(world.load().trust, Trust::Folder);
    let world = world.env("SUDO_UID", "54321");
    assert!(world.error().contains("12345"));
    let world = world.env("VMINT_TRUST", &format!("/nowhere:{folder}"));
    assert_eq!(world.load().trust, Trust::Host);
    let world = world.env("VMINT_TRUST", "here");
    assert!(world.error().contains("absolute"), "{}", world.error());
}

#[test]
fn a_link_of_another_user_to_a_file_of_ones_own_is_refused() {
    use rustix::fs::{AtFlags, CWD, chownat};
    let (own, trap) = (World::with(""), World::empty());
    std::os::unix::fs::symlink(own.file(), trap.file()).unwrap();
    assert_eq!(trap.load().file, Some(trap.file()));
    let owner = Some(rustix::process::Uid::from_raw(12345));
    if chownat(CWD, trap.file(), owner, None, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        assert!(trap.error().contains("user 12345"), "{}", trap.error());
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with("");
    fs::set_permissions(world.file(), fs::Permissions::from_mode(0o646)).unwrap();
    assert_eq!(
        world.error(),
        "vmint.toml can be written by other users: its mode is 646"
    );
}

#[test]
fn the_users_own_settings_name_trusted_folders_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let settings = home.path().join(".config/vmint/config.toml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::create_dir_all(home.path().join("work/a")).unwrap();
    fs::write(&settings, "trust = [\"~/work\", \"/nowhere\"]\n").unwrap();
    fs::write(home.path().join("work/a/vmint.toml"), "").unwrap();
    let world = World::with("").env("HOME", home.path().to_str().unwrap());
    assert_eq!(world.load().trust, Trust::Folder);
    let below = world.load_in(&home.path().join("work/a")).unwrap();
    assert_eq!(below.trust, Trust::Host);
    for (text, wrong) in [
        ("[defaults]\nimage = \"x\"\n", "unknown key `defaults`"),
        ("trust = [\"work\"]\n", "absolute path"),
    ] {
        fs::write(&settings, text).unwrap();
        let error = world.load_in(world.dir.path()).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn what_lies_outside_of_the_folder_of_the_file_is_refused_unless_it_is_trusted() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("key"), "secret").unwrap();
    let outside = outside.path().to_str().unwrap();
    let world = World::with(format!(
        "[images.abs]\nfrom = \"debian:12\"\ncopy = [\"in:/srv/\", \"{outside}/key:/srv/\"]\n\
         [images.up]\nfrom = \"debian:12\"\ncopy = [\"in/../../x:/srv/\"]\n\
         [images.link]\nfrom = \"debian:12\"\ncopy = [\"lane/key:/srv/\"]\n\
         [images.dangling]\nfrom = \"debian:12\"\ncopy = [\"later:/srv/\"]\n\
         [images.tar]\nimport = \"{outside}/key\"\n\
         [images.kernel]\nfrom = \"debian:12\"\nkernel = \"{outside}/key\"\n\
         [images.modules]\nfrom = \"debian:12\"\nkernel = \"in\"\nmodules = \"{outside}\"\n\
         [images.inside]\nfrom = \"debian:12\"\ncopy = [\"in:/srv/\", \"turn/in:/srv/\", \"none/yet:/srv/\"]\n\
         [images.registry]\nimport = \"docker://nginx\"\n"
    ));
    let folder = world.dir.path();
    fs::write(folder.join("in"), "").unwrap();
    std::os::unix::fs::symlink(outside, folder.join("lane")).unwrap();
    std::os::unix::fs::symlink(format!("{outside}/later"), folder.join("later")).unwrap();
    std::os::unix::fs::symlink(".", folder.join("turn")).unwrap();
    let refused = |config: &Config| -> Vec<String> {
        let images = config.images.iter();
        images
            .filter(|(name, definition)| config.refuse_outside(name.as_str(), definition).is_err())
            .map(|(name, _)| name.to_string())
            .collect()
    };
    let config = world.load();
    assert_eq!(
        refused(&config),
        ["abs", "dangling", "kernel", "link", "modules", "tar", "up"]
    );
    let fault = config
        .refuse_path("`actions` of [workflow]", Path::new("/etc"))
        .unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Usage);
    assert!(
        fault.message.starts_with(
            "`actions` of [workflow] is `/etc`, which lies outside of the folder of /"
        ),
        "{fault}"
    );
    let trusted = folder.to_str().unwrap().to_owned();
    let config = world.env("VMINT_TRUST", &trusted).load();
    assert_eq!(refused(&config), [] as [&str; 0]);
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_reader_panic(
        text in "(\\[|\\]|=|\"|'|\\.|\n| |[a-z]|[0-9]|defaults|images|pools|memory|ä|\r){0,40}"
    ) {
        let world = World::with(&text);
        match world.load_in(world.dir.path()) {
            Ok(config) => proptest::prop_assert_eq!(config.file, Some(world.file())),
            Err(e) => proptest::prop_assert!(e.to_string().contains("vmint.toml:"), "{e}"),
        }
    }
}
