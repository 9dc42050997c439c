//! Where Debian's packages come from.

use crate::command::Program;
use crate::fsx;
use crate::recipe::Debian;
use std::fs;
use std::path::Path;

/// The setting that names a mirror.
const SETTING: &str = "VMINT_DEBIAN_MIRROR";

/// Lines for `sources.list`; none where nothing better is known than mmdebstrap's own choice.
///
/// A mirror in `VMINT_DEBIAN_MIRROR` wins. Else the host's own is used if the host is a Debian: it can be reached.
pub(crate) fn sources(release: Debian) -> Vec<String> {
    if let Some(mirror) = std::env::var(SETTING).ok().filter(|m| !m.is_empty()) {
        return lines(release, mirror.trim_end_matches('/'), None);
    }
    let uris = host_uris(Path::new("/etc/apt"));
    let find = |end: &str| {
        uris.iter()
            .map(|uri| uri.trim_end_matches('/'))
            .find(|uri| uri.ends_with(end))
    };
    match find("/debian") {
        None => Vec::new(),
        Some(mirror) => lines(release, mirror, find("/debian-security")),
    }
}

fn lines(release: Debian, mirror: &str, security: Option<&str>) -> Vec<String> {
    let suite = release.codename();
    let mut lines = vec![
        format!("deb {mirror} {suite} main"),
        format!("deb {mirror} {suite}-updates main"),
    ];
    lines.extend(security.map(|security| format!("deb {security} {suite}-security main")));
    lines
}

/// The host's proxy for HTTP, which mmdebstrap's apt does not know of by itself.
pub(crate) fn proxy() -> Option<String> {
    let output = Program::new("apt-config")
        .args(["shell", "PROXY", "Acquire::http::Proxy"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output);
    let proxy = text
        .trim()
        .strip_prefix("PROXY=")?
        .trim_matches('\'')
        .to_owned();
    (!proxy.is_empty() && !proxy.contains(['"', '\n', ';'])).then_some(proxy)
}

fn host_uris(apt: &Path) -> Vec<String> {
    let mut uris = Vec::new();
    let mut read = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let deb822 = path.extension().is_some_and(|e| e == "sources");
        uris.extend(if deb822 {
            deb822_uris(&text)
        } else {
            one_line_uris(&text)
        });
    };
    read(&apt.join("sources.list"));
    let parts = apt.join("sources.list.d");
    for name in fsx::names(&parts).unwrap_or_default() {
        read(&parts.join(name));
    }
    uris
}

/// `deb [options] URI suite component…`
fn one_line_uris(text: &str) -> Vec<String> {
    let uri = |line: &str| {
        let rest = line.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = if rest.starts_with('[') {
            rest.split_once(']')?.1
        } else {
            rest
        };
        rest.split_whitespace().next().map(str::to_owned)
    };
    text.lines().filter_map(uri).collect()
}

/// `URIs: URI…` in stanzas that may be switched off.
fn deb822_uris(text: &str) -> Vec<String> {
    let field = |stanza: &str, name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    text.split("\n\n")
        .filter(|stanza| field(stanza, "Enabled").is_none_or(|v| v != "no"))
        .filter_map(|stanza| field(stanza, "URIs"))
        .flat_map(|uris| {
            uris.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_sources_are_read() {
        let text = "# deb http://no/debian x main\ndeb http://a/debian bookworm main\n\
            deb [arch=amd64 signed-by=/x] http://b/debian-security bookworm-security main\ndeb-src http://c/debian x main\n";
        assert_eq!(
            one_line_uris(text),
            ["http://a/debian", "http://b/debian-security"]
        );
        let text = "Types: deb\nURIs: http://a/debian http://b/debian\nSuites: x\n\nEnabled: no\nURIs: http://c/debian\n";
        assert_eq!(deb822_uris(text), ["http://a/debian", "http://b/debian"]);
    }
}
