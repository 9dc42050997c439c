//! The timeline: a bar for each job with its steps in it, and below it a bar for each step.
//!
//! The picture has no width of its own: places along the time axis are percentages, so that text keeps its size on any
//! screen. Verdicts differ in pattern and in sign as well as in colour.

use super::text::{Escaped, accelerators, duration};
use super::verdict::{Verdict, job_note, step_note};
use crate::record::{JobRecord, RunRecord, StepRecord, Wait};
use std::fmt::Write as _;

/// Steps beyond these have no row of their own, but are in the bar of their job.
const MOST_STEPS: usize = 60;
/// Jobs beyond these are not in the chart.
const MOST_JOBS: usize = 256;

const AXIS: usize = 24;
const JOB: usize = 30;
const STEP: usize = 22;

/// Where the times are, in percent of the whole width. What is left on the right holds the duration of a bar that ends there.
const PLOT_FROM: u32 = 29;
const PLOT_WIDTH: u32 = 60;

/// The chart, as HTML with an SVG in it; nothing when nothing has started.
pub(super) fn render(run: &RunRecord) -> Option<String> {
    let scale = Scale::of(run)?;
    let threshold = threshold(run);
    let mut rows = String::new();
    let (mut y, mut shown, mut steps) = (AXIS, 0, 0);
    for (j, job) in run.jobs.iter().enumerate().take(MOST_JOBS) {
        job_row(&mut rows, &scale, run, (j, job), y);
        y += JOB;
        for wait in job.waits.iter().filter(|wait| scale.shows(wait)) {
            wait_row(&mut rows, &scale, j, wait, y);
            y += STEP;
        }
        let mut last_end = job.started_at_ms;
        for (s, step) in job.steps.iter().enumerate() {
            steps += 1;
            let rank = rank(run, step);
            if rank >= threshold && shown < MOST_STEPS {
                shown += 1;
                step_row(&mut rows, &scale, run, (j, job), (s, step), last_end, y);
                y += STEP;
            }
            last_end = step.ended_at_ms.or(last_end);
        }
    }
    let mut html = String::new();
    let height = y + 6;
    let _ = write!(
        html,
        "<div class=\"chart\" role=\"region\" aria-label=\"Timeline\" tabindex=\"0\">\
         <svg width=\"100%\" height=\"{height}\" role=\"group\" aria-label=\"Jobs and steps over time\">\
         {PATTERNS}{}{rows}</svg></div>",
        scale.axis(height)
    );
    let mut caption = match &*accelerators(run) {
        "" => "No machine was used.".to_owned(),
        names => format!("Times since the start of the run, on {names}."),
    };
    if shown < steps {
        let _ = write!(
            caption,
            " {shown} of {steps} steps have a row: those that failed, and the longest. All are in the bars of their jobs."
        );
    }
    if run.jobs.len() > MOST_JOBS {
        let _ = write!(
            caption,
            " Of {} jobs the first {MOST_JOBS} are shown.",
            run.jobs.len()
        );
    }
    let _ = write!(html, "<p class=\"caption\">{caption}</p>{}", legend(run));
    Some(html)
}

/// Diagonal, dots and so on: what tells verdicts apart without colour.
const PATTERNS: &str = r#"<defs>
<pattern id="p-failure" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="k failure" width="6" height="6"/><rect class="k ink" width="2" height="6"/></pattern>
<pattern id="p-allowed" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect class="k allowed" width="6" height="6"/><rect class="k ink" width="2" height="6"/></pattern>
<pattern id="p-cancelled" width="6" height="6" patternUnits="userSpaceOnUse"><rect class="k cancelled" width="6" height="6"/><circle class="k ink" cx="3" cy="3" r="1.3"/></pattern>
<pattern id="p-fault" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="k fault" width="8" height="8"/><rect class="k ink" width="2" height="8"/><rect class="k ink" width="8" height="2"/></pattern>
</defs>"#;

struct Scale {
    from_ms: i64,
    span_ms: i64,
}

impl Scale {
    /// From the run's start to its end, or to the last that is known of it.
    fn of(run: &RunRecord) -> Option<Self> {
        let steps = || run.jobs.iter().flat_map(|job| &job.steps);
        let jobs = run
            .jobs
            .iter()
            .flat_map(|job| [job.started_at_ms, job.ended_at_ms]);
        let times = steps().flat_map(|step| [step.started_at_ms, step.ended_at_ms]);
        let times: Vec<i64> = jobs.chain(times).flatten().collect();
        let last = times
            .iter()
            .copied()
            .max()?
            .max(run.ended_at_ms.unwrap_or(i64::MIN));
        let waits = run.jobs.iter().flat_map(|job| &job.waits);
        let first = times.iter().copied().chain(waits.map(|wait| wait.from_ms));
        let first = first.min()?.min(run.started_at_ms);
        Some(Self {
            from_ms: first,
            span_ms: last.saturating_sub(first).max(1),
        })
    }

    /// Whether something that was waited for has a row: it is as wide as a hair's breadth at least.
    fn shows(&self, wait: &Wait) -> bool {
        wait.to_ms.saturating_sub(wait.from_ms).saturating_mul(100) >= self.span_ms
    }

    /// In percent of the plot, with two digits: a tenth of a pixel.
    fn percent(&self, at_ms: i64) -> f64 {
        let part = at_ms.saturating_sub(self.from_ms) as f64 / self.span_ms as f64;
        (part.clamp(0.0, 1.0) * 10_000.0).round() / 100.0
    }

    fn axis(&self, height: usize) -> String {
        const STEPS: [i64; 24] = [
            1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000,
            60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000,
            14_400_000,
        ];
        let fits = |step: &i64| self.span_ms / step <= 6;
        let step = STEPS.into_iter().find(fits).unwrap_or(self.span_ms / 6);
        let mut svg = format!(
            "<svg x=\"{PLOT_FROM}%\" width=\"{PLOT_WIDTH}%\" height=\"{height}\" overflow=\"visible\" aria-hidden=\"true\">"
        );
        for n in 0..=self.span_ms / step {
            let at = n * step;
            let x = self.percent(self.from_ms.saturating_add(at));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x}%\" x2=\"{x}%\" y1=\"18\" y2=\"{}\"/><text class=\"tick\" x=\"{x}%\" y=\"12\">{}</text>",
                height - 4,
                tick(at, step)
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

fn tick(ms: i64, step: i64) -> String {
    match (ms, step) {
        (0, _) => "0".to_owned(),
        (_, 3_600_000..) => format!("{} h", ms / 3_600_000),
        (3_600_000.., _) => format!("{}:{:02} h", ms / 3_600_000, ms / 60_000 % 60),
        (_, 60_000..) => format!("{} min", ms / 60_000),
        (60_000.., _) => format!("{}:{:02} min", ms / 60_000, ms / 1000 % 60),
        (_, 1_000..) => format!("{} s", ms / 1000),
        (1_000.., _) => format!("{} s", ms as f64 / 1000.0),
        _ => format!("{ms} ms"),
    }
}

/// How much a step deserves a row: what failed before what is long.
fn rank(run: &RunRecord, step: &StepRecord) -> u64 {
    if Verdict::of_step(run, step).needs_attention() {
        return u64::MAX;
    }
    super::text::between(step.started_at_ms, step.ended_at_ms).unwrap_or(0)
}

fn threshold(run: &RunRecord) -> u64 {
    let steps = run.jobs.iter().take(MOST_JOBS).flat_map(|job| &job.steps);
    let mut ranks: Vec<u64> = steps.map(|step| rank(run, step)).collect();
    if ranks.len() <= MOST_STEPS {
        return 0;
    }
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    // Of equally long ones at the limit, those that come first get the rows.
    ranks[MOST_STEPS - 1]
}

fn job_row(
    out: &mut String,
    scale: &Scale,
    run: &RunRecord,
    (j, job): (usize, &JobRecord),
    y: usize,
) {
    let verdict = Verdict::of_job(run, job);
    let row = Row {
        href: format!("#j{j}"),
        class: "job",
        name: &job.name,
        title: title(
            &job.name,
            verdict,
            job_note(run, job),
            job.started_at_ms,
            job.ended_at_ms,
        ),
        look: (verdict.sign(), verdict.class()),
        indent: 6,
        y,
        height: JOB,
    };
    let mut bars = String::new();
    for wait in &job.waits {
        let (from, to) = (Some(wait.from_ms), Some(wait.to_ms));
        bars.push_str(&bar(scale, "bar waited", from, to, y + 11, 8));
    }
    if job.steps.iter().any(|step| step.started_at_ms.is_some()) {
        // The job's own time, and in it its steps with a gap of a hair between them.
        bars.push_str(&bar(
            scale,
            "span",
            job.started_at_ms,
            job.ended_at_ms,
            y + 13,
            4,
        ));
        for step in &job.steps {
            let class = format!("bar {}", Verdict::of_step(run, step).class());
            bars.push_str(&bar(
                scale,
                &class,
                step.started_at_ms,
                step.ended_at_ms,
                y + 8,
                14,
            ));
        }
    } else {
        let class = format!("bar {}", verdict.class());
        bars.push_str(&bar(
            scale,
            &class,
            job.started_at_ms,
            job.ended_at_ms,
            y + 8,
            14,
        ));
    }
    let times = (job.started_at_ms, job.ended_at_ms);
    row.write(out, &bars, &label(scale, times, None, verdict, y + 20));
}

fn step_row(
    out: &mut String,
    scale: &Scale,
    run: &RunRecord,
    (j, job): (usize, &JobRecord),
    (s, step): (usize, &StepRecord),
    last_end: Option<i64>,
    y: usize,
) {
    let verdict = Verdict::of_step(run, step);
    let times = (step.started_at_ms, step.ended_at_ms.or(job.ended_at_ms));
    let row = Row {
        href: format!("#s{j}-{s}"),
        class: "step",
        name: &step.name,
        title: title(&step.name, verdict, step_note(run, step), times.0, times.1),
        look: (verdict.sign(), verdict.class()),
        indent: 22,
        y,
        height: STEP,
    };
    let class = format!("bar {}", verdict.class());
    let bars = bar(scale, &class, times.0, times.1, y + 5, 12);
    row.write(out, &bars, &label(scale, times, last_end, verdict, y + 15));
}

/// What a job has waited for before it began.
fn wait_row(out: &mut String, scale: &Scale, j: usize, wait: &Wait, y: usize) {
    let name = format!("waited for {}", wait.what);
    let times = (Some(wait.from_ms), Some(wait.to_ms));
    let took = super::text::between(times.0, times.1).unwrap_or(0);
    let row = Row {
        href: format!("#j{j}"),
        class: "step",
        name: &name,
        title: format!("{name}, {}", duration(took)),
        look: ('…', "waited"),
        indent: 22,
        y,
        height: STEP,
    };
    let bars = bar(scale, "bar waited", times.0, times.1, y + 5, 12);
    row.write(
        out,
        &bars,
        &label(scale, times, None, Verdict::Success, y + 15),
    );
}

fn title(
    name: &str,
    verdict: Verdict,
    note: Option<String>,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
) -> String {
    let mut title = format!("{name}: {}", verdict.words());
    if let Some(note) = note {
        let _ = write!(title, " ({note})");
    }
    if let Some(ms) = super::text::between(from_ms, to_ms) {
        let _ = write!(title, ", {}", duration(ms));
    }
    title
}

struct Row<'a> {
    href: String,
    class: &'static str,
    name: &'a str,
    title: String,
    /// Its sign, and the class of its look.
    look: (char, &'static str),
    indent: usize,
    y: usize,
    height: usize,
}

impl Row<'_> {
    fn write(&self, out: &mut String, bars: &str, label: &str) {
        let Self {
            href,
            class,
            y,
            height,
            indent,
            look: (sign, look),
            ..
        } = self;
        let short: String = self.name.chars().take(120).collect();
        let baseline = height / 2 + 4;
        let _ = writeln!(
            out,
            "<a href=\"{href}\" class=\"row {class}\" aria-label=\"{title}\"><title>{title}</title>\
             <rect class=\"hit\" y=\"{y}\" width=\"100%\" height=\"{height}\"/>\
             <svg y=\"{y}\" width=\"{names}%\" height=\"{height}\"><text class=\"sign {look}\" x=\"{indent}\" y=\"{baseline}\">{sign}</text>\
             <text class=\"name\" x=\"{text}\" y=\"{baseline}\">{name}</text></svg>\
             <svg x=\"{PLOT_FROM}%\" width=\"{PLOT_WIDTH}%\" overflow=\"visible\">{bars}{label}</svg></a>",
            title = Escaped(&self.title),
            names = PLOT_FROM - 1,
            text = indent + 17,
            name = Escaped(&short),
        );
    }
}

fn bar(
    scale: &Scale,
    class: &str,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    y: usize,
    height: usize,
) -> String {
    let Some(from_ms) = from_ms else {
        return String::new();
    };
    let (x, end) = (
        scale.percent(from_ms),
        scale.percent(to_ms.unwrap_or(i64::MAX)),
    );
    // Each has a stroke, so that one of no length is still seen.
    let width = ((end - x).max(0.0) * 100.0).round() / 100.0;
    format!("<rect class=\"{class}\" x=\"{x}%\" y=\"{y}\" width=\"{width}%\" height=\"{height}\"/>")
}

/// The duration behind the bar; of what has none a word.
fn label(
    scale: &Scale,
    (from_ms, to_ms): (Option<i64>, Option<i64>),
    last_end: Option<i64>,
    verdict: Verdict,
    y: usize,
) -> String {
    let (text, x) = match (from_ms, super::text::between(from_ms, to_ms)) {
        (Some(from), Some(ms)) => (
            duration(ms),
            scale
                .percent(to_ms.unwrap_or(from))
                .max(scale.percent(from)),
        ),
        (Some(_), None) => (verdict.words().to_owned(), 100.0),
        _ => (
            verdict.words().to_owned(),
            last_end.map_or(0.0, |at| scale.percent(at)),
        ),
    };
    format!("<text class=\"time\" x=\"{x}%\" dx=\"6\" y=\"{y}\">{text}</text>")
}

/// What the signs mean, of those that occur.
fn legend(run: &RunRecord) -> String {
    let of_jobs = run.jobs.iter().map(|job| Verdict::of_job(run, job));
    let steps = run.jobs.iter().flat_map(|job| &job.steps);
    let seen: Vec<_> = of_jobs
        .chain(steps.map(|step| Verdict::of_step(run, step)))
        .collect();
    let mut html = "<ul class=\"legend\" aria-label=\"Signs\">".to_owned();
    for verdict in Verdict::ALL.iter().filter(|verdict| seen.contains(verdict)) {
        let (class, sign, words) = (verdict.class(), verdict.sign(), verdict.words());
        let _ = write!(
            html,
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"bar {class}\" x=\"1\" y=\"1\" width=\"20\" height=\"10\"/></svg> \
             <span class=\"sign {class}\">{sign}</span> {words}</li>"
        );
    }
    if run.jobs.iter().any(|job| !job.waits.is_empty()) {
        html.push_str(
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"bar waited\" x=\"1\" y=\"1\" width=\"20\" height=\"10\"/></svg> \
             <span class=\"sign waited\">…</span> waited</li>",
        );
    }
    html.push_str("</ul>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_run_in_which_nothing_started_has_no_chart() {
        assert_eq!(render(&sample::run(None)), None);
        let mut run = sample::run(None);
        run.jobs = vec![sample::job("a", None)];
        assert_eq!(render(&run), None);
    }

    #[test]
    fn bars_lie_where_their_times_are() {
        let svg = render(&sample::build_and_test()).unwrap();
        // From 2.4 s to 12.9 s of 15 s.
        assert!(
            svg.contains("<rect class=\"bar failure\" x=\"16%\" y=\"103\" width=\"70%\""),
            "{svg}"
        );
        assert!(svg.contains(">10.5 s</text>"), "{svg}");
        assert!(
            svg.contains("aria-label=\"cargo test --workspace: failed (exit code 101), 10.5 s\""),
            "{svg}"
        );
    }

    #[test]
    fn what_was_waited_for_is_a_bar_of_its_own() {
        let mut run = sample::build_and_test();
        let start = run.started_at_ms;
        let wait = |what: &str, from: i64, to: i64| Wait {
            what: sample::shown(what),
            from_ms: start + from,
            to_ms: start + to,
        };
        run.jobs[0].waits = vec![
            wait("a machine of image <ci>", 0, 1_500),
            wait("nothing long", 1_500, 1_501),
        ];
        let svg = render(&run).unwrap();
        assert!(
            svg.contains("waited for a machine of image &lt;ci&gt;, 1.5 s"),
            "{svg}"
        );
        assert!(
            !svg.contains("waited for nothing long"),
            "it is no wider than a hair"
        );
        // In the bar of its job, and in a row of its own.
        assert_eq!(
            svg.matches("class=\"bar waited\" x=\"0%\"").count(),
            2,
            "{svg}"
        );
        assert!(svg.contains("</span> waited</li>"));
    }

    #[test]
    fn of_very_many_steps_those_that_matter_have_rows() {
        let mut run = sample::matrix(10, 50);
        run.jobs[9].steps[49].outcome = Some(crate::record::Outcome::Failure);
        run.jobs[9].steps[49].conclusion = run.jobs[9].steps[49].outcome;
        let svg = render(&run).unwrap();
        assert_eq!(svg.matches("class=\"row step\"").count(), MOST_STEPS);
        assert!(svg.contains("href=\"#s9-49\""), "the failed one has a row");
        assert!(svg.contains("60 of 500 steps have a row"));
    }

    #[test]
    fn the_axis_has_few_and_round_ticks() {
        for (span, ticks) in [
            (1, "0 1 ms"),
            (4_300, "0 1 s 2 s 3 s 4 s"),
            (2_100, "0 500 ms 1 s 1.5 s 2 s"),
            (100_000, "0 15 s 30 s 45 s 1:00 min 1:15 min 1:30 min"),
            (5_400_000, "0 15 min 30 min 45 min 1:00 h 1:15 h 1:30 h"),
        ] {
            let scale = Scale {
                from_ms: 0,
                span_ms: span,
            };
            let svg = scale.axis(50);
            let shown: Vec<_> = svg
                .split("</text>")
                .filter_map(|part| part.rsplit_once('>').map(|(_, text)| text))
                .filter(|text| !text.is_empty())
                .collect();
            assert_eq!(shown.join(" "), ticks);
        }
    }

    #[test]
    fn times_out_of_order_or_out_of_range_make_no_nonsense() {
        let mut run = sample::build_and_test();
        run.jobs[0].steps[1].ended_at_ms = Some(i64::MIN);
        run.jobs[0].steps[2].started_at_ms = Some(i64::MAX);
        let svg = render(&run).unwrap();
        assert!(
            !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("width=\"-"),
            "{svg}"
        );
    }
}
