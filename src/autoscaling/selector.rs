//! Label selectors as text, in the form in which Kubernetes writes them into a URL.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector, SelectorExt as _};

use crate::engine::PodFacts;

/// Kubernetes' limits.
const LONGEST_NAME: usize = 63;
const LONGEST_PREFIX: usize = 253;

/// Reads `app=comfyui,tier in (a,b),!canary`; an empty text selects everything.
///
/// # Errors
/// The first requirement that is none, and what is wrong with it.
pub fn parse(text: &str) -> Result<Selector, String> {
    if text.trim().is_empty() {
        return Ok(Selector::default());
    }
    requirements(text).into_iter().map(|one| requirement(one.trim())).collect()
}

/// Whether it is a pod of that namespace that the selector picks.
pub fn picks(selector: &Selector, namespace: &str, facts: &PodFacts) -> bool {
    let nothing = BTreeMap::new();
    &*facts.id.namespace == namespace
        && selector.matches(facts.labels.as_deref().unwrap_or(&nothing))
}

/// Splits at commas outside parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let mut is_in_set = false;
    let split = |character| {
        match character {
            '(' => is_in_set = true,
            ')' => is_in_set = false,
            _ => {}
        }
        character == ',' && !is_in_set
    };
    text.split(split).collect()
}

fn requirement(text: &str) -> Result<Expression, String> {
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(name)?));
    }
    if let Some((left, values)) = text.split_once('(') {
        return in_set(text, left, values);
    }
    if let Some((name, label)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value(label)?));
    }
    match text.split_once("==").or_else(|| text.split_once('=')) {
        Some((name, label)) => Ok(Expression::Equal(key(name)?, value(label)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

fn in_set(text: &str, left: &str, values: &str) -> Result<Expression, String> {
    let wrong = || format!("{text:?} is not of the form: key in (a,b), or key notin (a,b)");
    let values = values.strip_suffix(')').ok_or_else(wrong)?;
    let values = values.split(',').map(value).collect::<Result<BTreeSet<_>, _>>()?;
    match left.split_whitespace().collect::<Vec<_>>()[..] {
        [name, "in"] => Ok(Expression::In(key(name)?, values)),
        [name, "notin"] => Ok(Expression::NotIn(key(name)?, values)),
        _ => Err(wrong()),
    }
}

fn key(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (prefix, name) = text.rsplit_once('/').unwrap_or(("prefix", text));
    let is_prefix = is_word(prefix, LONGEST_PREFIX, |one| matches!(one, '-' | '.'));
    if is_prefix && !name.is_empty() && is_name(name) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no label's key; write for example app.kubernetes.io/name"))
    }
}

fn value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no label's value: letters, digits, - _ . and at most 63 of them"))
    }
}

fn is_name(text: &str) -> bool {
    text.is_empty() || is_word(text, LONGEST_NAME, |one| matches!(one, '-' | '_' | '.'))
}

/// Letters and digits at both ends, and those others within.
fn is_word(text: &str, longest: usize, is_other: impl Fn(char) -> bool) -> bool {
    let is_plain = |one: char| one.is_ascii_alphanumeric();
    text.len() <= longest
        && text.starts_with(is_plain)
        && text.ends_with(is_plain)
        && text.chars().all(|one| is_plain(one) || is_other(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<_, _> =
            labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        parse(selector).unwrap_or_else(|why| panic!("{selector}: {why}")).matches(&labels)
    }

    #[test]
    fn every_form_that_kubernetes_writes_is_read() {
        let film = [("app", "film"), ("filmgate.dev/tier", "a")];
        for selector in [
            "",
            "app=film",
            "app == film",
            "app!=other",
            "app in (film,other)",
            "app notin (other)",
            "app",
            "!canary",
            "canary!=",
            "app=film, filmgate.dev/tier in (b, a) ,!canary",
        ] {
            assert!(picks(selector, &film), "{selector}");
        }
        for selector in ["app=other", "app in (other)", "app notin (film)", "canary", "!app"] {
            assert!(!picks(selector, &film), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_named() {
        for (selector, says) in [
            ("app=film,", "\"\" is no label's key"),
            ("app=a b", "\"a b\" is no label's value"),
            ("app=a=b", "\"a=b\" is no label's value"),
            ("a p=b", "\"a p\" is no label's key"),
            ("app in (a", "\"app in (a\" is not of the form"),
            ("app on (a)", "\"app on (a)\" is not of the form"),
            ("/app=a", "\"/app\" is no label's key"),
            ("cpu>3", "\"cpu>3\" is no label's key"),
        ] {
            let problem = parse(selector).unwrap_err();
            assert!(problem.contains(says), "{selector}: {problem}");
        }
    }
}
