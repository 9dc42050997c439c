//! What makes a machine this machine and no other.

use std::time::{SystemTime, UNIX_EPOCH};
use vmint_model::{ErrorKind, Fault, Generation, Link, MachineId, Name};
use vmint_protocol::{NetworkConfig, Prepare, SshHostKey};

/// A fresh identity: every call gives other random numbers, another machine id, MAC and host key.
pub fn fresh(name: &Name, generation: Generation, net: Link) -> Result<Prepare, Fault> {
    let random = |bytes: &mut [u8]| {
        getrandom::fill(bytes).map_err(|e| {
            Fault::new(
                ErrorKind::Host,
                format!("the host has no random numbers: {e}"),
            )
        })
    };
    let mut seed = vec![0; 64];
    random(&mut seed)?;
    let mut machine_id = [0; 16];
    random(&mut machine_id)?;
    // As a version 4 UUID, which systemd makes of it too.
    machine_id[6] = machine_id[6] & 0x0f | 0x40;
    machine_id[8] = machine_id[8] & 0x3f | 0x80;
    let mut mac = [0x52, 0x54, 0, 0, 0, 0];
    random(&mut mac[3..])?;
    random(&mut mac[2..3])?;
    let network = (net == Link::Nat).then_some(NetworkConfig {
        mac,
        address: [10, 0, 2, 15],
        prefix: 24,
        gateway: [10, 0, 2, 2],
        dns: [10, 0, 2, 3],
    });
    Ok(Prepare {
        hostname: name.to_string(),
        machine_id,
        seed,
        realtime_ns: now_ns(),
        generation: generation.0,
        ssh_host_keys: vec![host_key(name)?],
        network,
    })
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
    getrandom::fill(&mut secret).map_err(|e| Fault::new(ErrorKind::Host, e.to_string()))?;
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
}
