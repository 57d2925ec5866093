//! Charts: lines, points and bars on labelled axes with a legend.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontTransform;

use crate::{Error, Result};

/// Width of a figure in SVG units (pixels of a screen).
const WIDTH: u32 = 860;
/// Height of the only panel.
const HEIGHT: u32 = 400;
/// Height of each of several panels.
const PANEL: u32 = 260;
const TITLE: u32 = 40;
/// Colours that differ in print and for colour-blind readers (Okabe and Ito 2008).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(140, 110, 60),
];
const GRID: RGBColor = RGBColor(225, 225, 225);
const FRAME: RGBColor = RGBColor(90, 90, 90);
const FONT: &str = "sans-serif";

/// Scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axis {
    /// Plain numbers.
    #[default]
    Number,
    /// Whole numbers; no ticks between them.
    Whole,
    /// Shares, shown as percent.
    Percent,
    /// Exponents of ten: 2 is shown as 100.
    Power,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mark {
    /// A line.
    Line,
    /// A line with a dot on every point, and a bar from `low` to `high`.
    Dots,
    /// A dashed line, for a reference.
    Dashed,
    /// Bars of this width from `low` to `y`.
    Bars(f64),
}

/// A point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Horizontal position.
    pub x: f64,
    /// Vertical position.
    pub y: f64,
    /// Lower end of the spread; a bar's foot.
    pub low: f64,
    /// Upper end of the spread.
    pub high: f64,
}

impl Point {
    /// Makes a point without a spread.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, low: y, high: y }
    }
}

/// Points of one colour and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// How it is drawn.
    pub mark: Mark,
    /// Its points; those that are not finite are left out.
    pub points: Vec<Point>,
}

impl Series {
    /// Makes a series.
    pub fn new(name: impl Into<String>, mark: Mark, points: Vec<Point>) -> Self {
        Self { name: name.into(), mark, points }
    }

    /// Colour of the series with this number; references are grey.
    fn colour(&self, number: usize) -> RGBColor {
        match self.mark {
            Mark::Dashed => FRAME,
            _ => COLOURS[number % COLOURS.len()],
        }
    }

    fn finite(&self) -> impl Iterator<Item = &Point> + Clone {
        self.points.iter().filter(|p| [p.x, p.y, p.low, p.high].iter().all(|v| v.is_finite()))
    }
}

/// Series on a pair of axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Label of the vertical axis.
    pub y_label: String,
    /// Scale of the horizontal axis.
    pub x: Axis,
    /// Scale of the vertical axis.
    pub y: Axis,
    /// Ends of the horizontal axis; by default those of the points.
    pub x_range: Option<[f64; 2]>,
    /// Whether the vertical axis begins at 0.
    pub from_zero: bool,
    /// The series to draw.
    pub series: Vec<Series>,
}

/// A picture: panels stacked under one title.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// The title.
    pub title: String,
    /// The panels, from the top.
    pub panels: Vec<Panel>,
}

impl Figure {
    /// Whether no point would be drawn.
    pub fn is_empty(&self) -> bool {
        self.panels.iter().all(|panel| panel.series.iter().all(|s| s.finite().next().is_none()))
    }

    /// Draws the figure as an SVG document.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub fn to_svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|e| Error::format("plot.svg", e.to_string()))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let count = self.panels.len().max(1) as u32;
        let height = TITLE + if count == 1 { HEIGHT } else { PANEL * count };
        let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let style = (FONT, 20).into_font().color(&BLACK);
        root.draw_text(&self.title, &style, (20, 14))?;
        let body = root.margin(TITLE, 0, 0, 0);
        // All legends have one width, so that the panels' axes line up.
        let longest = self.panels.iter().flat_map(|p| &p.series).map(|s| s.name.chars().count());
        let legend = 48 + 7 * longest.max().unwrap_or(0) as u32;
        for (panel, area) in self.panels.iter().zip(body.split_evenly((count as usize, 1))) {
            let (plot, side) = area.split_horizontally(WIDTH - legend.min(WIDTH / 2));
            panel.draw(&plot)?;
            panel.draw_legend(&side)?;
        }
        root.present()?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Panel {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(Series::finite)
    }

    fn ranges(&self) -> [std::ops::Range<f64>; 2] {
        let half = |series: &Series| match series.mark {
            Mark::Bars(width) => width / 2.0,
            _ => 0.0,
        };
        let bars = self.series.iter().map(half).fold(0.0, f64::max);
        let ys = self.points().flat_map(|p| [p.low, p.y, p.high]);
        let mut y = range(ys.chain(self.from_zero.then_some(0.0)), 0.06);
        if self.from_zero {
            y.start = y.start.max(0.0);
        }
        let padding = if bars > 0.0 { 0.0 } else { 0.03 };
        let x = match self.x_range {
            Some(ends) => range(ends.into_iter(), 0.0),
            None => range(self.points().flat_map(|p| [p.x - bars, p.x + bars]), padding),
        };
        [x, y]
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let [x, y] = self.ranges();
        let ticks = match self.x {
            Axis::Whole => ((x.end - x.start) as usize + 1).clamp(2, 13),
            _ => 9,
        };
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(46)
            .y_label_area_size(66)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(FRAME)
            .label_style((FONT, 15))
            .axis_desc_style((FONT, 16))
            .x_labels(ticks)
            .y_labels(7)
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .x_label_formatter(&|v| self.x.format(*v))
            .y_label_formatter(&|v| self.y.format(*v))
            .draw()?;
        for (at, series) in self.series.iter().enumerate() {
            let colour = series.colour(at);
            let line = || series.finite().map(|p| (p.x, p.y));
            match series.mark {
                Mark::Line => {
                    chart.draw_series(LineSeries::new(line(), colour.stroke_width(2)))?;
                }
                Mark::Dashed => {
                    let style = colour.stroke_width(2);
                    chart.draw_series(DashedLineSeries::new(line(), 7, 5, style))?;
                }
                Mark::Dots => {
                    chart.draw_series(LineSeries::new(line(), colour.stroke_width(2)))?;
                    chart.draw_series(series.finite().map(|p| {
                        PathElement::new([(p.x, p.low), (p.x, p.high)], colour.stroke_width(2))
                    }))?;
                    chart.draw_series(line().map(|p| Circle::new(p, 4, colour.filled())))?;
                }
                Mark::Bars(width) => {
                    chart.draw_series(series.finite().map(|p| {
                        let corners = [(p.x - width / 2.0, p.low), (p.x + width / 2.0, p.y)];
                        Rectangle::new(corners, colour.filled())
                    }))?;
                }
            }
        }
        Ok(())
    }

    fn draw_legend(&self, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let style = (FONT, 15).into_font().transform(FontTransform::None).color(&BLACK);
        for (at, series) in self.series.iter().enumerate() {
            let colour = series.colour(at);
            let y = 22 + 21 * at as i32;
            match series.mark {
                Mark::Bars(_) => {
                    area.draw(&Rectangle::new([(4, y - 6), (24, y + 6)], colour.filled()))?;
                }
                Mark::Dashed => {
                    for x in [2, 11, 20] {
                        let ends = [(x, y), (x + 5, y)];
                        area.draw(&PathElement::new(ends, colour.stroke_width(2)))?;
                    }
                }
                _ => {
                    area.draw(&PathElement::new([(2, y), (26, y)], colour.stroke_width(2)))?;
                    if series.mark == Mark::Dots {
                        area.draw(&Circle::new((14, y), 4, colour.filled()))?;
                    }
                }
            }
            area.draw_text(&series.name, &style, (32, y - 6))?;
        }
        Ok(())
    }
}

/// The lowest and the highest of `values`; `None` without values.
pub(crate) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let wider = |ends: Option<(f64, f64)>, value: f64| {
        Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    };
    values.into_iter().fold(None, wider)
}

/// The range of `values`, padded on either side by a share of it; never empty.
fn range(values: impl Iterator<Item = f64>, padding: f64) -> std::ops::Range<f64> {
    let Some((low, high)) = extent(values) else { return 0.0..1.0 };
    let span = match high - low {
        0.0 => low.abs().max(1.0) * 0.2,
        span => span,
    };
    low - span * padding..high + span * padding.max(if high == low { 0.5 } else { 0.0 })
}

impl Axis {
    fn format(self, value: f64) -> String {
        match self {
            Self::Whole if (value - value.round()).abs() > 1e-6 => String::new(),
            Self::Whole => format!("{value:.0}"),
            Self::Percent => format!("{}%", short(value * 100.0)),
            Self::Power if (value - value.round()).abs() > 1e-6 => String::new(),
            Self::Power => match value.round() as i32 {
                exponent @ -3..=4 => short(10f64.powi(exponent)),
                exponent => format!("1e{exponent}"),
            },
            Self::Number => short(value),
        }
    }
}

/// Formats with up to four decimals, without trailing zeros.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_shows_its_words_and_escapes_them() {
        let points = vec![Point::new(0.1, 0.5), Point::new(f64::NAN, 0.6), Point::new(0.2, 0.7)];
        let panel = Panel {
            x_label: "ratio".into(),
            y_label: "a < b & c".into(),
            x: Axis::Percent,
            series: vec![Series::new("ITP", Mark::Dots, points)],
            ..Panel::default()
        };
        let figure = Figure { title: "quality".into(), panels: vec![panel] };
        let svg = figure.to_svg().unwrap();
        for word in ["quality", "ratio", "a &lt; b &amp; c", "ITP", "10%", "20%"] {
            assert!(svg.contains(word), "no {word:?} in {svg}");
        }
        assert!(!svg.contains("NaN") && !figure.is_empty());
        let image = super::super::png::render(&svg).unwrap();
        assert_eq!(&image[1..4], b"PNG");
        assert!(Figure::default().is_empty() && Figure::default().to_svg().is_ok());
    }

    #[test]
    fn ticks_are_readable() {
        assert_eq!(Axis::Power.format(-2.0), "0.01");
        assert_eq!(Axis::Power.format(-6.0), "1e-6");
        assert_eq!(Axis::Power.format(1.5), "");
        assert_eq!(Axis::Percent.format(0.125), "12.5%");
        assert_eq!(Axis::Whole.format(2.5), "");
        assert_eq!(Axis::Number.format(-0.0), "0");
        let same = range([3.0, 3.0].into_iter(), 0.05);
        assert!(same.start < 3.0 && same.end > 3.0);
    }
}
