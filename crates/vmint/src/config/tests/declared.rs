//! Images and pools that a file declares.

use super::*;

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
