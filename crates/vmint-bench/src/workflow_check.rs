//! How long it takes to read and check a long workflow.

use super::process::ms;
use super::report::Rows;
use super::rig::Rig;
use super::targets;
use super::workflow::row;
use super::workflow_rig::write;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;
use vmint::workflow::check::{self, Mirror};
use vmint::workflow::labels::LeftOut;
use vmint_model::{ErrorKind, Fault};

/// Lines of the workflow.
const LINES: usize = 2000;

/// Jobs, each one in need of the one before, with what real ones have: a matrix, expressions, actions, scripts.
const JOB: &str = r#"  job-N:
    name: Job N of ${{ github.workflow }} on ${{ matrix.os }} with ${{ matrix.version }}
    needs: [BEFORE]
    if: ${{ !cancelled() && (github.event_name == 'push' || contains(github.ref, 'refs/heads/')) }}
    runs-on: ${{ matrix.os }}
    timeout-minutes: 30
    strategy:
      fail-fast: false
      matrix:
        os: [ubuntu-latest, ubuntu-24.04]
        version: ["1.0", "1.1", "2.0"]
        include:
          - os: ubuntu-latest
            version: nightly
            experimental: true
        exclude:
          - os: ubuntu-24.04
            version: "1.0"
    env:
      LEVEL: ${{ startsWith(github.ref, 'refs/tags/') && 'release' || 'debug' }}
      EARLIER: ${{ join(needs.*.result, ', ') }}
    outputs:
      digest: ${{ steps.build.outputs.digest }}
    defaults:
      run:
        shell: bash
        working-directory: .
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - name: Cache for ${{ runner.os }}
        uses: actions/cache@v4
        with:
          path: target
          key: ${{ runner.os }}-${{ matrix.version }}-${{ hashFiles('**/Cargo.lock') }}
      - id: build
        name: Build ${{ matrix.version }}
        env:
          TOKEN: ${{ secrets.TOKEN }}
        run: |
          echo "building ${{ matrix.version }} at $LEVEL"
          echo "digest=${{ github.sha }}" >> "$GITHUB_OUTPUT"
      - name: Test
        if: ${{ success() && steps.build.outputs.digest != '' && !matrix.experimental }}
        continue-on-error: ${{ fromJSON('[true, false]')[1] }}
        run: make test VERSION=${{ format('{0}-{1}', matrix.version, env.LEVEL) }}
      - if: ${{ failure() }}
        uses: actions/upload-artifact@v4
        with:
          name: logs-${{ strategy.job-index }}
          path: |
            target/**/*.log
            !target/tmp
"#;

/// A workflow of exactly so many lines.
fn generated() -> String {
    let mut text = "name: long\non: [push, pull_request]\nenv:\n  CI: true\njobs:\n  job-0:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo begin\n"
        .to_owned();
    let left = |text: &str| LINES - text.lines().count();
    let per_job = JOB.lines().count();
    for n in 1.. {
        if left(&text) < per_job {
            break;
        }
        let before = format!("job-{}", n - 1);
        let job = JOB.replace("job-N", &format!("job-{n}"));
        let job = job.replace("Job N", &format!("Job {n}"));
        text.push_str(&job.replace("BEFORE", &before));
    }
    // Steps of the last job.
    while left(&text) > 0 {
        let n = left(&text);
        let _ = writeln!(text, "      - run: echo ${{{{ github.sha }}}} {n}");
    }
    text
}

/// A workflow of 2,000 lines, read and checked in this process; and the whole of `vmint workflow check`.
pub(crate) fn check(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let text = generated();
    let file = write(rig, "long", &text)?;
    let mut samples = Vec::new();
    for _ in 0..=20 {
        let began = Instant::now();
        checked(&text)?;
        samples.push(ms(began.elapsed()));
    }
    let what = format!("parsing and checking a workflow of {LINES} lines");
    rows.push(row(&what, &samples[1..]).target(targets::WORKFLOW_CHECK));
    let mut processes = Vec::new();
    for _ in 0..=rig.count(20, 5) {
        let mut command = rig.program(&["workflow", "check"]);
        command.arg(&file);
        processes.push(rig.time(command)?);
    }
    let what = "  the same file by `vmint workflow check`, the whole process";
    rows.push(row(what, &processes[1..]));
    Ok(())
}

fn checked(text: &str) -> Result<(), Fault> {
    let options = check::Options {
        repository: Path::new("/nonexistent"),
        files: &check::Disk,
        actions: &Mirror::default(),
        left_out: &LeftOut::default(),
        labels: None,
        slug: "",
        selection: check::Selection::default(),
    };
    let checked = check::check(Path::new("long.yml"), text.as_bytes(), &options);
    let checked = checked.map_err(|e| Fault::new(ErrorKind::Internal, e.to_string()))?;
    std::hint::black_box(checked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workflow_that_is_checked_is_sound_and_as_long_as_is_said() {
        let text = generated();
        assert_eq!(text.lines().count(), LINES);
        checked(&text).unwrap();
    }
}
