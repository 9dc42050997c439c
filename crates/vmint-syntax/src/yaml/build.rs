//! Events of the YAML parser to a tree, within bounds.

use super::lenient::Lenient;
use super::scalar::{number, plain};
use super::source::lines;
use super::{Data, Key, Node};
use crate::diagnostic::{Diagnostic, Diagnostics, Spot};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// The largest file that is read, in bytes. GitHub's own limit is lower.
pub const MAX_BYTES: usize = 5_000_000;
/// How deep mappings and sequences may be nested, as on GitHub.
pub const MAX_DEPTH: usize = 100;
/// How many nodes a document may have when its aliases are expanded: as many as GitHub reads events.
pub const MAX_NODES: usize = 1_000_000;
/// How much text the aliases of a document may add to it, in bytes.
const MAX_COPIED: usize = 10_000_000;

/// Reads a document.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Node, Diagnostics> {
    let text = decode(bytes)
        .map_err(|(spot, message, help)| Diagnostic::error(file, spot, message).help(help))?;
    let mut lenient = Lenient::new(text);
    let mut first = None;
    loop {
        let problem = match read(&lenient) {
            Ok(node) => return Ok(node),
            Err(Refused::Scan(error)) => {
                let marker = error.marker();
                let column = lenient.column(marker.line(), marker.col());
                let problem = explain(text, spot(marker.line(), column), error.info());
                if lenient.mend(&error) {
                    first.get_or_insert(problem);
                    continue;
                }
                // What was mended was not what is wrong.
                match first.take() {
                    Some(first) if is_indentation(&error) => first,
                    _ => problem,
                }
            }
            Err(Refused::Built(problem)) => problem,
        };
        let error = Diagnostic::error(file, problem.spot, problem.message);
        return Err(Diagnostic {
            help: problem.help,
            ..error
        }
        .into());
    }
}

/// Why a text is refused.
enum Refused {
    /// By the parser.
    Scan(ScanError),
    /// By what is made of it.
    Built(Problem),
}

fn is_indentation(error: &ScanError) -> bool {
    error.info().starts_with("invalid indentation")
}

fn read(lenient: &Lenient) -> Result<Node, Refused> {
    read_text(lenient.text(), lenient)
}

fn read_text(text: &str, lenient: &Lenient) -> Result<Node, Refused> {
    let mut builder = Builder::default();
    let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    let unfinished = !last.is_empty();
    let characters = if unfinished { text.chars().count() } else { 0 };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(Refused::Scan)?;
        let start = &span.start;
        let spot = spot(start.line(), lenient.column(start.line(), start.col()));
        let event = match event {
            Event::Scalar(scalar, style, anchor, tag)
                if is_block(style) && unfinished && span.end.index() >= characters =>
            {
                let scalar = without_added_break(scalar);
                // Blanks behind the last break belong to the scalar only where they are more than its indentation.
                if is_blank(last) && !scalar.rsplit('\n').next().is_some_and(is_blank) {
                    return read_text(&text[..text.len() - last.len()], lenient);
                }
                Event::Scalar(scalar, style, anchor, tag)
            }
            event => event,
        };
        builder.event(event, spot).map_err(Refused::Built)?;
    }
    Ok(builder.root.unwrap_or(Node {
        spot: Spot::START,
        data: Data::Null,
    }))
}

fn is_block(style: ScalarStyle) -> bool {
    matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
}

/// Whether a line is of blanks, and of some.
fn is_blank(line: &str) -> bool {
    !line.is_empty() && line.bytes().all(|byte| byte == b' ')
}

/// The parser adds a line break to a block scalar whose last line has none because the file ends there. GitHub's does not.
fn without_added_break(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.strip_suffix('\n') {
        Some(text) => Cow::Owned(text.to_owned()),
        None => text,
    }
}

/// The text of a file, without its byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, (Spot, String, String)> {
    if bytes.len() > MAX_BYTES {
        return Err((
            Spot::START,
            "the file is longer than 5,000,000 bytes, the longest that is read".into(),
            "move what is generated or long out of the file, into scripts or local actions".into(),
        ));
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err((
            Spot::START,
            "the file is in UTF-16".into(),
            "save it as UTF-8".into(),
        ));
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let before = String::from_utf8_lossy(&bytes[..at]);
        let byte = bytes.get(at).copied().unwrap_or_default();
        (
            end_of(&before),
            format!("the byte 0x{byte:02X} is not valid UTF-8"),
            "save the file as UTF-8".to_owned(),
        )
    })?;
    // The parser takes NUL for the end of the file: what stands behind it would be skipped silently.
    let refused = |c: char| (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || c == '\x7F';
    if let Some(at) = text.find(refused) {
        let c = text[at..].chars().next().unwrap_or_default();
        return Err((
            end_of(&text[..at]),
            format!(
                "the control character U+{:04X} is not allowed in YAML",
                c as u32
            ),
            "write it as an escape in a double-quoted string, such as \"\\x1B\"".into(),
        ));
    }
    Ok(text)
}

/// The place behind a text.
fn end_of(text: &str) -> Spot {
    let (line, start) = (1..).zip(lines(text)).last().unwrap_or((1, 0));
    let column = text[start..].chars().count() as u32 + 1;
    Spot { line, column }
}

/// A place of the parser's, whose columns begin with 0.
fn spot(line: usize, column: usize) -> Spot {
    Spot {
        line: u32::try_from(line).unwrap_or(u32::MAX).max(1),
        column: u32::try_from(column).unwrap_or(u32::MAX - 1) + 1,
    }
}

/// A reason to refuse the document.
struct Problem {
    spot: Spot,
    message: String,
    help: Option<String>,
}

impl Problem {
    fn new(spot: Spot, message: impl Into<String>, help: &str) -> Self {
        Self {
            spot,
            message: message.into(),
            help: (!help.is_empty()).then(|| help.to_owned()),
        }
    }
}

/// A message of the parser, in words for those who do not know its insides.
fn explain(text: &str, spot: Spot, info: &str) -> Problem {
    let start = lines(text).nth(spot.line as usize - 1);
    let indentation = text[start.unwrap_or(text.len())..].chars();
    let indented_by_tab = indentation
        .take_while(|c| matches!(c, ' ' | '\t'))
        .any(|c| c == '\t');
    let (message, help) = if indented_by_tab {
        ("a tab is used for indentation", "indent with spaces")
    } else if info.contains("mapping values are not allowed") {
        (
            "a `: ` is not allowed here",
            "put quotes around text that holds `: `, and check the indentation",
        )
    } else if info.contains("unknown anchor") {
        ("the alias names an anchor that is not defined above it", "")
    } else if info.contains("recursion limit") {
        ("lists and mappings are nested more than 100 deep", "")
    } else {
        let short = info.rsplit_once(", ").map_or(info, |(_, short)| short);
        let help = "check the indentation, the quotes and the brackets here and on the line above";
        return Problem::new(spot, format!("this is not valid YAML: {short}"), help);
    };
    Problem::new(spot, message, help)
}

/// A mapping or sequence that is being read.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value is next.
    key: Option<Key>,
    /// The keys that were read, in lower case: GitHub's keys are unique whatever the case.
    seen: HashMap<String, Spot>,
    /// Levels below this node.
    height: usize,
}

/// What an anchor names.
struct Anchored {
    node: Node,
    height: usize,
    nodes: usize,
    bytes: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    copied: usize,
    documents: usize,
    root: Option<Node>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, spot: Spot) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let help = "keep one document a file; remove the `---` or move what follows to another file";
                    return Err(Problem::new(spot, "a second document begins here", help));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let data = scalar(text, style, tag.as_deref(), spot)?;
                self.count(1, spot)?;
                self.value(Node { spot, data }, anchor, 0, style == ScalarStyle::Plain)
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "seq", spot)?;
                self.begin(Data::Sequence(Vec::new()), anchor, spot)
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "map", spot)?;
                self.begin(Data::Mapping(Vec::new()), anchor, spot)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.value(open.node, open.anchor, open.height, false),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, spot),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, spot: Spot) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let help = "anchors and aliases count as often as they are used; split the file";
            let message = "the document grows beyond 1,000,000 values here";
            return Err(Problem::new(spot, message, help));
        }
        Ok(())
    }

    fn copy(&mut self, nodes: usize, bytes: usize, spot: Spot) -> Result<(), Problem> {
        self.count(nodes, spot)?;
        self.copied = self.copied.saturating_add(bytes);
        if self.copied > MAX_COPIED {
            let message = "aliases add more than 10 MB of text to the document";
            return Err(Problem::new(spot, message, "use fewer of them"));
        }
        Ok(())
    }

    fn depth(&self, more: usize, spot: Spot) -> Result<(), Problem> {
        if self.open.len() + more > MAX_DEPTH {
            let message = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
            return Err(Problem::new(spot, message, ""));
        }
        Ok(())
    }

    fn begin(&mut self, data: Data, anchor: usize, spot: Spot) -> Result<(), Problem> {
        self.count(1, spot)?;
        self.depth(1, spot)?;
        self.open.push(Open {
            node: Node { spot, data },
            anchor,
            key: None,
            seen: HashMap::new(),
            height: 0,
        });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, spot: Spot) -> Result<(), Problem> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(Problem::new(
                spot,
                "the alias is inside the node that it names",
                "an anchor cannot hold itself",
            ));
        };
        let (nodes, bytes, height) = (anchored.nodes, anchored.bytes, anchored.height);
        self.copy(nodes, bytes, spot)?;
        self.depth(height, spot)?;
        let node = self.anchors[&anchor].node.clone();
        self.value(node, 0, height, false)
    }

    /// A node is complete: it is a key, a value, an item, or the document.
    fn value(
        &mut self,
        node: Node,
        anchor: usize,
        height: usize,
        plain: bool,
    ) -> Result<(), Problem> {
        if anchor > 0 {
            // A copy is charged like an alias: anchors in anchors would else cost depth times size.
            let (nodes, bytes) = weight(&node);
            self.copy(nodes, bytes, node.spot)?;
            let node = node.clone();
            self.anchors.insert(
                anchor,
                Anchored {
                    node,
                    height,
                    nodes,
                    bytes,
                },
            );
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        open.height = open.height.max(height + 1);
        match &mut open.node.data {
            Data::Sequence(items) => items.push(node),
            Data::Mapping(entries) => match open.key.take() {
                Some(key) => {
                    let mut node = node;
                    if node.is_null() {
                        // The parser places what is not written at the next word, which may be lines away.
                        node.spot = key.spot;
                    }
                    entries.push((key, node));
                }
                None => open.key = Some(key(node, plain, &mut open.seen)?),
            },
            _ => {}
        }
        Ok(())
    }
}

fn key(node: Node, plain: bool, seen: &mut HashMap<String, Spot>) -> Result<Key, Problem> {
    let spot = node.spot;
    let text = match node.data {
        // As it was written: `08` and `8` are different keys.
        Data::Number(_, text) => text,
        _ => node.text().ok_or_else(|| {
            let message = format!("a key must be text, but this is {}", node.kind());
            Problem::new(spot, message, "put quotes around it if it is meant as text")
        })?,
    };
    if plain && text == "<<" {
        return Err(Problem::new(
            spot,
            "merge keys (`<<`) are not supported, as on GitHub",
            "use an alias for the whole value (`env: *common`), or repeat the keys",
        ));
    }
    if let Some(first) = seen.insert(text.to_lowercase(), spot) {
        let message = format!("the key `{}` is already defined at {first}", shown(&text));
        let help = "keep one of the two; keys that differ only in case are the same";
        return Err(Problem::new(spot, message, help));
    }
    Ok(Key { text, spot })
}

/// A text for a message: its beginning, on one line.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or("");
    let short: String = line.chars().take(LONGEST).collect();
    let cut = short.len() < text.trim_end().len();
    if cut { format!("{short}…") } else { short }
}

/// How many nodes and how many bytes of text a node has.
fn weight(node: &Node) -> (usize, usize) {
    let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
    match &node.data {
        Data::Null | Data::Bool(_) => (1, 0),
        Data::Number(_, text) | Data::String(text) => (1, text.len()),
        Data::Sequence(items) => items.iter().map(weight).fold((1, 0), add),
        Data::Mapping(entries) => entries
            .iter()
            .map(|(key, value)| add((1, key.text.len()), weight(value)))
            .fold((1, 0), add),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    spot: Spot,
) -> Result<Data, Problem> {
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => plain(&text),
            _ => Data::String(text.into_owned()),
        });
    };
    let suffix = tag.is_yaml_core_schema().then_some(tag.suffix.as_str());
    let non_specific =
        tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty();
    let data = match suffix {
        Some("str") => Some(Data::String(text.clone().into_owned())),
        Some("null" | "bool") => Some(plain(&text)),
        Some("int" | "float") => number(&text).map(|n| Data::Number(n, text.clone().into_owned())),
        None if non_specific => Some(Data::String(text.clone().into_owned())),
        _ => return Err(unknown_tag(tag, spot)),
    };
    let fits = match (suffix, &data) {
        (Some("null"), Some(data)) => matches!(data, Data::Null),
        (Some("bool"), Some(data)) => matches!(data, Data::Bool(_)),
        (_, data) => data.is_some(),
    };
    data.filter(|_| fits).ok_or_else(|| {
        let message = format!(
            "`{}` is not of the type that its tag says, `!!{}`",
            shown(&text),
            tag.suffix
        );
        Problem::new(spot, message, "remove the tag or correct the value")
    })
}

fn collection_tag(tag: Option<&Tag>, own: &str, spot: Spot) -> Result<(), Problem> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == own) => {
            Err(unknown_tag(tag, spot))
        }
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, spot: Spot) -> Problem {
    let name = if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else {
        format!("{}{}", tag.handle, tag.suffix)
    };
    let message = format!("the tag `{}` is not supported", shown(&name));
    Problem::new(spot, message, "remove it; workflows have no tagged values")
}
