//! `vmint` as a whole process against what it cannot do without.

use super::process::ms;
use super::report::{Row, Rows, Unit};
use super::rig::{MEMORY, Rig, bare_command, in_long_turns, in_turn, kill, spec, succeeded};
use super::targets;
use std::path::Path;
use std::time::Instant;
use vmint_model::{Fault, Origin};
use vmint_runner::Session;

/// `vmint run -- true` against fork, first command and removal in this process, with the same runner.
pub(crate) async fn run(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let template = rig.template(MEMORY).await?;
    let process = async || rig.time(rig.program(&["run", "--", "true"]));
    let library = async || {
        let began = Instant::now();
        let machine = rig
            .start(rig.machine("tiny", MEMORY, Origin::Template))
            .await?;
        rig.execute(&machine, &["true"]).await?;
        rig.remove(&machine).await?;
        Ok(ms(began.elapsed()))
    };
    let (processes, libraries) = in_turn(rig.count(30, 8), process, library).await?;
    let what = "`vmint run -- true`, whole process";
    let row = Row::new("run", what, Unit::Milliseconds, &processes)
        .floor("fork, first command and removal in process", &libraries)
        .target(targets::RUN);
    rows.push(row);
    let alone = async || {
        let began = Instant::now();
        let live = rig.live(&template).await?;
        round_trip(&live.session).await?;
        kill(live.hypervisor).await?;
        Ok(ms(began.elapsed()))
    };
    let (processes, alone) = in_turn(rig.count(15, 4), process, alone).await?;
    let row = Row::new("run", what, Unit::Milliseconds, &processes)
        .floor("the same in process, without a runner", &alone)
        .note(
            "stricter than asked: a machine's own process, record, lock and folder count as cost",
        );
    rows.push(row);
    Ok(())
}

/// `vmint exec NAME -- true` against the round trip of the same in a session that is open already.
pub(crate) async fn exec(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let template = rig.template(MEMORY).await?;
    let machine = rig
        .start(rig.machine("tiny", MEMORY, Origin::Template))
        .await?;
    let live = rig.live(&template).await?;
    let process = async || rig.time(rig.program(&["exec", machine.name.as_str(), "--", "true"]));
    let agent = async || timed_round_trip(&live.session).await;
    let (processes, trips) = in_long_turns(rig.count(100, 50), process, agent).await?;
    let what = "`vmint exec NAME -- true`, whole process";
    let row = Row::new("exec", what, Unit::Milliseconds, &processes)
        .floor("the agent's own round trip", &trips)
        .target(targets::EXEC);
    rows.push(row);
    kill(live.hypervisor).await?;
    let session = rig.vmint.client(&machine).session().await?;
    let relayed = async || timed_round_trip(&session).await;
    let (processes, trips) = in_turn(rig.count(50, 20), process, relayed).await?;
    let row = Row::new("exec", what, Unit::Milliseconds, &processes)
        .floor("a round trip in an open session through the runner", &trips);
    rows.push(row);
    Ok(())
}

async fn round_trip(session: &Session) -> Result<(), Fault> {
    let argv = ["true"];
    let status = session.exec(spec(&argv), |_, _| {}).await?;
    succeeded(status, &argv, b"")
}

async fn timed_round_trip(session: &Session) -> Result<f64, Fault> {
    let began = Instant::now();
    round_trip(session).await?;
    Ok(ms(began.elapsed()))
}

/// `vmint --version` and `vmint ls` against `git --version`.
pub(crate) async fn cli(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    // Something to list, and nothing that takes the processor.
    rig.template(MEMORY).await?;
    let machine = rig
        .start(rig.machine("tiny", MEMORY, Origin::Template))
        .await?;
    rig.vmint.pause(machine.id.as_str()).await?;
    for (what, arguments) in [("`vmint --version`", "--version"), ("`vmint ls`", "ls")] {
        let vmint = async || rig.time(rig.program(&[arguments]));
        let git = async || {
            let mut git = bare_command(Path::new("git"));
            git.arg("--version");
            rig.time(git)
        };
        let (vmints, gits) = in_turn(rig.count(80, 50), vmint, git).await?;
        let row = Row::new(
            "cli",
            format!("{what}, whole process"),
            Unit::Milliseconds,
            &vmints,
        )
        .floor("`git --version`", &gits)
        .target(targets::CLI);
        rows.push(row);
    }
    Ok(())
}
