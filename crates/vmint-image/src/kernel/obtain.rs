//! A kernel into the store.

use super::modules::ModuleTree;
use super::stored::{Kernel, KernelError, KernelManifest, KernelSource};
use crate::apt::{self, PackageError};
use crate::arch::Arch;
use crate::digest::{Digest, Hasher};
use crate::fsx::{self, FileError, OnFile};
use crate::progress::Progress;
use crate::store::{self, ImageStore};
use std::fs;
use std::path::{Path, PathBuf};
use vmint_model::{ErrorKind, Explained};

/// Packages that have a small kernel with virtio drivers, best first.
fn candidates() -> Vec<String> {
    let debian = format!("linux-image-cloud-{}", Arch::HOST.debian());
    let ubuntu = "linux-image-virtual".to_owned();
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if os_release.lines().any(|line| line == "ID=ubuntu") {
        vec![ubuntu, debian]
    } else {
        vec![debian, ubuntu]
    }
}

/// Puts a kernel into the store, if it is not there already.
pub(crate) fn obtain(
    store: &ImageStore,
    source: &KernelSource,
    progress: &dyn Progress,
) -> Result<Kernel, KernelError> {
    if *source == KernelSource::Distribution
        && let Some(kernel) = store.default_kernel()?
    {
        return Ok(kernel);
    }
    let _lock = store.work_lock(
        "kernel",
        progress,
        "waiting for another process that fetches the kernel",
    )?;
    if *source == KernelSource::Distribution
        && let Some(kernel) = store.default_kernel()?
    {
        return Ok(kernel);
    }
    let temp = store.temp_dir()?;
    let dir = temp.path().join("kernel");
    fsx::create_private_dir(&dir.join("modules"))?;
    let origin = match source {
        KernelSource::Distribution => match &store.kit {
            Some(kit) => {
                progress.stage("taking the kernel of vmint-tiny");
                let taken = take(&kit.vmlinuz(), Some(&kit.modules()), &dir)
                    .and_then(|()| Ok(kit.kernel()?));
                taken.map_err(|e| match e.kind() {
                    // That is about where it goes, and not about what is copied.
                    ErrorKind::NoSpace => e,
                    _ => KernelError::Kit(Box::new(e)),
                })?
            }
            None => fetch(temp.path(), &dir, progress)?,
        },
        KernelSource::File { kernel, modules } => {
            take(kernel, modules.as_deref(), &dir)?;
            kernel.display().to_string()
        }
    };
    progress.stage("reading the kernel's modules");
    let version = kernel_version(&dir.join("vmlinuz"))?;
    let tree = ModuleTree::open(&dir.join("modules"))?;
    let vmlinuz_size = fs::metadata(dir.join("vmlinuz"))
        .on("read", &dir.join("vmlinuz"))?
        .len();
    let manifest = KernelManifest {
        schema: store::SCHEMA,
        digest: digest_of(&dir)?,
        architecture: Arch::HOST,
        version,
        origin,
        vmlinuz_digest: Digest::of_file(&dir.join("vmlinuz")).on("read", &dir.join("vmlinuz"))?,
        vmlinuz_size,
        modules: tree.len(),
    };
    store::write_manifest(&dir.join("manifest.json"), &manifest)?;
    let kernel = Kernel::open(store.adopt(&dir, &store.kernels(), manifest.digest)?)?;
    if *source == KernelSource::Distribution {
        fsx::replace(
            &store.kernels().join("default"),
            format!("{}\n", manifest.digest).as_bytes(),
        )?;
    }
    Ok(kernel)
}

/// Copies a kernel and its modules.
fn take(kernel: &Path, modules: Option<&Path>, dir: &Path) -> Result<(), KernelError> {
    // Of the copy this is asked again; here a mistake is told by the user's own path.
    kernel_version(kernel)?;
    fs::copy(kernel, dir.join("vmlinuz")).on("copy the kernel from", kernel)?;
    if let Some(modules) = modules {
        copy_tree(modules, &dir.join("modules"))?;
    }
    Ok(())
}

/// Downloads and unpacks the distribution's kernel; gives the package's name.
fn fetch(temp: &Path, dir: &Path, progress: &dyn Progress) -> Result<String, KernelError> {
    let candidates = candidates();
    for meta in &candidates {
        let Some(needs) = apt::dependencies(meta)? else {
            continue;
        };
        let Some(image) = needs.iter().find(|name| name.starts_with("linux-image-")) else {
            continue;
        };
        // Ubuntu keeps the modules in a package of their own.
        let modules = apt::dependencies(image)?
            .into_iter()
            .flatten()
            .find(|name| name.starts_with("linux-modules-"));
        for (i, package) in std::iter::once(image).chain(&modules).enumerate() {
            progress.stage(&format!("downloading {package}"));
            let deb = apt::download(package, &temp.join(format!("deb{i}")), progress)?;
            progress.stage(&format!("unpacking {package}"));
            apt::unpack(&deb, progress, &mut |path| place(path, dir))?;
        }
        if !dir.join("vmlinuz").exists() {
            return Err(PackageError::Incomplete {
                package: image.clone(),
                what: "boot/vmlinuz",
            }
            .into());
        }
        return Ok(image.clone());
    }
    Err(KernelError::NoPackage(candidates))
}

/// Where a kernel package's file goes.
fn place(path: &Path, dir: &Path) -> Option<PathBuf> {
    if path.parent()?.ends_with("boot") && path.file_name()?.to_str()?.starts_with("vmlinuz-") {
        return Some(dir.join("vmlinuz"));
    }
    let path = path
        .strip_prefix("usr")
        .unwrap_or(path)
        .strip_prefix("lib/modules")
        .ok()?;
    let mut parts = path.components();
    parts.next()?;
    let inside = parts.as_path();
    (inside != Path::new("")).then(|| dir.join("modules").join(inside))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), FileError> {
    fsx::create_private_dir(to)?;
    for name in fsx::names(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        let kind = fs::symlink_metadata(&source)
            .on("read", &source)?
            .file_type();
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_file() && target.extension().is_none_or(|e| e != "bin") {
            // The `build` and `source` links, and depmod's binary indexes, are of no use here.
            fs::copy(&source, &target).on("copy", &source)?;
        }
    }
    Ok(())
}

/// Of a kernel's folder without its manifest.
pub(super) fn digest_of(dir: &Path) -> Result<Digest, FileError> {
    let mut hasher = Hasher::default();
    let vmlinuz = dir.join("vmlinuz");
    hasher.field(Digest::of_file(&vmlinuz).on("read", &vmlinuz)?.as_bytes());
    digest_tree(&dir.join("modules"), "", &mut hasher)?;
    Ok(hasher.finish())
}

fn digest_tree(dir: &Path, prefix: &str, hasher: &mut Hasher) -> Result<(), FileError> {
    for name in fsx::names(dir)? {
        let (path, inside) = (dir.join(&name), format!("{prefix}/{name}"));
        if fs::symlink_metadata(&path).on("read", &path)?.is_dir() {
            digest_tree(&path, &inside, hasher)?;
        } else {
            hasher
                .field(inside.as_bytes())
                .field(Digest::of_file(&path).on("read", &path)?.as_bytes());
        }
    }
    Ok(())
}

/// The version in a kernel's header, as `uname -r` says it.
fn kernel_version(path: &Path) -> Result<String, KernelError> {
    let bytes = fs::read(path).on("read the kernel", path)?;
    let no = |reason| KernelError::NotAKernel {
        path: path.to_owned(),
        reason,
    };
    match Arch::HOST {
        Arch::X86_64 => {
            // The kernel's Documentation/arch/x86/boot.rst, “The real-mode kernel header”.
            if bytes.get(0x202..0x206) != Some(b"HdrS") {
                return Err(no("no boot header"));
            }
            let start = usize::from(u16::from_le_bytes([bytes[0x20e], bytes[0x20f]])) + 0x200;
            let text = bytes
                .get(start..)
                .ok_or_else(|| no("no version in its header"))?;
            let end = text
                .iter()
                .position(|&b| b == 0 || b == b' ')
                .unwrap_or(0)
                .min(100);
            let version = std::str::from_utf8(&text[..end])
                .ok()
                .filter(|v| !v.is_empty());
            version
                .map(str::to_owned)
                .ok_or_else(|| no("no version in its header"))
        }
        Arch::Aarch64 => {
            // A kernel that is an EFI program is compressed inside; its version is the package's business then.
            let plain = if bytes.starts_with(&[0x1f, 0x8b]) {
                crate::decompress::bytes(&bytes).on("unpack the kernel", path)?
            } else {
                bytes
            };
            if plain.get(0x38..0x3c) != Some(b"ARMd") && !plain.starts_with(b"MZ") {
                return Err(no("no boot header"));
            }
            let banner = b"Linux version ";
            let version = plain
                .windows(banner.len())
                .position(|w| w == banner)
                .map(|at| {
                    let text = &plain[at + banner.len()..];
                    let end = text.iter().position(|&b| b == b' ').unwrap_or(0).min(100);
                    String::from_utf8_lossy(&text[..end]).into_owned()
                });
            Ok(version.unwrap_or_else(|| "unknown".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_kernel_package_go_where_they_belong() {
        let dir = Path::new("/k");
        let cases = [
            ("boot/vmlinuz-6.1.0-1-cloud-amd64", Some("/k/vmlinuz")),
            (
                "lib/modules/6.1/kernel/fs/x.ko",
                Some("/k/modules/kernel/fs/x.ko"),
            ),
            (
                "usr/lib/modules/6.12/modules.builtin",
                Some("/k/modules/modules.builtin"),
            ),
            ("boot/System.map-6.1", None),
            ("lib/modules", None),
            ("usr/share/doc/x", None),
        ];
        for (path, expected) in cases {
            assert_eq!(
                place(Path::new(path), dir).as_deref(),
                expected.map(Path::new),
                "{path}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_kernel_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for content in [&b""[..], b"hello", &[0; 0x1000]] {
            fs::write(&path, content).unwrap();
            let error = kernel_version(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        }
    }
}
