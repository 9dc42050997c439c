//! Step summaries: Markdown as GitHub renders it, from a guest that is not trusted.
//!
//! Raw HTML is shown as text, apart from `<br>` and comments. Links lead only to the web and to mail. Images would load
//! from elsewhere, so they become links.

use super::text::Escaped;
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Deeper nesting is flattened: browsers stop at some hundreds, and nobody reads so far.
const MOST_DEPTH: usize = 32;

/// Markdown as HTML.
pub fn render(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_GFM;
    let mut filter = Filter::default();
    let events = Parser::new_ext(markdown, options).filter_map(|event| filter.pass(event));
    let mut out = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut out, events);
    out
}

#[derive(Default)]
struct Filter {
    /// How many containers are open, those that were dropped included.
    depth: usize,
    /// Ends of the links that are open: a link that leads nowhere safe has none.
    links: Vec<&'static str>,
}

impl Filter {
    fn pass<'a>(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(self.open_link(&dest_url))
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                Some(generated(self.links.pop().unwrap_or_default().into()))
            }
            Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => None,
            Event::Html(raw) | Event::InlineHtml(raw) => as_text(raw),
            Event::Start(tag) if is_container(&tag) => {
                self.depth += 1;
                (self.depth <= MOST_DEPTH).then_some(Event::Start(tag))
            }
            Event::End(tag) if is_container_end(tag) => {
                self.depth = self.depth.saturating_sub(1);
                (self.depth < MOST_DEPTH).then_some(Event::End(tag))
            }
            // The page has headings of its own above: a summary's begin at the fourth level.
            Event::Start(Tag::Heading { level, .. }) => Some(Event::Start(Tag::Heading {
                level: lowered(level),
                id: None,
                classes: Vec::new(),
                attrs: Vec::new(),
            })),
            Event::End(TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(lowered(level)))),
            Event::Text(text) => Some(Event::Text(visible(text))),
            Event::Code(text) => Some(Event::Code(visible(text))),
            event => Some(event),
        }
    }

    fn open_link<'a>(&mut self, url: &str) -> Event<'a> {
        let scheme = url
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        let safe = matches!(scheme.as_deref(), Some("http" | "https" | "mailto"));
        // A link within a link is none in HTML.
        if !safe || self.links.contains(&"</a>") {
            self.links.push("");
            return generated(String::new());
        }
        self.links.push("</a>");
        generated(format!(
            "<a href=\"{}\" rel=\"noopener noreferrer nofollow\">",
            Escaped(url)
        ))
    }
}

/// HTML of our own.
fn generated<'a>(html: String) -> Event<'a> {
    Event::InlineHtml(html.into())
}

fn as_text(raw: CowStr<'_>) -> Option<Event<'_>> {
    let tag = raw.trim();
    if tag.eq_ignore_ascii_case("<br>") || tag.eq_ignore_ascii_case("<br/>") || tag == "<br />" {
        Some(Event::HardBreak)
    } else if tag.starts_with("<!--") && tag.ends_with("-->") {
        None
    } else {
        Some(Event::Text(visible(raw)))
    }
}

fn visible(text: CowStr<'_>) -> CowStr<'_> {
    if text.chars().all(|c| super::text::visible(c) == c) {
        text
    } else {
        text.chars()
            .map(super::text::visible)
            .collect::<String>()
            .into()
    }
}

fn is_container(tag: &Tag<'_>) -> bool {
    is_container_end(tag.to_end())
}

fn is_container_end(tag: TagEnd) -> bool {
    matches!(tag, TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item)
        || matches!(
            tag,
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough
        )
}

fn lowered(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H4,
        HeadingLevel::H2 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_github_renders_is_rendered() {
        let markdown = "# Result\n\n| a | b |\n|---|--:|\n| ~~x~~ | `1` |\n\n- [x] done\n- [ ] open\n\n> [!NOTE]\n> hi\n";
        insta::assert_snapshot!(render(markdown), @r#"
        <h4>Result</h4>
        <table><thead><tr><th>a</th><th style="text-align: right">b</th></tr></thead><tbody>
        <tr><td><del>x</del></td><td style="text-align: right"><code>1</code></td></tr>
        </tbody></table>
        <ul>
        <li><input disabled="" type="checkbox" checked=""/>
        done</li>
        <li><input disabled="" type="checkbox"/>
        open</li>
        </ul>
        <blockquote class="markdown-alert-note">
        <p>hi</p>
        </blockquote>
        "#);
    }

    #[test]
    fn raw_html_is_text() {
        let markdown = "<script>alert(1)</script>\n\na<br>b <img src=x onerror=y> <!-- c -->\n";
        insta::assert_snapshot!(render(markdown), @r"
        &lt;script&gt;alert(1)&lt;/script&gt;
        <p>a<br />
        b &lt;img src=x onerror=y&gt; </p>
        ");
    }

    #[test]
    fn links_lead_to_the_web_and_to_mail_only() {
        let markdown = "[a](https://x.org/?a=\"b\"&c) [b](javascript:alert(1)) [c](JaVaScRiPt:x) [d](data:text/html,x) \
                        [e](file:///etc) [f](../x) <mailto:a@b.c> [![alt](http://img/x.png)](http://x)";
        insta::assert_snapshot!(render(markdown), @r#"<p><a href="https://x.org/?a=&quot;b&quot;&amp;c" rel="noopener noreferrer nofollow">a</a> b c d e f <a href="mailto:a@b.c" rel="noopener noreferrer nofollow">mailto:a@b.c</a> <a href="http://x" rel="noopener noreferrer nofollow">alt</a></p>"#);
    }

    #[test]
    fn deep_nesting_is_flattened() {
        let html = render(&format!("{} x", ">".repeat(5000)));
        assert_eq!(html.matches("<blockquote>").count(), MOST_DEPTH);
        assert_eq!(html.matches("</blockquote>").count(), MOST_DEPTH);
    }

    proptest! {
        #[test]
        fn every_tag_is_one_of_ours(markdown in "([a-z<>/\"'=&\\[\\]()!*_~`|#:\\\\ \n-]|<script>|</p>|](javascript:x)|onload=){0,80}") {
            const OURS: [&str; 26] = [
                "p", "h4", "h5", "h6", "a", "br", "hr", "ul", "ol", "li", "em", "strong", "del", "code", "pre", "table",
                "thead", "tbody", "tr", "th", "td", "blockquote", "input", "sup", "div", "span",
            ];
            let html = render(&markdown);
            for tag in html.split('<').skip(1) {
                let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
                prop_assert!(OURS.contains(&&*name), "<{tag} in {html}");
                let tag = tag.split('>').next().unwrap_or_default();
                prop_assert!(!tag.contains("javascript") && !tag.contains(" onload"), "<{tag} in {html}");
            }
        }
    }
}
