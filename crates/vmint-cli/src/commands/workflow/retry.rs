//! `workflow retry`: a run once more, from a step on, as it was started.

use super::{asked, run, secrets};
use crate::args::workflow::Retry;
use crate::context::Context;
use crate::values::SecretArg;
use std::ffi::OsString;
use vmint::Fault;

/// `vmint workflow retry`.
pub fn retry(context: Context, args: Retry) -> Result<u8, Fault> {
    let target = asked::report(args.report)?;
    let (asked, secrets) = {
        let vmint = context.open()?;
        let record = vmint.run_record(&args.run)?;
        let again = vmint.again(&record.id)?;
        let from = match args.from {
            Some(from) => from,
            None => vmint.failed_step(&record)?,
        };
        let mut asked = again.asked;
        asked.resume = Some((record.id.to_string(), from));
        (asked, again.secrets)
    };
    let mut given = secrets::read(context, &args.secrets, &args.secret_files)?;
    // The others that the run had: from the environment, or asked for.
    let is_given = |name: &String| {
        given
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let missing: Vec<SecretArg> = secrets
        .iter()
        .filter(|name| !is_given(name))
        .map(|name| SecretArg::from(OsString::from(name)))
        .collect();
    given.extend(secrets::read(context, &missing, &[])?);
    let secrets = given.into_iter().map(|(name, secret)| (name, secret.0));
    let asked = vmint::workflow::Asked {
        secrets: secrets.collect(),
        ..asked
    };
    run::carry_out(context, &asked, target.as_deref())
}
