//! Plots: the progress of every host, the use of links, and the wait in queues, over time.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, DrawingArea, IntoDrawingArea as _, IntoFont as _, LineSeries, PathElement, SVGBackend,
    SeriesLabelPosition, Text,
};
use plotters::style::{BLACK, Color as _, HSLColor, RGBAColor, RGBColor, WHITE};

use crate::progress::{Progress, Use};
use crate::report::{HostResult, Report};

const SIZE: (u32, u32) = (1000, 1240);
/// Pixels above the panels for what the run was.
const HEADING: i32 = 64;
/// Hosts beyond which lines are not named, but drawn faintly with their median.
const NAMED: usize = 12;
const SEEDER: RGBColor = RGBColor(31, 90, 180);
const OTHER: RGBColor = RGBColor(200, 60, 40);

/// Draws a run as SVG; `None` if its progress was not kept.
///
/// # Errors
/// Whatever the drawing library finds wrong.
pub fn plot(report: &Report) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
    let Some(progress) = &report.progress else { return Ok(None) };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = draw(&area, report, progress);
        drawn.map_err(|error| error.to_string())?;
    }
    Ok(Some(svg))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of a panel.
struct Series {
    /// Its name, if it has one in the legend.
    name: Option<String>,
    colour: RGBAColor,
    width: u32,
    values: Vec<f64>,
}

fn draw(area: &Area<'_>, report: &Report, progress: &Progress) -> Result<(), Box<dyn Error>> {
    area.fill(&WHITE)?;
    let (heading, panels) = area.split_vertically(HEADING);
    head(&heading, report)?;
    let panels = panels.split_evenly((3, 1));
    let seconds: Vec<f64> = progress.times.iter().map(|at| at.as_secs_f64()).collect();
    panel(&panels[0], "Progress: MiB stored by each host", &seconds, &stored(&report.results, progress), true)?;
    let shares = [("uplinks", &progress.up, SEEDER), ("downlinks", &progress.down, OTHER)]
        .map(|(name, uses, colour)| line(&format!("all {name}"), colour, uses.iter().map(share).collect()));
    panel(&panels[1], "Link use: wire bytes, % of what all links could carry", &seconds, &shares, false)?;
    let waits = [("up", &progress.up, SEEDER), ("down", &progress.down, OTHER)].map(|(name, uses, colour)| {
        let longest = uses.iter().map(|uses| uses.longest.as_secs_f64() * 1000.0).collect();
        let faint = Series { colour: colour.mix(0.4), ..line(&format!("longest queue {name}"), colour, longest) };
        [line(&format!("mean of the packets {name}"), colour, uses.iter().map(wait).collect()), faint]
    });
    panel(&panels[2], "Queue delay: milliseconds", &seconds, waits.as_flattened(), false)?;
    area.present()?;
    Ok(())
}

fn head(area: &Area<'_>, report: &Report) -> Result<(), Box<dyn Error>> {
    let done = &report.completion;
    let title = format!("{}, seed {}", report.name, report.seed);
    let figures = format!(
        "{} hosts; {} of {} leechers complete, the last after {:.3} s; duplicates {:.2} %, overhead {:.2} %, fairness {:.3}",
        report.hosts,
        done.complete,
        done.leechers,
        done.max.as_secs_f64(),
        report.duplicates_percent,
        report.overhead_percent,
        report.fairness,
    );
    area.draw(&Text::new(title, (20, 14), ("sans-serif", 22).into_font().color(&BLACK)))?;
    area.draw(&Text::new(figures, (20, 42), ("sans-serif", 15).into_font().color(&BLACK)))?;
    Ok(())
}

fn line(name: &str, colour: RGBColor, values: Vec<f64>) -> Series {
    Series { name: Some(name.to_owned()), colour: colour.to_rgba(), width: 2, values }
}

/// A line for each host. Among many, the median of the leechers stands out.
#[expect(clippy::cast_precision_loss, reason = "pixels and colours")]
fn stored(hosts: &[HostResult], progress: &Progress) -> Vec<Series> {
    let mib = |column: &[u64]| column.iter().map(|&bytes| bytes as f64 / f64::from(1 << 20)).collect();
    let named = hosts.len() <= NAMED;
    let mut series: Vec<Series> = hosts
        .iter()
        .zip(&progress.stored)
        .enumerate()
        .map(|(number, (host, column))| {
            let colour = match host.role {
                "seeder" => SEEDER.to_rgba(),
                _ => HSLColor(number as f64 / hosts.len() as f64, 0.75, 0.4).to_rgba(),
            };
            let name = named.then(|| format!("{} {}", host.role, host.host));
            Series { name, colour: colour.mix(if named { 1.0 } else { 0.3 }), width: 1, values: mib(column) }
        })
        .collect();
    let leechers: Vec<&Vec<u64>> = hosts
        .iter()
        .zip(&progress.stored)
        .filter(|(host, _)| host.role == "leecher")
        .map(|(_, column)| column)
        .collect();
    if !named && !leechers.is_empty() {
        let median = (0..progress.times.len()).map(|time| {
            let mut values: Vec<u64> = leechers.iter().filter_map(|column| column.get(time).copied()).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        });
        series.push(line("the median leecher", RGBColor(0, 0, 0), mib(&median.collect::<Vec<_>>())));
    }
    series
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn share(uses: &Use) -> f64 {
    if uses.capacity == 0 { 0.0 } else { uses.carried as f64 * 100.0 / uses.capacity as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn wait(uses: &Use) -> f64 {
    uses.waited_nanos as f64 / 1e6 / uses.packets.max(1) as f64
}

fn panel(area: &Area<'_>, title: &str, seconds: &[f64], series: &[Series], rises: bool) -> Result<(), Box<dyn Error>> {
    let most = series.iter().flat_map(|series| &series.values).copied().fold(1e-3_f64, f64::max);
    // Lines that rise to the right leave room below the legend, others above the lines.
    let (place, headroom) =
        if rises { (SeriesLabelPosition::LowerRight, 1.05) } else { (SeriesLabelPosition::UpperRight, 1.35) };
    let last = seconds.last().copied().unwrap_or(1.0).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..last, 0.0..most * headroom)?;
    chart.configure_mesh().max_light_lines(1).x_desc("virtual seconds").draw()?;
    for Series { name, colour, width, values } in series {
        let style = colour.stroke_width(*width);
        let points = seconds.iter().copied().zip(values.iter().copied());
        let drawn = chart.draw_series(LineSeries::new(points, style))?;
        if let Some(name) = name {
            drawn.label(name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
        }
    }
    if series.iter().any(|series| series.name.is_some()) {
        chart
            .configure_series_labels()
            .position(place)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::{Options, find};

    #[test]
    fn a_plot_is_drawn_if_progress_was_kept() {
        for (peers, name) in [(2, "leecher 1"), (14, "the median leecher")] {
            let options = Options { peers: Some(peers), size: Some(300_000), ..Options::seed(1) };
            let report = |keeps: bool| {
                let mut scenario = find("flash-crowd").unwrap().build(&options);
                if keeps {
                    scenario.keep_progress();
                }
                scenario.run().unwrap()
            };
            let svg = plot(&report(true)).unwrap().unwrap();
            for text in ["flash-crowd, seed 1", name, "Progress", "Link use", "Queue delay", "polyline"] {
                assert!(svg.contains(text), "{text}");
            }
            assert_eq!(plot(&report(false)).unwrap(), None);
        }
    }
}
