//! The log of a step in the page: groups folded, colours kept, and of a long one the beginning and the end.

use super::ansi::{self, Style};
use super::text::{Escaped, size};
use crate::log::{Kind, Line};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// No more of one log is shown.
pub(super) const MOST_OF_ONE: u64 = 2 << 20;
/// No more of all logs together: a page beyond that is slow to open.
pub(super) const MOST_OF_ALL: u64 = 8 << 20;

/// How much of each log is shown so that all together stay within `total`: short ones are shown in full, and long ones
/// share what these leave.
pub(super) fn share(sizes: &[u64], total: u64) -> u64 {
    let mut sizes: Vec<u64> = sizes.to_vec();
    sizes.sort_unstable();
    let mut left = total;
    for (index, size) in sizes.iter().enumerate() {
        let each = left / (sizes.len() - index) as u64;
        if *size > each {
            return each;
        }
        left -= size;
    }
    u64::MAX
}

/// A log as HTML; `limit` in bytes. The whole log is at `href`.
pub(super) fn render(
    path: &Path,
    href: &str,
    started_at_ms: Option<i64>,
    limit: u64,
) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut view = View::new(started_at_ms);
    if length <= limit {
        view.lines(&read(&mut file, limit)?);
        return Ok(view.finish());
    }
    // The end tells more often why it ended so.
    let (head, tail) = (limit / 4, limit - limit / 4);
    let first = read(&mut file, head)?;
    let first = &first[..first.rfind('\n').map_or(first.len(), |at| at + 1)];
    view.lines(first);
    view.close_group();
    let left_out = length - head - tail;
    let _ = write!(
        view.html,
        "<p class=\"gap\">{} left out here: <a href=\"{href}\">the whole log, {}</a></p>",
        size(left_out),
        size(length)
    );
    view.style = Style::PLAIN;
    file.seek(SeekFrom::Start(length - tail))?;
    let last = read(&mut file, tail)?;
    let last = last.split_once('\n').map_or(&*last, |(_, whole)| whole);
    view.lines(last);
    Ok(view.finish())
}

fn read(file: &mut File, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(match String::from_utf8_lossy(&bytes) {
        std::borrow::Cow::Owned(text) => text,
        std::borrow::Cow::Borrowed(_) => String::from_utf8(bytes).unwrap_or_default(),
    })
}

struct View {
    html: String,
    started_at_ms: Option<i64>,
    style: Style,
    /// The time that was shown last.
    time: String,
    group: Option<Group>,
}

/// A group that is open: it is folded unless something in it went wrong, which is known at its end.
struct Group {
    title: String,
    lines: usize,
    /// Where its content begins in the HTML.
    from: usize,
    has_error: bool,
}

impl View {
    fn new(started_at_ms: Option<i64>) -> Self {
        Self {
            html: String::new(),
            started_at_ms,
            style: Style::PLAIN,
            time: String::new(),
            group: None,
        }
    }

    fn lines(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&Line::decode(line));
        }
    }

    fn line(&mut self, line: &Line) {
        match line.kind {
            Kind::Group => {
                self.close_group();
                let title = self.line_html(line, "summary", "");
                self.group = Some(Group {
                    title,
                    lines: 0,
                    from: self.html.len(),
                    has_error: false,
                });
                return;
            }
            Kind::EndGroup => return self.close_group(),
            _ => {}
        }
        if let Some(group) = &mut self.group {
            group.lines += 1;
            group.has_error |= line.kind == Kind::Error;
        }
        let class = match line.kind {
            Kind::Command => " command",
            Kind::Debug => " debug",
            Kind::Error => " error",
            Kind::Warning => " warning",
            Kind::Notice => " notice",
            _ => "",
        };
        let html = self.line_html(line, "div", class);
        self.html.push_str(&html);
    }

    fn line_html(&mut self, line: &Line, element: &str, class: &str) -> String {
        let mut html = format!("<{element} class=\"l{class}\"");
        if let Some(start) = self.started_at_ms.filter(|_| line.at_ms != 0) {
            let time = clock(line.at_ms.saturating_sub(start));
            // Repeated, it says nothing; as a pseudo-element it is not in what one copies.
            if time != self.time {
                let _ = write!(html, " data-t=\"{time}\"");
                self.time = time;
            }
        }
        html.push('>');
        html.push_str(match line.kind {
            Kind::Error => "<b>Error: </b>",
            Kind::Warning => "<b>Warning: </b>",
            Kind::Notice => "<b>Notice: </b>",
            Kind::Debug => "<b>Debug: </b>",
            _ => "",
        });
        ansi::pieces(&line.text, &mut self.style, |text, style| {
            let classes = style.classes();
            let _ = if classes.is_empty() {
                write!(html, "{}", Escaped(text))
            } else {
                write!(html, "<span class=\"{classes}\">{}</span>", Escaped(text))
            };
        });
        let _ = writeln!(html, "</{element}>");
        html
    }

    fn close_group(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        let content = self.html.split_off(group.from);
        let open = if group.has_error { " open" } else { "" };
        let lines = super::verdict::count(group.lines, "line");
        let title = group.title.trim_end();
        let title = title.strip_suffix("</summary>").unwrap_or(title);
        let _ = write!(
            self.html,
            "<details class=\"group\"{open}>{title}<small> {lines}</small></summary>{content}</details>"
        );
    }

    fn finish(mut self) -> String {
        self.close_group();
        self.html
    }
}

/// Time in a step: `0.4`, `59.9`, `1:02`, `1:00:09`.
fn clock(ms: i64) -> String {
    let ms = ms.max(0);
    match ms / 1000 {
        0..60 => format!("{}.{}", ms / 1000, ms % 1000 / 100),
        seconds @ 60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        seconds => format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, START, step};

    fn shown(lines: &[(i64, Kind, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut step = step("x", 0, 1, 0);
        sample::log(folder.path(), "j", &mut step, lines);
        let path = folder.path().join(step.log.unwrap());
        render(&path, "logs/x", Some(START), MOST_OF_ONE).unwrap()
    }

    #[test]
    fn groups_are_folded_unless_they_hold_an_error() {
        let html = shown(&[
            (0, Kind::Group, "Run \x1b[36mmake\x1b[0m"),
            (10, Kind::Text, "env: <none>"),
            (20, Kind::EndGroup, ""),
            (1200, Kind::Group, "test"),
            (1200, Kind::Error, "boom"),
            (62_000, Kind::Group, "next"),
        ]);
        insta::assert_snapshot!(html, @r#"
        <details class="group"><summary class="l" data-t="0.0">Run <span class="f6">make</span><small> 1 line</small></summary><div class="l">env: &lt;none&gt;</div>
        </details><details class="group" open><summary class="l" data-t="1.2">test<small> 1 line</small></summary><div class="l error"><b>Error: </b>boom</div>
        </details><details class="group"><summary class="l" data-t="1:02">next<small> 0 lines</small></summary></details>
        "#);
    }

    #[test]
    fn of_a_long_log_the_beginning_and_the_end_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines: Vec<_> = (0..10_000).map(|n| format!("line {n}")).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let html = render(&path, "logs/1.log", None, 1000).unwrap();
        assert!(html.starts_with("<div class=\"l\">line 0</div>"), "{html}");
        assert!(
            html.trim_end()
                .ends_with("<div class=\"l\">line 9999</div>"),
            "{html}"
        );
        let gap = "<p class=\"gap\">97.8 kB left out here: <a href=\"logs/1.log\">the whole log, 98.8 kB</a></p>";
        assert!(html.contains(gap), "{html}");
        assert!(html.len() < 5000, "{}", html.len());
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_far_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, b"a\xff\0<b>\n\xf0\x9f".as_slice()).unwrap();
        let html = render(&path, "x", None, 1000).unwrap();
        insta::assert_snapshot!(html, @r#"
        <div class="l">a�␀&lt;b&gt;</div>
        <div class="l">�</div>
        "#);
    }

    #[test]
    fn long_logs_share_what_short_ones_leave() {
        assert_eq!(share(&[10, 10, 10], 100), u64::MAX);
        assert_eq!(share(&[10, 500, 500], 100), 45);
        assert_eq!(share(&[], 100), u64::MAX);
    }
}
