//! Where words go: data to standard output, talk to standard error.

use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _},
};

use anstyle::{AnsiColor, Style};

use crate::failure::{Failure, Outcome};

/// Whether colours are welcome on a stream: it is a terminal, and nobody has set `NO_COLOR` (no-color.org) to anything.
fn colors(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether standard output is a terminal that may be coloured.
pub(crate) fn stdout_colors() -> bool {
    colors(io::stdout().is_terminal())
}

/// Whether standard error is a terminal that may be coloured.
pub(crate) fn stderr_colors() -> bool {
    colors(io::stderr().is_terminal())
}

/// Tells the user something that is not data. A closed standard error is nobody's loss.
pub(crate) fn say(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Tells the user what went wrong.
pub(crate) fn say_error(message: impl Display) {
    say_labelled("error", AnsiColor::Red.on_default().bold(), message);
}

/// Tells the user what may go wrong.
pub(crate) fn say_warning(message: impl Display) {
    say_labelled("warning", AnsiColor::Yellow.on_default().bold(), message);
}

fn say_labelled(label: &str, style: Style, message: impl Display) {
    let style = if stderr_colors() { style } else { Style::new() };
    say(format_args!("{style}{label}{style:#}: {message}"));
}

/// Standard output, buffered until [`flush`](Data::flush).
pub(crate) struct Data(BufWriter<StdoutLock<'static>>);

impl Data {
    pub(crate) fn stdout() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl Display) -> Outcome {
        writeln!(self.0, "{line}").map_err(write_failure)
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl serde::Serialize) -> Outcome {
        let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.line(text)
    }

    /// Lets go of all that was written.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.0.flush().map_err(write_failure)
    }
}

fn write_failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::OutputClosed;
    }
    Failure::Failed(anyhow::Error::from(error).context("write to standard output"))
}

/// Writes all of a command's output at once.
pub(crate) fn print(text: impl Display) -> Outcome {
    let mut data = Data::stdout();
    write!(data.0, "{text}").map_err(write_failure)?;
    data.flush()
}

/// Writes one JSON value as a line.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Outcome {
    let mut data = Data::stdout();
    data.json(value)?;
    data.flush()
}
