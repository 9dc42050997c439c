//! Messages for whoever reads the machine's console.

use rustix::system::RebootCommand;
use std::io::Write;

/// Records a message in the kernel's log; on a quiet console it is not shown.
pub fn say(message: &str) {
    // Without /dev there is nobody to tell.
    if let Ok(mut log) = std::fs::File::options().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("<6>vmint-agent: {message}\n").as_bytes());
    }
}

/// Records a message, and shows it on the console.
pub fn tell(message: &str) {
    say(message);
    if let Ok(mut console) = std::fs::File::options().write(true).open("/dev/console") {
        let _ = console.write_all(format!("\nvmint-agent: {message}\n").as_bytes());
    }
}

/// Says why the machine cannot go on, and powers it off: a host that waits shall read a reason and not hang.
pub fn fatal(message: &str) -> ! {
    tell(&format!("fatal: {message}"));
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    // Only without the right to power off: then this process is no init, and its end is not the machine's.
    crate::sys::exit(1)
}
