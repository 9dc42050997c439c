//! Where distributions put what every program needs to start, as data.

use crate::rules::Rules;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Programs and libraries.
const LIBRARIES: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/libexec"];
/// What a script may call that starts the real program, as some distributions have one.
const PROGRAMS: &[&str] = &["/bin", "/usr/bin", "/usr/local/bin", "/nix/store"];
/// What the C library reads when a program starts.
const DATA: &[&str] = &[
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system",
    "/dev/random",
    "/dev/urandom",
];
const WRITTEN: &[&str] = &["/dev/null", "/dev/zero"];

impl Rules {
    /// Allows what these programs need to start: themselves, libraries, and the devices of every process.
    #[must_use]
    pub fn programs(self, programs: &[&Path]) -> Self {
        let mut rules = LIBRARIES.iter().fold(self, Self::run);
        for program in programs {
            rules = rules.run(program);
            rules = beside(program).iter().fold(rules, Self::run);
        }
        if programs.iter().any(|program| is_script(program)) {
            rules = PROGRAMS.iter().fold(rules, Self::run);
        }
        rules = DATA.iter().fold(rules, Self::read);
        WRITTEN.iter().fold(rules, Self::write)
    }
}

fn is_script(program: &Path) -> bool {
    let mut begin = [0; 2];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"#!"
}

/// Libraries and data of a program that is not the distribution's: `PREFIX/bin` has `PREFIX/lib` and `PREFIX/share/qemu`
/// beside it.
fn beside(program: &Path) -> Vec<PathBuf> {
    let program = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let prefix = program.parent().and_then(Path::parent);
    let prefix = prefix.filter(|prefix| *prefix != Path::new("/usr") && *prefix != Path::new("/"));
    let folders = ["lib", "lib64", "libexec", "share/qemu"];
    prefix.map_or_else(Vec::new, |prefix| {
        folders.map(|name| prefix.join(name)).into()
    })
}
