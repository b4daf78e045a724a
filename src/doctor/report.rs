//! The report: a table for people, JSON for programs.

use serde::Serialize;

use super::finding::{Finding, Level};
use crate::columns::columns;

/// Everything that was found, in the checks' order.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst of it.
    #[must_use]
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Skipped)
    }

    /// How many are of that level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// For programs: `{"worst": …, "findings": […]}`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({"worst": self.worst(), "findings": self.findings})
    }

    /// For people: a line or more for each finding, what mends it below, and the sums.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = vec![["", "CHECK", "FOUND"].map(str::to_owned)];
        let mut group = None;
        for finding in &self.findings {
            if group.replace(finding.group) != Some(finding.group) {
                rows.push([finding.group.word().to_uppercase(), String::new(), String::new()]);
            }
            rows.extend(lines_of(finding));
        }
        let sums = [Level::Fail, Level::Warn, Level::Skipped, Level::Ok]
            .map(|level| format!("{} {}", self.count(level), level.word()));
        format!("{}\n{}\n", columns(&rows, &[0, 1, 2]), sums.join(", "))
    }
}

fn lines_of(finding: &Finding) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    let mend = finding.mend.iter().flat_map(|mend| mend.lines()).map(|line| format!("$ {line}"));
    for line in finding.found.lines().map(str::to_owned).chain(mend) {
        let (level, check) = match rows.is_empty() {
            true => (finding.level.word(), finding.check),
            false => ("", ""),
        };
        rows.push([format!("  {level}"), check.to_owned(), line]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::checks::Group;
    use super::*;

    fn finding(level: Level, found: &str, mend: Option<&str>) -> Finding {
        Finding {
            group: Group::Filmgate,
            check: "agents",
            level,
            found: found.to_owned(),
            mend: mend.map(str::to_owned),
        }
    }

    #[test]
    fn what_mends_it_stands_below_what_was_found() {
        let findings = vec![
            finding(Level::Ok, "fine", None),
            finding(Level::Fail, "gone", Some("kubectl get pods")),
        ];
        let report = Report { findings };
        let expected = [
            "          CHECK   FOUND",
            "FILMGATE",
            "  ok      agents  fine",
            "  fail    agents  gone",
            "                  $ kubectl get pods",
            "",
            "1 fail, 0 warn, 0 skipped, 1 ok",
        ];
        assert_eq!(Vec::from_iter(report.table().lines()), expected);
        assert_eq!(report.json()["worst"], "fail");
        assert_eq!(report.json()["findings"][1]["mend"], "kubectl get pods");
    }

    #[test]
    fn a_report_of_nothing_is_not_ok() {
        assert_eq!(Report { findings: Vec::new() }.worst(), Level::Skipped);
    }
}
