//! Draws the table of goals: the share of each goal that was used.

use std::fmt::Write;

use crate::table::{Report, Row};

const WIDTH: f64 = 820.0;
const MARGIN: f64 = 16.0;
const TOP: f64 = 64.0;
const ROW: f64 = 44.0;
const BAR: f64 = 12.0;

/// The end of the scale, as a multiple of the goal. A longer bar is clipped.
const SCALE: f64 = 2.0;

/// Styles that are readable on light and dark pages, as there is no background behind the text.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}\
.faint{font-size:12px;fill:#59636e}\
.title{font-size:16px;font-weight:600}\
.track{fill:#818b98;fill-opacity:.18}\
.met{fill:#1a7f64}.missed{fill:#bc4c00}\
.goal{stroke:#1f2328;stroke-width:1.5}\
@media (prefers-color-scheme:dark){\
text{fill:#e6edf3}.faint{fill:#9198a1}\
.met{fill:#3fb993}.missed{fill:#f0883e}.goal{stroke:#e6edf3}}";

pub fn draw(report: &Report, machine: &str) -> String {
    let height = TOP + ROW * report.rows.len() as f64 + 32.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-label=\"Measurements against their goals\">\n<style>{STYLE}</style>\n"
    );
    text(&mut svg, "title", "start", MARGIN, 26.0, "Measured against the goals");
    let legend = "length: the used share of the goal; up to the line, the goal is met";
    text(&mut svg, "faint", "start", MARGIN, 46.0, legend);
    for (index, row) in report.rows.iter().enumerate() {
        bar(&mut svg, row, TOP + ROW * index as f64);
    }
    text(&mut svg, "faint", "start", MARGIN, height - 12.0, machine);
    svg.push_str("</svg>\n");
    svg
}

fn bar(svg: &mut String, row: &Row, y: f64) {
    let full = WIDTH - 2.0 * MARGIN;
    let class = if row.is_met() { "met" } else { "missed" };
    let width = full * (row.share() / SCALE).min(1.0);
    let figures = format!("{} (goal {})", row.measured_text(), row.goal_text());
    text(svg, "", "start", MARGIN, y + 14.0, &row.what.replace('`', ""));
    text(svg, "faint", "end", WIDTH - MARGIN, y + 14.0, &figures);
    for (class, width) in [("track", full), (class, width)] {
        _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{MARGIN}\" y=\"{}\" width=\"{width:.1}\" height=\"{BAR}\" \
             rx=\"3\"/>",
            y + 20.0
        );
    }
    _ = writeln!(
        svg,
        "<path class=\"goal\" d=\"M{} {}v{}\"/>",
        MARGIN + full / SCALE,
        y + 17.0,
        BAR + 6.0
    );
}

fn text(svg: &mut String, class: &str, anchor: &str, x: f64, y: f64, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}
