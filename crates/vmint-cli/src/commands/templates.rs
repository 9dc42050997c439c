//! `template`.

use super::removal;
#[cfg(test)]
use super::schema::foreign;
use crate::args::image::{DryRun, Template, TemplateBuild};
use crate::context::{self, Context};
use crate::exit::{Codes, exit_code};
use crate::failure::tell;
use crate::output::{age, ms, table, time};
use crate::view::{Each, Failed};
use serde::Serialize;
use vmint::qemu::Frozen;
use vmint::{ByteSize, ErrorKind, ExecDefaults, Fault, MachineSpec, Origin};

/// A template.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Template"))]
pub(super) struct View {
    fingerprint: String,
    image: String,
    image_digest: String,
    #[cfg_attr(test, schemars(with = "foreign::Accelerator"))]
    accelerator: &'static str,
    #[cfg_attr(test, schemars(with = "foreign::MachineType"))]
    machine: &'static str,
    memory: u64,
    cpus: u32,
    #[cfg_attr(test, schemars(with = "foreign::Link"))]
    net: &'static str,
    qemu: String,
    size: u64,
    boot_ms: Option<f64>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    created_at: String,
    #[serde(skip)]
    created_at_ms: i64,
}

impl From<&Frozen> for View {
    fn from(frozen: &Frozen) -> Self {
        let manifest = frozen.manifest();
        let shape = &manifest.shape;
        Self {
            fingerprint: manifest.fingerprint.clone(),
            image: manifest.image.clone(),
            image_digest: manifest.image_digest.clone(),
            accelerator: shape.accelerator.as_str(),
            machine: shape.machine.as_str(),
            memory: shape.memory.0,
            cpus: shape.cpus,
            net: shape.net.as_str(),
            qemu: manifest.qemu.clone(),
            size: size(frozen),
            boot_ms: manifest.boot_ms.map(f64::round),
            created_at: time(manifest.created_at_ms),
            created_at_ms: manifest.created_at_ms,
        }
    }
}

/// What its files take on disk.
fn size(frozen: &Frozen) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(frozen.folder())
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|e| e.metadata().ok())
        .map(|m| m.blocks() * 512)
        .sum()
}

/// `vmint template`.
pub fn template(context: Context, args: Template) -> Result<u8, Fault> {
    match args {
        Template::Ls => ls(context).map(|()| 0),
        Template::Build(args) => build(context, args).map(|()| 0),
        Template::Rm { templates } => remove(context, &templates),
        Template::Verify { templates } => verify(context, &templates),
        Template::Prune(args) => prune(context, args).map(|()| 0),
    }
}

fn ls(context: Context) -> Result<(), Fault> {
    let views: Vec<_> = context.open()?.templates().iter().map(View::from).collect();
    context.list(&views, |view| view.fingerprint.clone(), || rows(&views))
}

fn rows(views: &[View]) -> String {
    let headings = [
        "TEMPLATE",
        "IMAGE",
        "ACCELERATOR",
        "MEMORY",
        "CPUS",
        "NET",
        "SIZE",
        "BOOTED IN",
        "CREATED",
    ];
    let row = |view: &View| {
        [
            view.fingerprint.chars().take(12).collect(),
            view.image.clone(),
            view.accelerator.to_owned(),
            ByteSize(view.memory).to_string(),
            view.cpus.to_string(),
            view.net.to_owned(),
            ByteSize(view.size).to_string(),
            view.boot_ms.map(ms).unwrap_or_default(),
            format!("{} ago", age(view.created_at_ms)),
        ]
    };
    table(headings, views.iter().map(row))
}

fn build(context: Context, args: TemplateBuild) -> Result<(), Fault> {
    let (vmint, config) = context.open_configured()?;
    let progress = context.progress();
    let spec = MachineSpec {
        image: args.image.clone(),
        memory: args.hardware.memory.unwrap_or(config.defaults.memory),
        cpus: args.hardware.cpus.unwrap_or(config.defaults.cpus),
        net: args.hardware.net_or(&config.defaults.net),
        publish: Vec::new(),
        limits: vmint::Limits::default(),
        origin: Origin::Template,
        disk_cache: None,
        defaults: ExecDefaults::default(),
    };
    let frozen = context::wait(async {
        vmint
            .ensure_declared(&config, &args.image, &progress)
            .await?;
        let image = vmint.ensure_image(&args.image, &progress).await?;
        vmint.ensure_template(&image, &spec, &progress).await
    })?;
    progress.finish();
    let view = View::from(&frozen);
    context.show(&view, || {
        let boot = view
            .boot_ms
            .map(|t| format!(", booted in {}", ms(t)))
            .unwrap_or_default();
        let fingerprint: String = view.fingerprint.chars().take(12).collect();
        format!(
            "{fingerprint} is the template of {} ({}{boot}, {})",
            view.image,
            view.accelerator,
            ByteSize(view.size)
        )
    })
}

fn remove(context: Context, names: &[String]) -> Result<u8, Fault> {
    let vmint = context.open()?;
    removal::each(context, names, |name| {
        match vmint.remove_templates(|frozen| is_meant(frozen, name))? {
            0 => Err(none_is(name)),
            _ => Ok(()),
        }
    })
}

/// Whether a name is that of a template's image, its fingerprint, or the beginning of that.
fn is_meant(frozen: &Frozen, name: &str) -> bool {
    let manifest = frozen.manifest();
    manifest.image == name || name.len() >= 4 && manifest.fingerprint.starts_with(name)
}

fn none_is(name: &str) -> Fault {
    let message = format!("there is no template {name:?}");
    Fault::new(ErrorKind::NotFound, message).hint("vmint template ls")
}

/// What was found in a template's files.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Verified {
    fingerprint: String,
    image: String,
    sound: bool,
    /// What is wrong with which file.
    damage: Vec<String>,
}

/// Reads each of the templates that are meant. A name that means none keeps no other from it.
fn verify(context: Context, names: &[String]) -> Result<u8, Fault> {
    let mut chosen = context.open()?.templates();
    let mut missing = Vec::new();
    for name in names {
        if !chosen.iter().any(|frozen| is_meant(frozen, name)) {
            let error = none_is(name);
            tell(&error);
            missing.push(Failed {
                name: name.clone(),
                error,
            });
        }
    }
    chosen.retain(|frozen| names.is_empty() || names.iter().any(|name| is_meant(frozen, name)));
    let verified = |frozen: &Frozen| {
        let damage: Vec<_> = frozen.verify().into_iter().map(Fault::from).collect();
        Verified {
            fingerprint: frozen.manifest().fingerprint.clone(),
            image: frozen.manifest().image.clone(),
            sound: damage.is_empty(),
            damage: damage.into_iter().map(|fault| fault.message).collect(),
        }
    };
    let found: Vec<_> = chosen.iter().map(verified).collect();
    let code = match missing.first() {
        Some(failed) => exit_code(failed.error.kind, Codes::Own),
        None => u8::from(found.iter().any(|one| !one.sound)),
    };
    let found = found.into_iter().map(Each::Done);
    let all: Vec<_> = found.chain(missing.into_iter().map(Each::Failed)).collect();
    context.show(&all, || {
        let done = all.iter().filter_map(|one| match one {
            Each::Done(verified) => Some(verified),
            // Told already.
            Each::Failed(_) => None,
        });
        let told = done.flat_map(|one| {
            let fingerprint: String = one.fingerprint.chars().take(12).collect();
            let of = format!("{fingerprint} of {}", one.image);
            let damage = one.damage.iter().map(|what| format!("{of}: {what}"));
            let sound = one.sound.then(|| format!("{of} is as it was frozen"));
            damage.chain(sound).collect::<Vec<_>>()
        });
        told.collect::<Vec<_>>().join("\n")
    })?;
    Ok(code)
}

/// What was deleted, or would be.
#[derive(Debug, Serialize)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename = "TemplatesPruned")
)]
pub(super) struct PrunedView {
    /// Bytes that are given back.
    freed: u64,
    /// Fingerprints.
    templates: Vec<String>,
}

fn prune(context: Context, args: DryRun) -> Result<(), Fault> {
    let (vmint, _config) = context.open_configured()?;
    let progress = context.progress();
    let stale = context::wait(vmint.stale_templates(&progress))?;
    progress.finish();
    let views: Vec<_> = stale.iter().map(View::from).collect();
    if !args.dry_run {
        vmint
            .remove_templates(|frozen| stale.iter().any(|gone| gone.folder() == frozen.folder()))?;
    }
    let view = PrunedView {
        freed: views.iter().map(|view| view.size).sum(),
        templates: views.into_iter().map(|view| view.fingerprint).collect(),
    };
    context.show(&view, || {
        let (count, freed) = (view.templates.len(), ByteSize(view.freed));
        if args.dry_run {
            format!("{count} templates would be removed, {freed} given back")
        } else {
            format!("{count} templates removed, {freed} given back")
        }
    })
}
