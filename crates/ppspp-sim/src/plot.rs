//! Plots: the progress of every host, the use of links, and the longest queue, over time.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::{ChartBuilder, DrawingArea, IntoDrawingArea as _, LineSeries, SVGBackend};
use plotters::style::{BLUE, Color as _, HSLColor, RED, WHITE};

use crate::report::{Progress, Report};

const SIZE: (u32, u32) = (1000, 1100);

/// Draws a run as SVG; `None` if its progress was not kept.
///
/// # Errors
/// Whatever the drawing library finds wrong.
pub fn plot(report: &Report) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
    let Some(progress) = &report.progress else { return Ok(None) };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = draw(&area, progress);
        drawn.map_err(|error| error.to_string())?;
    }
    Ok(Some(svg))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn draw(area: &Area<'_>, progress: &Progress) -> Result<(), Box<dyn Error>> {
    area.fill(&WHITE)?;
    let panels = area.split_evenly((3, 1));
    let seconds: Vec<f64> = progress.times.iter().map(|at| at.as_secs_f64()).collect();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let stored: Vec<Vec<f64>> =
        progress.stored.iter().map(|column| column.iter().copied().map(mib).collect()).collect();
    lines(&panels[0], "MiB stored by each host", &seconds, &stored)?;
    let carried = progress.carried.iter().scan(0, |before, &bytes| {
        let moved = bytes - *before;
        *before = bytes;
        Some(moved as f64 * 8.0 / 1e6)
    });
    lines(&panels[1], "Mbit/s that left all uplinks", &seconds, &[carried.collect()])?;
    let waits = progress.backlog.iter().map(|wait| wait.as_secs_f64() * 1000.0);
    lines(&panels[2], "longest wait in any uplink, ms", &seconds, &[waits.collect()])?;
    area.present()?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "colours")]
fn lines(area: &Area<'_>, title: &str, seconds: &[f64], series: &[Vec<f64>]) -> Result<(), Box<dyn Error>> {
    let most = series.iter().flatten().copied().fold(0.0_f64, f64::max);
    let last = seconds.last().copied().unwrap_or(1.0);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..last.max(1.0), 0.0..most.max(1.0) * 1.05)?;
    chart.configure_mesh().x_desc("virtual seconds").draw()?;
    for (number, values) in series.iter().enumerate() {
        let hue = number as f64 / series.len() as f64;
        let colour = match (series.len(), number) {
            (1, _) => RED.to_rgba(),
            (_, 0) => BLUE.to_rgba(),
            _ => HSLColor(hue, 0.7, 0.45).to_rgba(),
        };
        let points = seconds.iter().copied().zip(values.iter().copied());
        chart.draw_series(LineSeries::new(points, colour.stroke_width(1)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::{Options, find};

    #[test]
    fn a_plot_is_drawn_if_progress_was_kept() {
        let options = Options { peers: Some(2), size: Some(300_000), ..Options::seed(1) };
        for keeps in [true, false] {
            let mut scenario = find("staggered").unwrap().build(&options);
            if keeps {
                scenario.keep_progress();
            }
            let svg = plot(&scenario.run().unwrap()).unwrap();
            assert_eq!(svg.is_some_and(|svg| svg.contains("polyline")), keeps);
        }
    }
}
