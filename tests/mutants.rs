//! Breaks each safety rule in one line and shows its test fail: `make mutants`.
//!
//! The rules lie in `mutants/rules.txt`. Each is broken in a copy of the package, built and tested
//! there; a rule whose line is not found exactly once, that does not compile, or whose test passes
//! all the same, fails this test. `FILMGATE_MUTANTS=text` takes only rules whose name has the text;
//! `FILMGATE_MUTANTS_DIR` is where the copy is built (a folder of the system's otherwise; it is kept,
//! so that dependencies are built once).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;
use std::{env, fs};

/// What the package is made of.
const PARTS: [&str; 14] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "build.rs",
    "proto",
    "src",
    "tests",
    "benches",
    "config",
    "deploy",
    "docs",
    "tools",
    "Dockerfile",
    "LICENSE",
];

/// One rule and how it is broken.
#[derive(Debug, Clone)]
struct Rule {
    name: String,
    file: String,
    find: String,
    with: String,
    test: Test,
}

/// The one test that must fail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    target: String,
    name: String,
}

/// What became of a broken rule.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
    DoesNotCompile,
}

#[test]
fn every_rule_names_a_line_that_is_there_once() {
    for rule in rules() {
        rule.broken(Path::new(env!("CARGO_MANIFEST_DIR")));
    }
}

#[test]
#[ignore = "builds the package once per rule: make mutants"]
fn each_safety_rule_is_held_by_its_test() {
    let wanted = env::var("FILMGATE_MUTANTS").unwrap_or_default();
    let rules: Vec<_> = rules().into_iter().filter(|rule| rule.name.contains(&wanted)).collect();
    assert!(!rules.is_empty(), "no rule is named {wanted}");
    let workshop = Workshop::open();
    for test in rules.iter().map(|rule| &rule.test).collect::<BTreeSet<_>>() {
        assert_eq!(workshop.try_out(test), Fate::Survived, "{test:?} fails without a mutation");
    }
    let mut left = Vec::new();
    for rule in &rules {
        let started = Instant::now();
        let fate = workshop.break_rule(rule);
        let took = started.elapsed().as_secs();
        println!("{:<46} {:<15} {took:>4} s  {}", rule.name, format!("{fate:?}"), rule.test.name);
        if fate != Fate::Killed {
            left.push(&rule.name);
        }
    }
    println!("{} rules, {} killed", rules.len(), rules.len() - left.len());
    assert!(left.is_empty(), "not held by their tests: {left:?}");
}

fn rules() -> Vec<Rule> {
    let lines = include_str!("mutants/rules.txt").lines();
    let lines: Vec<_> =
        lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty()).collect();
    assert!(lines.len().is_multiple_of(5), "each rule has a name and four lines");
    lines.chunks(5).map(Rule::read).collect()
}

impl Rule {
    fn read(lines: &[&str]) -> Self {
        let value = |line: usize, key: &str| {
            let value = lines[line].strip_prefix("    ").and_then(|line| line.strip_prefix(key));
            let value = value.and_then(|value| value.strip_prefix(' '));
            value.unwrap_or_else(|| panic!("{}: \"{key}\" is missing", lines[0])).to_owned()
        };
        let test = value(4, "test");
        let (target, name) = test.split_once(' ').expect("a target and a name");
        Self {
            name: lines[0].to_owned(),
            file: value(1, "file"),
            find: value(2, "find"),
            with: value(3, "with"),
            test: Test { target: target.to_owned(), name: name.to_owned() },
        }
    }

    /// The file with the rule broken.
    fn broken(&self, package: &Path) -> String {
        let path = package.join(&self.file);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", self.file));
        let found = text.matches(&self.find).count();
        assert_eq!(found, 1, "{}: its line is {found} times in {}", self.name, self.file);
        text.replace(&self.find, &self.with)
    }
}

/// A copy of the package to break things in.
struct Workshop {
    package: PathBuf,
    target: PathBuf,
}

impl Workshop {
    fn open() -> Self {
        let root = env::var_os("FILMGATE_MUTANTS_DIR").map(PathBuf::from);
        let root = root.unwrap_or_else(|| env::temp_dir().join("filmgate-mutants"));
        let (package, target) = (root.join("package"), root.join("target"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in PARTS {
            let _ = fs::remove_dir_all(package.join(part));
            copy(&source.join(part), &package.join(part));
        }
        Self { package, target }
    }

    fn break_rule(&self, rule: &Rule) -> Fate {
        let path = self.package.join(&rule.file);
        let sound = fs::read_to_string(&path).unwrap();
        fs::write(&path, rule.broken(&self.package)).unwrap();
        let fate = self.try_out(&rule.test);
        fs::write(&path, sound).unwrap();
        fate
    }

    fn try_out(&self, test: &Test) -> Fate {
        let built = self.cargo(test, &["--no-run"]);
        if !built.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&built.stderr));
            return Fate::DoesNotCompile;
        }
        let ran = self.cargo(test, &["--", "--exact", &test.name]);
        let text = String::from_utf8_lossy(&ran.stdout);
        let count = |what: &str| text.contains(&format!(" 1 {what};"));
        match (count("passed"), count("failed")) {
            (true, false) if ran.status.success() => Fate::Survived,
            (false, true) => Fate::Killed,
            _ => {
                panic!("{test:?} did not run once:\n{text}{}", String::from_utf8_lossy(&ran.stderr))
            }
        }
    }

    fn cargo(&self, test: &Test, more: &[&str]) -> Output {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--offline", "--locked"]);
        match &*test.target {
            "--lib" => cargo.arg("--lib"),
            target => cargo.args(["--test", target]),
        };
        cargo.args(more).current_dir(&self.package).env("CARGO_TARGET_DIR", &self.target);
        // A test that skips itself where a machine cannot run it would hold nothing.
        cargo.env("CI", "1");
        cargo.output().expect("cargo runs")
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.exists() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}
