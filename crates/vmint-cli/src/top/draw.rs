//! A frame, drawn from a snapshot alone.

use super::snapshot::{MachineView, Snapshot};
use crate::output::{age, printable};
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, List, ListItem, Paragraph, Row, Table};
use ratatui::{Frame, Terminal};
use vmint::ByteSize;

/// How wide a frame is that goes to no terminal.
const TEXT_WIDTH: u16 = 132;

/// The parts of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Pools.
    Pools,
    /// Machines.
    Machines,
    /// Leases, and who waits.
    Leases,
    /// Events.
    Events,
}

impl Part {
    const ALL: [Self; 4] = [Self::Pools, Self::Machines, Self::Leases, Self::Events];

    fn index(self) -> usize {
        Self::ALL.iter().position(|p| *p == self).unwrap_or(0)
    }
}

/// Where in the screen the user is.
#[derive(Clone, Debug)]
pub struct View {
    /// The part that the arrows move in.
    pub part: Part,
    /// By how many rows each part is moved.
    offsets: [usize; 4],
}

impl Default for View {
    fn default() -> Self {
        Self {
            part: Part::Machines,
            offsets: [0; 4],
        }
    }
}

impl View {
    /// To the next part, or the one before.
    pub fn turn(&mut self, by: isize) {
        let all = Part::ALL.len() as isize;
        let next = (self.part.index() as isize + by).rem_euclid(all);
        self.part = Part::ALL[next as usize];
    }

    /// By so many rows, and not beyond the last.
    pub fn scroll(&mut self, by: isize, snapshot: &Snapshot) {
        let rows = rows(snapshot)[self.part.index()];
        let offset = &mut self.offsets[self.part.index()];
        *offset = offset.saturating_add_signed(by).min(rows.saturating_sub(1));
    }

    /// To the first row, or the last.
    pub fn jump(&mut self, to: Edge, snapshot: &Snapshot) {
        self.offsets[self.part.index()] = 0;
        if to == Edge::Last {
            self.scroll(isize::MAX, snapshot);
        }
    }

    fn offset(&self, part: Part, snapshot: &Snapshot) -> usize {
        // There may be fewer rows than when the user moved there.
        let rows = rows(snapshot)[part.index()];
        self.offsets[part.index()].min(rows.saturating_sub(1))
    }
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Its first row.
    First,
    /// Its last.
    Last,
}

/// How many rows each part has.
fn rows(snapshot: &Snapshot) -> [usize; 4] {
    [
        snapshot.pools.len(),
        snapshot.machines.len(),
        snapshot.leases.len() + snapshot.waiters.len(),
        snapshot.events.len(),
    ]
}

/// A frame as text, as high as it takes.
pub fn text(snapshot: &Snapshot) -> String {
    let heights = heights(snapshot);
    let height = 3 + heights.iter().sum::<u16>();
    let backend = TestBackend::new(TEXT_WIDTH, height);
    let Ok(mut terminal) = Terminal::new(backend);
    let Ok(_) = terminal.draw(|frame| draw(frame, snapshot, &View::default()));
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..TEXT_WIDTH).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    let lines: Vec<String> = (0..height - 1).map(line).collect();
    lines.join("\n").trim_end().to_owned()
}

/// What each part would take: a frame, its headings, its rows.
fn heights(snapshot: &Snapshot) -> [u16; 4] {
    rows(snapshot).map(|n| u16::try_from(n).unwrap_or(u16::MAX - 1000).clamp(1, 2000) + 3)
}

/// Draws.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, view: &View) {
    let area = frame.area();
    let [pools, machines, leases, events] = heights(snapshot);
    // Machines get what is left; the others no more than they need, and a share.
    let share = (area.height.saturating_sub(3) / 4).max(4);
    let fits = pools + machines + leases + events <= area.height.saturating_sub(3);
    let at_most = |wanted: u16| Constraint::Length(if fits { wanted } else { wanted.min(share) });
    let [head, p, m, l, e, foot] = Layout::vertical([
        Constraint::Length(2),
        at_most(pools),
        Constraint::Min(4),
        at_most(leases),
        at_most(events),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header(snapshot), head);
    draw_pools(frame, p, snapshot, view);
    draw_machines(frame, m, snapshot, view);
    draw_leases(frame, l, snapshot, view);
    draw_events(frame, e, snapshot, view);
    let keys = Line::from(" q end   Tab next part   ↑ ↓ PgUp PgDn Home End move").dim();
    frame.render_widget(Paragraph::new(keys), foot);
}

fn header(snapshot: &Snapshot) -> Paragraph<'_> {
    let host = &snapshot.host;
    let size = |bytes: Option<u64>| bytes.map_or("?".to_owned(), short);
    let percent = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{n:.1} %"));
    let leased = snapshot.leases.len();
    let accelerators = match host.accelerators.as_slice() {
        [] => "-".to_owned(),
        some => some.join(", "),
    };
    let confinements = match host.confinements.as_slice() {
        [] => "-".to_owned(),
        some => some.join("; "),
    };
    let clock = snapshot.at.get(11..19).unwrap_or_default();
    let pressure = host.pressure.unwrap_or_default();
    let first = Line::from(vec![
        Span::from(format!(" vmint top  {clock} UTC  ")).bold(),
        Span::from(format!(
            "accelerator {accelerators}  confinement {confinements}  machines {}  leased {leased}  waiting {}",
            snapshot.machines.len(),
            snapshot.waiters.len()
        )),
    ]);
    let second = Line::from(vec![
        Span::from(format!(
            " memory {} of {} available  swap {}  ",
            size(host.memory_available),
            size(host.memory_total),
            percent(host.swap_percent)
        )),
        Span::styled(
            format!("pressure {}", percent(host.pressure)),
            if pressure > 10.0 {
                Style::new().fg(Color::Red)
            } else {
                Style::new()
            },
        ),
        Span::from(format!(
            "  load {}",
            host.load.map_or("?".to_owned(), |l| format!("{l:.2}"))
        )),
    ]);
    Paragraph::new(vec![first, second])
}

fn frame_of(title: String, part: Part, view: &View) -> Block<'static> {
    let block = Block::new().borders(Borders::TOP).title(title);
    if view.part == part {
        block
            .border_style(Style::new().add_modifier(Modifier::BOLD))
            .bold()
    } else {
        block.border_style(Style::new().dim())
    }
}

/// A column: its heading, how wide it is, and whether a narrow terminal has it, too.
type Column = (&'static str, Constraint, Room);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Always,
    Wide,
}

/// From this width on, all columns are shown.
const WIDE: u16 = 110;

fn table<'a, const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = ([String; N], Style)>,
    width: u16,
) -> Table<'a> {
    let is_shown = |column: &Column| width >= WIDE || column.2 == Room::Always;
    let shown: Vec<usize> = (0..N).filter(|n| is_shown(&columns[*n])).collect();
    let rows = rows.into_iter().map(|(cells, style)| {
        let cells = shown.iter().map(|n| match cells[*n].as_str() {
            "" => Cell::from("-"),
            cell => Cell::from(printable(cell)),
        });
        Row::new(cells.collect::<Vec<_>>()).style(style)
    });
    let headings = Row::new(shown.iter().map(|n| columns[*n].0));
    Table::new(rows, shown.iter().map(|n| columns[*n].1))
        .header(headings.style(Style::new().dim()))
        .column_spacing(2)
}

fn draw_pools(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &View) {
    let rows = snapshot.pools.iter().map(|p| {
        let cells = [
            p.name.clone(),
            p.state.to_owned(),
            p.image.clone(),
            short(p.memory),
            format!("{}–{}", p.min, p.max),
            p.alive.to_string(),
            p.ready.to_string(),
            p.leased.to_string(),
            p.resetting.to_string(),
            p.filling.to_string(),
            p.retiring.to_string(),
            p.waiting.to_string(),
        ];
        let style = if p.waiting > 0 {
            Style::new().fg(Color::Yellow)
        } else {
            Style::new()
        };
        (cells, style)
    });
    use Room::{Always, Wide};
    let columns = [
        ("POOL", Constraint::Fill(3), Always),
        ("STATE", Constraint::Length(8), Always),
        ("IMAGE", Constraint::Fill(2), Wide),
        ("MEMORY", Constraint::Length(8), Wide),
        ("MIN–MAX", Constraint::Length(7), Always),
        ("ALIVE", Constraint::Length(5), Always),
        ("READY", Constraint::Length(5), Always),
        ("LENT", Constraint::Length(4), Always),
        ("RESETTING", Constraint::Length(9), Always),
        ("FILLING", Constraint::Length(7), Always),
        ("RETIRING", Constraint::Length(8), Wide),
        ("WAITING", Constraint::Length(7), Always),
    ];
    let offset = view.offset(Part::Pools, snapshot);
    let title = format!(" pools: {} ", snapshot.pools.len());
    let table =
        table(columns, rows.skip(offset), area.width).block(frame_of(title, Part::Pools, view));
    frame.render_widget(table, area);
}

fn draw_machines(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &View) {
    let rows = snapshot
        .machines
        .iter()
        .map(|m| (machine(m), colour(m.state)));
    use Room::{Always, Wide};
    let columns = [
        ("MACHINE", Constraint::Length(15), Always),
        ("STATE", Constraint::Length(9), Always),
        ("FOR", Constraint::Length(6), Always),
        ("POOL", Constraint::Fill(2), Always),
        ("GEN", Constraint::Length(4), Always),
        ("USES", Constraint::Length(4), Wide),
        ("AGE", Constraint::Length(7), Wide),
        ("CONFINED", Constraint::Length(11), Wide),
        ("MEMORY", Constraint::Length(8), Wide),
        ("USED", Constraint::Length(9), Always),
        ("OWNER", Constraint::Length(15), Wide),
        ("LABEL", Constraint::Fill(3), Always),
    ];
    let offset = view.offset(Part::Machines, snapshot);
    let used: u64 = snapshot
        .machines
        .iter()
        .filter_map(|m| Some(m.used?.bytes))
        .sum();
    let title = format!(
        " machines: {}, {} in use ",
        snapshot.machines.len(),
        short(used)
    );
    let table =
        table(columns, rows.skip(offset), area.width).block(frame_of(title, Part::Machines, view));
    frame.render_widget(table, area);
}

fn machine(m: &MachineView) -> [String; 12] {
    // Where shared pages count in full, that is said: such figures cannot be added up.
    let used = m.used.map(|u| {
        let mark = if u.proportional { "" } else { " rss" };
        format!("{}{mark}", short(u.bytes))
    });
    [
        m.name.clone(),
        m.state.to_owned(),
        m.since_ms.map(age).unwrap_or_default(),
        m.pool.clone().unwrap_or_default(),
        m.generation.to_string(),
        m.uses.map(|n| n.to_string()).unwrap_or_default(),
        age(m.created_at_ms),
        m.confined.clone().unwrap_or_default(),
        short(m.memory),
        used.unwrap_or_default(),
        m.owner
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        m.label.clone().unwrap_or_default(),
    ]
}

fn draw_leases(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &View) {
    let held = snapshot.leases.iter().map(|l| {
        let cells = [
            l.lease.clone(),
            l.pool.clone(),
            format!("{}@{}", l.machine, l.generation),
            l.owner.to_string(),
            format!("held {}", age(l.granted_at_ms)),
            l.label.clone().unwrap_or_default(),
        ];
        (cells, Style::new())
    });
    let waiting = snapshot.waiters.iter().map(|w| {
        let cells = [
            "in line".to_owned(),
            w.pool.clone(),
            String::new(),
            w.owner.to_string(),
            format!("waits {}", age(w.since_ms)),
            w.label.clone().unwrap_or_default(),
        ];
        (cells, Style::new().fg(Color::Yellow))
    });
    let (leases, waiters) = (snapshot.leases.len(), snapshot.waiters.len());
    let title = format!(" leases: {leases}, in line: {waiters} ");
    use Room::{Always, Wide};
    let columns = [
        ("LEASE", Constraint::Length(17), Wide),
        ("POOL", Constraint::Fill(2), Always),
        ("MACHINE", Constraint::Length(19), Always),
        ("OWNER", Constraint::Length(15), Always),
        ("SINCE", Constraint::Length(14), Always),
        ("LABEL", Constraint::Fill(3), Always),
    ];
    let offset = view.offset(Part::Leases, snapshot);
    let table = table(columns, held.chain(waiting).skip(offset), area.width).block(frame_of(
        title,
        Part::Leases,
        view,
    ));
    frame.render_widget(table, area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &View) {
    let title = " events, the newest first ".to_owned();
    let block = frame_of(title, Part::Events, view);
    let offset = view.offset(Part::Events, snapshot);
    let events = snapshot.events.iter().rev().skip(offset);
    let events = events.map(|event| ListItem::new(format!(" {}", event.text)));
    frame.render_widget(List::new(events).block(block), area);
}

fn colour(state: &str) -> Style {
    match state {
        "ready" => Style::new().fg(Color::Green),
        "leased" => Style::new().fg(Color::Cyan),
        "filling" | "resetting" | "starting" => Style::new().fg(Color::Yellow),
        "retiring" | "stopped" | "removing" => Style::new().dim(),
        "failed" => Style::new().fg(Color::Red),
        _ => Style::new(),
    }
}

/// A size in a few letters; `ByteSize` is exact, and as long as it takes.
fn short(bytes: u64) -> String {
    if bytes == 0 {
        return String::new();
    }
    let mib = bytes as f64 / f64::from(1 << 20);
    if bytes.is_multiple_of(1 << 20) && mib < 10_000.0 {
        ByteSize(bytes).to_string()
    } else if mib >= 1024.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else {
        format!("{mib:.0} MiB")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::memory::Memory;
    use super::super::snapshot::{EventLine, HostView, LeaseView, PoolView, WaiterView};
    use super::*;
    use vmint::now_ms;
    use vmint::{Owner, ProcessRef};

    fn owner(pid: u32) -> Owner {
        Owner::Process(ProcessRef {
            pid,
            start_time: 0,
            boot_id: String::new(),
            namespace: None,
        })
    }

    /// A moment with so many machines.
    pub(crate) fn snapshot(machines: usize) -> Snapshot {
        let machine = |n: usize| MachineView {
            name: format!("m{n:012x}"),
            state: if n == 0 { "leased" } else { "ready" },
            machine_state: Some("running"),
            pool: Some("ci".into()),
            generation: 3,
            accelerator: Some("tcg"),
            confinement: Some("files (Landlock 7)".into()),
            runner_confinement: Some("files (Landlock 7)".into()),
            confined: Some("Landlock 7".into()),
            uses: Some(2),
            lease: None,
            owner: (n == 0).then(|| owner(4711)),
            label: (n == 0).then(|| "tests::\x1b[2Jone".into()),
            memory: 128 << 20,
            used: Some(Memory {
                bytes: 77 << 20,
                proportional: true,
            }),
            created_at: String::new(),
            created_at_ms: now_ms() - 90_000,
            since: None,
            since_ms: Some(now_ms() - 5_000),
        };
        Snapshot {
            at: "2026-11-20T13:08:41.695Z".into(),
            host: HostView {
                memory_total: Some(24 << 30),
                memory_available: Some(20 << 30),
                swap_percent: None,
                pressure: Some(1.5),
                load: Some(0.5),
                accelerators: vec!["tcg"],
                confinements: vec!["Landlock 7".into()],
            },
            pools: vec![PoolView {
                name: "ci".into(),
                state: "open",
                image: "tiny".into(),
                memory: 128 << 20,
                min: 2,
                max: 8,
                alive: machines as u32,
                ready: machines.saturating_sub(1) as u32,
                leased: 1,
                filling: 0,
                resetting: 0,
                retiring: 0,
                waiting: 1,
            }],
            machines: (0..machines).map(machine).collect(),
            leases: vec![LeaseView {
                lease: "l0123456789abcdef".into(),
                pool: "ci".into(),
                machine: "m000000000000".into(),
                generation: 3,
                owner: owner(4711),
                label: None,
                granted_at: String::new(),
                granted_at_ms: now_ms() - 1000,
                waited_ms: 0,
                expires_at: None,
            }],
            waiters: vec![WaiterView {
                pool: "ci".into(),
                owner: owner(4712),
                label: Some("patient".into()),
                pid: 4712,
                since: String::new(),
                since_ms: now_ms() - 2000,
                deadline: String::new(),
            }],
            events: vec![EventLine {
                sequence: 1,
                text: "first".into(),
            }],
        }
    }

    #[test]
    fn a_frame_as_text_shows_everything_and_commands_no_terminal() {
        let shown = text(&snapshot(40));
        for part in [
            "accelerator tcg",
            "confinement Landlock 7",
            "20.0 GiB of 24.0 GiB available",
            "pressure 1.5 %",
            "m000000000027",
            "process 4711",
            "77 MiB",
            "in line",
            "patient",
            "first",
            "USES",
        ] {
            assert!(shown.contains(part), "no {part:?} in\n{shown}");
        }
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }

    #[test]
    fn a_small_terminal_shows_a_part_and_the_arrows_move_in_it() {
        let snapshot = snapshot(100);
        let mut view = View::default();
        let draw = |view: &View| {
            let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
            terminal.draw(|frame| draw(frame, &snapshot, view)).unwrap();
            terminal.backend().to_string()
        };
        assert!(draw(&view).contains("m000000000000"));
        assert!(draw(&view).contains("77 MiB") && !draw(&view).contains("USES"));
        assert!(!draw(&view).contains("m000000000063"));
        view.scroll(5, &snapshot);
        assert!(!draw(&view).contains("m000000000004"));
        assert!(draw(&view).contains("m000000000005"));
        view.jump(Edge::Last, &snapshot);
        assert!(draw(&view).contains("m000000000063"));
        view.scroll(10, &snapshot);
        assert!(draw(&view).contains("m000000000063"));
        view.turn(1);
        assert_eq!(view.part, Part::Leases);
        view.turn(-3);
        assert_eq!(view.part, Part::Events);
    }

    #[test]
    fn no_size_of_terminal_is_too_small() {
        let snapshot = snapshot(3);
        for (width, height) in [(1, 1), (5, 3), (20, 8), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let frame = |frame: &mut Frame<'_>| draw(frame, &snapshot, &View::default());
            terminal.draw(frame).unwrap();
        }
    }
}
