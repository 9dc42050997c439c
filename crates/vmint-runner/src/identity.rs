//! What makes a machine this machine and no other.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use vmint_model::{ErrorKind, Fault, Generation, Link, MachineId, Name};
use vmint_protocol::{NetworkConfig, Prepare, SshHostKey};

/// Who a machine is, to those who talk to it: for its life, over stops, starts, reboots and restores. Another machine is another
/// one, and so is what a reset makes of this.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    machine_id: [u8; 16],
    mac: [u8; 6],
    ssh_host_keys: Vec<SshHostKey>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No private key belongs in a log.
        f.debug_struct("Identity")
            .field("mac", &self.mac)
            .finish_non_exhaustive()
    }
}

impl Identity {
    const FILE: &str = "identity.json";

    /// A new one, unlike any other.
    pub fn new(name: &Name) -> Result<Self, Fault> {
        let mut machine_id = [0; 16];
        random(&mut machine_id)?;
        // As a version 4 UUID, which systemd makes of it too.
        machine_id[6] = machine_id[6] & 0x0f | 0x40;
        machine_id[8] = machine_id[8] & 0x3f | 0x80;
        let mut mac = [0x52, 0x54, 0, 0, 0, 0];
        random(&mut mac[2..])?;
        Ok(Self {
            machine_id,
            mac,
            ssh_host_keys: vec![host_key(name)?],
        })
    }

    /// That of the machine in this folder, if it was ever up. One that cannot be read is as none: the machine is somebody new.
    pub fn read(folder: &Path) -> Option<Self> {
        let file = folder.join(Self::FILE);
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|e| tracing::warn!("{} cannot be understood: {e}", file.display()))
                .ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                tracing::warn!("{} cannot be read: {e}", file.display());
                None
            }
        }
    }

    /// Keeps it in the machine's folder, for its owner alone.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let temporary = folder.join(format!(".{}", Self::FILE));
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        std::fs::rename(&temporary, folder.join(Self::FILE))
    }

    /// What a guest of this generation is told, with random numbers that nobody else has.
    pub fn prepare(
        &self,
        name: &Name,
        generation: Generation,
        net: Link,
    ) -> Result<Prepare, Fault> {
        let mut seed = vec![0; 64];
        random(&mut seed)?;
        let network = (net == Link::Nat).then_some(NetworkConfig {
            mac: self.mac,
            address: [10, 0, 2, 15],
            prefix: 24,
            gateway: [10, 0, 2, 2],
            dns: [10, 0, 2, 3],
        });
        Ok(Prepare {
            hostname: name.to_string(),
            machine_id: self.machine_id,
            seed,
            realtime_ns: now_ns(),
            generation: generation.0,
            ssh_host_keys: self.ssh_host_keys.clone(),
            network,
        })
    }
}

fn random(bytes: &mut [u8]) -> Result<(), Fault> {
    getrandom::fill(bytes).map_err(|e| {
        Fault::new(
            ErrorKind::Host,
            format!("the host has no random numbers: {e}"),
        )
    })
}

/// A fresh identity: every call gives other random numbers, another machine id, MAC and host key.
pub fn fresh(name: &Name, generation: Generation, net: Link) -> Result<Prepare, Fault> {
    Identity::new(name)?.prepare(name, generation, net)
}

/// The identity of a machine that will be frozen; no fork keeps any of it.
pub fn template(net: Link) -> Result<Prepare, Fault> {
    fresh(
        &"template".parse().expect("a legal name"),
        Generation(0),
        net,
    )
}

/// The host's clock.
pub fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

/// The guest's IPv4 address on user-mode networking.
pub const GUEST_ADDRESS: &str = "10.0.2.15";

/// The name that a machine without one goes by.
pub fn default_name(id: &MachineId) -> Name {
    id.as_str().parse().expect("an id is a legal name")
}

fn host_key(name: &Name) -> Result<SshHostKey, Fault> {
    let fault = |e: ssh_key::Error| {
        Fault::new(
            ErrorKind::Internal,
            format!("cannot make an SSH host key: {e}"),
        )
    };
    let mut secret = [0; 32];
    random(&mut secret)?;
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&secret);
    let mut key = ssh_key::PrivateKey::from(pair);
    key.set_comment(format!("root@{name}"));
    let private = key
        .to_openssh(ssh_key::LineEnding::LF)
        .map_err(fault)?
        .to_string();
    let public = key.public_key().to_openssh().map_err(fault)? + "\n";
    Ok(SshHostKey {
        algorithm: "ed25519".into(),
        private,
        public,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_identities_share_nothing_that_must_differ() {
        let name: Name = "twin".parse().unwrap();
        let make = || fresh(&name, Generation(1), Link::Nat).unwrap();
        let (a, b) = (make(), make());
        assert_ne!(a.seed, b.seed);
        assert_ne!(a.machine_id, b.machine_id);
        assert_ne!(a.ssh_host_keys[0].public, b.ssh_host_keys[0].public);
        assert_ne!(
            a.network.as_ref().unwrap().mac,
            b.network.as_ref().unwrap().mac
        );
        assert!(
            a.ssh_host_keys[0]
                .private
                .starts_with("-----BEGIN OPENSSH PRIVATE KEY-----")
        );
    }
    #[test]
    fn who_a_machine_is_is_kept_for_its_owner_alone_and_its_random_numbers_are_not() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let name: Name = "box".parse().unwrap();
        assert_eq!(Identity::read(dir.path()), None);
        let who = Identity::new(&name).unwrap();
        for _ in 0..2 {
            who.write(dir.path()).unwrap();
        }
        let file = dir.path().join(Identity::FILE);
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Identity::read(dir.path()).unwrap();
        assert_eq!(again, who);
        let tell = |who: &Identity, n| who.prepare(&name, Generation(n), Link::Nat).unwrap();
        let (a, b) = (tell(&who, 1), tell(&again, 2));
        assert_eq!(a.machine_id, b.machine_id);
        assert_eq!(a.ssh_host_keys, b.ssh_host_keys);
        assert_eq!(a.network, b.network);
        assert_ne!(a.seed, b.seed);
        std::fs::write(&file, "{").unwrap();
        assert_eq!(Identity::read(dir.path()), None);
        assert!(!format!("{who:?}").contains("PRIVATE"));
    }
}
