//! A bounded queue of lines with its own thread: writers never wait, and never break a line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait. With [`LONGEST`] this bounds the memory a stuck reader of standard output can cost (64 MiB,
/// and about 2 MiB with lines of the usual length).
const WAITING: usize = 4096;
/// How long a line may be, in bytes. No decision's line is longer, whatever its request holds; a test holds it.
pub(super) const LONGEST: usize = 16 << 10;

/// A place to put lines. Clones share one queue.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the thread that writes to `sink`. It ends when the last clone is gone.
    pub(crate) fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, waiting) = mpsc::sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let failures = Arc::clone(&dropped);
        thread::Builder::new()
            .name("cardea-log".to_owned())
            .spawn(move || write_all(&waiting, sink, &failures))?;
        Ok(Self { queue, dropped })
    }

    /// Queues a line. One that finds the queue full, or is too long, is dropped and counted.
    pub(crate) fn push(&self, text: &str) {
        let (line, whole) = one_line(text);
        if self.queue.try_send(Item::Line(line)).is_err() || !whole {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped or could not be written.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything queued so far is written. It blocks, so it is called at the end, from its own thread.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let (done, written) = mpsc::sync_channel(1);
        self.queue.send(Item::Flush(done)).is_ok() && written.recv_timeout(within).is_ok()
    }
}

fn write_all(waiting: &Receiver<Item>, mut sink: impl Write, failures: &AtomicU64) {
    loop {
        let item = match waiting.try_recv() {
            Ok(item) => item,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                if sink.flush().is_err() {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
                match waiting.recv() {
                    Ok(item) => item,
                    Err(_) => break,
                }
            }
        };
        let result = match item {
            Item::Line(line) => sink.write_all(&line),
            Item::Flush(done) => {
                let result = sink.flush();
                // Whoever asked may have stopped waiting.
                let _ = done.try_send(());
                result
            }
        };
        if result.is_err() {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The text as exactly one line: control characters and bidirectional overrides become `\u` escapes, which JSON reads
/// as the same text, since they can only stand inside its strings. Also tells whether it is the whole text.
fn one_line(text: &str) -> (Vec<u8>, bool) {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut line = Vec::with_capacity(text.len() + 1);
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        line.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            push_safe(&mut line, c);
        }
    }
    let whole = line.len() <= LONGEST;
    if !whole {
        line = shortened(&line);
    }
    line.push(b'\n');
    (line, whole)
}

fn push_safe(line: &mut Vec<u8>, c: char) {
    let turns_text =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || turns_text {
        line.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
    } else {
        line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// What is written in place of a line that is too long. Half a JSON object would be no JSON.
fn shortened(line: &[u8]) -> Vec<u8> {
    if line.first() == Some(&b'{') {
        let length = line.len();
        return format!(
            r#"{{"level":"WARN","target":"cardea::telemetry","message":"a log line of {length} bytes was left out"}}"#
        )
        .into_bytes();
    }
    let head = line.get(..LONGEST).unwrap_or(line);
    String::from_utf8_lossy(head).into_owned().into_bytes()
}

/// `tracing`'s formatter hands over each event in one piece.
impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.push(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
