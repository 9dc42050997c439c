//! Figures as pictures: for each benchmark an SVG that any browser shows.
//!
//! Each figure has a row of its own with a scale of its own, from 0: a bar as long as the median, a line on to the 99th percentile, a grey bar for what
//! it is held against, and a mark at its target. A row is read by itself; no two rows are compared by their bars.

use super::report::{Bound, Figures, HostFacts, Of, Report, Row, number};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 16.0;
/// Where the longest bar ends; behind it stand the numbers.
const BARS: f64 = 560.0;
const ROW: f64 = 84.0;
const HEAD: f64 = 40.0;
const FOOT: f64 = 60.0;

/// A picture of each benchmark that has figures: its name, and its SVG.
pub fn plots(report: &Report) -> Vec<(&'static str, String)> {
    let mut names: Vec<&'static str> = Vec::new();
    for row in &report.rows {
        if !names.contains(&row.name) {
            names.push(row.name);
        }
    }
    let of = |name| report.rows.iter().filter(move |row| row.name == name);
    names
        .into_iter()
        .map(|name| {
            (
                name,
                plot(name, &of(name).collect::<Vec<_>>(), &report.host),
            )
        })
        .collect()
}

fn plot(name: &str, rows: &[&Row], host: &HostFacts) -> String {
    let height = HEAD + ROW * rows.len() as f64 + FOOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    text(
        &mut svg,
        LEFT,
        24.0,
        "font-size=\"16\" font-weight=\"bold\"",
        &format!("vmint bench {name}"),
    );
    for (n, row) in rows.iter().enumerate() {
        draw(&mut svg, row, HEAD + ROW * n as f64);
    }
    let facts = [
        format!(
            "{}; {} × {}, {}, Linux {}, load {:.1}",
            host.accelerator, host.cpus, host.processor, host.memory, host.kernel, host.load
        ),
        format!("vmint {} ({}), {}", host.version, host.build, host.qemu),
    ];
    for (n, line) in facts.iter().enumerate() {
        text(
            &mut svg,
            LEFT,
            height - 42.0 + 16.0 * n as f64,
            "fill=\"#666\"",
            line,
        );
    }
    let legend = "bar: median; line: to the 99th percentile; grey: what it is held against; red: target. Each row has its own scale.";
    text(&mut svg, LEFT, height - 10.0, "fill=\"#666\"", legend);
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, row: &Row, y: f64) {
    let floor = row.floor.as_ref();
    let target = row.target.and_then(|target| match target.of {
        Of::Median => Some((target, target.value)),
        Of::Ratio => Some((target, target.value * floor?.figures.p50)),
    });
    let figures = std::iter::once(&row.figures).chain(floor.map(|floor| &floor.figures));
    let longest = figures
        .flat_map(|f| [f.p50, f.p99])
        .chain(target.map(|(_, at)| at))
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + value / longest * (BARS - LEFT);

    text(svg, LEFT, y + 14.0, "", &row.what);
    let colour = if row.met == Some(false) {
        "#c8641e"
    } else {
        "#2a6fb0"
    };
    bar(svg, y + 20.0, &row.figures, colour, x);
    let ratio = row
        .ratio
        .map(|ratio| format!(", {ratio:.2} ×"))
        .unwrap_or_default();
    text(
        svg,
        BARS + 12.0,
        y + 31.0,
        "",
        &format!("{} {}{ratio}", number(row.figures.p50), row.unit),
    );
    if let Some(floor) = floor {
        bar(svg, y + 38.0, &floor.figures, "#aaa", x);
        let label = format!("{} {}: {}", number(floor.figures.p50), row.unit, floor.what);
        text(
            svg,
            LEFT,
            y + 65.0,
            "font-size=\"11\" fill=\"#666\"",
            &label,
        );
    }
    if let Some((target, at)) = target {
        let (at, end) = (x(at), y + 54.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{end:.1}\" stroke=\"#c00\" stroke-dasharray=\"4 2\"/>",
            y + 17.0
        );
        let met = match row.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not decided",
        };
        let better = if target.bound == Bound::AtMost {
            "shorter is better"
        } else {
            "longer is better"
        };
        text(
            svg,
            BARS + 12.0,
            y + 49.0,
            "fill=\"#666\"",
            &format!("target {target}: {met}; {better}"),
        );
    }
}

/// A bar to the median and a line on to the 99th percentile, which of a rate lies before it.
fn bar(svg: &mut String, y: f64, figures: &Figures, colour: &str, x: impl Fn(f64) -> f64) {
    let (median, far, middle) = (x(figures.p50), x(figures.p99), y + 7.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\"/>\n\
         <line x1=\"{median:.1}\" x2=\"{far:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#222\"/>",
        median - LEFT
    );
}

fn text(svg: &mut String, x: f64, y: f64, attributes: &str, text: &str) {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{escaped}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Target, Unit};
    use vmint_model::{Accelerator, ByteSize};

    fn report(rows: Vec<Row>) -> Report {
        let host = HostFacts {
            accelerator: Accelerator::Tcg,
            accelerator_reason: None,
            qemu: "QEMU <7.2>".into(),
            cpus: 2,
            processor: "A & B".into(),
            kernel: "6.1".into(),
            memory: ByteSize::mib(8192),
            load: 0.5,
            version: "0.1.0",
            build: "release",
            quick: false,
        };
        Report {
            host,
            rows,
            failures: Vec::new(),
        }
    }

    /// The numbers of an attribute, in order.
    fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
        svg.split(&format!("{attribute}=\""))
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn each_benchmark_has_a_picture_with_bars_as_long_as_its_figures() {
        let row = Row::new(
            "fork",
            "a fork & <more>",
            Unit::Milliseconds,
            &[20.0, 20.0, 40.0],
        )
        .floor("QEMU", &[10.0])
        .target(Target::ratio_at_most(3.0));
        let other = Row::new("exec", "exec", Unit::Milliseconds, &[1.0]);
        let plots = plots(&report(vec![row.clone(), other, row]));
        assert_eq!(
            plots.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["fork", "exec"]
        );
        let svg = &plots[0].1;
        assert!(
            svg.contains("a fork &amp; &lt;more&gt;")
                && svg.contains("QEMU &lt;7.2&gt;")
                && svg.contains("A &amp; B"),
            "{svg}"
        );
        // The background, then each row's bar and its floor's; the longest thing in a row is its 99th percentile.
        let full = BARS - LEFT;
        assert_eq!(numbers(svg, "<rect width"), [WIDTH]);
        let bars: Vec<f64> = svg
            .split("<rect x=")
            .skip(1)
            .map(|rest| numbers(rest, " width")[0])
            .collect();
        assert_eq!(bars, [full / 2.0, full / 4.0, full / 2.0, full / 4.0]);
        let marks: Vec<&str> = svg.lines().filter(|line| line.contains("#c00")).collect();
        assert_eq!(marks.len(), 2);
        assert_eq!(numbers(marks[0], "x1"), [LEFT + full * 0.75]);
        assert!(svg.contains("≤ 3 ×: met"), "{svg}");
    }

    #[test]
    fn figures_of_zero_are_drawn_too() {
        let plots = plots(&report(vec![Row::new(
            "memory",
            "nothing",
            Unit::Megabytes,
            &[0.0],
        )]));
        assert!(
            !plots[0].1.contains("NaN") && !plots[0].1.contains("inf"),
            "{}",
            plots[0].1
        );
    }
}
