//! CSV with a header.

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use smol_str::SmolStr;

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
    let mut reader = ReaderBuilder::new().from_reader(without_bom(body));
    let columns = columns(reader.byte_headers().map_err(|error| BodyError::Malformed(error.to_string()))?)?;
    let mut batch = Batch::with_room(quotes_max.min(body.len() / ROW_BYTES_USUAL + 1));
    let mut row = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut row) {
            Ok(false) => return Ok(batch),
            Ok(true) => push(&mut batch, quotes_max, || decode_row(&columns, &row))?,
            Err(error) => push(&mut batch, quotes_max, || Err(malformed_row(&error)))?,
        }
    }
}

/// What a row takes, or a little less: a batch has room for so many from the start.
const ROW_BYTES_USUAL: usize = 64;

fn columns(header: &ByteRecord) -> Result<Vec<Column>, BodyError> {
    let mut columns = Vec::with_capacity(header.len());
    for name in header.iter().map(trim) {
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

/// A cell without the white space around it: what the reader's own trimming takes away, which would copy the row.
fn trim(cell: &[u8]) -> &[u8] {
    cell.trim_ascii()
}

fn malformed_row(error: &csv::Error) -> Rejection {
    if let ErrorKind::UnequalLengths { pos, expected_len, len } = error.kind() {
        let line = pos.as_ref().map_or(0, csv::Position::line);
        return Rejection::malformed(format!("line {line}: has {len} cells, the header has {expected_len}"));
    }
    Rejection::malformed(error.to_string())
}

/// The cells of a row; an empty one is absent.
#[derive(Default)]
struct Cells<'a> {
    symbol: Option<&'a [u8]>,
    numbers: [Option<&'a [u8]>; Field::ALL.len()],
    ts: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    publisher: Option<&'a [u8]>,
    pseq: Option<&'a [u8]>,
}

impl<'a> Cells<'a> {
    fn of(columns: &[Column], row: &'a ByteRecord) -> Self {
        let mut cells = Self::default();
        for (column, cell) in columns.iter().zip(row) {
            let cell = Some(trim(cell)).filter(|cell| !cell.is_empty());
            match column {
                Column::Symbol => cells.symbol = cell,
                Column::Number(field) => cells.numbers[*field as usize] = cell,
                Column::Ts => cells.ts = cell,
                Column::Id => cells.id = cell,
                Column::Publisher => cells.publisher = cell,
                Column::Pseq => cells.pseq = cell,
            }
        }
        cells
    }
}

fn decode_row(columns: &[Column], row: &ByteRecord) -> Result<Quote, Rejection> {
    let cells = Cells::of(columns, row);
    let text = |cell: Option<&'_ [u8]>, problem: &'static str| match cell.map(std::str::from_utf8) {
        Some(Err(_)) => Err(Rejection::InvalidMark(problem)),
        Some(Ok(text)) => Ok(Some(SmolStr::new(text))),
        None => Ok(None),
    };
    let name = cells.symbol.ok_or(Rejection::MissingField("a quote needs symbol"))?;
    let mut fields = QuoteFields::new(Symbol::new(std::str::from_utf8(name).map_err(|_| SymbolError::of(name))?)?);
    for (field, cell) in Field::ALL.into_iter().zip(cells.numbers) {
        if let Some(cell) = cell {
            *fields.number_mut(field) = Some(number(field, cell)?);
        }
    }
    fields.ts = cells.ts.map(parse_ts).transpose()?;
    fields.id = text(cells.id, "id is not UTF-8")?;
    let pseq = text(cells.pseq, "pseq is not a whole number")?
        .map(|pseq| pseq.parse().map_err(|_| Rejection::InvalidMark("pseq is not a whole number")));
    let publisher = text(cells.publisher, "publisher is not UTF-8")?;
    fields.mark = mark(publisher.as_deref(), pseq.transpose()?)?;
    Quote::new(fields)
}
