//! What a single value may be; the same in the file and in the environment. The error says what is wrong with it, and
//! is read after “cannot be VALUE:”.

use super::{AcceleratorChoice, LEAST_MEMORY};
use crate::admit::{InvalidOnPressure, OnPressure};
use std::time::Duration;
use vmint_image::{ImageName, ImportSource};
use vmint_model::spec::{MOST_CPUS, MOST_MEMORY};
use vmint_model::{ByteSize, Confine, InvalidNetMode, NetMode, parse_duration};
use vmint_pool::admission::{Factor, InvalidFactor};

/// More machines than a pool can have on any host; a slip of the finger.
const MOST_MACHINES: u32 = 100_000;

pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn text(s: &str) -> Parsed<String> {
    match s {
        "" => Err("it is empty".to_owned()),
        s if s.contains('\0') => Err("it contains a zero byte".to_owned()),
        s => Ok(s.to_owned()),
    }
}

/// A program of an image, by its path there.
pub(super) fn program_of_image(s: &str) -> Parsed<String> {
    let wrong = || "write the absolute path of the program in the image, without “..”, such as /opt/node/bin/node";
    let path = text(s)?;
    let is_program = path.starts_with('/')
        && !path.ends_with('/')
        && !path.split('/').any(|part| part == "..")
        && !path.contains(char::is_control);
    if is_program {
        Ok(path)
    } else {
        Err(wrong().to_owned())
    }
}

pub(super) fn image(s: &str) -> Parsed<ImageName> {
    s.parse().map_err(|_| {
        "an image's name is 1 to 128 of letters, digits and . _ - : / @ +, starting with a letter or digit".to_owned()
    })
}

pub(super) fn import(s: &str) -> Parsed<ImportSource> {
    s.parse::<ImportSource>().map_err(|e| e.to_string())
}

/// Memory, or the size of a disk.
pub(super) fn memory(s: &str) -> Parsed<ByteSize> {
    let size: ByteSize = s
        .parse()
        .map_err(|_| "write 512M, 4G or a number of bytes".to_owned())?;
    if size < LEAST_MEMORY {
        return Err(format!("the minimum is {LEAST_MEMORY}"));
    }
    if size > MOST_MEMORY {
        return Err(format!("the most is {MOST_MEMORY}"));
    }
    if !size.0.is_multiple_of(1 << 20) {
        return Err("it must be a whole number of MiB".to_owned());
    }
    Ok(size)
}

pub(super) fn cpus(s: &str) -> Parsed<u32> {
    number(s, 1, MOST_CPUS)
}

pub(super) fn machines(s: &str) -> Parsed<u32> {
    number(s, 0, MOST_MACHINES)
}

pub(super) fn one_or_more(s: &str) -> Parsed<u32> {
    number(s, 1, u32::MAX)
}

fn number(s: &str, least: u32, most: u32) -> Parsed<u32> {
    s.parse()
        .ok()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| format!("it must be a whole number from {least} to {most}"))
}

/// What a machine may take of its host.
pub(super) fn limit<T: std::str::FromStr<Err: std::fmt::Display>>(s: &str) -> Parsed<T> {
    s.parse().map_err(|e: T::Err| e.to_string())
}

pub(super) fn net(s: &str) -> Parsed<NetMode> {
    s.parse().map_err(|e| match e {
        InvalidNetMode::Unknown(_) => "it must be none, nat or allow:DOMAIN[,DOMAIN…]".to_owned(),
        InvalidNetMode::List(e) => format!("`{}` {}", e.entry, e.fault),
    })
}

pub(super) fn accelerator(s: &str) -> Parsed<AcceleratorChoice> {
    if s == "auto" {
        return Ok(AcceleratorChoice::Auto);
    }
    s.parse()
        .map(AcceleratorChoice::Only)
        .map_err(|_| "it is auto, kvm or tcg".to_owned())
}

pub(super) fn confine(s: &str) -> Parsed<Confine> {
    s.parse()
        .map_err(|_| "it must be best, require or off".to_owned())
}

/// A file comes with a checkout, and must not take away what protects from it.
pub(super) fn confine_in_file(s: &str) -> Parsed<Confine> {
    match confine(s) {
        Ok(Confine::Off) | Err(_) => Err(
            "it must be best or require; only the variable VMINT_CONFINE can say off".to_owned(),
        ),
        other => other,
    }
}

/// Which users there are is a matter of the host, and who runs what of its administrator.
pub(super) fn run_as_in_file(_: &str) -> Parsed<String> {
    Err("only --run-as and the variable VMINT_RUN_AS can set it".to_owned())
}

pub(super) fn percent(s: &str) -> Parsed<u32> {
    number(s, 0, 100)
}

pub(super) fn factor(s: &str) -> Parsed<Factor> {
    s.parse().map_err(|e: InvalidFactor| e.to_string())
}

pub(super) fn on_pressure(s: &str) -> Parsed<OnPressure> {
    s.parse().map_err(|e: InvalidOnPressure| e.to_string())
}

pub(super) fn flag(s: &str) -> Parsed<bool> {
    match s {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("it is 1 or 0, true or false".to_owned()),
    }
}

pub(super) fn duration(s: &str) -> Parsed<Duration> {
    match parse_duration(s) {
        Ok(duration) if duration.as_millis() == 0 => Err("the minimum is 1ms".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("write 500ms, 10s, 5m, 1h or a number of seconds".to_owned()),
    }
}
