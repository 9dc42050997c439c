//! The tables and their keys.

use super::document::{Document, Form, Given, Named, shorten};
use super::error::ConfigError;
use super::keys;
use super::parse::{self, Parsed};
use super::setting::{Setting, Source, ToValue};
use super::{
    AcceleratorChoice, Config, Defaults, ImageDefinition, PoolDefinition, Snapshots, Trust,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_image::{
    Base, CopyIn, ImageName, ImportOptions, ImportSource, KernelSource, Recipe,
    recipe::DEFAULT_DISK,
};
use vmint_model::{ByteSize, Confine, CpuLimit, DiskLimit, IoLimit, Limits, Name, NetMode};

pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// How strictly hypervisors are fenced in, if the environment says.
pub(super) fn confine(env: Env<'_>) -> Result<Option<Confine>, ConfigError> {
    let given = variable(env, super::CONFINE, parse::confine)?;
    Ok(given.map(|given| given.value))
}

/// Reads everything.
pub(super) fn config(document: Option<&Document>, env: Env<'_>) -> Result<Config, ConfigError> {
    let parsed = document.map(Document::parse).transpose()?;
    let top = Named::top(document.zip(parsed.as_ref().map(toml::Spanned::get_ref)));
    top.only(&keys::TOP, |key| {
        [keys::DEFAULTS, keys::SNAPSHOTS]
            .iter()
            .find(|table| table.has(key))
            .map(|table| format!("`{}.{key}`", table.name))
    })?;
    let mut settings = Settings::default();
    let in_file = top.get("accelerator", Form::Text, parse::accelerator)?;
    let given = variable(env, "VMINT_ACCELERATOR", parse::accelerator)?.or(in_file);
    let accelerator = settings.keep(top.key("accelerator"), given, AcceleratorChoice::Auto);
    let in_file = top.get("confine", Form::Text, parse::confine_in_file)?;
    let given = variable(env, super::CONFINE, parse::confine)?.or(in_file);
    let confine = settings.keep(top.key("confine"), given, Confine::Best);
    top.get("run-as", Form::Text, parse::run_as_in_file)?;
    let (defaults, inherited) = defaults(&top.table("defaults")?, env, &mut settings)?;
    let snapshots = snapshots(&top.table("snapshots")?, env, &mut settings)?;
    let admission = super::admission::admission(&top.table("admission")?, env, &mut settings)?;
    let folder = document
        .and_then(|document| document.path().parent())
        .unwrap_or(Path::new("/"));
    let (mut images, mut nodes) = (BTreeMap::new(), BTreeMap::new());
    for (name, table) in top.table("images")?.tables(image_name)? {
        let definition = image(&table, folder, &mut settings)?;
        if let Some(node) = node(&table, &definition, &mut settings)? {
            nodes.insert(name.clone(), node);
        }
        images.insert(name, definition);
    }
    let mut pools = BTreeMap::new();
    for (name, table) in top.table("pools")?.tables(pool_name)? {
        pools.insert(name, pool(&table, &inherited, &mut settings)?);
    }
    let workflow = super::workflow::workflow(&top.table("workflow")?, folder, env, &mut settings)?;
    Ok(Config {
        file: document.map(|document| document.path().to_owned()),
        trust: Trust::default(),
        accelerator,
        confine,
        defaults,
        snapshots,
        admission,
        images,
        nodes,
        pools,
        workflow,
        settings: settings.0,
    })
}

pub(super) fn nowhere(_: &str) -> Option<String> {
    None
}

fn image_name(s: &str) -> Parsed<ImageName> {
    let name = parse::image(s)?;
    if Recipe::for_name(s).is_some() {
        return Err("it is built in; choose another".to_owned());
    }
    Ok(name)
}

fn pool_name(s: &str) -> Parsed<Name> {
    s.parse::<Name>().map_err(|_| {
        "a pool's name is 1 to 63 of a-z, 0-9 and '-', starting with a letter and not ending in '-'"
            .to_owned()
    })
}

/// What a variable says.
pub(super) fn variable<T>(
    env: Env<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Result<Option<Given<T>>, ConfigError> {
    let Some(value) = env(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let parsed = match value.to_str() {
        Some(text) => parse(text),
        None => Err("it is not UTF-8".to_owned()),
    };
    match parsed {
        Ok(value) => {
            let source = Source::Environment { name };
            Ok(Some(Given { value, source }))
        }
        Err(why) => Err(ConfigError::Environment {
            name,
            value: format!("{:?}", shorten(&value.to_string_lossy())),
            why,
        }),
    }
}

/// All settings so far, for those who want to see them.
#[derive(Default)]
pub(super) struct Settings(Vec<Setting>);

impl Settings {
    /// Decides between what was given and the default, and takes down what it is.
    pub(super) fn keep<T: ToValue>(
        &mut self,
        key: String,
        given: Option<Given<T>>,
        default: T,
    ) -> T {
        let source = Source::Default;
        let given = given.unwrap_or(Given {
            value: default,
            source,
        });
        self.0.push(Setting {
            key,
            value: given.value.to_value(),
            source: given.source,
        });
        given.value
    }
}

impl<T> Given<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Given<U> {
        Given {
            value: f(self.value),
            source: self.source,
        }
    }
}

/// What the file says of all machines; pools have it from there, whatever the environment of this process.
struct Inherited {
    memory: Option<Given<ByteSize>>,
    cpus: Option<Given<u32>>,
    net: Option<Given<NetMode>>,
    limits: GivenLimits,
}

/// What is said of a machine's limits.
#[derive(Clone)]
struct GivenLimits {
    cpu: Option<Given<CpuLimit>>,
    io: Option<Given<IoLimit>>,
    disk: Option<Given<DiskLimit>>,
}

impl GivenLimits {
    fn read(table: &Named<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            cpu: table.get("cpu-limit", Form::Fraction, parse::limit)?,
            io: table.get("io-limit", Form::TextOrNumber, parse::limit)?,
            disk: table.get("disk-limit", Form::TextOrNumber, parse::limit)?,
        })
    }

    fn variables(env: Env<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            cpu: variable(env, "VMINT_CPU_LIMIT", parse::limit)?,
            io: variable(env, "VMINT_IO_LIMIT", parse::limit)?,
            disk: variable(env, "VMINT_DISK_LIMIT", parse::limit)?,
        })
    }

    fn or(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.or(other.cpu),
            io: self.io.or(other.io),
            disk: self.disk.or(other.disk),
        }
    }

    fn keep(self, table: &Named<'_>, settings: &mut Settings) -> Limits {
        let (cpu, io, disk) = (
            self.cpu.map(|given| given.map(Some)),
            self.io.map(|given| given.map(Some)),
            self.disk.map(|given| given.map(Some)),
        );
        Limits {
            cpu: settings.keep(table.key("cpu-limit"), cpu, None),
            io: settings.keep(table.key("io-limit"), io, None),
            disk: settings.keep(table.key("disk-limit"), disk, None),
        }
    }
}

const MEMORY: ByteSize = ByteSize::mib(512);
const CPUS: u32 = 1;

fn defaults(
    table: &Named<'_>,
    env: Env<'_>,
    settings: &mut Settings,
) -> Result<(Defaults, Inherited), ConfigError> {
    table.only(&keys::DEFAULTS, |key| {
        keys::TOP
            .has(key)
            .then(|| format!("`{key}` outside of all tables"))
    })?;
    let image = table.get("image", Form::Text, parse::image)?;
    let memory = table.get("memory", Form::TextOrNumber, parse::memory)?;
    let cpus = table.get("cpus", Form::Number, parse::cpus)?;
    let net = table.get("net", Form::Text, parse::net)?;
    let limits = GivenLimits::read(table)?;
    let start_timeout = table.get("start-timeout", Form::TextOrNumber, parse::duration)?;
    let inherited = Inherited {
        memory: memory.clone(),
        cpus: cpus.clone(),
        net: net.clone(),
        limits: limits.clone(),
    };
    let tiny = Base::Tiny.as_str().parse().expect("a legal name");
    let image = variable(env, "VMINT_IMAGE", parse::image)?.or(image);
    let memory = variable(env, "VMINT_MEMORY", parse::memory)?.or(memory);
    let cpus = variable(env, "VMINT_CPUS", parse::cpus)?.or(cpus);
    let net = variable(env, "VMINT_NET", parse::net)?.or(net);
    let limits = GivenLimits::variables(env)?.or(limits);
    let defaults = Defaults {
        image: settings.keep(table.key("image"), image, tiny),
        memory: settings.keep(table.key("memory"), memory, MEMORY),
        cpus: settings.keep(table.key("cpus"), cpus, CPUS),
        net: settings.keep(table.key("net"), net, NetMode::None),
        limits: limits.keep(table, settings),
        start_timeout: settings.keep(
            table.key("start-timeout"),
            start_timeout.map(|given| given.map(Some)),
            None,
        ),
    };
    Ok((defaults, inherited))
}

fn snapshots(
    table: &Named<'_>,
    env: Env<'_>,
    settings: &mut Settings,
) -> Result<Snapshots, ConfigError> {
    table.only(&keys::SNAPSHOTS, nowhere)?;
    let in_file = table.get("full", Form::Flag, parse::flag)?;
    let given = variable(env, "VMINT_SNAPSHOT_FULL", parse::flag)?.or(in_file);
    Ok(Snapshots {
        full: settings.keep(table.key("full"), given, false),
    })
}

/// An image. What the file does not say of it is not shown: it is the recipe's business.
fn image(
    table: &Named<'_>,
    folder: &Path,
    settings: &mut Settings,
) -> Result<ImageDefinition, ConfigError> {
    table.only(&keys::IMAGE, nowhere)?;
    let path = |s: &str| parse::text(s).map(|s| folder.join(s));
    let from = table.get("from", Form::Text, |s| {
        s.parse::<Base>()
            .map_err(|_| "what can be built is tiny, debian:12 and debian:13".to_owned())
    })?;
    let import = table.get("import", Form::Text, |s| {
        parse::import(s).map(|source| below(folder, source))
    })?;
    let packages = table.list("packages", parse::text)?;
    let run = table.list("run", parse::text)?;
    let copy = table.list("copy", |s| copy_in(s, folder))?;
    let size = table.get("size", Form::TextOrNumber, parse::memory)?;
    let kernel = table.get("kernel", Form::Text, path)?;
    let modules = table.get("modules", Form::Text, path)?;
    if kernel.is_none() && modules.is_some() {
        return Err(table.invalid(
            "modules",
            "`kernel` is missing, to which the modules belong",
        ));
    }
    let additions = [
        ("packages", packages.is_some()),
        ("run", run.is_some()),
        ("copy", copy.is_some()),
    ];
    let added = additions
        .iter()
        .find(|(_, given)| *given)
        .map(|(key, _)| *key);
    let mut show = Shown(table, settings);
    let definition = match (from, import) {
        (Some(_), Some(_)) => return Err(table.lacks("has both `from` and `import`")),
        (None, None) => return Err(table.lacks("needs `from` or `import`")),
        (Some(from), None) => {
            if let (Base::Tiny, Some(key)) = (from.value, added) {
                return Err(table.invalid(key, "tiny has no disk to put it on"));
            }
            show.value("from", Some(from.clone().map(|base| base.to_string())));
            let mut recipe = Recipe::new(from.value);
            recipe.packages = show.value("packages", packages).unwrap_or_default();
            recipe.run = show.value("run", run).unwrap_or_default();
            recipe.copy = show.value("copy", copy).unwrap_or_default();
            recipe.size = show.value("size", size).unwrap_or(DEFAULT_DISK);
            recipe.kernel = show.kernel(kernel, modules);
            ImageDefinition::Build(recipe)
        }
        (None, Some(import)) => {
            if let Some(key) = added {
                return Err(table.invalid(key, "it does not go with `import`"));
            }
            let source = import.value.clone();
            show.value("import", Some(import));
            let options = ImportOptions {
                size: show.value("size", size),
                kernel: show.kernel(kernel, modules),
                ..ImportOptions::default()
            };
            ImageDefinition::Import { source, options }
        }
    };
    Ok(definition)
}

/// The Node.js that an image names for JavaScript actions.
fn node(
    table: &Named<'_>,
    definition: &ImageDefinition,
    settings: &mut Settings,
) -> Result<Option<String>, ConfigError> {
    let given = table.get("node", Form::Text, parse::program_of_image)?;
    let is_tiny = |recipe: &Recipe| recipe.base == Base::Tiny;
    if given.is_some() && matches!(definition, ImageDefinition::Build(recipe) if is_tiny(recipe)) {
        return Err(table.invalid("node", "tiny has no disk to put it on"));
    }
    Ok(Shown(table, settings).value("node", given))
}

/// Takes down what a table gives, and nothing else.
struct Shown<'a, 'd>(&'a Named<'d>, &'a mut Settings);

impl Shown<'_, '_> {
    fn value<T: Clone + ToValue>(&mut self, key: &str, given: Option<Given<T>>) -> Option<T> {
        let given = given?;
        let value = given.value.clone();
        Some(self.1.keep(self.0.key(key), Some(given), value))
    }

    fn kernel(
        &mut self,
        kernel: Option<Given<PathBuf>>,
        modules: Option<Given<PathBuf>>,
    ) -> KernelSource {
        let kernel = self.value("kernel", kernel);
        let modules = self.value("modules", modules);
        match kernel {
            Some(kernel) => KernelSource::File { kernel, modules },
            None => KernelSource::Distribution,
        }
    }
}

fn copy_in(s: &str, folder: &Path) -> Parsed<CopyIn> {
    let copy: CopyIn = parse::text(s)?
        .parse()
        .map_err(|_| "write SRC:DST with an absolute DST without “..”".to_owned())?;
    let source = folder.join(copy.source);
    Ok(CopyIn { source, ..copy })
}

/// Relative paths are relative to the file's folder.
fn below(folder: &Path, source: ImportSource) -> ImportSource {
    match source {
        ImportSource::Tar(path) => ImportSource::Tar(folder.join(path)),
        ImportSource::OciDir { dir, tag } => ImportSource::OciDir {
            dir: folder.join(dir),
            tag,
        },
        ImportSource::OciArchive { file, tag } => ImportSource::OciArchive {
            file: folder.join(file),
            tag,
        },
        registry @ ImportSource::Registry(_) => registry,
    }
}

fn pool(
    table: &Named<'_>,
    inherited: &Inherited,
    settings: &mut Settings,
) -> Result<PoolDefinition, ConfigError> {
    table.only(&keys::POOL, nowhere)?;
    let Some(image) = table.get("image", Form::Text, parse::image)? else {
        return Err(table.lacks("needs `image`"));
    };
    let min = table.get("min", Form::Number, parse::machines)?;
    let max = table.get("max", Form::Number, parse::machines)?;
    let standby = table.get("standby", Form::Number, parse::machines)?;
    let memory = table.get("memory", Form::TextOrNumber, parse::memory)?;
    let cpus = table.get("cpus", Form::Number, parse::cpus)?;
    let net = table.get("net", Form::Text, parse::net)?;
    let limits = GivenLimits::read(table)?.or(inherited.limits.clone());
    let ttl = table.get("ttl", Form::TextOrNumber, parse::duration)?;
    let max_uses = table.get("max-uses", Form::Number, parse::one_or_more)?;
    let most = max.as_ref().map_or(8, |max| max.value);
    if most == 0 {
        return Err(table.invalid("max", "a pool must have room for at least one machine"));
    }
    // The default minimum yields to a smaller maximum; one that was written down does not.
    let least = min.as_ref().map_or(2.min(most), |min| min.value);
    if least > most {
        let why = format!("`max` is {most}, and `min` may not exceed it");
        return Err(table.invalid("min", why));
    }
    let image_name = image.value.clone();
    Ok(PoolDefinition {
        image: settings.keep(table.key("image"), Some(image), image_name),
        min: settings.keep(table.key("min"), min, least),
        max: settings.keep(table.key("max"), max, most),
        standby: settings.keep(table.key("standby"), standby, 1),
        memory: settings.keep(
            table.key("memory"),
            memory.or_else(|| inherited.memory.clone()),
            MEMORY,
        ),
        cpus: settings.keep(
            table.key("cpus"),
            cpus.or_else(|| inherited.cpus.clone()),
            CPUS,
        ),
        net: settings.keep(
            table.key("net"),
            net.or_else(|| inherited.net.clone()),
            NetMode::None,
        ),
        limits: limits.keep(table, settings),
        ttl: settings.keep(table.key("ttl"), ttl, Duration::from_secs(3600)),
        max_uses: settings.keep(
            table.key("max-uses"),
            max_uses.map(|given| given.map(Some)),
            None,
        ),
    })
}
