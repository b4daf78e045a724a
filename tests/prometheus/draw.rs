//! Draws what Prometheus answered as one SVG file: a chart for each panel.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

/// Of the file, in pixels.
const SIZE: (u32, u32) = (1240, 1010);
const HEADING: u32 = 50;
const COLUMNS: usize = 2;
const GAP: i32 = 10;
/// Above the plot: the title, and the names of the series.
const ABOVE: u32 = 50;
/// A letter of the legend; an SVG file cannot ask the font.
const LETTER: i32 = 7;

const PAGE: RGBColor = RGBColor(244, 245, 247);
const INK: RGBColor = RGBColor(36, 41, 46);
const FAINT: RGBColor = RGBColor(110, 118, 129);
const GRID: RGBColor = RGBColor(232, 234, 237);
const PALETTE: [RGBColor; 6] = [
    RGBColor(87, 148, 242),
    RGBColor(255, 152, 48),
    RGBColor(184, 119, 217),
    RGBColor(115, 191, 105),
    RGBColor(242, 73, 92),
    RGBColor(143, 143, 143),
];

/// A panel.
pub(crate) struct Chart {
    pub(crate) title: String,
    /// As the dashboard names it.
    pub(crate) unit: String,
    /// Whether the series stand on each other.
    pub(crate) is_stacked: bool,
    pub(crate) series: Vec<Series>,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// Hours and values.
    pub(crate) points: Vec<(f64, f64)>,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(crate) fn draw(path: &Path, heading: &str, explanation: &str, hours: f64, charts: &[Chart]) {
    let page = SVGBackend::new(path, SIZE).into_drawing_area();
    page.fill(&PAGE).unwrap();
    text(&page, heading, (GAP * 2, 10), 19, INK);
    text(&page, explanation, (GAP * 2, 33), 12, FAINT);
    let (_, body) = page.split_vertically(HEADING);
    let rows = charts.len().div_ceil(COLUMNS);
    for (canvas, chart) in body.split_evenly((rows, COLUMNS)).iter().zip(charts) {
        panel(&canvas.margin(GAP / 2, GAP / 2, GAP, GAP), chart, hours);
    }
    page.present().unwrap();
}

fn panel(canvas: &Canvas<'_>, chart: &Chart, hours: f64) {
    canvas.fill(&WHITE).unwrap();
    text(canvas, &chart.title, (12, 9), 14, INK);
    legend(canvas, &chart.series);
    let (_, plot) = canvas.split_vertically(ABOVE);
    let one = one_of(&chart.unit);
    let lines = if chart.is_stacked { stacked(&chart.series) } else { plain(&chart.series) };
    let scaled = |line: Vec<(f64, f64)>| line.into_iter().map(|(x, y)| (x, y / one)).collect();
    let lines: Vec<Vec<_>> = lines.into_iter().map(scaled).collect();
    let highest =
        lines.iter().flat_map(|line| line.iter().map(|point| point.1)).fold(0.0, f64::max);
    let top = round_up(highest * 1.02, &chart.unit);
    let mut plotted = ChartBuilder::on(&plot)
        .margin_right(16)
        .margin_bottom(4)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..hours, 0.0..top)
        .unwrap();
    plotted
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(12)
        .y_labels(5)
        .x_label_formatter(&|hour| format!("{hour:.0} h"))
        .y_label_formatter(&|value| amount(*value, &chart.unit))
        .label_style(("sans-serif", 11).into_font().color(&FAINT))
        .draw()
        .unwrap();
    // The topmost first, so that each lower one covers what is not the upper one's own.
    for (at, line) in lines.into_iter().enumerate().rev() {
        let color = PALETTE[at % PALETTE.len()];
        if chart.is_stacked {
            let area = AreaSeries::new(line.iter().copied(), 0.0, lighter(color));
            plotted.draw_series(area).unwrap();
        }
        plotted.draw_series(LineSeries::new(line, color.stroke_width(2))).unwrap();
    }
}

/// Opaque, so that what is beneath does not shine through.
fn lighter(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let lighter = |part: u8| 255 - (255 - part) / 3;
    RGBColor(lighter(red), lighter(green), lighter(blue))
}

fn legend(canvas: &Canvas<'_>, series: &[Series]) {
    let mut x = 12;
    for (at, one) in series.iter().enumerate() {
        let color = PALETTE[at % PALETTE.len()];
        canvas.draw(&Rectangle::new([(x, 36), (x + 14, 39)], color.filled())).unwrap();
        text(canvas, &one.name, (x + 19, 31), 12, FAINT);
        x += 19 + LETTER * one.name.chars().count() as i32 + 14;
    }
}

fn text(canvas: &Canvas<'_>, words: &str, at: (i32, i32), size: i32, color: RGBColor) {
    let style = ("sans-serif", size).into_font().color(&color);
    canvas.draw(&Text::new(words.to_owned(), at, style)).unwrap();
}

fn plain(series: &[Series]) -> Vec<Vec<(f64, f64)>> {
    series.iter().map(|one| one.points.clone()).collect()
}

/// Each on top of those before it. All were asked at the same moments.
fn stacked(series: &[Series]) -> Vec<Vec<(f64, f64)>> {
    let moments = series.iter().max_by_key(|one| one.points.len());
    let moments: Vec<f64> =
        moments.into_iter().flat_map(|one| &one.points).map(|point| point.0).collect();
    let mut heights = vec![0.0; moments.len()];
    let mut lines = Vec::new();
    for one in series {
        let mut points = one.points.iter().peekable();
        for (moment, height) in moments.iter().zip(&mut heights) {
            if let Some((_, value)) = points.next_if(|point| point.0 <= *moment) {
                *height += value;
            }
        }
        lines.push(moments.iter().copied().zip(heights.iter().copied()).collect());
    }
    lines
}

/// What one on the axis is of the dashboard's unit, so that its marks are at round numbers.
fn one_of(unit: &str) -> f64 {
    match unit {
        "bytes" => (1_u64 << 30) as f64,
        "s" => 3600.0,
        "percentunit" => 0.01,
        _ => 1.0,
    }
}

fn amount(value: f64, unit: &str) -> String {
    let sign = match unit {
        "bytes" => " GiB",
        "s" => " h",
        "percentunit" => "%",
        _ => "",
    };
    format!("{value:.0}{sign}")
}

/// A number above it that four lines divide well.
fn round_up(value: f64, unit: &str) -> f64 {
    if unit == "percentunit" {
        return 100.0;
    }
    let wanted = value.max(4.0);
    let power = 10_f64.powf(wanted.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    let steps = steps.map(|step| step * power);
    steps.into_iter().find(|step| *step >= wanted).unwrap_or(wanted)
}
