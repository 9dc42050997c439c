//! Which pool a test's machine is lent from, and that it is there.

use super::Asked;
use crate::blocking::{self, Lease};
use crate::config::Config;
use crate::pools::suit::{of_image, pool_name};
use crate::{Acquire, ErrorKind, Fault, Force, Name, NetMode, PoolSpec, PoolState};
use std::time::Duration;
use vmint_image::Silent;

/// A machine of a pool of tests that nobody has goes so long after it was made.
pub const MACHINE_TTL: Duration = Duration::from_secs(60);

/// The pool to lend from instead of one of the tests' own.
const POOL_VARIABLE: &str = "VMINT_TEST_POOL";
const PURPOSE: &str = "test";
/// A pool of tests that has had no machine and is older than this goes when another one is made.
const FORGOTTEN_AFTER_MS: i64 = 3_600_000;
/// A pool can be removed by another run between our looking and our asking, but not over and over.
const ATTEMPTS: u32 = 5;
/// How long a pool that is being removed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// Lends a machine to a test.
pub(crate) fn lend(
    vmint: &blocking::Vmint,
    config: &Config,
    asked: &Asked,
    how: &Acquire,
) -> Result<Lease, Fault> {
    let wanted = wanted(config, asked)?;
    let variable = std::env::var(POOL_VARIABLE).ok().filter(|n| !n.is_empty());
    if let Some(name) = asked.pool.map(str::to_owned).or(variable) {
        let name: Name = name.parse().map_err(|e: vmint_model::InvalidName| {
            Fault::new(ErrorKind::Usage, format!("there is no pool {name:?}: {e}"))
        })?;
        declare(vmint, config, &name)?;
        let pool = vmint.pool(name.as_str())?;
        suits(&name, &pool.status()?.pool.spec, &wanted, asked)?;
        return pool.acquire(how.clone());
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        let name = ensure(vmint, config, &wanted)?;
        let lease = vmint
            .pool(name.as_str())
            .and_then(|pool| pool.acquire(how.clone()));
        match lease {
            Err(fault)
                if attempt < ATTEMPTS
                    && matches!(fault.kind, ErrorKind::PoolClosed | ErrorKind::NotFound) => {}
            other => return other,
        }
    }
}

/// The machines that a test asks for, as a pool of its own would have them.
fn wanted(config: &Config, asked: &Asked) -> Result<PoolSpec, Fault> {
    let usage = |e: String| Fault::new(ErrorKind::Usage, e);
    let defaults = &config.defaults;
    let memory = asked.memory.map(str::parse).transpose();
    let memory = memory.map_err(|e: vmint_model::size::InvalidSize| usage(e.to_string()))?;
    let net = asked.net.map(str::parse::<NetMode>).transpose();
    Ok(PoolSpec {
        image: asked
            .image
            .map_or_else(|| defaults.image.to_string(), str::to_owned),
        memory: memory.unwrap_or(defaults.memory),
        cpus: asked.cpus.unwrap_or(defaults.cpus),
        net: net
            .map_err(|e| usage(e.to_string()))?
            .unwrap_or_else(|| defaults.net.clone()),
        limits: defaults.limits,
        // None is made that no test asks for, and none is replaced that has gone.
        min: 0,
        max: at_once(|name| std::env::var(name).ok()),
        // More than one only while short tests take them.
        standby: 4,
        ttl_ms: Some(MACHINE_TTL.as_millis() as u64),
        max_uses: None,
    })
}

/// How many tests may run at once.
fn at_once(env: impl Fn(&str) -> Option<String>) -> u32 {
    let number = |name| env(name).and_then(|text| text.parse::<u32>().ok());
    let processors = std::thread::available_parallelism().map_or(2, usize::from) as u32;
    let threads = if env("NEXTEST").is_some() {
        number("NEXTEST_TEST_THREADS")
    } else {
        number("RUST_TEST_THREADS")
    };
    // Slots are counted from 0, and one is never higher than tests run at once.
    let slot = number("NEXTEST_TEST_GLOBAL_SLOT").map_or(1, |slot| slot.saturating_add(1));
    threads.unwrap_or(processors).max(slot).clamp(1, 10_000)
}

/// The name of the tests' pool of such machines.
fn name_of(spec: &PoolSpec) -> Name {
    pool_name(PURPOSE, spec)
}

/// Makes sure of the tests' pool of such machines: that it is there, that it lends, that it is large enough.
fn ensure(vmint: &blocking::Vmint, config: &Config, wanted: &PoolSpec) -> Result<Name, Fault> {
    let name = name_of(wanted);
    let status = match vmint.inner().pool_status(&name) {
        Ok(status) => status,
        Err(fault) if fault.kind == ErrorKind::NotFound => {
            forget_old(vmint)?;
            make(vmint, config, &name, wanted.clone())?;
            return Ok(name);
        }
        Err(fault) => return Err(fault),
    };
    if status.pool.state == PoolState::Removing {
        vmint.remove_pool(&name, Force::No, GONE_WITHIN)?;
        make(vmint, config, &name, wanted.clone())?;
        return Ok(name);
    }
    of_image(&name, &status.pool.spec.image, &wanted.image)?;
    if status.pool.state == PoolState::Drained || status.pool.spec.max < wanted.max {
        let max = status.pool.spec.max.max(wanted.max);
        vmint.resize_pool(&name, None, Some(max), &Silent)?;
    }
    Ok(name)
}

/// Makes a pool, unless another process has been faster.
fn make(
    vmint: &blocking::Vmint,
    config: &Config,
    name: &Name,
    spec: PoolSpec,
) -> Result<(), Fault> {
    vmint.wait(vmint.inner().ensure_declared(config, &spec.image, &Silent))?;
    match vmint.create_pool(name, spec, &Silent) {
        Err(fault) if fault.kind == ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Makes a pool that `vmint.toml` declares and that is not there yet. It must be there then.
fn declare(vmint: &blocking::Vmint, config: &Config, name: &Name) -> Result<(), Fault> {
    let inner = vmint.inner();
    vmint.wait(inner.ensure_declared_pool(config, name.as_str(), &Silent))?;
    inner.pool_status(name).map(drop)
}

/// A test that would run in another machine than it says proves nothing.
fn suits(name: &Name, has: &PoolSpec, wanted: &PoolSpec, asked: &Asked) -> Result<(), Fault> {
    let differ = |key: &str, has: String, wants: String| {
        let message =
            format!("pool {name} has machines with {key} {has}, and this test asks for {wants}");
        Err(Fault::new(ErrorKind::Usage, message)
            .hint("leave it out of the attribute, or name another pool"))
    };
    if asked.image.is_some() {
        of_image(name, &has.image, &wanted.image)?;
    }
    if asked.memory.is_some() && has.memory != wanted.memory {
        return differ("memory", has.memory.to_string(), wanted.memory.to_string());
    }
    if asked.cpus.is_some() && has.cpus != wanted.cpus {
        return differ("cpus", has.cpus.to_string(), wanted.cpus.to_string());
    }
    if asked.net.is_some() && has.net != wanted.net {
        return differ("net", has.net.to_string(), wanted.net.to_string());
    }
    Ok(())
}

/// Removes the tests' pools that earlier runs have left: without machines, and old.
fn forget_old(vmint: &blocking::Vmint) -> Result<(), Fault> {
    let now = vmint_store::now_ms();
    for status in vmint.pools()? {
        let (pool, counts) = (&status.pool, &status.counts);
        let is_ours = pool.name == name_of(&pool.spec) && pool.spec.min == 0;
        let is_old = now - pool.created_at_ms > FORGOTTEN_AFTER_MS;
        if is_ours && is_old && counts.alive() == 0 && counts.waiting == 0 {
            match vmint.remove_pool(&pool.name, Force::No, GONE_WITHIN) {
                // Another process was faster, or has begun to use it again.
                Err(fault)
                    if matches!(
                        fault.kind,
                        ErrorKind::NotFound | ErrorKind::TimedOut | ErrorKind::PoolClosed
                    ) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_machines_as_tests_run_at_once() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        let threads = env(&[("NEXTEST", "1"), ("NEXTEST_TEST_THREADS", "7")]);
        assert_eq!(at_once(threads), 7);
        let slot = env(&[
            ("NEXTEST", "1"),
            ("NEXTEST_TEST_THREADS", "2"),
            ("NEXTEST_TEST_GLOBAL_SLOT", "4"),
        ]);
        assert_eq!(at_once(slot), 5);
        assert_eq!(at_once(env(&[("RUST_TEST_THREADS", "3")])), 3);
        assert!(at_once(env(&[])) >= 1);
        assert_eq!(at_once(env(&[("RUST_TEST_THREADS", "0")])), 1);
    }

    #[test]
    fn a_named_pool_must_be_what_the_test_asks_for() {
        let name: Name = "ci".parse().unwrap();
        let has = PoolSpec::of("debian:12");
        let wanted = PoolSpec::of("tiny");
        assert!(suits(&name, &has, &wanted, &Asked::NOTHING).is_ok());
        let asked = Asked {
            image: Some("tiny"),
            ..Asked::NOTHING
        };
        let fault = suits(&name, &has, &wanted, &asked).unwrap_err();
        assert!(
            fault.message.contains("debian:12") && fault.message.contains("tiny"),
            "{fault}"
        );
    }
}
