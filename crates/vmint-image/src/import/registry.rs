//! An image of a registry, downloaded into a folder in OCI's layout.

use super::error::ImportError;
use super::oci::{self, Descriptor, Node};
use crate::digest::Digest;
use crate::fsx::{self, OnFile};
use crate::progress::Progress;
use crate::rootfs::unpack::UnpackError;
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWrite;
use vmint_model::ErrorKind;

/// Nothing heard from the registry for so long is a failure.
const SILENCE: Duration = Duration::from_secs(60);

/// An image in a registry, `[HOST/]NAME[:TAG][@DIGEST]`, shown with all that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(oci_client::Reference);

impl FromStr for Reference {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        s.parse()
            .map(Self)
            .map_err(|e: oci_client::ParseError| e.to_string())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a failure of the client comes down to.
fn kind(error: &OciDistributionError) -> ErrorKind {
    use OciDistributionError as Oci;
    match error {
        Oci::ImageManifestNotFoundError(_) | Oci::ServerError { code: 404, .. } => {
            ErrorKind::NotFound
        }
        Oci::RegistryError { envelope, .. }
            if envelope.to_string().to_uppercase().contains("UNKNOWN") =>
        {
            ErrorKind::NotFound
        }
        Oci::IoError(e) if e.kind() == io::ErrorKind::StorageFull => ErrorKind::NoSpace,
        Oci::DigestError(_) => ErrorKind::Image,
        _ => ErrorKind::Host,
    }
}

/// Pulls an image, of at most `limit` bytes, into `dir`. Blocks; runs a runtime of its own on a thread of its own, so
/// that it can be called from anywhere.
pub(super) fn pull(
    reference: &Reference,
    dir: &Path,
    limit: u64,
    progress: &dyn Progress,
) -> Result<(), ImportError> {
    progress.stage(&format!("pulling {reference}"));
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| ImportError::Client {
            reason: e.to_string(),
        })?;
        runtime.block_on(pull_async(&reference.0, dir, limit, progress))
    };
    let panicked = |_| ImportError::Client {
        reason: "it panicked".to_owned(),
    };
    std::thread::scope(|scope| scope.spawn(work).join().map_err(panicked))?
}

/// A registry on this host's loopback speaks plain HTTP, as everywhere.
fn protocol(registry: &str) -> ClientProtocol {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let loopback = host == "localhost"
        || host == "[::1]"
        || host
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|ip| ip.is_loopback());
    if loopback {
        ClientProtocol::Http
    } else {
        ClientProtocol::Https
    }
}

async fn pull_async(
    reference: &oci_client::Reference,
    dir: &Path,
    limit: u64,
    progress: &dyn Progress,
) -> Result<(), ImportError> {
    // Fails if there is a provider already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig {
        protocol: protocol(reference.resolve_registry()),
        connect_timeout: Some(Duration::from_secs(20)),
        read_timeout: Some(SILENCE),
        ..ClientConfig::default()
    };
    let client = Client::try_from(config).map_err(|e| ImportError::Client {
        reason: e.to_string(),
    })?;
    let pull = Pull {
        client,
        reference,
        dir,
    };
    fsx::create_private_dir(&dir.join("blobs/sha256"))?;

    let (mut bytes, mut node) = pull.manifest(reference).await?;
    if node.config.is_none() {
        let wrong = |found| ImportError::WrongArchitecture {
            source_name: format!("docker://{reference}"),
            found,
        };
        let chosen = oci::for_this_host(&node.manifests).map_err(wrong)?;
        (bytes, node) = pull
            .manifest(&reference.clone_with_digest(chosen.digest.clone()))
            .await?;
    }
    let config = node.config.ok_or_else(|| ImportError::NotAnImage {
        source_name: format!("docker://{reference}"),
        reason: "its manifest has no configuration".to_owned(),
    })?;
    let total = node
        .layers
        .iter()
        .fold(config.size, |sum, layer| sum.saturating_add(layer.size));
    if total > limit {
        return Err(UnpackError::TooLarge { limit }.into());
    }
    let mut done = 0;
    progress.bytes(0, Some(total));
    pull.blob(&config, &mut done, total, progress).await?;
    for (i, layer) in node.layers.iter().enumerate() {
        progress.stage(&format!("pulling layer {} of {}", i + 1, node.layers.len()));
        pull.blob(layer, &mut done, total, progress).await?;
    }
    let digest = Digest::of(&bytes);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"digest": digest.to_string(), "size": bytes.len()}]});
    fsx::replace(&dir.join("blobs/sha256").join(digest.hex()), &bytes)?;
    fsx::replace(&dir.join("index.json"), index.to_string().as_bytes())?;
    Ok(())
}

struct Pull<'a> {
    client: Client,
    reference: &'a oci_client::Reference,
    dir: &'a Path,
}

impl Pull<'_> {
    fn failed(&self, source: OciDistributionError) -> ImportError {
        ImportError::Registry {
            reference: self.reference.to_string(),
            kind: kind(&source),
            source: Box::new(source),
        }
    }

    async fn manifest(
        &self,
        reference: &oci_client::Reference,
    ) -> Result<(Vec<u8>, Node), ImportError> {
        const ACCEPTED: [&str; 4] = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        // The client compares the bytes with the digest where the reference has one.
        let pulled = self
            .client
            .pull_manifest_raw(reference, &RegistryAuth::Anonymous, &ACCEPTED)
            .await;
        let bytes = pulled.map_err(|e| self.failed(e))?.0.to_vec();
        let node = serde_json::from_slice(&bytes).map_err(|e| self.failed(e.into()))?;
        Ok((bytes, node))
    }

    async fn blob(
        &self,
        blob: &Descriptor,
        done: &mut u64,
        total: u64,
        progress: &dyn Progress,
    ) -> Result<(), ImportError> {
        let digest: Digest = blob
            .digest
            .parse()
            .map_err(|e: crate::digest::InvalidDigest| ImportError::NotAnImage {
                source_name: format!("docker://{}", self.reference),
                reason: e.to_string(),
            })?;
        let path = self.dir.join("blobs/sha256").join(digest.hex());
        let file = File::create(&path).on("create", &path)?;
        let out = Download {
            file,
            left: blob.size,
            done,
            total,
            progress,
        };
        // The client compares with the digest; it is compared again when the layer is unpacked.
        self.client
            .pull_blob(self.reference, blob.digest.as_str(), out)
            .await
            .map_err(|e| self.failed(e))
    }
}

/// A file that tells how much of it there is, and takes no more than it should be.
struct Download<'a> {
    file: File,
    left: u64,
    done: &'a mut u64,
    total: u64,
    progress: &'a dyn Progress,
}

impl AsyncWrite for Download<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() as u64 > self.left {
            let more = "the registry sends more than it said";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, more)));
        }
        // A write to a local file; nothing else runs on this runtime.
        let written = self.file.write(bytes)?;
        self.left -= written as u64;
        *self.done += written as u64;
        self.progress.bytes(*self.done, Some(self.total));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_shown_with_all_that_is_left_out() {
        let reference: Reference = "alpine".parse().unwrap();
        assert_eq!(reference.to_string(), "docker.io/library/alpine:latest");
        assert!("UPPER".parse::<Reference>().is_err());
    }

    #[test]
    fn only_loopback_is_spoken_to_in_the_clear() {
        for clear in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.8.8",
            "[::1]:5000",
        ] {
            assert!(matches!(protocol(clear), ClientProtocol::Http), "{clear}");
        }
        for secret in [
            "docker.io",
            "example.com:5000",
            "10.0.0.1:5000",
            "localhost.example.com",
            "127.0.0.1.example.com",
        ] {
            assert!(
                matches!(protocol(secret), ClientProtocol::Https),
                "{secret}"
            );
        }
    }
}
