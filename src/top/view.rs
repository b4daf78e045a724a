//! What of the fleet is shown, in which order: keys change it, nothing is drawn here.

use std::cmp::Ordering;

use super::answer::{Fleet, Node, Pending};
use crate::engine::Bytes;
use crate::explain::answer::Gpu;

/// What a list is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pane {
    #[default]
    Gpus,
    Pods,
    Pending,
}

/// The order of GPUs and pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    #[default]
    Name,
    Free,
    Used,
}

impl Order {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Free => "most free",
            Self::Used => "most used",
        }
    }
}

/// A key, as far as it means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Backspace,
    Enter,
    Escape,
    Tab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) pane: Pane,
    pub(super) order: Order,
    /// Only what contains this.
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) is_typing: bool,
    /// First row of the list that is seen.
    pub(super) top_row: usize,
    /// Rows of the list that fit, as last drawn.
    pub(super) page: usize,
    /// Rows of the list, as last drawn.
    pub(super) rows: usize,
}

/// A pod on a GPU.
#[derive(Debug, Clone)]
pub(super) struct PodRow<'a> {
    pub(super) node: &'a str,
    pub(super) gpu: u32,
    pub(super) words: String,
    pub(super) used: Bytes,
    pub(super) charged: Bytes,
    pub(super) total: Bytes,
}

impl View {
    /// Does what the key says; whether that is to end.
    pub(super) fn press(&mut self, key: Key) -> bool {
        if self.is_typing {
            self.edit(key);
            return false;
        }
        match key {
            Key::Char('q') | Key::Escape => return true,
            Key::Char('/') => self.is_typing = true,
            Key::Char('s') => self.order = next_order(self.order),
            Key::Char('1') => self.show(Pane::Gpus),
            Key::Char('2') => self.show(Pane::Pods),
            Key::Char('3') => self.show(Pane::Pending),
            Key::Tab => self.show(next_pane(self.pane)),
            other => self.scroll(other),
        }
        false
    }

    fn edit(&mut self, key: Key) {
        match key {
            Key::Char(letter) => self.filter.push(letter),
            Key::Backspace => drop(self.filter.pop()),
            Key::Escape => {
                self.filter.clear();
                self.is_typing = false;
            }
            _ => self.is_typing = false,
        }
        self.top_row = 0;
    }

    fn show(&mut self, pane: Pane) {
        self.pane = pane;
        self.top_row = 0;
    }

    fn scroll(&mut self, key: Key) {
        let row = match key {
            Key::Up | Key::Char('k') => self.top_row.saturating_sub(1),
            Key::Down | Key::Char('j') => self.top_row + 1,
            Key::PageUp => self.top_row.saturating_sub(self.page),
            Key::PageDown | Key::Char(' ') => self.top_row + self.page,
            Key::Home => 0,
            Key::End => self.rows,
            _ => self.top_row,
        };
        self.top_row = row.min(self.rows.saturating_sub(self.page));
    }

    /// GPUs with their nodes.
    pub(super) fn gpus<'a>(&self, fleet: &'a Fleet) -> Vec<(&'a Node, &'a Gpu)> {
        let all = fleet.nodes.iter().flat_map(|node| node.gpus.iter().map(move |gpu| (node, gpu)));
        let is_shown = |(node, gpu): &(&Node, &Gpu)| {
            self.passes(&node.node) || gpu.tenants.iter().any(|one| self.passes(&one.pod))
        };
        let mut shown: Vec<_> = all.filter(is_shown).collect();
        shown.sort_by(|(_, one), (_, other)| {
            self.by_bytes((one.free_bytes, one.used_bytes), (other.free_bytes, other.used_bytes))
        });
        shown
    }

    /// Pods on GPUs.
    pub(super) fn pods<'a>(&self, fleet: &'a Fleet) -> Vec<PodRow<'a>> {
        let gpus = fleet.nodes.iter().flat_map(|node| node.gpus.iter().map(move |gpu| (node, gpu)));
        let rows = gpus.flat_map(|(node, gpu)| {
            gpu.tenants.iter().map(move |tenant| PodRow {
                node: &node.node,
                gpu: gpu.index,
                words: tenant.words(),
                used: tenant.measured_bytes,
                charged: tenant.charged_bytes,
                total: gpu.total_bytes,
            })
        });
        let is_shown = |row: &PodRow<'_>| self.passes(row.node) || self.passes(&row.words);
        let mut shown: Vec<_> = rows.filter(is_shown).collect();
        shown.sort_by(|one, other| match self.order {
            Order::Name => one.words.cmp(&other.words),
            _ => self.by_bytes(
                (one.charged - one.used, one.used),
                (other.charged - other.used, other.used),
            ),
        });
        shown
    }

    /// Pods without a place, first in line first.
    pub(super) fn pending<'a>(&self, fleet: &'a Fleet) -> Vec<&'a Pending> {
        fleet.pending.iter().filter(|pod| self.passes(&pod.name())).collect()
    }

    fn passes(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// By what is free or used, the most first.
    fn by_bytes(&self, one: (Bytes, Bytes), other: (Bytes, Bytes)) -> Ordering {
        match self.order {
            Order::Name => Ordering::Equal,
            Order::Free => other.0.cmp(&one.0),
            Order::Used => other.1.cmp(&one.1),
        }
    }
}

const fn next_pane(pane: Pane) -> Pane {
    match pane {
        Pane::Gpus => Pane::Pods,
        Pane::Pods => Pane::Pending,
        Pane::Pending => Pane::Gpus,
    }
}

const fn next_order(order: Order) -> Order {
    match order {
        Order::Name => Order::Free,
        Order::Free => Order::Used,
        Order::Used => Order::Name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        serde_json::from_str(include_str!("../../tests/extender/golden/fleet.json")).unwrap()
    }

    fn type_in(view: &mut View, text: &str) {
        view.press(Key::Char('/'));
        text.chars().for_each(|letter| assert!(!view.press(Key::Char(letter))));
        view.press(Key::Enter);
    }

    #[test]
    fn a_filter_finds_gpus_by_node_and_by_pod() {
        let (fleet, mut view) = (fleet(), View::default());
        assert_eq!(view.gpus(&fleet).len(), 3);
        type_in(&mut view, "gpu-2");
        assert!(view.gpus(&fleet).iter().all(|(node, _)| node.node == "gpu-2"));
        assert_eq!(view.gpus(&fleet).len(), 2);
        view.press(Key::Char('/'));
        view.press(Key::Escape);
        type_in(&mut view, "default/small");
        assert_eq!(view.gpus(&fleet).len(), 1);
        assert_eq!(view.pods(&fleet).len(), 1);
        assert!(view.pending(&fleet).is_empty());
    }

    #[test]
    fn letters_of_a_filter_are_no_keys() {
        let mut view = View::default();
        type_in(&mut view, "qs");
        assert_eq!((view.filter.as_str(), view.order), ("qs", Order::Name));
        assert!(view.press(Key::Char('q')));
    }

    #[test]
    fn gpus_come_in_the_order_that_was_asked_for() {
        let (fleet, mut view) = (fleet(), View::default());
        let free = |view: &View| -> Vec<_> {
            view.gpus(&fleet).iter().map(|(_, gpu)| gpu.free_bytes).collect()
        };
        view.press(Key::Char('s'));
        let most_free_first = free(&view);
        assert!(most_free_first.is_sorted_by(|one, other| one >= other), "{most_free_first:?}");
        view.press(Key::Char('s'));
        let used: Vec<_> = view.gpus(&fleet).iter().map(|(_, gpu)| gpu.used_bytes).collect();
        assert!(used.is_sorted_by(|one, other| one >= other), "{used:?}");
    }

    #[test]
    fn nothing_is_scrolled_out_of_sight() {
        let mut view = View { page: 10, rows: 25, ..View::default() };
        view.press(Key::End);
        assert_eq!(view.top_row, 15);
        view.press(Key::Down);
        assert_eq!(view.top_row, 15);
        view.press(Key::PageUp);
        view.press(Key::PageUp);
        assert_eq!(view.top_row, 0);
        view.rows = 3;
        view.press(Key::PageDown);
        assert_eq!(view.top_row, 0);
    }
}
