//! `seawall-bench plots`: what a comparison kept, drawn.
//!
//! I own two kinds of plots, both SVG: the ratios of every engine on every workload with their intervals,
//! and for each workload how latencies are distributed. I measure nothing and compute no ratio.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use plotters::prelude::*;
use seawall_bench::workload::{APPENDS, Workload};

use crate::engines::{ENGINES, RAW};
use crate::results::{Results, Row};

/// Draw what a comparison kept.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What `compare --keep` wrote.
    results: PathBuf,
    /// Where to put the plots.
    #[arg(short, long, default_value = ".")]
    output: PathBuf,
}

/// Ratios below are drawn at the edge.
const LEAST_RATIO: f64 = 0.01;
const MOST_RATIO: f64 = 2.0;
const WIDTH: u32 = 900;
const ROW: u32 = 20;
const MARGIN: u32 = 60;
/// The width and height that a label needs for itself.
const LABEL: (i32, i32) = (100, 12);
/// Ours, then those that are told apart by a color of their own; the rest is grey.
const COLORS: &[(&str, RGBColor)] = &[
    ("seawall", RGBColor(0xc0, 0x1f, 0x2e)),
    (RAW, RGBColor(0x20, 0x20, 0x20)),
    ("raft-engine", RGBColor(0x1f, 0x77, 0xb4)),
    ("okaywal", RGBColor(0xe6, 0x7e, 0x22)),
    ("fjall", RGBColor(0x2c, 0x8c, 0x3c)),
    ("sqlite", RGBColor(0x8e, 0x44, 0xad)),
    ("lmdb", RGBColor(0x8b, 0x5a, 0x2b)),
    ("rocksdb", RGBColor(0x17, 0x9e, 0xa8)),
];
const GREY: RGBColor = RGBColor(0x90, 0x90, 0x90);

fn color(engine: &str) -> RGBColor {
    COLORS.iter().find(|(name, _)| *name == engine).map_or(GREY, |(_, color)| *color)
}

impl Args {
    /// Draws every plot and says where it is.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let results = Results::read(&self.results)?;
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("creating {}", self.output.display()))?;
        let rows = results.rows()?;
        let mut drawn = vec![self.output.join("ratios.svg")];
        ratios(&drawn[0], &rows).map_err(|e| anyhow::anyhow!("drawing {}: {e}", drawn[0].display()))?;
        for workload in APPENDS {
            let curves = curves(&results, workload)?;
            if !curves.is_empty() {
                let path = self.output.join(format!("latency-{}.svg", workload.name));
                latencies(&path, workload, &curves)
                    .map_err(|e| anyhow::anyhow!("drawing {}: {e}", path.display()))?;
                drawn.push(path);
            }
        }
        drawn.iter().for_each(|path| eprintln!("{}", path.display()));
        Ok(())
    }
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A panel for each workload, a line for each engine, the best first.
fn ratios(path: &Path, rows: &[Row]) -> Drawn {
    let mut panels: Vec<(&Workload, Vec<&Row>)> = Vec::new();
    for workload in APPENDS {
        let mut own: Vec<&Row> = rows.iter().filter(|r| r.workload == workload.name && r.synced).collect();
        own.retain(|row| row.engine != RAW);
        own.sort_by(|a, b| b.ratio_to_raw.total_cmp(&a.ratio_to_raw));
        if !own.is_empty() {
            panels.push((workload, own));
        }
    }
    let height = |rows: &[&Row]| u32::try_from(rows.len()).expect("few") * ROW + MARGIN + 10;
    let all: u32 = panels.iter().map(|(_, rows)| height(rows)).sum();
    let root = SVGBackend::new(path, (WIDTH, all)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut rest = root.clone();
    for (workload, rows) in &panels {
        let (panel, below) = rest.split_vertically(height(rows));
        rest = below;
        panel.titled(&format!("{}: {}", workload.name, workload.what), ("sans-serif", 15))?;
        let lines = i32::try_from(rows.len())?;
        let mut chart = ChartBuilder::on(&panel)
            .margin_top(24)
            .margin_right(20)
            .x_label_area_size(22)
            .y_label_area_size(110)
            .build_cartesian_2d((LEAST_RATIO..MOST_RATIO).log_scale(), (0..lines - 1).into_segmented())?;
        let name = |at: &SegmentValue<i32>| match at {
            SegmentValue::CenterOf(n) => rows
                .get(usize::try_from(lines - 1 - n).unwrap_or(usize::MAX))
                .map_or(String::new(), |r| r.engine.clone()),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(0xe0, 0xe0, 0xe0))
            .x_labels(9)
            .x_label_formatter(&|ratio| format!("{ratio}"))
            .y_labels(rows.len())
            .y_label_formatter(&name)
            .label_style(("sans-serif", 12))
            .draw()?;
        let within = |ratio: f64| ratio.clamp(LEAST_RATIO, MOST_RATIO);
        let top = SegmentValue::Last;
        chart.draw_series([PathElement::new(
            vec![(1.0, SegmentValue::Exact(0)), (1.0, top)],
            BLACK.mix(0.5),
        )])?;
        for (n, row) in (0..).zip(rows.iter()) {
            let at = SegmentValue::CenterOf(lines - 1 - n);
            let ends = [row.ratio_low, row.ratio_high].map(|ratio| (within(ratio), at.clone()));
            let style = color(&row.engine);
            chart.draw_series([PathElement::new(ends.to_vec(), style.stroke_width(2))])?;
            chart.draw_series([Circle::new((within(row.ratio_to_raw), at), 4, style.filled())])?;
            let text = format!("{:.2}", row.ratio_to_raw);
            let right = (within(row.ratio_high) * 1.03, SegmentValue::CenterOf(lines - 1 - n));
            chart.draw_series([EmptyElement::at(right) + Text::new(text, (4, -6), ("sans-serif", 11))])?;
        }
    }
    Ok(root.present()?)
}

/// For each engine the latency in microseconds above which one acknowledgement of so many lies.
type Curves = BTreeMap<usize, (&'static str, Vec<(f64, f64)>)>;

fn curves(results: &Results, workload: &Workload) -> anyhow::Result<Curves> {
    let mut curves = Curves::new();
    for record in results.records.iter().filter(|r| r.workload == workload.name) {
        let Some(at) = ENGINES.iter().position(|e| e.name == record.engine) else { continue };
        let all = record.latencies()?;
        let count = u32::try_from(all.count()).map_or(f64::from(u32::MAX), f64::from);
        let mut curve = Vec::new();
        let mut of = 2.0;
        while of <= count {
            curve.push((of, all.quantile_us(1.0 - 1.0 / of)));
            of *= 1.25;
        }
        curve.push((count.max(2.0), all.max_us()));
        curves.insert(at, (ENGINES[at].name, curve));
    }
    Ok(curves)
}

fn latencies(path: &Path, workload: &Workload, curves: &Curves) -> Drawn {
    let root = SVGBackend::new(path, (WIDTH, 520)).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || curves.values().flat_map(|(_, curve)| curve);
    let most = points().map(|(of, _)| *of).fold(10.0, f64::max);
    let least_us = points().map(|(_, us)| *us).fold(f64::INFINITY, f64::min);
    let most_us = points().map(|(_, us)| *us).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{}: {}", workload.name, workload.what), ("sans-serif", 16))
        .margin(12)
        .margin_right(110)
        .x_label_area_size(38)
        .y_label_area_size(64)
        .build_cartesian_2d((2.0..most).log_scale(), (least_us * 0.9..most_us * 1.1).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xe8, 0xe8, 0xe8))
        .x_desc("of so many acknowledgements one took longer (2: the median, 100: p99, 1000: p99.9)")
        .y_desc("microseconds")
        .x_label_formatter(&|of| format!("{of:.0}"))
        .y_label_formatter(&|us| format!("{us:.0}"))
        .label_style(("sans-serif", 12))
        .draw()?;
    for (name, curve) in curves.values() {
        let style = color(name).stroke_width(if *name == "seawall" { 3 } else { 1 });
        chart.draw_series(LineSeries::new(curve.iter().copied(), style))?;
    }
    let mut ends: Vec<(&str, (f64, f64))> =
        curves.values().filter_map(|(name, curve)| Some((*name, *curve.last()?))).collect();
    ends.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
    let mut labels: Vec<(i32, i32)> = Vec::new();
    for (name, end) in ends {
        let (x, y) = chart.backend_coord(&end);
        let covered =
            |at: i32| labels.iter().any(|(l, t)| (l - x).abs() < LABEL.0 && (t - at).abs() < LABEL.1);
        let down = (0..).find(|down| !covered(y + down)).expect("there are few labels");
        labels.push((x, y + down));
        let label = Text::new(name, (5, down - 6), ("sans-serif", 12).into_font().color(&color(name)));
        chart.draw_series([EmptyElement::at(end) + label])?;
    }
    Ok(root.present()?)
}
