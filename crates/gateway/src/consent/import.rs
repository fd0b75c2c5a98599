//! Consents in bulk, from NDJSON or CSV, a line at a time: memory does not grow with the file, a
//! bad line costs only itself, and no fault shows a recipient.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use jiff::Timestamp;
use nightgate_core::{Basis, Recipient, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::{Act, ConsentBook, ConsentEvent};
use crate::error::{Error, Kind, Result};

/// Longest line, in bytes: every field at its longest, and room for spaces and escapes.
pub const LINE_MAX_BYTES: usize = 8 * 1024;
/// Longest `source`, in bytes.
pub const SOURCE_MAX_BYTES: usize = 256;
/// Events recorded in one go. Each batch is a transaction, and a withdrawal waits for it to end.
pub const BATCH: usize = 20_000;
/// Batches put into the order of recipients together: each then touches a tenth of the book's pages
/// and not most of them, which is what recording random recipients costs. Some 30 MB, and as much
/// again read ahead.
pub const WINDOW: usize = 10;
/// Faults kept in a [`Summary`]; all are counted.
pub const FAULTS_KEPT: usize = 100;
/// Excel begins UTF-8 files with it.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// The fields, as they are named in JSON and in a CSV header.
const FIELDS: [&str; 7] = ["recipient", "scope", "act", "at", "basis", "ends", "source"];

/// How the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated with a header. No field of a consent holds a line break, so a quoted one is
    /// a fault: an unclosed quote must not swallow the lines after it.
    Csv,
}

/// A line that breaks a rule. Never shows the recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportFault {
    /// Which line, from 1; a CSV header is line 1.
    pub line: u64,
    /// The field, or `line` for the line as a whole.
    pub field: String,
    /// The rule, as a fragment that follows the field's name.
    pub rule: String,
}

impl fmt::Display for ImportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}` {}", self.line, self.field, self.rule)
    }
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Summary {
    /// Lines with something on them, header not counted.
    pub lines: u64,
    /// Events that were new.
    pub new: u64,
    /// Events the book knew already.
    pub known: u64,
    /// Lines that were not taken.
    pub faulty: u64,
    /// The first [`FAULTS_KEPT`] faults.
    pub faults: Vec<ImportFault>,
}

/// Reads events from `reader`. `home` is the house's region, by which national numbers are read;
/// `source` stands on the events that name none.
pub fn rows<R: Read>(reader: R, format: Format, home: &str, source: &str) -> Rows<R> {
    Rows {
        lines: Lines {
            reader: BufReader::new(reader),
            line: Vec::new(),
            number: 0,
        },
        shape: match format {
            Format::Ndjson => Shape::Ndjson,
            Format::Csv => Shape::Csv {
                header: None,
                parser: parser(),
            },
        },
        home: home.to_owned(),
        source: source.to_owned(),
        over: false,
        broken: None,
    }
}

/// The events of a file; see [`rows`].
pub struct Rows<R> {
    lines: Lines<R>,
    shape: Shape,
    home: String,
    source: String,
    over: bool,
    broken: Option<io::Error>,
}

enum Shape {
    Ndjson,
    Csv {
        header: Option<Vec<usize>>,
        parser: csv::Reader<Feed>,
    },
}

impl<R> Rows<R> {
    /// Why reading stopped before the end, if it did. Ask once the iterator is exhausted.
    pub fn broken(&mut self) -> Option<io::Error> {
        self.broken.take()
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = std::result::Result<ConsentEvent, ImportFault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            let taken = match self.lines.next() {
                Ok(None) => return None,
                Ok(Some(taken)) => taken,
                Err(error) => {
                    self.broken = Some(error);
                    self.over = true;
                    return None;
                }
            };
            let number = self.lines.number;
            let row = taken.and_then(|()| self.row());
            if let Some(row) = row.transpose() {
                return Some(row.map_err(|(field, rule)| ImportFault {
                    line: number,
                    field,
                    rule,
                }));
            }
        }
        None
    }
}

/// A field and the rule it breaks.
type Fault = (String, String);

fn fault<T>(field: &str, rule: impl Into<String>) -> std::result::Result<T, Fault> {
    Err((field.to_owned(), rule.into()))
}

impl<R: Read> Rows<R> {
    /// The event on the present line; `None` on a blank line or a header.
    fn row(&mut self) -> std::result::Result<Option<ConsentEvent>, Fault> {
        let line = &self.lines.line[..];
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let fields = match &mut self.shape {
            Shape::Ndjson => ndjson(line)?,
            Shape::Csv {
                header: Some(header),
                parser,
            } => csv_fields(parser, header, line)?,
            Shape::Csv { header, parser } => {
                // A header that is wrong makes every line mean something else: nothing is read.
                self.over = true;
                *header = Some(columns(parser, line)?);
                self.over = false;
                return Ok(None);
            }
        };
        event(&fields, &self.home, &self.source).map(Some)
    }
}

/// The values of one line, in the order of [`FIELDS`]; an empty one is absent.
type Fields = [Option<String>; FIELDS.len()];

fn event(fields: &Fields, home: &str, source: &str) -> std::result::Result<ConsentEvent, Fault> {
    let [recipient, scope, act, at, basis, ends, own_source] =
        fields.each_ref().map(Option::as_deref);
    let needed = |field, value: Option<_>| value.map_or_else(|| fault(field, "is missing"), Ok);
    let recipient =
        Recipient::new(needed("recipient", recipient)?).or_else(|rule| fault("recipient", rule))?;
    let scope: Scope = needed("scope", scope)?
        .parse()
        .or_else(|rule: String| fault("scope", rule))?;
    let at = instant("at", needed("at", at)?)?;
    let ends = ends.map(|ends| instant("ends", ends)).transpose()?;
    let act = match (act.unwrap_or("grant"), basis.unwrap_or("explicit"), ends) {
        ("grant", "explicit", None) => Act::Grant(Basis::Explicit),
        ("grant", "transaction_exception", Some(ends)) if scope == Scope::General => {
            if ends <= at {
                return fault("ends", "must be later than `at`");
            }
            Act::Grant(Basis::TransactionException { ends })
        }
        ("grant", "transaction_exception", Some(_)) => {
            return fault(
                "basis",
                "must be explicit for night consent (Network Act Art. 50(3))",
            );
        }
        ("grant", "transaction_exception", None) => {
            return fault("ends", "is needed with basis transaction_exception");
        }
        ("grant", "explicit", Some(_)) => {
            return fault("ends", "belongs to basis transaction_exception only");
        }
        ("grant", _, _) => return fault("basis", "must be explicit or transaction_exception"),
        ("withdraw", "explicit", None) => Act::Withdraw,
        ("withdraw", "explicit", Some(_)) => {
            return fault("ends", "has no meaning on a withdrawal");
        }
        ("withdraw", _, _) => return fault("basis", "has no meaning on a withdrawal"),
        _ => return fault("act", "must be grant or withdraw"),
    };
    let source = own_source.unwrap_or(source);
    if source.len() > SOURCE_MAX_BYTES || source.chars().any(char::is_control) {
        let rule = format!("must be at most {SOURCE_MAX_BYTES} bytes without control characters");
        return fault("source", rule);
    }
    Ok(ConsentEvent {
        key: recipient.key(home),
        scope,
        act,
        at,
        source: source.to_owned(),
    })
}

fn instant(field: &str, text: &str) -> std::result::Result<Timestamp, Fault> {
    const RULE: &str = "must be RFC 3339 with an offset, such as 2026-11-22T09:00:00+09:00";
    text.parse().or_else(|_| fault(field, RULE))
}

fn ndjson(line: &[u8]) -> std::result::Result<Fields, Fault> {
    // The texts of serde_json quote what they found, which may be a recipient: only the column.
    let object: Map<String, Value> = serde_json::from_slice(line).or_else(|error| {
        fault(
            "line",
            format!("is no JSON object (column {})", error.column()),
        )
    })?;
    let mut fields = Fields::default();
    for (name, value) in object {
        let field = place(&name)?;
        fields[field] = match value {
            Value::Null => None,
            Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            _ => return fault(FIELDS[field], "must be a string"),
        };
    }
    Ok(fields)
}

/// Where `name` stands among [`FIELDS`].
fn place(name: &str) -> std::result::Result<usize, Fault> {
    if let Some(place) = FIELDS.iter().position(|field| *field == name) {
        return Ok(place);
    }
    // A name is shown only if it looks like one: a file without a header begins with a recipient.
    let like_a_name = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let shown = name.len() <= 32 && !name.is_empty() && name.bytes().all(like_a_name);
    let shown = if shown { name } else { "(hidden)" };
    fault(
        shown,
        format!("is no field: the fields are {}", FIELDS.join(", ")),
    )
}

fn columns(parser: &mut csv::Reader<Feed>, line: &[u8]) -> std::result::Result<Vec<usize>, Fault> {
    let mut columns = Vec::new();
    for name in &record(parser, line)? {
        let column = place(name)?;
        if columns.contains(&column) {
            return fault(FIELDS[column], "stands twice in the header");
        }
        columns.push(column);
    }
    for needed in ["recipient", "scope", "at"] {
        if !columns.iter().any(|column| FIELDS[*column] == needed) {
            return fault(needed, "is missing in the header");
        }
    }
    Ok(columns)
}

fn csv_fields(
    parser: &mut csv::Reader<Feed>,
    header: &[usize],
    line: &[u8],
) -> std::result::Result<Fields, Fault> {
    let record = record(parser, line)?;
    if record.len() != header.len() {
        let (want, has) = (header.len(), record.len());
        return fault(
            "line",
            format!("must have {want} columns as the header has, has {has}"),
        );
    }
    let mut fields = Fields::default();
    for (column, value) in header.iter().zip(&record) {
        fields[*column] = Some(value.to_owned()).filter(|value| !value.is_empty());
    }
    Ok(fields)
}

/// One line at a time for the CSV parser, which otherwise reads on to the end of a quoted field.
#[derive(Default)]
struct Feed {
    line: Vec<u8>,
    at: usize,
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&self.line[self.at..]).read(into)?;
        self.at += read;
        Ok(read)
    }
}

fn parser() -> csv::Reader<Feed> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .buffer_capacity(LINE_MAX_BYTES)
        .from_reader(Feed::default())
}

fn record(
    parser: &mut csv::Reader<Feed>,
    line: &[u8],
) -> std::result::Result<csv::StringRecord, Fault> {
    if line.contains(&b'\r') {
        return fault("line", "must not hold a carriage return");
    }
    let feed = parser.get_mut();
    feed.line.clear();
    feed.line.extend_from_slice(line);
    feed.line.push(b'\n');
    feed.at = 0;
    let mut record = csv::ByteRecord::new();
    let read = parser.read_byte_record(&mut record);
    // A parser that met the end of its line inside a quote takes it for the end of the file.
    let unclosed = parser.is_done();
    if unclosed || !matches!(read, Ok(true)) {
        *parser = self::parser();
        return fault("line", "has a quote that is not closed on it");
    }
    csv::StringRecord::from_byte_record(record)
        .or_else(|_| fault("line", "must be UTF-8: save it as `CSV UTF-8`"))
}

struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    number: u64,
}

impl<R: Read> Lines<R> {
    /// Reads the next line into `line`, without its end; the inner fault is a line too long, which
    /// has been passed over.
    fn next(&mut self) -> io::Result<Option<std::result::Result<(), Fault>>> {
        self.line.clear();
        // Two more than the longest line: its CR and LF.
        let room = LINE_MAX_BYTES as u64 + 2;
        if self
            .reader
            .by_ref()
            .take(room)
            .read_until(b'\n', &mut self.line)?
            == 0
        {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.line.pop_if(|byte| *byte == b'\n').is_some();
        self.line.pop_if(|byte| *byte == b'\r');
        if self.line.len() > LINE_MAX_BYTES {
            if !ended {
                self.reader.skip_until(b'\n')?;
            }
            return Ok(Some(fault(
                "line",
                format!("must be at most {LINE_MAX_BYTES} bytes"),
            )));
        }
        if self.number == 1 && self.line.starts_with(BOM) {
            self.line.drain(..BOM.len());
        }
        Ok(Some(Ok(())))
    }
}

/// Reads all of `rows` into `book`, [`BATCH`] events at a time, and tells `on_progress` after each.
/// Up to [`WINDOW`] batches are read before they are recorded in the order of their recipients.
/// What was recorded stays recorded when a later line or batch fails; running it again is harmless,
/// since the same event twice is recorded once.
///
/// # Errors
/// Those of the book, and `Unavailable` when `rows` cannot be read on; then what was read is
/// recorded.
pub async fn import<R: Read + Send + 'static>(
    book: &dyn ConsentBook,
    mut rows: Rows<R>,
    mut on_progress: impl FnMut(&Summary) + Send,
) -> Result<Summary> {
    let (batches, mut read) = mpsc::channel(WINDOW);
    let reading = tokio::task::spawn_blocking(move || {
        loop {
            let batch: Vec<_> = rows.by_ref().take(BATCH).collect();
            // The book has failed when nobody takes batches any more: no use in reading on.
            if batch.is_empty() || batches.blocking_send(batch).is_err() {
                return rows.broken();
            }
        }
    });
    let mut summary = Summary::default();
    loop {
        let mut window = Vec::with_capacity(WINDOW);
        while window.len() < WINDOW
            && let Some(batch) = read.recv().await
        {
            window.push(batch);
        }
        if window.is_empty() {
            break;
        }
        record_window(book, window, &mut summary, &mut on_progress).await?;
    }
    let stopped = |error| {
        let line = summary.lines;
        Error::new(
            Kind::Unavailable,
            "consent",
            format!("read past line {line}"),
        )
        .with(error)
    };
    match reading.await {
        Ok(None) => Ok(summary),
        Ok(Some(error)) => Err(stopped(error)),
        Err(error) => Err(stopped(io::Error::other(error))),
    }
}

/// What one line of a file gave.
type Line = std::result::Result<ConsentEvent, ImportFault>;

/// Records the events of `window`, as many transactions as it has batches.
async fn record_window(
    book: &dyn ConsentBook,
    window: Vec<Vec<Line>>,
    summary: &mut Summary,
    on_progress: &mut impl FnMut(&Summary),
) -> Result<()> {
    let batches: Vec<(u64, u64)> = window.iter().map(|batch| lines(batch)).collect();
    let mut events = Vec::with_capacity(window.iter().map(Vec::len).sum());
    for line in window.into_iter().flatten() {
        match line {
            Ok(event) => events.push(event),
            Err(fault) if summary.faults.len() < FAULTS_KEPT => summary.faults.push(fault),
            Err(_) => {}
        }
    }
    // Stable: of two equal events the one that stands first in the file is kept.
    events.sort_by(|one: &ConsentEvent, other| one.key.cmp(&other.key));
    let part = events.len().div_ceil(batches.len());
    let mut events = events.into_iter();
    for (lines, faulty) in batches {
        let events: Vec<_> = events.by_ref().take(part).collect();
        let given = events.len() as u64;
        let new = book.record(events).await?;
        summary.lines += lines;
        summary.faulty += faulty;
        summary.new += new;
        summary.known += given.saturating_sub(new);
        on_progress(summary);
    }
    Ok(())
}

/// How many lines a batch has, and how many of them are faulty.
fn lines(batch: &[Line]) -> (u64, u64) {
    let faulty = batch.iter().filter(|line| line.is_err()).count();
    (batch.len() as u64, faulty as u64)
}
