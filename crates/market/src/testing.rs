//! Readers that nothing outside of this crate calls, for the fuzz targets, which try them on anything.

use bytes::Bytes;

use crate::{
    Quote, Symbol,
    batch::Indexed,
    feed::replay::{Format, quote_of_line},
    wire::{self, Request},
};

/// Reads bytes as each message that nodes send each other; of what can be read, what it says, and what it says once it is written and read
/// again.
#[must_use]
pub fn mesh_messages(bytes: &Bytes) -> Vec<(String, String)> {
    let requests = wire::decode_request(bytes.clone()).ok().map(|request| {
        let (first, again) = match request {
            Request::Forward(batch) => {
                let quotes = batch.quotes;
                (quotes.clone(), wire::encode_forward(quotes.iter()))
            }
            Request::Snapshot { symbol, since } => {
                let again = wire::encode_snapshot_request(&symbol, since.as_ref());
                return (
                    format!("{symbol} {since:?}"),
                    match wire::decode_request(again) {
                        Ok(Request::Snapshot { symbol, since }) => format!("{symbol} {since:?}"),
                        other => format!("{other:?}"),
                    },
                );
            }
        };
        // What was rejected on the way in leaves a hole in the numbers.
        let shown =
            |quotes: &[Indexed]| format!("{:?}", quotes.iter().map(|indexed| &indexed.quote).collect::<Vec<_>>());
        (
            shown(&first),
            match wire::decode_request(again) {
                Ok(Request::Forward(batch)) => shown(&batch.quotes),
                other => format!("{other:?}"),
            },
        )
    });
    let reports = (0..4).filter_map(|quotes| {
        let report = wire::decode_report(bytes.clone(), quotes).ok()?;
        let again = wire::decode_report(wire::encode_report(&report), quotes);
        Some((format!("{:?}", Ok::<_, ()>(report)), format!("{:?}", again.map_err(|error| error.to_string()))))
    });
    let snapshot = wire::decode_snapshot(bytes.clone()).ok().map(|snapshot| {
        let again = wire::decode_snapshot(wire::encode_snapshot(snapshot.clone()));
        (format!("{:?}", Ok::<_, ()>(snapshot)), format!("{:?}", again.map_err(|error| error.to_string())))
    });
    requests.into_iter().chain(reports).chain(snapshot).collect()
}

/// The quotes that a line says in each recorded format, as a whole line and as the broken end of a file.
#[must_use]
pub fn recorded_quotes(line: &[u8]) -> Vec<Quote> {
    let symbol = Symbol::new("RECORDED").expect("plain letters");
    let formats = [(Format::QuoteCsv, true), (Format::QuoteCsv, false), (Format::StreamLines, true)];
    formats.into_iter().filter_map(|(format, ended)| quote_of_line(format, line, ended, symbol.clone())).collect()
}
