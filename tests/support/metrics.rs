//! Prometheus' text format, as far as tests read it.

/// The samples of one scrape.
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Scrapes; nothing where nobody answers.
    pub async fn scrape(url: &str) -> Self {
        let text = match reqwest::get(url).await {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        Self { text }
    }

    /// What was scraped by other means.
    pub fn of(text: String) -> Self {
        Self { text }
    }

    /// Every series of that name: its labels as they stand, and its value.
    pub fn series(&self, name: &str) -> Vec<(&str, f64)> {
        self.text.lines().filter_map(|line| sample(line, name)).collect()
    }

    /// The value of the first series with these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |have: &str| {
            labels.iter().all(|(key, value)| have.contains(&format!("{key}=\"{value}\"")))
        };
        self.series(name).into_iter().find(|(have, _)| has(have)).map(|(_, value)| value)
    }

    /// The sum over all series of that name with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |have: &str| {
            labels.iter().all(|(key, value)| have.contains(&format!("{key}=\"{value}\"")))
        };
        self.series(name).into_iter().filter(|(have, _)| has(have)).map(|(_, value)| value).sum()
    }
}

fn sample<'a>(line: &'a str, name: &str) -> Option<(&'a str, f64)> {
    let rest = line.strip_prefix(name)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    Some((labels, value.trim().parse().ok()?))
}
