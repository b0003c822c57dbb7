//! Plots as SVG: latency by percentile, and bars. Plain text that any browser shows, in light and dark.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 34.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// Told apart by those who see no red or no green (Okabe and Ito, "Color universal design").
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];

/// A line of a plot.
#[derive(Debug, Clone)]
pub struct Curve {
    /// What it shows.
    pub label: String,
    /// Quantiles (0 to 1) and their microseconds, rising.
    pub points: Vec<(f64, u64)>,
}

/// Latency by percentile: the horizontal axis gives each further nine the same room, the vertical one is logarithmic.
#[must_use]
pub fn curves(title: &str, curves: &[Curve]) -> String {
    let values = || curves.iter().flat_map(|curve| &curve.points).map(|(_, micros)| as_float(*micros).max(1.0));
    let low = values().fold(f64::INFINITY, f64::min).min(1e6).log10().floor();
    let high = values().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let x = |quantile: f64| {
        let nines = -(1.0 - quantile.clamp(0.0, 0.9999)).log10();
        LEFT + nines / 4.0 * (WIDTH - LEFT - RIGHT)
    };
    let y = |micros: f64| HEIGHT - BOTTOM - (micros.max(1.0).log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut svg = begin(title, HEIGHT);
    for (quantile, label) in
        [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")]
    {
        let (x, bottom) = (x(quantile), HEIGHT - BOTTOM);
        let _ = write!(svg, r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}"/>"#);
        let _ = write!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, bottom + 18.0);
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let _ = write!(
        svg,
        r#"<text x="{middle}" y="{}" text-anchor="middle">share of the deliveries that took no longer</text>"#,
        HEIGHT - 14.0
    );
    let mut decade = low;
    while decade <= high {
        let (at, right) = (y(10f64.powf(decade)), WIDTH - RIGHT);
        let _ = write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#);
        let label = duration(10f64.powf(decade));
        let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#, LEFT - 8.0, at + 4.0);
        decade += 1.0;
    }
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<String> =
            curve.points.iter().map(|(q, micros)| format!("{:.1},{:.1}", x(*q), y(as_float(*micros)))).collect();
        let _ =
            write!(svg, r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/>"#, points.join(" "));
        legend(&mut svg, index, colour, &curve.label);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, index: usize, colour: &str, label: &str) {
    let at = TOP + 16.0 + as_float(index as u64) * 18.0;
    let (from, to) = (LEFT + 12.0, LEFT + 34.0);
    let _ = write!(svg, r#"<line x1="{from}" x2="{to}" y1="{at}" y2="{at}" stroke="{colour}" stroke-width="3"/>"#);
    let _ = write!(svg, r#"<text x="{}" y="{}">{}</text>"#, to + 8.0, at + 4.0, escape(label));
}

/// A bar for each value, with what it is and how much.
#[must_use]
pub fn bars(title: &str, bars: &[(String, f64, String)]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 330.0;
    let height = TOP + ROW * as_float(bars.len() as u64) + 20.0;
    let most = bars.iter().map(|(_, value, _)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = begin(title, height);
    for (index, (name, value, shown)) in bars.iter().enumerate() {
        let top = TOP + ROW * as_float(index as u64);
        let width = (value / most * (WIDTH - NAMES - 130.0)).max(1.0);
        let (colour, middle) = (COLOURS[index % COLOURS.len()], top + 15.0);
        let _ = write!(svg, r#"<text x="{}" y="{middle}" text-anchor="end">{}</text>"#, NAMES - 8.0, escape(name));
        let _ = write!(svg, r#"<rect x="{NAMES}" y="{}" width="{width:.1}" height="18" fill="{colour}"/>"#, top + 2.0);
        let _ = write!(svg, r#"<text x="{:.1}" y="{middle}">{}</text>"#, NAMES + width + 6.0, escape(shown));
    }
    svg.push_str("</svg>\n");
    svg
}

fn begin(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <style>svg {{ background: #fff }} text {{ fill: #222 }} .grid {{ stroke: #ccc }}\n\
         @media (prefers-color-scheme: dark) {{ svg {{ background: #161616 }} text {{ fill: #ddd }} .grid {{ stroke: #444 }} }}</style>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"15\" font-weight=\"600\">{title}</text>\n"
    )
}

fn duration(micros: f64) -> String {
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        1e3..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.0} s", micros / 1e6),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[expect(clippy::cast_precision_loss, reason = "a place on paper")]
fn as_float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_hold_what_they_were_given() {
        let curve = Curve { label: "a <b>".to_owned(), points: vec![(0.5, 200), (0.99, 1_500), (1.0, 40_000)] };
        let svg = curves("latency & more", &[curve]);
        assert!(
            svg.contains("latency &amp; more") && svg.contains("a &lt;b&gt;") && svg.contains("<polyline"),
            "{svg}"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(!curves("nothing", &[]).contains("NaN"));
        let svg = bars("rows", &[("one".to_owned(), 1.0, "1".to_owned()), ("none".to_owned(), 0.0, "0".to_owned())]);
        assert!(svg.matches("<rect").count() == 2 && !svg.contains("NaN"), "{svg}");
    }
}
