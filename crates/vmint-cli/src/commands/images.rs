//! `image`.

use super::removal;
#[cfg(test)]
use super::schema::foreign;
use crate::args::image::{Build, DryRun, Image, Import, Kernel};
use crate::context::{self, Context};
use crate::output::{age, list, table, time};
use crate::view::{Each, Failed};
use serde::Serialize;
use std::path::PathBuf;
use vmint::image::store::Listed;
use vmint::image::{Base, ImportOptions, KernelSource, Recipe};
use vmint::{ByteSize, Fault};

/// An image.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Image"))]
pub(super) struct View {
    name: String,
    digest: String,
    #[cfg_attr(test, schemars(with = "foreign::Arch"))]
    architecture: String,
    kernel: String,
    #[cfg_attr(test, schemars(with = "foreign::InitKind"))]
    init: vmint::image::InitKind,
    disk: Option<u64>,
    size: u64,
    origin: String,
    user: Option<String>,
    env: Vec<String>,
    workdir: Option<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    created_at: String,
    #[serde(skip)]
    created_at_ms: i64,
}

impl From<&vmint::image::Image> for View {
    fn from(image: &vmint::image::Image) -> Self {
        let manifest = image.manifest();
        let defaults = manifest.defaults.clone();
        Self {
            name: image.name().to_string(),
            digest: image.digest().to_string(),
            architecture: manifest.architecture.as_str().to_owned(),
            kernel: manifest.kernel.version.clone(),
            init: manifest.init,
            disk: manifest.disk.as_ref().map(|d| d.size),
            size: image.size_on_disk(),
            origin: manifest.origin.clone(),
            user: defaults.user,
            env: defaults.env,
            workdir: defaults.workdir,
            entrypoint: defaults.entrypoint,
            cmd: defaults.cmd,
            created_at: time(manifest.created_at_ms),
            created_at_ms: manifest.created_at_ms,
        }
    }
}

impl View {
    fn init(&self) -> String {
        format!("{:?}", self.init).to_lowercase()
    }

    fn text(&self) -> String {
        list([
            ("name", self.name.clone()),
            ("digest", self.digest.clone()),
            ("origin", self.origin.clone()),
            ("architecture", self.architecture.clone()),
            ("kernel", self.kernel.clone()),
            ("init", self.init()),
            (
                "disk",
                self.disk
                    .map(|n| ByteSize(n).to_string())
                    .unwrap_or_default(),
            ),
            ("size on disk", ByteSize(self.size).to_string()),
            ("user", self.user.clone().unwrap_or_default()),
            ("environment", self.env.join("\n")),
            ("workdir", self.workdir.clone().unwrap_or_default()),
            (
                "command",
                [self.entrypoint.clone(), self.cmd.clone()]
                    .concat()
                    .join(" "),
            ),
            ("created", self.created_at.clone()),
        ])
    }
}

/// What was deleted, or would be.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ImagesPruned"))]
pub(super) struct PrunedView {
    /// How many folders that killed builders left.
    abandoned: usize,
    /// Bytes that are given back.
    freed: u64,
    /// Digests of images that nothing means.
    images: Vec<String>,
    /// Digests of kernels that no image has.
    kernels: Vec<String>,
}

/// `vmint image`.
pub fn image(context: Context, args: Image) -> Result<u8, Fault> {
    match args {
        Image::Build(args) => build(context, *args).map(|()| 0),
        Image::Import(args) => import(context, *args).map(|()| 0),
        Image::Ls => ls(context).map(|()| 0),
        Image::Inspect { name } => {
            let image = context.open()?.images().inspect(&name)?;
            let view = View::from(&image);
            context.show(&view, || view.text())?;
            Ok(0)
        }
        Image::Rm { names } => remove(context, &names),
        Image::Prune(args) => prune(context, args).map(|()| 0),
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn kernel(args: Kernel) -> KernelSource {
    match args.kernel {
        Some(kernel) => KernelSource::File {
            kernel: absolute(kernel),
            modules: args.modules.map(absolute),
        },
        None => KernelSource::Distribution,
    }
}

fn build(context: Context, args: Build) -> Result<(), Fault> {
    let (vmint, config) = context.open_configured()?;
    let progress = context.progress();
    let says_nothing = args.from.is_none()
        && args.packages.is_empty()
        && args.run.is_empty()
        && args.copy.is_empty()
        && args.size.is_none()
        && args.kernel.kernel.is_none();
    let declared = config.images.contains_key(&args.name);
    let name = args.name.to_string();
    let image = context::wait(async {
        if says_nothing && declared {
            vmint.ensure_declared(&config, &name, &progress).await?;
            return vmint.ensure_image(&name, &progress).await;
        }
        let base = args
            .from
            .or_else(|| name.parse().ok())
            .unwrap_or(Base::Tiny);
        let recipe = Recipe {
            packages: args.packages,
            run: args.run,
            copy: args.copy,
            kernel: kernel(args.kernel),
            ..Recipe::new(base)
        };
        let recipe = Recipe {
            size: args.size.unwrap_or(recipe.size),
            ..recipe
        };
        vmint.build_image(&name, &recipe, &progress).await
    })?;
    progress.finish();
    shown(context, &image)
}

fn import(context: Context, args: Import) -> Result<(), Fault> {
    let (vmint, _config) = context.open_configured()?;
    let progress = context.progress();
    let options = ImportOptions {
        size: args.size,
        kernel: kernel(args.kernel),
        ..ImportOptions::default()
    };
    let image =
        context::wait(vmint.import_image(args.name.as_str(), &args.source, &options, &progress))?;
    progress.finish();
    shown(context, &image)
}

fn shown(context: Context, image: &vmint::image::Image) -> Result<(), Fault> {
    let view = View::from(image);
    context.show(&view, || {
        format!(
            "{} is {} ({}, {})",
            view.name,
            view.digest,
            view.origin,
            ByteSize(view.size)
        )
    })
}

fn ls(context: Context) -> Result<(), Fault> {
    let listed = context.open()?.images().list()?;
    let line = |listed: Listed| match listed.image {
        Ok(image) => Each::Done(Box::new(View::from(&image))),
        Err(e) => Each::Failed(Failed {
            name: listed.name.to_string(),
            error: e.into(),
        }),
    };
    let lines: Vec<_> = listed.into_iter().map(line).collect();
    let name = |line: &Each<Box<View>>| match line {
        Each::Done(view) => view.name.clone(),
        Each::Failed(damaged) => damaged.name.clone(),
    };
    context.list(&lines, name, || {
        let headings = [
            "NAME", "DIGEST", "KERNEL", "INIT", "DISK", "SIZE", "ORIGIN", "CREATED",
        ];
        let row = |line: &Each<Box<View>>| match line {
            Each::Done(view) => [
                view.name.clone(),
                view.digest
                    .rsplit(':')
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(12)
                    .collect(),
                view.kernel.clone(),
                view.init(),
                view.disk
                    .map(|n| ByteSize(n).to_string())
                    .unwrap_or_default(),
                ByteSize(view.size).to_string(),
                view.origin.clone(),
                format!("{} ago", age(view.created_at_ms)),
            ],
            Each::Failed(damaged) => {
                let mut row = [const { String::new() }; 8];
                row[0].clone_from(&damaged.name);
                row[6].clone_from(&damaged.error.message);
                row
            }
        };
        table(headings, lines.iter().map(row))
    })
}

fn remove(context: Context, names: &[String]) -> Result<u8, Fault> {
    let vmint = context.open()?;
    removal::each(context, names, |name| vmint.remove_image(name))
}

fn prune(context: Context, args: DryRun) -> Result<(), Fault> {
    let vmint = context.open()?;
    let pruned = if args.dry_run {
        vmint.prunable_images()?
    } else {
        vmint.prune_images()?
    };
    let view = PrunedView {
        abandoned: pruned.abandoned,
        freed: pruned.freed,
        images: pruned.images.iter().map(ToString::to_string).collect(),
        kernels: pruned.kernels.iter().map(ToString::to_string).collect(),
    };
    context.show(&view, || {
        let (images, kernels) = (pruned.images.len(), pruned.kernels.len());
        let freed = ByteSize(pruned.freed);
        if args.dry_run {
            format!("{images} images and {kernels} kernels would be removed, {freed} given back")
        } else {
            format!("{images} images and {kernels} kernels removed, {freed} given back")
        }
    })
}
