//! Printing: results to stdout, everything else to stderr; tables, durations, sizes.
//!
//! Names and texts come from files that others wrote and may hold control characters. Text for
//! people therefore passes [`visible_lines`], and cells of tables [`visible`]; JSON escapes them
//! itself.

use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use losparse::inspect::{visible, visible_lines};
use serde::Serialize;

/// Moves to the start of the terminal's line and clears it.
pub const CLEAR_LINE: &str = "\r\x1b[K";

/// Prints a result. Ends the program quietly if its reader has gone (`| head`).
pub fn print(text: &str) -> io::Result<()> {
    written(writeln!(io::stdout().lock(), "{}", visible_lines(text.trim_end())))
}

/// Prints texts, each on one line; an empty text is an empty line.
pub fn print_lines<'a>(texts: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut texts = texts.map(|text| visible(&text.replace('\n', " ")).into_owned());
    written(texts.try_for_each(|text| writeln!(out, "{text}")).and_then(|()| out.flush()))
}

/// Prints an event of a run as a JSON object on one line. If its reader has gone (`| head`), the
/// run goes on: a note says so once, and no more events are printed.
pub fn print_event(event: &impl Serialize) {
    static CLOSED: AtomicBool = AtomicBool::new(false);
    if CLOSED.load(Ordering::Relaxed) {
        return;
    }
    let print = || -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        Ok(writeln!(out, "{}", serde_json::to_string(event)?).and_then(|()| out.flush())?)
    };
    if let Err(error) = print()
        && !CLOSED.swap(true, Ordering::Relaxed)
    {
        note(&format!("warning: events are no longer printed ({error}); the run goes on"));
    }
}

/// Prints a JSON object on one line.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_json_lines(std::iter::once(value))
}

/// Prints JSON objects, one a line.
pub fn print_json_lines<T: Serialize>(values: impl Iterator<Item = T>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for value in values {
        let line = serde_json::to_writer(&mut out, &value);
        match line {
            Err(error) if error.io_error_kind().is_none() => return Err(error.into()),
            line => written(line.map_err(io::Error::from).and_then(|()| writeln!(out)))?,
        }
    }
    Ok(written(out.flush())?)
}

/// Ends the program if the reader of its output has gone; returns any other result.
fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result,
    }
}

/// Prints a note to stderr on a line of its own, in place of a progress line if there is one.
pub fn note(text: &str) {
    let mut err = io::stderr().lock();
    let clear = if err.is_terminal() { CLEAR_LINE } else { "" };
    // If stderr is closed, there is nowhere to report that.
    let _ = writeln!(err, "{clear}{}", visible_lines(text.trim_end()));
}

/// Prints a warning to stderr, in red on a terminal with colours (see <https://no-color.org>).
pub fn warn(text: &str) {
    let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let colour = io::stderr().is_terminal() && !asked_not_to && !dumb;
    note(&match colour {
        true => format!("\x1b[31mwarning: {}\x1b[0m", text.trim_end()),
        false => format!("warning: {text}"),
    });
}

/// The command line that a program was started with, quoted so that it can be entered again.
pub fn command_line(words: impl Iterator<Item = OsString>) -> String {
    let words = words.skip(1).map(|word| word.to_string_lossy().into_owned());
    let words = std::iter::once("losparse".to_string()).chain(words);
    let quoted = words.map(|word| match word.contains([' ', '*', '!', '\'', '"', '$']) {
        true => format!("'{}'", word.replace('\'', r"'\''")),
        false => word,
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Prints the library's log messages of level `warn` and above as warnings.
pub fn log_warnings() {
    struct Warnings;
    impl log::Log for Warnings {
        fn enabled(&self, metadata: &log::Metadata) -> bool {
            metadata.level() <= log::Level::Warn && metadata.target().starts_with("losparse")
        }
        fn log(&self, record: &log::Record) {
            if self.enabled(record.metadata()) {
                warn(&record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    if log::set_logger(&Warnings).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// A header and rows in aligned columns; those whose index is in `right` are aligned to the right.
pub fn table(header: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    Table::new(header, right, &[]).add(rows)
}

/// A table printed part by part. The first part decides the widths of the columns.
pub struct Table {
    /// `None` once it is printed.
    header: Option<Vec<String>>,
    right: Vec<usize>,
    widths: Vec<usize>,
}

impl Table {
    /// A table without rows. Columns whose index is in `right` are aligned to the right; the first
    /// columns are at least `widths` wide.
    pub fn new(header: &[&str], right: &[usize], widths: &[usize]) -> Self {
        let header: Vec<String> = header.iter().map(|name| visible(name).into_owned()).collect();
        let least = |at: usize| widths.get(at).copied().unwrap_or(0);
        let widths = header.iter().enumerate().map(|(at, name)| width(name).max(least(at)));
        Self { right: right.to_vec(), widths: widths.collect(), header: Some(header) }
    }

    /// Lines of `rows`, in the first part below the header.
    pub fn add(&mut self, rows: &[Vec<String>]) -> String {
        let shown = |row: &Vec<String>| row.iter().map(|cell| visible(cell).into_owned()).collect();
        let mut rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
        if let Some(header) = self.header.take() {
            for row in &rows {
                let widths = self.widths.iter_mut().zip(row);
                widths.for_each(|(most, cell)| *most = width(cell).max(*most));
            }
            rows.insert(0, header);
        }
        rows.iter().map(|row| self.line(row)).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, row: &[String]) -> String {
        let cells = row.iter().zip(&self.widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| match self.right.contains(&column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// Formats seconds: `42 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// Formats bytes: `512 bytes`, `1.5 MiB`.
pub fn size(bytes: f64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(power, _)| bytes >= f64::from(1 << power));
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(power, unit)| format!("{:.1} {unit}", bytes / f64::from(1 << power)),
    )
}

/// The first `most` characters of `text` on one line, with an ellipsis if the rest is left out.
pub fn shorten(text: &str, most: usize) -> String {
    let space = |c: char| if c.is_control() && c.is_whitespace() { ' ' } else { c };
    match text.chars().nth(most).is_some() {
        true => text.chars().take(most.saturating_sub(1)).map(space).chain(['…']).collect(),
        false => text.chars().map(space).collect(),
    }
}

/// Width of the terminal on stderr, in columns; 80 without a terminal.
pub fn terminal_width() -> usize {
    let size = terminal_size::terminal_size_of(io::stderr());
    size.map_or(80, |(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "10".into()], vec!["läng".into(), "5".into()]];
        assert_eq!(table(&["x", "n"], &[1], &rows), "x      n\na     10\nläng   5");
    }

    #[test]
    fn later_parts_of_a_table_keep_its_columns() {
        let row = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        let mut table = Table::new(&["x", "n"], &[1], &[3]);
        assert_eq!(table.add(&[row("a", "10")]), "x     n\na    10");
        assert_eq!(
            table.add(&[row("bcde", "5"), row("\u{1b}[1m\n", "6")]),
            "bcde   5\n\\u{1b}[1m\\n   6"
        );
        assert_eq!(table.add(&[]), "");
    }

    #[test]
    fn durations_and_sizes_are_readable() {
        let all = [0.4, 42.0, 185.0, 7620.0].map(duration);
        assert_eq!(all, ["0 s", "42 s", "3 min 05 s", "2 h 07 min"]);
        assert_eq!([100.0, 2048.0, 3.5e9].map(size), ["100 bytes", "2.0 KiB", "3.3 GiB"]);
    }

    #[test]
    fn long_texts_are_cut_at_characters() {
        assert_eq!(shorten("añb\ncd", 10), "añb cd");
        assert_eq!(shorten("añbcd", 4), "añb…");
    }
}
