//! Draws the fleet. Parts of a bar have signs of their own: colours are for those who see them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::answer::{Fleet, Node};
use super::table::{age, gib, head};
use super::view::{Order, Pane, PodRow, View};
use crate::engine::Bytes;
use crate::explain::answer::Gpu;

/// Cells of a bar.
const BAR: usize = 32;
const NODE_WIDTH: usize = 24;
const KEYS: &str = " q quit  1 GPUs  2 pods  3 pending  / find  s order  ↑↓ scroll";

/// What there is to see.
pub(super) struct Shown<'a> {
    /// The last that came.
    pub(super) fleet: Option<&'a Fleet>,
    /// Why it is old.
    pub(super) problem: Option<&'a str>,
    /// What a bridge says, where one is asked.
    pub(super) bridge: Option<&'a str>,
}

/// Whose a part of a GPU's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Used,
    Charged,
    Held,
    Foreign,
    Margin,
    Free,
}

impl Part {
    const fn sign(self) -> &'static str {
        match self {
            Self::Used => "█",
            Self::Charged => "▒",
            Self::Held => "+",
            Self::Foreign => "/",
            Self::Margin => "·",
            Self::Free => " ",
        }
    }

    const fn color(self) -> Color {
        match self {
            Self::Used | Self::Charged => Color::LightBlue,
            Self::Held => Color::Yellow,
            Self::Foreign => Color::Magenta,
            Self::Margin | Self::Free => Color::DarkGray,
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, shown: &Shown<'_>) {
    let [top, tabs, list, bottom] = Layout::vertical([
        Constraint::Length(if shown.bridge.is_some() { 3 } else { 2 }),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(first_lines(shown)), top);
    frame.render_widget(Paragraph::new(tabs_line(view)), tabs);
    if let Some(fleet) = shown.fleet {
        draw_list(frame, list, view, fleet);
    }
    frame.render_widget(Paragraph::new(bottom_line(view)), bottom);
}

fn first_lines(shown: &Shown<'_>) -> Vec<Line<'static>> {
    let text = shown.fleet.map_or_else(|| "waiting for the extender".to_owned(), head);
    let problem = shown.problem.unwrap_or_default().to_owned();
    let mut lines = vec![Line::styled(format!("filmgate  {text}"), Modifier::BOLD)];
    lines.extend(shown.bridge.map(|bridge| Line::raw(format!("  {bridge}"))));
    lines.push(Line::styled(problem, Style::new().fg(Color::LightRed)));
    lines
}

fn tabs_line(view: &View) -> Line<'static> {
    let tab = |pane, name| {
        let style = if view.pane == pane { Modifier::REVERSED } else { Modifier::empty() };
        Span::styled(format!(" {name} "), style)
    };
    let mut line =
        vec![tab(Pane::Gpus, "GPUs"), tab(Pane::Pods, "pods"), tab(Pane::Pending, "pending")];
    line.push(Span::raw(format!("  by {}", view.order.word())));
    for part in [Part::Used, Part::Charged, Part::Held, Part::Foreign, Part::Margin] {
        line.push(Span::raw("  "));
        line.push(Span::styled(part.sign(), part.color()));
        line.push(Span::raw(format!(" {}", legend(part))));
    }
    Line::from(line)
}

const fn legend(part: Part) -> &'static str {
    match part {
        Part::Used => "used by pods",
        Part::Charged => "charged",
        Part::Held => "held",
        Part::Foreign => "foreign",
        Part::Margin => "driver, headroom",
        Part::Free => "free",
    }
}

fn bottom_line(view: &View) -> Line<'static> {
    if view.is_typing || !view.filter.is_empty() {
        let cursor = if view.is_typing { "▏" } else { "" };
        return Line::raw(format!(" find: {}{cursor}   Esc clears", view.filter));
    }
    Line::styled(KEYS, Style::new().fg(Color::DarkGray))
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, view: &mut View, fleet: &Fleet) {
    let lines: Vec<Line<'static>> = match view.pane {
        Pane::Gpus => gpu_lines(view, fleet),
        Pane::Pods => view.pods(fleet).iter().map(pod_line).collect(),
        Pane::Pending => view
            .pending(fleet)
            .iter()
            .map(|pod| {
                Line::raw(format!(
                    "{:<36} {:<14} {:<28} {}",
                    pod.name(),
                    pod.asks(),
                    pod.state(),
                    pod.why()
                ))
            })
            .collect(),
    };
    (view.rows, view.page) = (lines.len(), usize::from(area.height));
    view.top_row = view.top_row.min(view.rows.saturating_sub(view.page));
    let seen = lines.into_iter().skip(view.top_row).take(view.page);
    frame.render_widget(Paragraph::new(seen.collect::<Vec<_>>()), area);
}

/// A node's name and age stand before the first of its GPUs, where they stay together.
fn gpu_lines(view: &View, fleet: &Fleet) -> Vec<Line<'static>> {
    let mut last = None;
    let line = |(node, gpu): (&Node, &Gpu)| {
        let is_again =
            view.order == Order::Name && last.replace(node.node.clone()) == Some(node.node.clone());
        gpu_line(node, gpu, is_again)
    };
    view.gpus(fleet).into_iter().map(line).collect()
}

fn gpu_line(node: &Node, gpu: &Gpu, is_again: bool) -> Line<'static> {
    let name = if is_again { "" } else { &node.node };
    let mut line =
        vec![Span::raw(format!("{:<NODE_WIDTH$} {:>2} ", cut(name, NODE_WIDTH), gpu.index))];
    line.extend(bar(gpu));
    let heat = gpu.temperature_celsius.map_or_else(String::new, |heat| format!("{heat:.0} °C"));
    line.push(Span::raw(format!(
        " {:>6} of {:>6} free {:>4.0} % {heat:>6}  ",
        gib(gpu.free_bytes),
        gib(gpu.total_bytes),
        gpu.utilization_ratio * 100.0,
    )));
    let trouble = if is_again { String::new() } else { node.trouble() };
    let odd = gpu.closed.clone().into_iter().chain(Some(trouble)).filter(|text| !text.is_empty());
    let odd = odd.collect::<Vec<_>>().join("; ");
    line.push(Span::styled(odd, Color::LightRed));
    if !is_again && node.reading_age_seconds.is_none_or(|age| age > OLD_SECONDS) {
        line.push(Span::styled(format!(" read {} ago", age(node)), Color::LightRed));
    }
    Line::from(line)
}

/// Readings come once a second; one of this age is worth a word.
const OLD_SECONDS: f64 = 5.0;

fn pod_line(pod: &PodRow<'_>) -> Line<'static> {
    Line::raw(format!(
        "{:<50} {:>6} used of {:>6} charged   {} GPU {} of {}",
        pod.words,
        gib(pod.used),
        gib(pod.charged),
        pod.node,
        pod.gpu,
        gib(pod.total),
    ))
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn bar(gpu: &Gpu) -> Vec<Span<'static>> {
    let parts = cells(gpu, BAR).into_iter();
    let spans = parts.map(|(part, cells)| Span::styled(part.sign().repeat(cells), part.color()));
    std::iter::once(Span::raw("[")).chain(spans).chain(std::iter::once(Span::raw("]"))).collect()
}

/// How many cells of the bar each part has; together all of them.
fn cells(gpu: &Gpu, width: usize) -> Vec<(Part, usize)> {
    let measured: Bytes = gpu.tenants.iter().map(|one| one.measured_bytes).sum();
    let amounts = [
        (Part::Used, measured),
        (Part::Charged, gpu.charged_bytes - measured),
        (Part::Held, gpu.held_bytes + gpu.kept_bytes),
        (Part::Foreign, gpu.foreign_bytes),
        (Part::Margin, gpu.reserved_bytes + gpu.headroom_bytes),
    ];
    let mut cells = Vec::new();
    let (mut sum, mut drawn) = (Bytes::ZERO, 0);
    for (part, amount) in amounts {
        sum += amount;
        let share = sum.as_gib() / gpu.total_bytes.as_gib().max(f64::MIN_POSITIVE);
        let until = ((share * width as f64).round() as usize).clamp(drawn, width);
        cells.push((part, until - drawn));
        drawn = until;
    }
    cells.push((Part::Free, width - drawn));
    cells
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::view::Key;
    use super::*;

    fn fleet() -> Fleet {
        serde_json::from_str(include_str!("../../tests/extender/golden/fleet.json")).unwrap()
    }

    fn screen(view: &mut View, shown: &Shown<'_>) -> String {
        let mut terminal = Terminal::new(TestBackend::new(140, 12)).unwrap();
        terminal.draw(|frame| draw(frame, view, shown)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn each_pane_shows_what_it_is_for() {
        let (fleet, mut view) = (fleet(), View::default());
        let bridge = Some("bridge: https://a.trycloudflare.com is up");
        let shown = Shown { fleet: Some(&fleet), problem: None, bridge };
        let gpus = screen(&mut view, &shown);
        assert!(gpus.contains("gpu-2") && gpus.contains(" free "), "{gpus}");
        assert!(gpus.contains("a.trycloudflare.com is up"), "{gpus}");
        view.press(Key::Tab);
        let pods = screen(&mut view, &shown);
        assert!(pods.contains("default/small bound"), "{pods}");
        view.press(Key::Tab);
        let pending = screen(&mut view, &shown);
        assert!(pending.contains("default/big") && pending.contains("asked 30.0 GiB"), "{pending}");
    }

    #[test]
    fn an_extender_that_is_gone_is_said_beside_the_last_that_it_told() {
        let fleet = fleet();
        let shown =
            Shown { fleet: Some(&fleet), problem: Some("no extender answers"), bridge: None };
        let text = screen(&mut View::default(), &shown);
        assert!(text.contains("no extender answers") && text.contains("gpu-1"), "{text}");
        let shown = Shown { fleet: None, problem: None, bridge: None };
        assert!(screen(&mut View::default(), &shown).contains("waiting for the extender"));
    }

    #[test]
    fn a_bar_is_as_long_as_it_should_be_whatever_is_on_the_gpu() {
        let mut gpu = fleet().nodes[0].gpus[0].clone();
        for held in [0, 1, 7, 500] {
            gpu.held_bytes = Bytes::gib(held);
            let all: usize = cells(&gpu, 32).iter().map(|(_, cells)| cells).sum();
            assert_eq!(all, 32, "{held} GiB held");
        }
    }
}
