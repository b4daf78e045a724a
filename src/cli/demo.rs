//! `filmgate demo`.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::shutdown;
use crate::demo::fleet::{Fleet, GpuId};
use crate::demo::progress::{Lines, Progress, Screen, Silent};
use crate::demo::report::Report;
use crate::demo::stack::Stack;
use crate::demo::workload::{DAY_PODS, TICK, Workload};
use crate::demo::{self, Options, generator, trace};
use crate::engine::Bytes;

/// A person can follow a day that goes by in a quarter of a minute.
const TERMINAL_SPEED: f64 = 5000.0;
/// A notebook that somebody left running outside the cluster.
const FOREIGN: (GpuId, Bytes) = (GpuId { node: 0, gpu: 1 }, Bytes::gib(8));

/// Plays a day of a diffusion service on simulated GPUs, and compares.
///
/// Needs no cluster, no GPU and no network but loopback. The extender, its protocol and the agents'
/// streams are the real ones; machines, kubelet and API server are simulated.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seed of the generated day
    #[arg(long, default_value_t = 1, conflicts_with = "trace")]
    seed: u64,
    /// Replay a CSV in the format of GenTD26's memory.csv (plain or .gz) instead of generating a day
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Pods of the day [default: 72, or all of the trace]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pods: Option<u32>,
    /// Length of the day in hours [default: 22.8, or all of the trace]
    #[arg(long, value_parser = hours)]
    hours: Option<f64>,
    /// GPUs that there are, four to a node
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4000))]
    gpus: u32,
    /// What each pod declares as filmgate.dev/vram: two to a GPU, by default
    #[arg(long, default_value = "38Gi", value_parser = quantity)]
    declare: Bytes,
    /// Pods ignore the cap that filmgate writes on them, as those without PyTorch 2.10 do
    #[arg(long)]
    uncapped: bool,
    /// Virtual seconds per second [default: 5000 in a terminal, else as fast as it goes]
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
    /// What to print in the end
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Keep the extender, its page and the agents running in the end [default: in a terminal]
    #[arg(long)]
    serve: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Progress, then a table
    Text,
    /// One JSON object and nothing else
    Json,
}

fn quantity(text: &str) -> Result<Bytes, String> {
    crate::engine::request::parse_vram("filmgate.dev/vram", text).map_err(|error| error.to_string())
}

fn hours(text: &str) -> Result<f64, String> {
    positive(text, "a number of hours above zero, at most 168", 168.0)
}

fn speed(text: &str) -> Result<f64, String> {
    positive(text, "a factor above zero", f64::MAX)
}

fn positive(text: &str, expected: &str, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= most);
    number.ok_or_else(|| format!("not {expected}"))
}

/// Plays the day; on SIGINT or SIGTERM it ends early and leaves the terminal as it was.
///
/// # Errors
/// When the trace cannot be read, or one of the demo's parts fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let options = args.options()?;
    let interrupted = shutdown::on_signal()?;
    let stack = Stack::start(&options.fleet).await?;
    let mut progress = args.progress();
    progress.note(&format!("the page      {}", page(&stack)));
    progress.note(&format!("its metrics   {}metrics", stack.addresses().metrics));
    let played = interrupted.run_until_cancelled(demo::run(&options, &stack, &mut *progress)).await;
    // Whatever happened, the terminal is given back before anything is printed.
    drop(progress);
    if let Some(report) = played.transpose()? {
        args.print(&report, &stack)?;
        if args.stays() {
            stack.go_on_in_real_time();
            interrupted.cancelled().await;
        }
    }
    stack.shut_down().await;
    if interrupted.is_cancelled() && !args.stays() {
        anyhow::bail!("interrupted");
    }
    Ok(())
}

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let speed = self.speed.unwrap_or(if self.has_screen() { TERMINAL_SPEED } else { f64::MAX });
        Ok(Options {
            day: self.day()?,
            seed: self.trace.is_none().then_some(self.seed),
            fleet: Fleet::new(self.gpus as usize).with_foreign(FOREIGN.0, FOREIGN.1),
            declared: self.declare,
            is_capped: !self.uncapped,
            tick_takes: Duration::from_secs_f64(TICK.as_secs_f64() / speed),
        })
    }

    fn day(&self) -> anyhow::Result<Workload> {
        let pods = self.pods.map(|pods| pods as usize);
        let day = match &self.trace {
            Some(path) => {
                let day = trace::read_trace(path).context("the trace cannot be replayed")?;
                day.shortened(pods, None)
            }
            None => generator::generate_with_cache(self.seed, pods.unwrap_or(DAY_PODS)),
        };
        let ticks = self.hours.map(|hours| (hours * 3600.0 / TICK.as_secs_f64()) as usize + 1);
        Ok(day.shortened(None, ticks))
    }

    /// Whether there is something to look at in the end.
    fn stays(&self) -> bool {
        self.serve || self.has_screen()
    }

    fn has_screen(&self) -> bool {
        self.output == Output::Text && std::io::stdout().is_terminal()
    }

    fn progress(&self) -> Box<dyn Progress> {
        let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self.output {
            Output::Json => Box::new(Silent),
            Output::Text if self.has_screen() => Box::new(Screen::new(has_colour)),
            Output::Text => Box::new(Lines),
        }
    }

    fn print(&self, report: &Report, stack: &Stack) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(report)?)?,
            Output::Text => writeln!(out, "\n{report}\n")?,
        }
        let places = self.places(stack);
        // Standard output is the report's alone when a program reads it.
        match (self.output, self.stays()) {
            (Output::Json, false) => {}
            (Output::Json, true) => eprintln!("{places}"),
            (Output::Text, _) => writeln!(out, "{places}")?,
        }
        Ok(())
    }

    fn places(&self, stack: &Stack) -> String {
        let addresses = stack.addresses();
        if !self.stays() {
            return "Its extender and agents have ended; --serve keeps them running to look at."
                .to_owned();
        }
        let extender = addresses.extender.as_str().trim_end_matches('/');
        let pod = stack.cluster().a_pod().unwrap_or_default();
        format!(
            "Running until Ctrl-C:\n  page      {}\n  extender  {extender}\n  metrics   {}metrics\n  agents    {}nodes/gpu-00/readings\n\
             Try:\n  filmgate explain --server {extender} {pod}\n  curl {}metrics",
            page(stack),
            addresses.metrics,
            addresses.agents,
            addresses.metrics
        )
    }
}

/// Where the fleet can be looked at.
fn page(stack: &Stack) -> String {
    let mut page = stack.addresses().extender.clone();
    page.set_path("/ui");
    page.to_string()
}
