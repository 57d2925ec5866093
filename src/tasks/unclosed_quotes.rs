//! Finds quotes that are never closed, with which a field swallows the rows after it.

/// A fault of a quoted field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The file ends within the quotes.
    Open,
    /// The quotes span lines and text follows them: the closing quote is the opening quote of
    /// another field.
    Resumed {
        /// Line of the closing quote, from 1.
        closed: u64,
    },
}

impl Fault {
    /// The message, about the line with the opening quote.
    pub fn message(self) -> String {
        let (what, advice) = match self {
            Self::Open => ("is never closed".to_string(), "close it"),
            Self::Resumed { closed } => {
                let what = format!("is closed only on line {closed}, in the middle of a field");
                (what, "close it on its own line")
            }
        };
        format!(
            "a quote (\") opens a field here that {what}, so that the rows between would be lost; \
             {advice}, write \"\" for a quote inside of quotes, or have quotes read as text with \
             --quoting=false"
        )
    }
}

/// The first faulty quoted field, with the line it begins at, from 1.
pub(super) fn first_fault(text: &str, delimiter: u8) -> Option<(u64, Fault)> {
    let bytes = text.as_bytes();
    let ends = |byte: u8| byte == delimiter || byte == b'\n' || byte == b'\r';
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        // A field begins at `at`.
        if bytes[at] == b'"' {
            let opened = line;
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (None, _) => return Some((opened, Fault::Open)),
                    (Some(b'"'), Some(b'"')) => at += 2,
                    (Some(b'"'), _) => break,
                    (Some(byte), _) => {
                        line += u64::from(*byte == b'\n');
                        at += 1;
                    }
                }
            }
            at += 1;
            while bytes.get(at) == Some(&b' ') {
                at += 1;
            }
            if line > opened && bytes.get(at).is_some_and(|&byte| !ends(byte)) {
                return Some((opened, Fault::Resumed { closed: line }));
            }
        }
        while at < bytes.len() && !ends(bytes[at]) {
            at += 1;
        }
        line += u64::from(bytes.get(at) == Some(&b'\n'));
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_that_swallow_rows_are_found_and_others_are_not() {
        let resumed = |closed| Fault::Resumed { closed };
        for (text, fault) in [
            ("a,b\n1,2\n", None),
            ("", None),
            // Good fields: line breaks, doubled quotes, empty, delimiters, at the end of the file.
            ("a,b\n\"x\ny\",2\n3,\"4\"", None),
            ("a,b\n\"x \"\"y\"\" z\",\"\"\n\"\"\"x\"\"\n\",2\n", None),
            ("a,b\r\n\"x\r\n\r\ny, z\",2\r\n", None),
            ("\"a\",\"b\"\n", None),
            ("a,b\n\"x\ny\"  ,2\n", None),
            // A quote within a field that does not begin with one is text.
            ("a,b\na 5\" screen,2\nx\",y\n", None),
            // Within a line no row is lost.
            ("a,b\n\"it\" is,2\n", None),
            ("a,b\npos,\"x\nneg,y\n", Some((2, Fault::Open))),
            ("a,b\n\n\"x,pos\n", Some((3, Fault::Open))),
            ("a,b\n1,\"x\"\"\n", Some((2, Fault::Open))),
            ("a,b\n1,\"", Some((2, Fault::Open))),
            ("\"a,b\n1,2\n", Some((1, Fault::Open))),
            // The next opening quote closes the field.
            ("a,b\npos,\"x\nneg,y\npos,\"z\nneg,w\n", Some((2, resumed(4)))),
            ("a,b\n1,2\n\"x,pos\n\"y,neg\n", Some((3, resumed(4)))),
            ("a,b\n\"x\n\" y,2\n", Some((2, resumed(3)))),
        ] {
            assert_eq!(first_fault(text, b','), fault, "{text:?}");
        }
        assert_eq!(first_fault("a\tb\n\"x,\"\ty\n", b'\t'), None);
        assert_eq!(first_fault("a\tb\n1\t\"x\ty\n", b'\t'), Some((2, Fault::Open)));
    }
}
