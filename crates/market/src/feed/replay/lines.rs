//! A recorded file as numbered lines: gzip undone where its first bytes say so, one bounded buffer, bytes counted as they are read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// The longest line that is read. The recorded order book snapshots, the longest lines there are, have some 60 kB.
const LINE_MAX: usize = 4 << 20;
/// How much is read from a file, and decompressed, at a time.
const BUFFER: usize = 64 << 10;
/// What every gzip file begins with (RFC 1952, 2.3.1). The name of a file is only a promise; these bytes are the fact.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A line, without its line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
    /// Whether a line end followed. The last line of a file may rightly have none, or be half of what was to be written.
    pub(super) ended: bool,
}

/// Why the lines of a file stop before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the gzip data breaks off: the file is truncated")]
    Truncated,
    #[error("cannot be read any further: {0}")]
    Io(io::Error),
}

/// Reads one file line by line in constant memory.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    gzip: bool,
    buffer: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens the file; `bytes_read` counts what is read from the disk, compressed bytes where they are compressed.
    pub(super) fn open(path: &Path, bytes_read: Arc<AtomicU64>) -> io::Result<Self> {
        let file = CountedFile { file: File::open(path)?, bytes_read };
        let mut raw = BufReader::with_capacity(BUFFER, file);
        let gzip = raw.fill_buf()?.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn BufRead + Send> = if gzip {
            // Several gzip members in a row (logs that were appended to) are one file.
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        Ok(Self { reader, gzip, buffer: Vec::new(), number: 0 })
    }

    /// The number of the line that was last read, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end of the file. After an error there is nothing more to read. A line beyond the limit comes
    /// shortened to it: its reader will find it malformed.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        self.buffer.clear();
        self.number += 1;
        let mut ended = false;
        while !ended {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(error, self.gzip)),
            };
            if chunk.is_empty() {
                break;
            }
            let (taken, consumed) = match memchr::memchr(b'\n', chunk) {
                Some(end) => {
                    ended = true;
                    (&chunk[..end], end + 1)
                }
                None => (chunk, chunk.len()),
            };
            let room = LINE_MAX.saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(&taken[..taken.len().min(room)]);
            self.reader.consume(consumed);
        }
        if !ended && self.buffer.is_empty() {
            return Ok(None);
        }
        let bytes = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        Ok(Some(Line { number: self.number, bytes, ended }))
    }
}

fn read_error(error: io::Error, gzip: bool) -> ReadError {
    if gzip && error.kind() == io::ErrorKind::UnexpectedEof { ReadError::Truncated } else { ReadError::Io(error) }
}

struct CountedFile {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for CountedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines_of(content: &[u8]) -> (Vec<(u64, String, bool)>, Option<ReadError>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let mut lines = Lines::open(file.path(), Arc::default()).unwrap();
        let mut seen = Vec::new();
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    seen.push((line.number, String::from_utf8_lossy(line.bytes).into_owned(), line.ended))
                }
                Ok(None) => return (seen, None),
                Err(error) => return (seen, Some(error)),
            }
        }
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzipped_content_give_the_same_lines() {
        let content = b"one\r\n\ntwo\nthree";
        let expected = vec![
            (1, "one".to_owned(), true),
            (2, String::new(), true),
            (3, "two".to_owned(), true),
            (4, "three".to_owned(), false),
        ];
        assert_eq!(lines_of(content).0, expected);
        let mut members = gzip(b"one\r\n\ntw");
        members.extend(gzip(b"o\nthree"));
        assert_eq!(lines_of(&members).0, expected, "two gzip members read as one file");
    }

    #[test]
    fn a_truncated_gzip_gives_its_lines_and_then_says_so() {
        let content: String = (0..20_000).map(|i| format!("{i},{}\n", i * 7919 % 10_007)).collect();
        let packed = gzip(content.as_bytes());
        let (lines, error) = lines_of(&packed[..packed.len() / 2]);
        assert!(lines.len() > 1000, "only {} lines before the break", lines.len());
        assert!(matches!(error, Some(ReadError::Truncated)), "{error:?}");
    }

    #[test]
    fn a_line_without_end_does_not_grow_memory_without_bound() {
        let (lines, error) = lines_of(&vec![b'x'; LINE_MAX + 100_000]);
        assert!(error.is_none());
        assert_eq!(lines[0].1.len(), LINE_MAX);
    }
}
