//! Records from a stream. Every mistake has its line.

use std::io::BufRead;

use super::Record;
use crate::model::Problem;
use crate::rehearsal::{Line, Lines, MAX_LINE};

/// The most records that are read from one stream.
pub const MAX_RECORDS: usize = 10_000_000;

/// The records of a stream, one a line; empty lines are passed over.
#[derive(Debug)]
pub struct Records<R> {
    lines: Lines<R>,
    number: usize,
    read: usize,
    most: usize,
    ended: bool,
}

impl<R: BufRead> Records<R> {
    /// The records of a stream.
    pub fn new(source: R) -> Self {
        Self {
            lines: Lines::new(source),
            number: 0,
            read: 0,
            most: MAX_RECORDS,
            ended: false,
        }
    }

    fn line(&mut self) -> Option<Result<Record, Problem>> {
        loop {
            self.number += 1;
            let number = self.number;
            let at = |problem: Problem| {
                let column = problem.at.map_or(1, |(_, column)| column);
                problem.at(number, column)
            };
            let text = match self.lines.read() {
                Ok(None) => return None,
                Ok(Some(Line::Text(text))) if text.trim_ascii().is_empty() => continue,
                Ok(Some(Line::Text(text))) => text,
                Ok(Some(Line::TooLong)) => {
                    let limit = MAX_LINE / 1024 / 1024;
                    let message = format!("the line is longer than {limit} MiB");
                    return Some(Err(at(Problem::new(message))));
                }
                Err(error) => {
                    // Nothing can follow what cannot be read.
                    self.ended = true;
                    let message = format!("cannot read the decisions: {error}");
                    return Some(Err(at(Problem::new(message))));
                }
            };
            self.read += 1;
            return Some(Record::read(text).map_err(at));
        }
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Record, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.line()?;
        if self.read <= self.most {
            return Some(line);
        }
        self.ended = true;
        let message = format!("the file holds more than {} decisions", self.most);
        let problem = Problem::new(message).at(self.number, 1);
        Some(Err(problem.hint("split it, and replay the parts")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &[u8], most: usize) -> Vec<String> {
        let mut records = Records::new(text);
        records.most = most;
        records
            .filter_map(Result::err)
            .map(|problem| problem.in_file("d.jsonl").to_string())
            .collect()
    }

    #[test]
    fn every_mistake_has_its_line_and_the_reader_goes_on() {
        let mut text = b"\n{\n \n{\"version\":1,\"version\":1}\n".to_vec();
        text.extend(vec![b'x'; MAX_LINE + 1]);
        text.extend_from_slice(b"\n[]\n");
        assert_eq!(
            problems(&text, 10),
            [
                "d.jsonl:2:1: the text ends too early",
                "d.jsonl:4:25: a member occurs twice",
                "d.jsonl:5:1: the line is longer than 1 MiB",
                "d.jsonl:6:1: not an object",
            ]
        );
    }

    #[test]
    fn more_records_than_there_may_be_end_the_reading() {
        let found = problems(b"{}\n{}\n{}\n{}\n", 2);
        assert_eq!(found.len(), 3);
        assert!(
            found.last().is_some_and(
                |last| last.starts_with("d.jsonl:3:1: the file holds more than 2 decisions")
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_stream_that_breaks_is_told_once() {
        struct Broken;
        impl std::io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("gone"))
            }
        }
        let records = Records::new(std::io::BufReader::new(Broken));
        let found: Vec<_> = records.map(|read| read.unwrap_err().message).collect();
        assert_eq!(found, ["cannot read the decisions: gone"]);
    }
}
