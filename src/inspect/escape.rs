//! Makes text from files safe to show on a terminal and in Markdown.

use std::borrow::Cow;

/// Whether a character controls a terminal: control characters, line separators, and those that change
/// the writing direction.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Puts `text` on one line. Characters that control a terminal are escaped, as in `\n` and `\u{1b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, &[])
}

/// As [`visible`], but keeps lines and tabs.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    written_out(text, &['\n', '\t'])
}

fn written_out<'a>(text: &'a str, but: &[char]) -> Cow<'a, str> {
    let is_written_out = |c: char| acts(c) && !but.contains(&c);
    if !text.contains(is_written_out) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_written_out(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Escapes `text` for Markdown, tables included.
#[cfg(feature = "train")]
pub(crate) fn markdown(text: &str) -> String {
    let text: Vec<char> = visible(text).chars().collect();
    let is_word = |at: Option<usize>| {
        at.and_then(|at| text.get(at)).is_some_and(|c: &char| c.is_alphanumeric())
    };
    let mut out = String::with_capacity(text.len());
    for (at, &c) in text.iter().enumerate() {
        let marks = match c {
            // Within a word it has no meaning.
            '_' => !(is_word(at.checked_sub(1)) && is_word(Some(at + 1))),
            c => "\\`*<>|[]&~#".contains(c),
        };
        if marks {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Quotes `text` as Markdown code, whatever backticks it has. Not for tables.
#[cfg(feature = "train")]
pub(crate) fn code(text: &str) -> String {
    let text = visible(text);
    let runs = text.split(|c| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or(0) + 1);
    let apart = text.is_empty() || text.starts_with('`') || text.ends_with('`');
    let space = if apart { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_written_out() {
        let hostile = "a\u{1b}[31mb\u{9b}2J\u{7f}\u{7}\rc\td\ne\u{202e}f\u{2066}";
        let line = "a\\u{1b}[31mb\\u{9b}2J\\u{7f}\\u{7}\\rc\\td\\ne\\u{202e}f\\u{2066}";
        assert_eq!(visible(hostile), line);
        assert_eq!(visible_lines("a\tb\r\nc"), "a\tb\\r\nc");
        for plain in ["", "naïve 東京 😀 \\n", "שלום", "x\u{200f}"] {
            assert!(matches!(visible(plain), Cow::Borrowed(text) if text == plain));
        }
    }

    #[cfg(feature = "plots")]
    #[test]
    fn markdown_shows_any_text_as_it_is() {
        use pulldown_cmark::{Event, Options, Parser, Tag};
        let texts = [
            "<script>alert(1)</script>",
            "a|b",
            "`x` ``y``",
            "*a* _b_ __c__ ~~d~~",
            "layer_0.self_attn",
            "[l](http://x) ![i](y) <http://z>",
            "&lt; &amp;",
            "a\\|b\\",
            "c #",
            "`",
            "``",
        ];
        for text in texts {
            for (made, what) in [(markdown(text), "text"), (code(text), "code")] {
                let page = format!("# x {made}\n");
                let mut shown = String::new();
                for event in Parser::new_ext(&page, Options::ENABLE_TABLES) {
                    match event {
                        Event::Text(part) => shown += &part,
                        Event::Code(part) if what == "code" => shown += &part,
                        Event::Start(Tag::Heading { .. }) | Event::End(_) => {}
                        other => panic!("{text}: {other:?} of {made}"),
                    }
                }
                assert_eq!(shown, format!("x {text}"), "{made}");
            }
            let table = format!("| a | b |\n|---|---|\n| {} | end |\n", markdown(text));
            let cells = Parser::new_ext(&table, Options::ENABLE_TABLES)
                .filter(|event| matches!(event, Event::Start(Tag::TableCell)));
            assert_eq!(cells.count(), 4, "{text}");
        }
        assert_eq!(markdown("a\nb"), "a\\\\nb");
    }
}
