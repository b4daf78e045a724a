//! What a person sees while the day runs.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::fleet::{GPUS_PER_NODE, GpuId, node_name};
use super::workload::TICK;
use crate::engine::Bytes;

/// The fleet at one tick.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// The tick.
    pub tick: usize,
    /// Ticks of the day.
    pub ticks: usize,
    /// Pods that run.
    pub running: usize,
    /// Pods that found no room yet.
    pub waiting: usize,
    /// GPUs with a pod on them.
    pub gpus_in_use: usize,
    /// Every GPU, node by node.
    pub gpus: Vec<GpuFrame>,
}

/// One GPU at one tick.
#[derive(Debug, Clone)]
pub struct GpuFrame {
    /// Which.
    pub gpu: GpuId,
    /// All of its memory.
    pub total: Bytes,
    /// What pods hold of it.
    pub pods: Bytes,
    /// What others hold.
    pub foreign: Bytes,
    /// What filmgate keeps for pods beyond what they hold.
    pub held: Bytes,
}

/// Watches the day go by.
pub trait Progress: Send {
    /// A tick is over.
    fn tick(&mut self, frame: &Frame);
    /// Something worth a line happened.
    fn note(&mut self, line: &str);
}

/// Says nothing: for `--output json`.
pub struct Silent;

impl Progress for Silent {
    fn tick(&mut self, _: &Frame) {}
    fn note(&mut self, _: &str) {}
}

/// A line every virtual hour or so: for a pipe.
pub struct Lines;

const TICKS_PER_LINE: usize = 120;

impl Progress for Lines {
    fn tick(&mut self, frame: &Frame) {
        if frame.tick.is_multiple_of(TICKS_PER_LINE) || frame.tick + 1 == frame.ticks {
            put(&format!("{}\n", headline(frame)));
        }
    }

    fn note(&mut self, line: &str) {
        put(&format!("{line}\n"));
    }
}

/// A table of GPUs that is drawn again and again, on the terminal's second screen.
pub struct Screen {
    has_colour: bool,
    is_open: bool,
    drawn_at: Option<Instant>,
}

/// Nodes drawn; more do not fit a terminal of 24 lines.
const MOST_ROWS: usize = 18;
const BAR_CELLS: usize = 15;
/// Eyes see no more, and a terminal at the end of a slow line could not follow.
const FRAME_TIME: Duration = Duration::from_millis(40);

impl Screen {
    /// A screen that opens with the first frame.
    #[must_use]
    pub fn new(has_colour: bool) -> Self {
        Self { has_colour, is_open: false, drawn_at: None }
    }

    /// Gives the terminal back as it was.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            put("\x1b[0m\x1b[?25h\x1b[?1049l");
        }
    }

    fn bar(&self, gpu: &GpuFrame) -> String {
        let cells = |bytes: Bytes| (bytes.ratio_of(gpu.total) * BAR_CELLS as f64).round() as usize;
        let pods = cells(gpu.pods).min(BAR_CELLS);
        let foreign = cells(gpu.foreign).min(BAR_CELLS - pods);
        let held = cells(gpu.held).min(BAR_CELLS - pods - foreign);
        let free = BAR_CELLS - pods - foreign - held;
        [(pods, "█", "32"), (foreign, "▓", "35"), (held, "░", "33"), (free, "·", "2")]
            .into_iter()
            .map(|(count, cell, colour)| self.paint(&cell.repeat(count), colour))
            .collect()
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.has_colour && !text.is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn draw(&self, frame: &Frame) -> String {
        let mut lines = vec![headline(frame), self.legend(), String::new()];
        let nodes: Vec<_> = frame.gpus.chunks(GPUS_PER_NODE).collect();
        let busy = |node: &&&[GpuFrame]| node.iter().any(|gpu| gpu.pods > Bytes::ZERO);
        let last = nodes.iter().rposition(|node| busy(&node)).map_or(0, |last| last + 1);
        for node in nodes.iter().take(last.min(MOST_ROWS)) {
            let bars: Vec<_> = node.iter().map(|gpu| self.bar(gpu)).collect();
            let name =
                node.first().map_or_else(String::new, |gpu| node_name(gpu.gpu.node).to_string());
            lines.push(format!("{name:<8}{}", bars.join("  ")));
        }
        if nodes.len() > last.min(MOST_ROWS) {
            lines.push(format!("and {} nodes more", nodes.len() - last.min(MOST_ROWS)));
        }
        // Each line is cleared to its end, and all below the last: nothing flickers.
        format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
    }

    fn legend(&self) -> String {
        format!(
            "{} pods  {} foreign  {} held for pods  {} free",
            self.paint("█", "32"),
            self.paint("▓", "35"),
            self.paint("░", "33"),
            self.paint("·", "2")
        )
    }
}

impl Progress for Screen {
    fn tick(&mut self, frame: &Frame) {
        if !std::mem::replace(&mut self.is_open, true) {
            put("\x1b[?1049h\x1b[?25l");
        }
        if self.drawn_at.is_none_or(|at| at.elapsed() >= FRAME_TIME) {
            self.drawn_at = Some(Instant::now());
            put(&self.draw(frame));
        }
        if frame.tick + 1 == frame.ticks {
            self.close();
        }
    }

    fn note(&mut self, line: &str) {
        if !self.is_open {
            put(&format!("{line}\n"));
        }
    }
}

/// Also on an error and on Ctrl-C, which ends the day by dropping it.
impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// A terminal or pipe that is gone is no reason to end the day.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn headline(frame: &Frame) -> String {
    let elapsed: Duration = TICK * frame.tick as u32;
    let minutes = elapsed.as_secs() / 60;
    format!(
        "{:02}:{:02}  {} pods running, {} waiting, on {} of {} GPUs",
        minutes / 60,
        minutes % 60,
        frame.running,
        frame.waiting,
        frame.gpus_in_use,
        frame.gpus.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let gpu = |number: usize, pods| GpuFrame {
            gpu: GpuId { node: number / GPUS_PER_NODE, gpu: number % GPUS_PER_NODE },
            total: Bytes::gib(80),
            pods: Bytes::gib(pods),
            foreign: Bytes::gib(16),
            held: Bytes::gib(16),
        };
        Frame {
            tick: 70,
            ticks: 100,
            running: 2,
            waiting: 1,
            gpus_in_use: 2,
            gpus: (0..8).map(|number| gpu(number, if number < 2 { 32 } else { 0 })).collect(),
        }
    }

    #[test]
    fn a_bar_shows_shares_of_the_whole_gpu_and_never_more() {
        let screen = Screen::new(false);
        let mut gpu = frame().gpus[0].clone();
        assert_eq!(screen.bar(&gpu), "██████▓▓▓░░░···");
        gpu.pods = Bytes::gib(200);
        assert_eq!(screen.bar(&gpu), "█".repeat(BAR_CELLS));
    }

    #[test]
    fn the_table_shows_nodes_with_pods_and_fits_eighty_columns() {
        let drawn = Screen::new(false).draw(&frame());
        assert!(drawn.contains("01:06  2 pods running, 1 waiting, on 2 of 8 GPUs"), "{drawn}");
        assert!(drawn.contains("gpu-00") && !drawn.contains("gpu-01"), "{drawn}");
        let widest = drawn.lines().map(|line| line.replace("\x1b[K", "").chars().count()).max();
        assert!(widest.unwrap() <= 80, "{widest:?}");
    }
}
