//! The table `[admission]`.

use super::document::{Form, Named};
use super::error::ConfigError;
use super::keys;
use super::parse;
use super::sections::{Env, Settings, nowhere, variable};
use crate::{Admission, Terms};

/// Of the environment alone.
pub(super) fn from_environment(env: Env<'_>) -> Result<Admission, ConfigError> {
    let nowhere = Named::top(None).table("admission")?;
    admission(&nowhere, env, &mut Settings::default())
}

pub(super) fn admission(
    table: &Named<'_>,
    env: Env<'_>,
    settings: &mut Settings,
) -> Result<Admission, ConfigError> {
    table.only(&keys::ADMISSION, nowhere)?;
    let usual = Admission::default();
    macro_rules! setting {
        ($key:literal, $variable:literal, $form:expr, $parse:path, $default:expr) => {{
            let in_file = table.get($key, $form, $parse)?;
            let given = variable(env, $variable, $parse)?.or(in_file);
            settings.keep(table.key($key), given, $default)
        }};
    }
    Ok(Admission {
        terms: Terms {
            on_pressure: setting!(
                "on-pressure",
                "VMINT_ADMISSION_ON_PRESSURE",
                Form::Text,
                parse::on_pressure,
                usual.terms.on_pressure
            ),
            timeout: setting!(
                "timeout",
                "VMINT_ADMISSION_TIMEOUT",
                Form::TextOrNumber,
                parse::duration,
                usual.terms.timeout
            ),
        },
        overcommit: setting!(
            "overcommit",
            "VMINT_ADMISSION_OVERCOMMIT",
            Form::Fraction,
            parse::factor,
            usual.overcommit
        ),
        swap_percent: setting!(
            "swap-percent",
            "VMINT_ADMISSION_SWAP_PERCENT",
            Form::Number,
            parse::percent,
            usual.swap_percent
        ),
        pressure: setting!(
            "pressure",
            "VMINT_ADMISSION_PRESSURE",
            Form::Number,
            parse::percent,
            usual.pressure
        ),
        cold_boots: setting!(
            "cold-boots",
            "VMINT_ADMISSION_COLD_BOOTS",
            Form::Number,
            parse::one_or_more,
            usual.cold_boots
        ),
        forks: setting!(
            "forks",
            "VMINT_ADMISSION_FORKS",
            Form::Number,
            parse::machines,
            usual.forks
        ),
    })
}
