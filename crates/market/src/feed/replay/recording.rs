//! Finding the recorded files below the paths that were named, and telling what each one is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rejection::excerpt;

use super::lines::Lines;
use super::naming::FileName;
use super::row::Format;

/// A folder deeper than this below a named path is a cycle of links rather than an archive.
const DEPTH_MAX: usize = 16;
/// How many lines may precede the first that tells the format: the beginning of a recording can be damaged like any other part.
const TELLING_LINES: usize = 16;

/// Why a path cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The path does not exist or must not be read.
    #[error("{} cannot be opened: {source}", path.display())]
    Open {
        /// The path that was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is neither of the recorded formats.
    #[error(
        "{} is of no known format: it begins with {seen:?}; expected quote CSV (\"milliseconds since midnight,bid,ask\") or recorded \
         stream lines (\"<Unix nanoseconds> {{\"stream\":…}}\"), plain or gzipped", path.display()
    )]
    UnknownFormat {
        /// The path that was named.
        path: PathBuf,
        /// The beginning of its content.
        seen: String,
    },
    /// There is nothing in it.
    #[error("{} is empty; expected recorded quotes", path.display())]
    Empty {
        /// The path that was named.
        path: PathBuf,
    },
    /// A folder holds no recording.
    #[error("{} holds no recorded quotes: none of its {files} files is quote CSV or recorded stream lines", path.display())]
    NothingFound {
        /// The path that was named.
        path: PathBuf,
        /// How many files were looked at.
        files: usize,
    },
    /// No path was named.
    #[error("no path to replay; name a recorded file or a folder of them")]
    NoPath,
}

/// A recorded file whose format is known.
#[derive(Debug, Clone)]
pub(super) struct Recording {
    pub(super) path: PathBuf,
    /// The path as messages show it.
    pub(super) shown: Arc<str>,
    pub(super) format: Format,
    pub(super) name: FileName,
    /// Size on disk in bytes, compressed where it is.
    pub(super) size: u64,
}

/// All recordings at or below the paths, in the order of the paths and then of the file names. A file that was named itself must be a
/// recording; files that merely lie in a named folder and are none are passed over.
pub(super) fn discover(paths: &[PathBuf]) -> Result<Vec<Recording>, RecordingError> {
    if paths.is_empty() {
        return Err(RecordingError::NoPath);
    }
    let mut found = Vec::new();
    for path in paths {
        let opened = |source| RecordingError::Open { path: path.clone(), source };
        if std::fs::metadata(path).map_err(opened)?.is_dir() {
            found.extend(discover_folder(path)?);
        } else {
            found.push(examine(path).map_err(opened)?.map_err(|seen| not_recorded(path, &seen))?);
        }
    }
    Ok(found)
}

fn not_recorded(path: &Path, beginning: &[u8]) -> RecordingError {
    let path = path.to_owned();
    match beginning {
        [] => RecordingError::Empty { path },
        seen => RecordingError::UnknownFormat { path, seen: excerpt(seen) },
    }
}

fn discover_folder(folder: &Path) -> Result<Vec<Recording>, RecordingError> {
    let mut files = Vec::new();
    list_files(folder, DEPTH_MAX, &mut files)
        .map_err(|source| RecordingError::Open { path: folder.to_owned(), source })?;
    let mut found = Vec::new();
    for file in &files {
        match examine(file) {
            Ok(Ok(recording)) => found.push(recording),
            Ok(Err(_)) => tracing::debug!(file = %file.display(), "passed over: no recorded quotes"),
            Err(error) => tracing::warn!(file = %file.display(), %error, "passed over: cannot be read"),
        }
    }
    tracing::info!(folder = %folder.display(), recordings = found.len(), passed_over = files.len() - found.len(), "found recordings");
    if found.is_empty() {
        return Err(RecordingError::NothingFound { path: folder.to_owned(), files: files.len() });
    }
    Ok(found)
}

/// Files below a folder, sorted by name at every level so that two machines play the same thing.
fn list_files(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        // A link that leads nowhere is not a reason to refuse the folder it lies in.
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && depth > 0 => list_files(&path, depth - 1, files)?,
            Ok(metadata) if metadata.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Tells what a file is by its first lines; the inner error is the beginning of a content that is no recording.
fn examine(path: &Path) -> io::Result<Result<Recording, Vec<u8>>> {
    let size = std::fs::metadata(path)?.len();
    let mut lines = Lines::open(path, Arc::default())?;
    let mut beginning = Vec::new();
    for _ in 0..TELLING_LINES {
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            // A file that breaks off before its first line is damaged, whatever it was.
            Err(error) if beginning.is_empty() => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            Err(_) => break,
        };
        if let Some(format) = Format::of_line(line.bytes) {
            let name = FileName::of(path);
            return Ok(Ok(Recording {
                path: path.to_owned(),
                shown: path.display().to_string().into(),
                format,
                name,
                size,
            }));
        }
        if beginning.is_empty() {
            beginning = line.bytes.to_vec();
        }
    }
    Ok(Err(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "8715,1.39101,1.39114\n";
    const STREAM: &str = "1723161256207640365 {\"stream\":\"x@trade\",\"data\":{}}\n";

    #[test]
    fn a_folder_gives_its_recordings_in_order_and_passes_over_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
        std::fs::create_dir_all(folder.path().join("b/c")).unwrap();
        write("b/c/spot-btcusdt_20240808.jsonl", STREAM);
        write("b/oanda-eurusd-20140508-quote.csv", CSV);
        write("a.csv", &format!("damaged\n{CSV}"));
        write("README.md", "# Data\n");
        write("symbols.csv", "market,symbol,type\noanda,EURUSD,forex\n");
        write(".hidden.csv", CSV);
        write("empty.csv", "");
        let found = discover(&[folder.path().to_owned()]).unwrap();
        let seen: Vec<_> = found.iter().map(|r| (r.path.strip_prefix(folder.path()).unwrap(), r.format)).collect();
        assert_eq!(
            seen,
            [
                (Path::new("a.csv"), Format::QuoteCsv),
                (Path::new("b/c/spot-btcusdt_20240808.jsonl"), Format::StreamLines),
                (Path::new("b/oanda-eurusd-20140508-quote.csv"), Format::QuoteCsv),
            ]
        );
    }

    #[test]
    fn what_cannot_be_played_is_a_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("notes.txt"), "hello\n").unwrap();
        let message = |name: &str| discover(&[path(name)]).unwrap_err().to_string();
        assert!(message("missing.csv").contains("missing.csv cannot be opened"), "{}", message("missing.csv"));
        std::fs::write(path("empty.csv.gz"), "").unwrap();
        assert!(message("empty.csv.gz").contains("is empty"), "{}", message("empty.csv.gz"));
        std::fs::remove_file(path("empty.csv.gz")).unwrap();
        std::fs::write(path("cut.csv.gz"), [0x1f, 0x8b, 8, 0, 0]).unwrap();
        assert!(message("cut.csv.gz").contains("breaks off"), "{}", message("cut.csv.gz"));
        std::fs::remove_file(path("cut.csv.gz")).unwrap();
        let unknown = message("notes.txt");
        assert!(unknown.contains("\"hello\"") && unknown.contains("expected quote CSV"), "{unknown}");
        assert!(message("").contains("holds no recorded quotes: none of its 1 files"), "{}", message(""));
        assert!(matches!(discover(&[]), Err(RecordingError::NoPath)));
    }
}
