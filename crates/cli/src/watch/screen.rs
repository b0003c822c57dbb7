//! The live table on a terminal, drawn in place below the prompt.

use std::{
    io::{Stdout, Write as _, stdout},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Text},
    widgets::{Cell, Clear, Paragraph, Table, Wrap},
};
use tickwire_client::Link;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Watched, describe,
    table::{Direction, Price, Row, show_age},
};
use crate::{failure::Outcome, output};

/// Time between two frames.
const FRAME: Duration = Duration::from_millis(50);

/// The narrowest terminal that has room for the less needed columns.
const WIDE: u16 = 72;

/// Lines that the footer may take: the reason of a lost connection seldom fits in one.
const FOOTER_MAX: u16 = 2;

pub(super) async fn show(watched: Watched) -> Outcome {
    let Watched { topics, mut feed, link, limits } = watched;
    let mut rows: Vec<Row> = topics.iter().map(|topic| Row::new(topic)).collect();
    let mut screen = Screen::open(rows.len())?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut frames = tokio::time::interval(FRAME);
    let mut time_is_up = std::pin::pin!(limits.time_is_up());
    let mut seen_count = 0;
    while !limits.reached(seen_count) {
        tokio::select! {
            _ = frames.tick() => {
                if wants_to_quit()? {
                    break;
                }
                screen.draw(&rows, &link.borrow())?;
            }
            seen = feed.next() => {
                let Some((index, seen)) = seen else { break };
                if rows.get_mut(index).is_some_and(|row| row.apply(seen, Instant::now())) {
                    seen_count += 1;
                }
            }
            () = &mut time_is_up => break,
            _ = terminate.recv() => break,
        }
    }
    screen.draw(&rows, &link.borrow())
}

/// Reads the keys that were pressed since the last frame.
fn wants_to_quit() -> Result<bool, anyhow::Error> {
    while event::poll(Duration::ZERO).context("read the keyboard")? {
        let event::Event::Key(key) = event::read().context("read the keyboard")? else { continue };
        let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if key.kind == KeyEventKind::Press && (interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The terminal while the table is on it. Dropping it gives the terminal back, with the last table left standing.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    colors: bool,
}

impl Screen {
    fn open(rows: usize) -> Result<Self, anyhow::Error> {
        let height = u16::try_from(rows + 1 + usize::from(FOOTER_MAX))
            .unwrap_or(u16::MAX)
            .min(crossterm::terminal::size().context("ask for the terminal's size")?.1);
        crossterm::terminal::enable_raw_mode().context("set up the terminal")?;
        let options = TerminalOptions { viewport: Viewport::Inline(height) };
        let opened = Terminal::with_options(CrosstermBackend::new(stdout()), options);
        match opened {
            Ok(terminal) => Ok(Self { terminal, colors: output::stdout_colors() }),
            Err(error) => {
                let _ = crossterm::terminal::disable_raw_mode();
                Err(anyhow::Error::from(error).context("set up the terminal"))
            }
        }
    }

    fn draw(&mut self, rows: &[Row], link: &Link) -> Outcome {
        let palette = Palette { colors: self.colors };
        self.terminal.draw(|frame| draw(frame, rows, link, &palette, Instant::now())).context("draw")?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let bottom = self.terminal.get_frame().area().bottom().saturating_sub(1);
        let _ = self.terminal.set_cursor_position((0, bottom));
        let _ = crossterm::terminal::disable_raw_mode();
        let _ = self.terminal.show_cursor();
        let _ = writeln!(stdout());
    }
}

/// Styles, or none of them. What a colour says is always said by a sign, too.
struct Palette {
    colors: bool,
}

impl Palette {
    fn style(&self, style: Style) -> Style {
        if self.colors { style } else { Style::new() }
    }

    fn price(&self, price: &Price, now: Instant) -> Text<'static> {
        let (sign, style) = match price.flash(now) {
            Some(Direction::Up) => ("▲", Style::new().fg(Color::Green)),
            Some(Direction::Down) => ("▼", Style::new().fg(Color::Red)),
            None => (" ", Style::new()),
        };
        let line = Line::styled(format!("{}{sign}", price.text), self.style(style));
        Text::from(line.alignment(Alignment::Right))
    }
}

fn draw(frame: &mut Frame<'_>, rows: &[Row], link: &Link, palette: &Palette, now: Instant) {
    let [body, footer] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(footer_height(rows, link, frame.area()))])
            .areas(frame.area());
    let wide = body.width >= WIDE;
    let mut titles = vec!["SYMBOL", "BID", "ASK", "SPREAD", "STATE"];
    let mut widths = vec![
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    if wide {
        titles.extend(["LAST", "AGE", "/s"]);
        widths.extend([Constraint::Fill(2), Constraint::Length(7), Constraint::Length(6)]);
    }
    let right = |text: String| Cell::from(Text::from(text).alignment(Alignment::Right));
    let header = titles.iter().map(|title| match *title {
        "SYMBOL" | "STATE" => Cell::from(*title),
        title => right(format!("{title} ")),
    });
    let header = ratatui::widgets::Row::new(header).style(palette.style(Style::new().add_modifier(Modifier::DIM)));
    let visible = usize::from(body.height.saturating_sub(1));
    let lines = rows.iter().take(visible).map(|row| {
        let mut cells = vec![
            Cell::from(row.name.clone()),
            Cell::from(palette.price(&row.bid, now)),
            Cell::from(palette.price(&row.ask, now)),
            right(format!("{} ", row.spread)),
            Cell::from(row.state()),
        ];
        if wide {
            cells.push(Cell::from(palette.price(&row.last, now)));
            cells.push(right(row.age(now).map(show_age).unwrap_or_default()));
            cells.push(right(format!("{:.1}", row.rate(now))));
        }
        let style = if row.is_live() { Style::new() } else { Style::new().add_modifier(Modifier::DIM) };
        ratatui::widgets::Row::new(cells).style(palette.style(style))
    });
    frame.render_widget(Table::new(lines, widths).header(header).column_spacing(1), body);
    frame.render_widget(Paragraph::new(status(rows, visible, link)).wrap(Wrap { trim: true }), footer);
    draw_notes(frame, &rows[..visible.min(rows.len())], body);
}

/// Topics that are no tickers have no prices: their last event takes the room of all columns but the first and, where there is one, the rate.
fn draw_notes(frame: &mut Frame<'_>, rows: &[Row], body: Rect) {
    let name = rows.iter().map(|row| row.name.len()).max().unwrap_or_default().max(6) + 2;
    let name = u16::try_from(name).unwrap_or(u16::MAX).min(body.width);
    let rate = if body.width >= WIDE { 7 } else { 0 };
    for (row, y) in rows.iter().zip(body.y + 1..).filter(|(row, _)| !row.note.is_empty()) {
        let area = Rect { x: body.x + name, y, width: (body.width - name).saturating_sub(rate), height: 1 };
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(row.note.clone()), area);
    }
}

/// As many lines as the text needs, and no more than there are.
fn footer_height(rows: &[Row], link: &Link, area: Rect) -> u16 {
    if status(rows, rows.len(), link).width() > usize::from(area.width) { FOOTER_MAX } else { 1 }
}

/// The footer, what matters most first: the reason of a lost connection may be long, and stands last.
fn status(rows: &[Row], visible: usize, link: &Link) -> Line<'static> {
    let (state, reason) = match link {
        Link::Up => ("connected".to_owned(), None),
        Link::Down { why, retry_in, .. } => {
            (format!("offline, trying again in {:.1} s", retry_in.as_secs_f64()), Some(why.to_string()))
        }
        Link::Closed(_) => (describe(link), None),
    };
    let mut parts = vec![state];
    if rows.len() > visible {
        parts.push(format!("{} more rows do not fit", rows.len() - visible));
    }
    let lost: u64 = rows.iter().map(|row| row.lost).sum();
    if lost > 0 {
        parts.push(format!("{lost} updates lost"));
    }
    parts.push("q quits".to_owned());
    parts.extend(reason);
    Line::from(parts.join(" · "))
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;
    use tickwire_client::{Event, Follower, Payload};

    use super::{super::Seen, *};

    /// The table as text, for a terminal of this width.
    fn render(rows: &[Row], link: &Link, width: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, 4)).unwrap();
        let palette = Palette { colors: false };
        terminal.draw(|frame| draw(frame, rows, link, &palette, Instant::now())).unwrap();
        let buffer = terminal.backend().buffer();
        (0..4).map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>()).collect()
    }

    #[test]
    fn a_row_shows_prices_and_state_at_any_width() {
        let mut row = Row::new("ticker:EURUSD");
        let json =
            br#"{"quote":{"bid":"1.0842","ask":"1.0843","last":"1.08425"},"epoch":"a","seq":1,"status":"stale"}"#;
        for change in Follower::default().apply(Event::Rejoined(Payload::Json(bytes::Bytes::from_static(json)))) {
            row.apply(Seen::Ticker(change), Instant::now());
        }
        let rows = [row];
        for width in [48, 100] {
            let lines = render(&rows, &Link::Up, width);
            assert!(lines[0].starts_with("SYMBOL") && lines[3].contains("q quits"), "{lines:?}");
            for text in ["EURUSD", "1.0842", "1.0843", "0.0001", "stale"] {
                assert!(lines[1].contains(text), "{text}: {lines:?}");
            }
            assert_eq!(lines[1].contains("1.08425"), width >= WIDE);
        }
    }

    #[test]
    fn a_lost_connection_is_told_in_full() {
        let why = "cannot connect to ws://127.0.0.1:4000/socket/websocket: Connection refused (os error 111)";
        let why = tickwire_client::Disconnect::Refused(why.to_owned());
        let link = Link::Down { why, attempt: 1, retry_in: Duration::from_millis(1500) };
        let lines = render(&[Row::new("ticker:EURUSD")], &link, 80);
        assert!(lines[1].starts_with("EURUSD"), "{lines:?}");
        assert!(lines[2].starts_with("offline, trying again in 1.5 s · q quits · cannot connect"), "{lines:?}");
        assert!(lines[3].contains("(os error 111)"), "{lines:?}");
    }
}
