//! Images in a folder: OCI's layout, and what old versions of `docker save` wrote.

use super::error::ImportError;
use super::source::ImportSource;
use crate::arch::Arch;
use crate::digest::Digest;
use crate::manifest::Defaults;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Manifests and configurations are small; a larger one is none.
const MAX_JSON: u64 = 8 << 20;

/// An image whose parts are files.
#[derive(Debug)]
pub(super) struct OciImage {
    config: Config,
    pub(super) layers: Vec<Layer>,
}

/// A layer: a tar, compressed or not.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) digested: Digested,
}

/// What a layer's digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digested {
    /// The file.
    Compressed,
    /// The tar in it.
    Plain,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    #[cfg_attr(
        not(feature = "registry"),
        expect(dead_code, reason = "of what is downloaded alone")
    )]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
}

/// A manifest or an index: what a digest or a tag names.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
    pub(super) config: Option<Descriptor>,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default, rename = "config")]
    execution: Option<Execution>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    user: Option<String>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// An entry of `manifest.json` as `docker save` writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl OciImage {
    pub(super) fn is_for(&self, arch: Arch) -> bool {
        // Some tools leave the fields empty; what is in the layers tells then.
        let os = self.config.os.is_empty() || self.config.os == "linux";
        os && (self.config.architecture.is_empty() || self.config.architecture == arch.debian())
    }

    pub(super) fn platform(&self) -> String {
        format!("{}/{}", self.config.os, self.config.architecture)
    }

    pub(super) fn defaults(&self) -> Defaults {
        let given = self.config.execution.clone().unwrap_or_default();
        Defaults {
            user: given.user.filter(|user| !user.is_empty()),
            env: given.env.unwrap_or_default(),
            workdir: Some(absolute(given.working_dir.as_deref().unwrap_or(""))),
            entrypoint: given.entrypoint.unwrap_or_default(),
            cmd: given.cmd.unwrap_or_default(),
        }
    }
}

/// A working directory as container engines read it: below the root, whatever is written, and the root when nothing is. `..` is
/// left to the guest's kernel, which knows where links lead.
fn absolute(dir: &str) -> String {
    format!("/{}", dir.trim_start_matches('/'))
}

/// Opens the image of this tag; the only one, if there is one, without.
pub(super) fn open(
    dir: &Path,
    tag: Option<&str>,
    source: &ImportSource,
) -> Result<OciImage, ImportError> {
    let layout = Layout { dir, source };
    if dir.join("index.json").is_file() {
        layout.oci(tag)
    } else if dir.join("manifest.json").is_file() {
        layout.saved(tag)
    } else if dir.is_dir() {
        Err(layout.not_an_image("it has neither index.json nor manifest.json"))
    } else {
        Err(layout.not_an_image("there is no such folder"))
    }
}

/// Of an index's images the one for this host. Indexes also list attestations, for no platform that is.
pub(super) fn for_this_host(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let platforms = manifests
        .iter()
        .filter_map(|d| Some((d, d.platform.as_ref()?)));
    let mut others = Vec::new();
    for (descriptor, platform) in platforms {
        if platform.os == "linux" && platform.architecture == Arch::HOST.debian() {
            return Ok(descriptor);
        }
        if platform.os != "unknown" {
            others.push(format!("{}/{}", platform.os, platform.architecture));
        }
    }
    match manifests {
        [only] if only.platform.is_none() => Ok(only),
        _ => Err(others.join(", ")),
    }
}

struct Layout<'a> {
    dir: &'a Path,
    source: &'a ImportSource,
}

impl Layout<'_> {
    fn not_an_image(&self, reason: impl Into<String>) -> ImportError {
        ImportError::NotAnImage {
            source_name: self.source.to_string(),
            reason: reason.into(),
        }
    }

    fn oci(&self, tag: Option<&str>) -> Result<OciImage, ImportError> {
        let index: Node = self.json(&self.dir.join("index.json"))?;
        let mut descriptor = self.choose(&index.manifests, tag)?.clone();
        // An index in an index is one image for several platforms; deeper nesting is not known in the wild.
        for _ in 0..4 {
            let node: Node = self.blob_json(&descriptor)?;
            match node.config {
                Some(config) => return self.image(&config, &node.layers),
                None => descriptor = self.for_this_host(&node.manifests)?.clone(),
            }
        }
        Err(self.not_an_image("its indexes are nested too deeply"))
    }

    fn for_this_host<'d>(
        &self,
        manifests: &'d [Descriptor],
    ) -> Result<&'d Descriptor, ImportError> {
        for_this_host(manifests).map_err(|found| ImportError::WrongArchitecture {
            source_name: self.source.to_string(),
            found,
        })
    }

    fn choose<'d>(
        &self,
        manifests: &'d [Descriptor],
        wanted: Option<&str>,
    ) -> Result<&'d Descriptor, ImportError> {
        const NAMES: [&str; 2] = [
            "org.opencontainers.image.ref.name",
            "io.containerd.image.name",
        ];
        let names = |d: &Descriptor| {
            NAMES
                .iter()
                .filter_map(|n| d.annotations.get(*n).cloned())
                .collect::<Vec<_>>()
        };
        let tags = || manifests.iter().flat_map(names).collect();
        let no_such = || ImportError::NoSuchTag {
            source_name: self.source.to_string(),
            wanted: wanted.map(str::to_owned),
            tags: tags(),
        };
        match (wanted, manifests) {
            (_, []) => Err(self.not_an_image("its index is empty")),
            (Some(wanted), _) => {
                let is = |name: &String| {
                    name == wanted || name.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted)
                };
                manifests
                    .iter()
                    .find(|d| names(d).iter().any(is))
                    .ok_or_else(no_such)
            }
            (None, [only]) => Ok(only),
            // One image for several platforms, listed in the first index.
            (None, several) if several.iter().all(|d| d.platform.is_some()) => {
                self.for_this_host(several)
            }
            (None, _) => Err(no_such()),
        }
    }

    fn image(&self, config: &Descriptor, layers: &[Descriptor]) -> Result<OciImage, ImportError> {
        let layers = layers.iter().map(|layer| {
            let (path, digest) = self.blob(&layer.digest)?;
            Ok(Layer {
                path,
                digest,
                digested: Digested::Compressed,
            })
        });
        Ok(OciImage {
            layers: layers.collect::<Result<_, ImportError>>()?,
            config: self.blob_json(config)?,
        })
    }

    fn saved(&self, tag: Option<&str>) -> Result<OciImage, ImportError> {
        let images: Vec<Saved> = self.json(&self.dir.join("manifest.json"))?;
        let has = |image: &&Saved, wanted: &str| {
            let tags = image.repo_tags.iter().flatten();
            tags.into_iter()
                .any(|t| t == wanted || t.rsplit_once(':').is_some_and(|(_, t)| t == wanted))
        };
        let chosen = match (tag, images.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(tag), all) => all.iter().find(|image| has(image, tag)),
        };
        let image = chosen.ok_or_else(|| ImportError::NoSuchTag {
            source_name: self.source.to_string(),
            wanted: tag.map(str::to_owned),
            tags: images
                .iter()
                .flat_map(|i| i.repo_tags.iter().flatten().cloned())
                .collect(),
        })?;
        let config: Config = self.json(&self.inside(&image.config)?)?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(self.not_an_image("it lists more layers than digests, or fewer"));
        }
        let layers = image
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(path, digest)| {
                let digest = self.digest(digest)?;
                Ok(Layer {
                    path: self.inside(path)?,
                    digest,
                    digested: Digested::Plain,
                })
            });
        Ok(OciImage {
            layers: layers.collect::<Result<_, ImportError>>()?,
            config,
        })
    }

    /// A file that an archive names, which must be one of its own.
    fn inside(&self, path: &str) -> Result<PathBuf, ImportError> {
        let inside = Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if inside {
            Ok(self.dir.join(path))
        } else {
            Err(self.not_an_image(format!("it names a file outside: {path:?}")))
        }
    }

    fn digest(&self, text: &str) -> Result<Digest, ImportError> {
        text.parse().map_err(|_| {
            self.not_an_image(format!(
                "{text:?} is not a digest that is known here (SHA-256 is)"
            ))
        })
    }

    fn blob(&self, digest: &str) -> Result<(PathBuf, Digest), ImportError> {
        let digest = self.digest(digest)?;
        let path = self.dir.join("blobs/sha256").join(digest.hex());
        if path.is_file() {
            Ok((path, digest))
        } else {
            Err(self.not_an_image(format!("it lacks the blob {digest}")))
        }
    }

    fn blob_json<T: for<'de> Deserialize<'de>>(
        &self,
        descriptor: &Descriptor,
    ) -> Result<T, ImportError> {
        let (path, expected) = self.blob(&descriptor.digest)?;
        let bytes = self.read(&path)?;
        let found = Digest::of(&bytes);
        if found != expected {
            let what = if descriptor.media_type.is_empty() {
                "a part of the image".to_owned()
            } else {
                descriptor.media_type.clone()
            };
            return Err(ImportError::WrongDigest {
                what,
                expected,
                found,
            });
        }
        self.parse(&path, &bytes)
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, path: &Path) -> Result<T, ImportError> {
        let bytes = self.read(path)?;
        self.parse(path, &bytes)
    }

    fn parse<T: for<'de> Deserialize<'de>>(
        &self,
        path: &Path,
        bytes: &[u8],
    ) -> Result<T, ImportError> {
        let name = path.file_name().unwrap_or_default().display();
        serde_json::from_slice(bytes)
            .map_err(|e| self.not_an_image(format!("{name} cannot be read: {e}")))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, ImportError> {
        let name = path.file_name().unwrap_or_default().display();
        let read = fs::metadata(path).and_then(|meta| {
            if meta.len() > MAX_JSON {
                Err(io::ErrorKind::FileTooLarge.into())
            } else {
                fs::read(path)
            }
        });
        read.map_err(|e| self.not_an_image(format!("{name} cannot be read: {e}")))
    }
}
