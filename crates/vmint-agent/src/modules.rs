//! Kernel modules that the host put into the initramfs.

use crate::console;
use rustix::io::Errno;
use std::path::Path;

/// Loads the modules that `order` in `folder` names, in that order, and removes their files: what a module holds in
/// the initramfs is memory of every machine.
pub fn load_all(folder: &Path) {
    let Ok(order) = std::fs::read_to_string(folder.join("order")) else {
        return;
    };
    for name in order.split_ascii_whitespace() {
        let path = folder.join(name);
        match std::fs::File::open(&path) {
            Ok(file) => match rustix::system::finit_module(&file, c"", 0) {
                // Built in, loaded already, or for hardware that this machine has not.
                Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
                Err(e) => console::say(&format!("cannot load {}: {e}", path.display())),
            },
            Err(e) => console::say(&format!("cannot open {}: {e}", path.display())),
        }
    }
    // They have done their work, loaded or not.
    if let Err(e) = std::fs::remove_dir_all(folder) {
        console::say(&format!("cannot remove {}: {e}", folder.display()));
    }
}
