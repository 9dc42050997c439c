//! An image pushed to a registry on this host's loopback, and imported from it.

mod common;

use common::{assert_nothing_left, config, debugfs, gzip, home, layers, other_architecture};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{
    ImageIndexEntry, OciDescriptor, OciImageIndex, OciImageManifest, OciManifest, Platform,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use vmint_image::{Arch, Digest, ImportOptions, ImportSource, Progress};
use vmint_model::{ErrorKind, Explained};

/// Debian's registry, until dropped.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = dir.join("registry.yml");
        let data = dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed (apt-get install docker-registry)");
        let start = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(
                process.try_wait().unwrap().is_none(),
                "the registry has ended"
            );
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the registry does not answer at {address}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes).to_string(),
        size: bytes.len() as i64,
        ..OciDescriptor::default()
    }
}

/// Pushes `image:ours`, `image:theirs` (for another processor), and `image:index` with both.
async fn push(address: &str) {
    let config_of_client = ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    };
    let client = Client::try_from(config_of_client).unwrap();
    let reference = |tag: &str| {
        format!("{address}/some/image:{tag}")
            .parse::<Reference>()
            .unwrap()
    };
    client
        .auth(
            &reference("ours"),
            &RegistryAuth::Anonymous,
            RegistryOperation::Push,
        )
        .await
        .unwrap();
    let plain = layers();
    let mut entries = Vec::new();
    for (tag, arch) in [
        ("ours", Arch::HOST.debian()),
        ("theirs", other_architecture()),
    ] {
        let config = config(arch, &plain).to_string().into_bytes();
        let mut manifest = OciImageManifest {
            config: descriptor("application/vnd.oci.image.config.v1+json", &config),
            ..OciImageManifest::default()
        };
        client
            .push_blob(&reference(tag), config.clone(), &manifest.config.digest)
            .await
            .unwrap();
        for layer in plain.iter().map(|l| gzip(l)) {
            let its = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer);
            client
                .push_blob(&reference(tag), layer, &its.digest)
                .await
                .unwrap();
            manifest.layers.push(its);
        }
        manifest.media_type = Some("application/vnd.oci.image.manifest.v1+json".into());
        client
            .push_manifest(&reference(tag), &OciManifest::Image(manifest))
            .await
            .unwrap();
        let digest = client
            .fetch_manifest_digest(&reference(tag), &RegistryAuth::Anonymous)
            .await
            .unwrap();
        let (bytes, _) = client
            .pull_manifest_raw(
                &reference(tag),
                &RegistryAuth::Anonymous,
                &["application/vnd.oci.image.manifest.v1+json"],
            )
            .await
            .unwrap();
        entries.push(ImageIndexEntry {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest,
            size: bytes.len() as i64,
            platform: Some(Platform {
                architecture: arch.into(),
                os: "linux".into(),
                os_version: None,
                os_features: None,
                variant: None,
                features: None,
            }),
            annotations: None,
            artifact_type: None,
        });
    }
    entries.reverse();
    let index = OciImageIndex {
        schema_version: 2,
        media_type: Some("application/vnd.oci.image.index.v1+json".into()),
        manifests: entries,
        artifact_type: None,
        annotations: None,
    };
    client
        .push_manifest(&reference("index"), &OciManifest::ImageIndex(index))
        .await
        .unwrap();
}

#[derive(Default)]
struct Bytes(Mutex<Option<(u64, Option<u64>)>>);

impl Progress for Bytes {
    fn bytes(&self, done: u64, total: Option<u64>) {
        *self.0.lock().unwrap() = Some((done, total));
    }
}

#[test]
fn an_image_comes_from_a_registry_with_its_defaults() {
    let (dir, store) = home();
    let registry = Registry::start(dir.path());
    let address = registry.address.clone();
    let source = |tag: &str| {
        format!("docker://{address}/some/image{tag}")
            .parse::<ImportSource>()
            .unwrap()
    };
    let progress = Bytes::default();
    let options = ImportOptions::default();
    // The import comes first: it is the one that chooses the TLS provider that the pushing client needs too.
    let error = store
        .import("x", &source(":ours"), &options, &progress)
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NotFound,
        "{error}: {:?}",
        std::error::Error::source(&error).map(ToString::to_string)
    );
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(push(&address));

    for tag in [":ours", ":index"] {
        let image = store
            .import(&format!("pulled{tag}"), &source(tag), &options, &progress)
            .unwrap()
            .commit()
            .unwrap();
        let disk = image.boot_files().unwrap().disk.unwrap().path;
        assert!(debugfs(&disk, "cat /srv/old/new").starts_with("new"));
        assert!(debugfs(&disk, "stat /etc/hidden").contains("File not found"));
        assert_eq!(image.manifest().defaults.cmd, ["-c", "echo hi"]);
        let (done, total) = progress.0.lock().unwrap().expect("bytes were counted");
        assert!(done > 1000 && Some(done) == total, "{done} of {total:?}");
    }
    let error = store
        .import("x", &source(":theirs"), &options, &progress)
        .unwrap_err();
    assert!(error.to_string().contains("wrong architecture"), "{error}");
    let error = store
        .import("x", &source(":nothing"), &options, &progress)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");

    // A layer that the registry's disk has lost a bit of.
    let blobs = dir.path().join("registry/docker/registry/v2/blobs/sha256");
    let layer = Digest::of(&gzip(&layers()[0])).hex();
    let data = blobs.join(&layer[..2]).join(&layer).join("data");
    let mut bytes = fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data, bytes).unwrap();
    let error = store
        .import("x", &source(":ours"), &options, &progress)
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Image,
        "{error}: {:?}",
        std::error::Error::source(&error).map(ToString::to_string)
    );

    drop(registry);
    let gone = store
        .import("x", &source(":ours"), &options, &progress)
        .unwrap_err();
    assert!(
        gone.kind() == ErrorKind::Host && gone.hint().is_some(),
        "{gone}"
    );
    assert!(store.find("x").unwrap().is_none());
    assert_nothing_left(dir.path());
}
