//! What the host tells the agent on the kernel's command line.

/// Which init is started in the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// The root's own, if it has one.
    Auto,
    /// None: the agent stays PID 1.
    None,
    /// This one.
    Path(String),
}

/// The agent's part of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `vmint.root=`: the root's block device; absent when the initramfs is the root.
    pub root: Option<String>,
    /// `vmint.rootfstype=`: its file system, `ext4` by default.
    pub root_type: String,
    /// `vmint.init=`: `auto` (the default), `none`, or a path in the root.
    pub init: Init,
}

/// Reads `/proc/cmdline`. The last of several equal words wins, as for the kernel.
pub fn parse(line: &str) -> Options {
    let mut options = Options {
        root: None,
        root_type: "ext4".to_owned(),
        init: Init::Auto,
    };
    for word in line.split_ascii_whitespace() {
        match word.split_once('=') {
            Some(("vmint.root", device)) => {
                options.root = Some(device.to_owned()).filter(|d| !d.is_empty());
            }
            Some(("vmint.rootfstype", name)) => name.clone_into(&mut options.root_type),
            Some(("vmint.init", "auto")) => options.init = Init::Auto,
            Some(("vmint.init", "none")) => options.init = Init::None,
            Some(("vmint.init", path)) => options.init = Init::Path(path.to_owned()),
            _ => {}
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_the_initramfs_is_the_root() {
        let options = parse("console=ttyS0 quiet\n");
        assert_eq!(
            options,
            Options {
                root: None,
                root_type: "ext4".into(),
                init: Init::Auto
            }
        );
    }

    #[test]
    fn the_last_word_wins() {
        let options = parse(
            "vmint.root=/dev/vdb vmint.root=/dev/vda vmint.rootfstype=xfs vmint.init=/bin/init",
        );
        assert_eq!(options.root.as_deref(), Some("/dev/vda"));
        assert_eq!(options.root_type, "xfs");
        assert_eq!(options.init, Init::Path("/bin/init".into()));
        assert_eq!(parse("vmint.init=none").init, Init::None);
    }
}
