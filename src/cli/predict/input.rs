//! Input of `predict` in batches: lines of the standard input or a file, read as they come and in
//! bounded memory, and lists that are in memory already.

use std::collections::VecDeque;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::bail;
use losparse::{Error, Result};
use serde::Serialize;

use crate::cli::output;

/// Batches whose texts are read together and sorted by length, to pad less. All of their answers
/// come at once.
pub const ALIKE: usize = 8;
/// Bytes of one read.
const BLOCK: usize = 64 << 10;
/// Blocks that are read ahead.
const BLOCKS: usize = 4;
/// Most text in a batch, bytes: batches of long lines hold fewer of them.
const TOGETHER: usize = 4 << 20;
/// Longest line, bytes. A longer one is a stream without line ends.
const LONGEST: u64 = 1 << 30;
/// Time to wait for more lines of a stream before the batch is given as it is.
const PAUSE: Duration = Duration::from_millis(20);
/// Byte-order mark of UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// A line of text without its line end.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the line, from 1.
    pub number: usize,
    /// Its text, or why it cannot be read.
    pub text: Result<String, String>,
}

/// An input that gets no answer, and why. The others are answered.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unanswered {
    /// Number of its line, from 1.
    pub line: usize,
    pub error: String,
}

impl Display for Unanswered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.error)
    }
}

/// Counts inputs, and those without an answer.
#[derive(Debug, Default)]
pub struct Tally {
    inputs: usize,
    unanswered: usize,
    first: Option<String>,
}

impl Tally {
    /// Adds a batch.
    pub fn add<T>(&mut self, batch: &[Result<T, Unanswered>]) {
        self.inputs += batch.len();
        for fault in batch.iter().filter_map(|input| input.as_ref().err()) {
            self.unanswered += 1;
            self.first.get_or_insert_with(|| fault.to_string());
        }
    }

    /// Ends the command.
    ///
    /// # Errors
    /// If there were inputs without an answer.
    pub fn end(self) -> anyhow::Result<()> {
        let Self { inputs, unanswered, first } = self;
        match first {
            None => Ok(()),
            Some(first) => {
                bail!("{unanswered} of {inputs} lines got no answer; the first: {first}")
            }
        }
    }
}

type Block = Result<VecDeque<Line>>;

/// An iterator over batches of lines. If a stream pauses, the batch is the lines it has sent so
/// far.
pub struct Lines {
    blocks: Receiver<Block>,
    /// Lines that are read but not yet in a batch.
    waiting: VecDeque<Line>,
    failure: Option<Error>,
    /// Whether to wait until batches are full: true for files, which have all of their lines
    /// already.
    filled: bool,
    most: usize,
}

impl Lines {
    /// Reads the standard input in batches of at most `most` lines. On a terminal, a note asks to
    /// type `what`.
    pub fn of_stdin(what: &str, most: usize) -> Self {
        if io::stdin().is_terminal() {
            output::note(&format!("reading {what} from the keyboard, one a line; end with Ctrl-D"));
        }
        Self::read(io::stdin(), PathBuf::from("standard input"), is_file(), most)
    }

    /// Reads a text file in batches of at most `most` lines.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn of_file(path: &Path, most: usize) -> Result<Self> {
        let file = losparse::files::open(path)?;
        Ok(Self::read(file, path.to_path_buf(), true, most))
    }

    /// These lines, of which there must be at least one.
    ///
    /// # Errors
    /// If there is none.
    pub fn at_least_one(self) -> Result<impl Iterator<Item = Result<Vec<Line>>>> {
        let mut lines = self.peekable();
        if lines.peek().is_none() {
            let message = "no text given; give TEXT, --file, or lines on the standard input";
            return Err(Error::option("TEXT", message));
        }
        Ok(lines)
    }

    fn read(input: impl Read + Send + 'static, name: PathBuf, filled: bool, most: usize) -> Self {
        let (sender, blocks) = sync_channel(BLOCKS);
        // Reads block, so they have a thread, which ends with its input or with the receiver.
        std::thread::spawn(move || split(input, &name, &sender));
        Self { blocks, waiting: VecDeque::new(), failure: None, filled, most }
    }
}

impl Iterator for Lines {
    type Item = Result<Vec<Line>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < self.most && bytes < TOGETHER {
            if let Some(line) = self.waiting.pop_front() {
                bytes += line.text.as_ref().map_or(0, String::len);
                batch.push(line);
                continue;
            }
            let block = match batch.is_empty() || self.filled {
                true => self.blocks.recv().ok(),
                false => self.blocks.recv_timeout(PAUSE).ok(),
            };
            match block {
                Some(Ok(lines)) => self.waiting = lines,
                // The lines before the error come first.
                Some(Err(error)) => self.failure = Some(error),
                None => break,
            }
        }
        if batch.is_empty() { self.failure.take().map(Err) } else { Some(Ok(batch)) }
    }
}

/// Whether the standard input is a regular file.
fn is_file() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        file.and_then(|file| file.metadata()).is_ok_and(|about| about.is_file())
    }
    #[cfg(not(unix))]
    false
}

/// Sends the lines of `input`, those of one read together.
fn split(input: impl Read, name: &Path, sender: &SyncSender<Block>) {
    let mut input = BufReader::with_capacity(BLOCK, input);
    let mut lines = VecDeque::new();
    for number in 1.. {
        let mut bytes = Vec::new();
        let read = input.by_ref().take(LONGEST + 1).read_until(b'\n', &mut bytes);
        let ended = !bytes.ends_with(b"\n");
        let failure = match read {
            Err(error) => Some(Error::io(name, error)),
            Ok(_) if ended && bytes.len() as u64 > LONGEST => {
                let message = "longer than 1 GiB; is this text, a line each?";
                Some(Error::format(name, format!("line {number}: {message}")))
            }
            Ok(_) => {
                lines.extend(line(bytes, number));
                None
            }
        };
        if !ended && input.buffer().contains(&b'\n') {
            continue;
        }
        let block = std::mem::take(&mut lines);
        let sent = block.is_empty() || sender.send(Ok(block)).is_ok();
        if let Some(error) = failure {
            // If the receiver is gone, nobody needs the error.
            let _ = sender.send(Err(error));
        }
        if ended || !sent {
            return;
        }
    }
}

/// The line of `bytes`; `None` at the end of the input.
fn line(mut bytes: Vec<u8>, number: usize) -> Option<Line> {
    if number == 1 && bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    if bytes.is_empty() {
        return None;
    }
    for end in [b'\n', b'\r'] {
        bytes.pop_if(|last| *last == end);
    }
    let not_utf_8 = |_| "not UTF-8; convert the text, e.g. with iconv".to_string();
    Some(Line { number, text: String::from_utf8(bytes).map_err(not_utf_8) })
}

/// `items` in batches of at most `most`.
pub fn batches<T>(items: Vec<T>, most: usize) -> impl Iterator<Item = Result<Vec<T>>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<T> = items.by_ref().take(most).collect();
        (!batch.is_empty()).then_some(Ok(batch))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_everything_in_order() {
        let all: Vec<Vec<i32>> = batches((0..5).collect(), 2).map(Result::unwrap).collect();
        assert_eq!(all, [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(batches(Vec::<i32>::new(), 2).count(), 0);
    }

    fn lines(input: &'static [u8], most: usize) -> Lines {
        Lines::read(input, PathBuf::from("here"), true, most)
    }

    fn texts(input: &'static [u8]) -> Vec<String> {
        lines(input, 100).flat_map(|batch| batch.unwrap()).map(|line| line.text.unwrap()).collect()
    }

    #[test]
    fn every_line_is_a_text() {
        assert_eq!(texts(b"a\n\n b \n   \nc"), ["a", "", " b ", "   ", "c"]);
        assert_eq!(texts(b"a\n\n"), ["a", ""]);
        assert_eq!(texts(b"\n"), [""]);
        assert_eq!(texts("\u{feff}a\r\nb\r\n\u{feff}c\r".as_bytes()), ["a", "b", "\u{feff}c"]);
        assert_eq!(texts("\u{feff}\na".as_bytes()), ["", "a"]);
        assert_eq!(texts(b"a\0b\tc\rd\n"), ["a\0b\tc\rd"]);
        assert!(texts(b"").is_empty());
        assert!(texts("\u{feff}".as_bytes()).is_empty());
    }

    #[test]
    fn a_broken_line_is_an_error_in_its_place() {
        let mut lines = lines(b"a\nb\ncaf\xe9\nd\n", 100);
        let lines: Vec<Line> = lines.next().unwrap().unwrap();
        let good: Vec<bool> = lines.iter().map(|line| line.text.is_ok()).collect();
        assert_eq!(good, [true, true, false, true]);
        assert!(lines[2].text.as_ref().unwrap_err().starts_with("not UTF-8"));
        assert_eq!(lines[3], Line { number: 4, text: Ok("d".to_string()) });
    }

    #[test]
    fn batches_are_bounded_by_lines_and_by_text() {
        let numbers = |most| lines(b"1\n2\n3\n4\n5\n", most).map(|batch| batch.unwrap().len());
        assert_eq!(numbers(2).collect::<Vec<_>>(), [2, 2, 1]);
        let long = "x".repeat(TOGETHER / 2 + 1);
        let text: &'static str = format!("{long}\n{long}\n{long}\n").leak();
        let batches = lines(text.as_bytes(), 100).map(|batch| batch.unwrap().len());
        assert_eq!(batches.collect::<Vec<_>>(), [2, 1]);
    }

    /// A stream that sends its next line only after the one before was answered.
    #[test]
    fn a_stream_that_pauses_is_answered() {
        struct Waits(Receiver<&'static [u8]>);
        impl Read for Waits {
            fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
                let Ok(bytes) = self.0.recv() else { return Ok(0) };
                block[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            }
        }
        let (sender, receiver) = sync_channel(1);
        let mut lines = Lines::read(Waits(receiver), PathBuf::from("here"), false, 100);
        for text in ["a", "b"] {
            sender.send(format!("{text}\n").leak().as_bytes()).unwrap();
            assert_eq!(lines.next().unwrap().unwrap()[0].text.as_deref(), Ok(text));
        }
        drop(sender);
        assert!(lines.next().is_none());
    }
}
