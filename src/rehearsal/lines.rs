//! Documents from a stream, one a line, none longer than a line may be.

use std::io::{self, BufRead, Read};

/// The longest line, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;

/// The lines of a stream. Memory is bounded whatever the stream holds.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    line: Vec<u8>,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its bytes, without the end of the line.
    Text(&'a [u8]),
    /// It is longer than [`MAX_LINE`]; it was read past.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// The lines of a stream.
    pub fn new(source: R) -> Self {
        Self {
            source,
            line: Vec::new(),
        }
    }

    /// The next line; `None` at the end of the stream.
    ///
    /// # Errors
    /// Where the stream cannot be read.
    pub fn read(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        // One byte more for the end of the line, one more to see that there is none.
        let limit = MAX_LINE as u64 + 2;
        let bytes = Read::take(&mut self.source, limit).read_until(b'\n', &mut self.line)?;
        if bytes == 0 {
            return Ok(None);
        }
        let ended = self.line.last() == Some(&b'\n');
        let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() <= MAX_LINE {
            return Ok(Some(Line::Text(text)));
        }
        if !ended {
            skip_line(&mut self.source)?;
        }
        Ok(Some(Line::TooLong))
    }

    /// The stream behind the lines.
    pub fn source(&self) -> &R {
        &self.source
    }
}

fn skip_line(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (used, done) = match end {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        source.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &[u8]) -> Vec<Option<usize>> {
        let mut lines = Lines::new(io::BufReader::with_capacity(7, text));
        let mut all = Vec::new();
        while let Some(line) = lines.read().unwrap() {
            all.push(match line {
                Line::Text(text) => Some(text.len()),
                Line::TooLong => None,
            });
        }
        all
    }

    #[test]
    fn lines_end_with_a_line_feed_or_with_the_stream() {
        assert_eq!(lengths(b"ab\r\n\nc"), [Some(2), Some(0), Some(1)]);
        assert_eq!(lengths(b""), []);
        assert_eq!(lengths(b"\n"), [Some(0)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_read_past_and_the_next_one_read() {
        for (length, kept) in [
            (MAX_LINE, true),
            (MAX_LINE + 1, false),
            (3 * MAX_LINE, false),
        ] {
            let mut text = vec![b'x'; length];
            text.extend_from_slice(b"\nab\n");
            assert_eq!(
                lengths(&text),
                [kept.then_some(length), Some(2)],
                "{length}"
            );
            text.truncate(length);
            assert_eq!(lengths(&text), [kept.then_some(length)], "{length}");
        }
    }
}
