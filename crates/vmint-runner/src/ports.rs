//! Which ports of the host lead into a guest.

use vmint_model::{Fault, Publish};
use vmint_qemu::Hypervisor;

/// The ports that are open: where the host was to choose, QEMU tells which it chose.
pub(crate) async fn published(
    hypervisor: &Hypervisor,
    wanted: &[Publish],
) -> Result<Vec<Publish>, Fault> {
    if wanted.iter().all(|p| p.host != 0) {
        return Ok(wanted.to_vec());
    }
    let arguments = serde_json::json!({ "command-line": "info usernet" });
    let answer = hypervisor
        .qmp()
        .execute_raw("human-monitor-command", arguments)
        .await?;
    let text = answer.as_str().unwrap_or_default();
    Ok(wanted
        .iter()
        .map(|p| {
            if p.host == 0 {
                forwarded(text, p.guest).unwrap_or(*p)
            } else {
                *p
            }
        })
        .collect())
}

/// Finds the host's port in a line such as `TCP[HOST_FORWARD] 12 127.0.0.1 40123 10.0.2.15 80 0 0`.
fn forwarded(usernet: &str, guest: u16) -> Option<Publish> {
    usernet
        .lines()
        .filter(|l| l.contains("HOST_FORWARD"))
        .find_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let found: u16 = fields.get(5)?.parse().ok()?;
            (found == guest).then_some(Publish {
                host: fields.get(3)?.parse().ok()?,
                guest,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_choice_of_a_port_is_read_from_qemus_table() {
        let table = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
            TCP[HOST_FORWARD]  13       127.0.0.1 40123       10.0.2.15    80     0     0\n  \
            TCP[HOST_FORWARD]  14       127.0.0.1 40999       10.0.2.15    22     0     0\n";
        assert_eq!(
            forwarded(table, 22),
            Some(Publish {
                host: 40999,
                guest: 22
            })
        );
        assert_eq!(forwarded(table, 443), None);
    }
}
