use std::collections::HashSet;

use super::*;

fn all() -> impl Iterator<Item = &'static Metric> {
    CHAPTERS.iter().flat_map(|chapter| chapter.metrics)
}

fn is_word(text: &str) -> bool {
    text.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

#[test]
fn no_name_is_there_twice() {
    let mut seen = HashSet::new();
    assert!(all().all(|metric| seen.insert(metric.name)));
}

#[test]
fn names_follow_prometheus_rules() {
    for Metric { name, kind, .. } in all() {
        assert!(name.starts_with("filmgate_") && is_word(name), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        for scaled in ["_kb", "_mb", "_mib", "_gib", "_ms", "_millis", "_minutes", "_percent"] {
            assert!(!name.contains(scaled), "{name}: base units only");
        }
        for histogram in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(histogram), "{name}: a histogram's own suffix");
        }
    }
}

#[test]
fn texts_are_sentences_that_fit_a_table() {
    for metric in all() {
        for text in [metric.help, metric.purpose] {
            assert!(text.ends_with('.'), "{}: {text}", metric.name);
        }
        for text in [metric.help, metric.purpose, metric.series] {
            assert!(!text.is_empty() && !text.contains(['|', '\n']), "{}: {text}", metric.name);
        }
    }
}

#[test]
fn units_are_what_names_end_with() {
    let unit = |name| Metric { name, ..replica::LEADER }.unit();
    assert_eq!(unit("filmgate_gpu_free_bytes"), "bytes");
    assert_eq!(unit("filmgate_spent_seconds_total"), "seconds");
    assert_eq!(unit("filmgate_leader"), "1");
}
