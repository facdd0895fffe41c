//! A plot as a list of marks, and its drawing as inline SVG.
//!
//! Only finite coordinates get here ([`Axis::place`] lets no other pass), because the drawing
//! library would draw a wrong picture without a word. Colours are written as fixed light-scheme
//! values; the page's style sheet maps each of them to the scheme in use, so one drawing serves
//! light, dark and print. Drawn at twice the size it is shown at, since the library places marks on
//! whole pixels.

use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::axis::Axis;

/// A colour by its role; `style.css` has the same values and their dark twins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Certified,
    Attack,
    Unknown,
    Harm,
    Faint,
}

impl Ink {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Certified => RGBColor(0x1f, 0x6f, 0x8b),
            Self::Attack => RGBColor(0xb4, 0x53, 0x09),
            Self::Unknown => RGBColor(0x8a, 0x8f, 0x98),
            Self::Harm => RGBColor(0xb4, 0x23, 0x18),
            Self::Faint => RGBColor(0xd9, 0xdd, 0xe2),
        }
    }
}

/// One mark, in axis coordinates.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    Line(Vec<(f64, f64)>, Ink),
    Dashed(Vec<(f64, f64)>, Ink),
    Area(Vec<(f64, f64)>, Ink),
    Dot((f64, f64), Ink, i32),
    Ring((f64, f64), Ink),
    Bar([(f64, f64); 2], Ink),
    Whisker(f64, f64, f64, Ink),
}

/// Axes and marks, drawn in order.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) marks: Vec<Mark>,
    pub(super) size: (u32, u32),
    pub(super) label: String,
}

const FONT: i32 = 33;

/// Radius of a dot.
pub(super) const RADIUS: i32 = 9;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The plot could not be drawn; only a bug can cause it.
#[derive(Debug, thiserror::Error)]
#[error("a plot could not be drawn: {0}")]
pub struct PlotError(String);

/// An axis range with its own ticks and their names.
struct Ticks {
    range: RangedCoordf64,
    at: Vec<f64>,
    names: Vec<String>,
}

impl Ticks {
    fn of(axis: &Axis) -> Self {
        let (at, names) = axis.ticks.iter().cloned().unzip();
        Self { range: (axis.low..axis.high).into(), at, names }
    }
}

impl Ranged for Ticks {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.at.clone() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.range()
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.at.iter().position(|at| at == value);
        tick.map_or_else(String::new, |tick| self.names[tick].clone())
    }
}

impl Plot {
    /// The drawing as one `<svg>` element.
    pub(super) fn svg(&self) -> Result<String, PlotError> {
        let mut text = String::new();
        self.draw(&mut text).map_err(|error| PlotError(error.to_string()))?;
        let start = text.find('>').map_or(0, |end| end + 1);
        let body = text[start..].replace("font-family=\"sans-serif\" ", "");
        let (width, height) = self.size;
        let size = format!("0 0 {width} {height}");
        let label = maud::html! { (self.label) }.into_string();
        Ok(format!("<svg viewBox=\"{size}\" role=\"img\" aria-label=\"{label}\">{body}"))
    }

    fn draw(&self, text: &mut String) -> Result<(), Fault> {
        let root = SVGBackend::with_string(text, self.size).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(FONT / 2)
            .margin_right(FONT)
            .x_label_area_size(FONT * 5 / 2)
            .y_label_area_size(FONT * 7 / 2)
            .build_cartesian_2d(Ticks::of(&self.x), Ticks::of(&self.y))?;
        let faint = Ink::Faint.rgb();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(faint.stroke_width(2))
            .axis_style(faint.stroke_width(2))
            .label_style(("sans-serif", FONT))
            .axis_desc_style(("sans-serif", FONT))
            .x_labels(self.x.ticks.len())
            .y_labels(self.y.ticks.len())
            .x_desc(self.x.title)
            .draw()?;
        for mark in &self.marks {
            draw_mark(&mut chart, mark)?;
        }
        root.present()?;
        Ok(())
    }
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Ticks, Ticks>>;

fn draw_mark(chart: &mut Chart<'_>, mark: &Mark) -> Result<(), Fault> {
    match mark {
        Mark::Line(points, ink) => {
            let style = ink.rgb().stroke_width(5);
            chart.draw_series([PathElement::new(points.clone(), style)])?;
        }
        Mark::Dashed(points, ink) => {
            let style = ink.rgb().stroke_width(4);
            chart.draw_series(DashedLineSeries::new(points.iter().copied(), 14, 10, style))?;
        }
        Mark::Area(points, ink) => {
            chart.draw_series([Polygon::new(points.clone(), ink.rgb().mix(0.16))])?;
        }
        Mark::Dot(at, ink, radius) => {
            chart.draw_series([Circle::new(*at, *radius, ink.rgb().filled())])?;
        }
        Mark::Ring(at, ink) => {
            chart.draw_series([Circle::new(*at, RADIUS, ink.rgb().stroke_width(4))])?;
        }
        Mark::Bar(corners, ink) => {
            chart.draw_series([Rectangle::new(*corners, ink.rgb().filled())])?;
        }
        Mark::Whisker(x, low, high, ink) => {
            let style = ink.rgb().mix(0.45).stroke_width(8);
            chart.draw_series([PathElement::new(vec![(*x, *low), (*x, *high)], style)])?;
        }
    }
    Ok(())
}
