//! CSV with a header.

use csv::{ByteRecord, ErrorKind, ReaderBuilder, Trim};

use super::{BodyError, mark, number, push, without_bom};
use crate::{Batch, Field, Quote, QuoteFields, Rejection, Symbol, SymbolError, parse_ts, rejection::excerpt};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Symbol,
    Number(Field),
    Ts,
    Id,
    Publisher,
    Pseq,
}

const COLUMNS: &str = "symbol, bid, ask, bid_size, ask_size, last, last_size, ts, id, publisher, pseq";

impl Column {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"symbol" => Self::Symbol,
            b"ts" => Self::Ts,
            b"id" => Self::Id,
            b"publisher" => Self::Publisher,
            b"pseq" => Self::Pseq,
            name => Self::Number(Field::ALL.into_iter().find(|field| field.name().as_bytes() == name)?),
        })
    }
}

/// Reads one quote from each row, `quotes_max` of them at most. The first row names the columns, in any order; `symbol` must be among
/// them. An empty cell is an absent field. A row that is no quote is rejected by itself.
///
/// # Errors
/// If a column is unknown, named twice or missing, or there are too many rows.
pub fn decode_csv(body: &[u8], quotes_max: usize) -> Result<Batch, BodyError> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(without_bom(body));
    let columns = columns(reader.byte_headers().map_err(|error| BodyError::Malformed(error.to_string()))?)?;
    let mut batch = Batch::default();
    let mut row = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut row) {
            Ok(false) => return Ok(batch),
            Ok(true) => push(&mut batch, quotes_max, || decode_row(&columns, &row))?,
            Err(error) => push(&mut batch, quotes_max, || Err(malformed_row(&error)))?,
        }
    }
}

fn columns(header: &ByteRecord) -> Result<Vec<Column>, BodyError> {
    let mut columns = Vec::with_capacity(header.len());
    for name in header {
        let column = Column::named(name).ok_or_else(|| {
            BodyError::Malformed(format!("unknown column {:?}; the columns are {COLUMNS}", excerpt(name)))
        })?;
        if columns.contains(&column) {
            return Err(BodyError::Malformed(format!("column {:?} is there twice", excerpt(name))));
        }
        columns.push(column);
    }
    if columns.contains(&Column::Symbol) {
        Ok(columns)
    } else {
        Err(BodyError::Malformed(format!("the first row must name the columns, symbol among them; they are {COLUMNS}")))
    }
}

fn malformed_row(error: &csv::Error) -> Rejection {
    if let ErrorKind::UnequalLengths { pos, expected_len, len } = error.kind() {
        let line = pos.as_ref().map_or(0, csv::Position::line);
        return Rejection::malformed(format!("line {line}: has {len} cells, the header has {expected_len}"));
    }
    Rejection::malformed(error.to_string())
}

fn decode_row(columns: &[Column], row: &ByteRecord) -> Result<Quote, Rejection> {
    let cell = |wanted: Column| {
        let place = columns.iter().position(|&column| column == wanted)?;
        row.get(place).filter(|cell| !cell.is_empty())
    };
    let text = |column: Column, problem: &'static str| {
        cell(column).map(|cell| std::str::from_utf8(cell).map_err(|_| Rejection::InvalidMark(problem))).transpose()
    };
    let name = cell(Column::Symbol).ok_or(Rejection::MissingField("a quote needs symbol"))?;
    let mut fields = QuoteFields::new(Symbol::new(std::str::from_utf8(name).map_err(|_| SymbolError::of(name))?)?);
    for field in Field::ALL {
        *fields.number_mut(field) = cell(Column::Number(field)).map(|cell| number(field, cell)).transpose()?;
    }
    fields.ts = cell(Column::Ts).map(parse_ts).transpose()?;
    fields.id = text(Column::Id, "id is not UTF-8")?.map(Into::into);
    let pseq = text(Column::Pseq, "pseq is not a whole number")?
        .map(|pseq| pseq.parse().map_err(|_| Rejection::InvalidMark("pseq is not a whole number")));
    fields.mark = mark(text(Column::Publisher, "publisher is not UTF-8")?, pseq.transpose()?)?;
    Quote::new(fields)
}
