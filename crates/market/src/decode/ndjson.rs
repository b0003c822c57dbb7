//! JSON lines: one quote a line.

use memchr::memchr_iter;

use super::{
    BodyError,
    json::{RECORD_BYTES_USUAL, decode_record},
    push, without_bom,
};
use crate::{Batch, Rejection};

/// Reads one quote from each line that is not blank, `quotes_max` of them at most. A line that is no quote is rejected by itself, with
/// its number.
///
/// # Errors
/// If there are too many.
pub fn decode_ndjson(body: &[u8], quotes_max: usize) -> Result<Batch, BodyError> {
    let body = without_bom(body);
    let mut batch = Batch::with_room(quotes_max.min(body.len() / RECORD_BYTES_USUAL + 1));
    let mut start = 0;
    for (end, line_number) in memchr_iter(b'\n', body).chain([body.len()]).zip(1_u64..) {
        let line = body[start..end].trim_ascii();
        start = end + 1;
        if !line.is_empty() {
            push(&mut batch, quotes_max, || decode_line(line, line_number))?;
        }
    }
    Ok(batch)
}

fn decode_line(line: &[u8], line_number: u64) -> Result<crate::Quote, Rejection> {
    let text = std::str::from_utf8(line).map_err(|_| Rejection::malformed(format!("line {line_number}: not UTF-8")))?;
    decode_record(text).map_err(|rejection| match rejection {
        Rejection::Malformed(problem) => Rejection::Malformed(format!("line {line_number}: {problem}")),
        other => other,
    })
}
