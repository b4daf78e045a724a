//! Reads and writes a day in the format of GenTD26's `memory.csv`: the columns `timestamp_anon`
//! (seconds), `value` (bytes) and `container_ip` (any text that names the pod), in any order, one
//! row per pod and tick of 57 s. A pod's missing ticks were not reported: it held what it held.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::workload::{TICK, Workload, WorkloadPod};
use crate::engine::Bytes;

const TIMESTAMP: &str = "timestamp_anon";
const VALUE: &str = "value";
const CONTAINER: &str = "container_ip";
/// The first bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// A week of ticks: longer gaps are a mistake in the file, not a day.
const MOST_TICKS: u64 = 7 * 24 * 3600 / TICK.as_secs();

/// Why a trace cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line of it cannot be meant.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// There is nothing in it.
    #[error("{0}: no rows")]
    Empty(PathBuf),
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// The header lacks a column.
    #[error("no column {0:?} in the header; needed are {TIMESTAMP}, {VALUE} and {CONTAINER}")]
    NoColumn(&'static str),
    /// The row has too few fields.
    #[error("column {column:?} is missing: the row has {fields} fields")]
    MissingField {
        /// The column.
        column: &'static str,
        /// How many fields there are.
        fields: usize,
    },
    /// A field is no such value.
    #[error("column {column:?}: {value:?} is not {expected}")]
    BadField {
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// The pod has another row at that tick.
    #[error("column {CONTAINER:?}: {0:?} has two rows for this tick of 57 s")]
    Twice(String),
    /// The row lies far from the others.
    #[error("column {TIMESTAMP:?}: more than a week after the first sample")]
    FarAway,
}

/// Reads a trace, plain or gzip.
///
/// # Errors
/// When the file cannot be read, or a line of it cannot be meant: with file, line and column.
pub fn read_trace(path: &Path) -> Result<Workload, TraceError> {
    let io = |source| TraceError::Io { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let is_gzip = file.fill_buf().map_err(io)?.starts_with(&GZIP_MAGIC);
    let plain: Box<dyn Read> =
        if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut rows = Rows::default();
    let mut columns = None;
    for (number, line) in BufReader::new(plain).lines().enumerate() {
        let line = line.map_err(io)?;
        let at = |problem| TraceError::Line { path: path.to_owned(), line: number + 1, problem };
        match &columns {
            None => columns = Some(Columns::find(&line).map_err(at)?),
            Some(_) if line.trim().is_empty() => {}
            Some(columns) => rows.take(number + 1, columns.row(&line).map_err(at)?),
        }
    }
    let source = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    rows.into_workload(source).map_err(|failure| match failure {
        Some((line, problem)) => TraceError::Line { path: path.to_owned(), line, problem },
        None => TraceError::Empty(path.to_owned()),
    })
}

/// Writes the day in the same format.
///
/// # Errors
/// When `to` does not take it.
pub fn write_trace(day: &Workload, mut to: impl Write) -> io::Result<()> {
    writeln!(to, "{TIMESTAMP},{VALUE},{CONTAINER}")?;
    for pod in &day.pods {
        for (tick, memory) in pod.memory.iter().enumerate() {
            if !pod.not_reported.contains(&tick) {
                let seconds = (pod.arrives + tick) as u64 * TICK.as_secs();
                writeln!(to, "{seconds},{},{}", memory.get(), pod.name)?;
            }
        }
    }
    Ok(())
}

/// Where the columns are.
struct Columns {
    timestamp: usize,
    value: usize,
    container: usize,
}

struct Row {
    seconds: f64,
    memory: Bytes,
    pod: String,
}

impl Columns {
    fn find(header: &str) -> Result<Self, LineProblem> {
        let names: Vec<_> = fields(header.trim_start_matches('\u{feff}'));
        let position =
            |name| names.iter().position(|field| *field == name).ok_or(LineProblem::NoColumn(name));
        Ok(Self {
            timestamp: position(TIMESTAMP)?,
            value: position(VALUE)?,
            container: position(CONTAINER)?,
        })
    }

    fn row(&self, line: &str) -> Result<Row, LineProblem> {
        let fields = fields(line);
        let field = |position: usize, column| {
            let missing = LineProblem::MissingField { column, fields: fields.len() };
            fields.get(position).copied().ok_or(missing)
        };
        let pod = field(self.container, CONTAINER)?;
        if pod.is_empty() {
            return Err(bad(CONTAINER, pod, "a pod's name"));
        }
        let memory = number(VALUE, field(self.value, VALUE)?, "a number of bytes")?;
        let seconds = number(TIMESTAMP, field(self.timestamp, TIMESTAMP)?, "a number of seconds")?;
        Ok(Row { seconds, memory: Bytes::new(memory.ceil() as u64), pod: pod.to_owned() })
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.trim_end_matches('\r').split(',').map(|field| field.trim().trim_matches('"')).collect()
}

fn number(column: &'static str, text: &str, expected: &'static str) -> Result<f64, LineProblem> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    value.ok_or_else(|| bad(column, text, expected))
}

fn bad(column: &'static str, value: &str, expected: &'static str) -> LineProblem {
    const QUOTED_CHARS: usize = 40;
    LineProblem::BadField { column, value: value.chars().take(QUOTED_CHARS).collect(), expected }
}

/// All rows, by pod, with the lines that they came from.
#[derive(Default)]
struct Rows {
    pods: HashMap<String, Vec<(f64, usize, Bytes)>>,
}

/// The line and what is wrong with it; `None` where there is no row at all.
type Failure = Option<(usize, LineProblem)>;

impl Rows {
    fn take(&mut self, line: usize, row: Row) {
        self.pods.entry(row.pod).or_default().push((row.seconds, line, row.memory));
    }

    fn into_workload(self, source: String) -> Result<Workload, Failure> {
        let times = self.pods.values().flatten().map(|(seconds, ..)| *seconds);
        let origin = times.min_by(f64::total_cmp).ok_or(None)?;
        let mut pods = Vec::new();
        for (name, rows) in self.pods {
            pods.push(pod(name, &rows, origin).map_err(Some)?);
        }
        pods.sort_by(|one, other| (one.arrives, &one.name).cmp(&(other.arrives, &other.name)));
        let ends = pods.iter().map(|pod| pod.arrives + pod.memory.len());
        Ok(Workload { source, ticks: ends.max().unwrap_or(0), pods })
    }
}

fn pod(
    name: String,
    rows: &[(f64, usize, Bytes)],
    origin: f64,
) -> Result<WorkloadPod, (usize, LineProblem)> {
    let mut by_tick: BTreeMap<usize, Bytes> = BTreeMap::new();
    for (seconds, line, memory) in rows {
        let tick = ((seconds - origin) / TICK.as_secs_f64()).round();
        if tick > MOST_TICKS as f64 {
            return Err((*line, LineProblem::FarAway));
        }
        if by_tick.insert(tick as usize, *memory).is_some() {
            return Err((*line, LineProblem::Twice(name)));
        }
    }
    let arrives = by_tick.keys().next().copied().unwrap_or(0);
    let mut pod = WorkloadPod {
        name,
        arrives,
        memory: Vec::new(),
        not_reported: Vec::new(),
        fills_device: false,
    };
    for (tick, memory) in by_tick {
        while pod.memory.len() < tick - arrives {
            pod.not_reported.push(pod.memory.len());
            pod.memory.push(pod.memory.last().copied().unwrap_or(memory));
        }
        pod.memory.push(memory);
    }
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::generator::generate;

    fn read(text: impl AsRef<[u8]>) -> Result<Workload, TraceError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_trace(file.path())
    }

    #[test]
    fn a_written_day_is_read_back() {
        let day = generate(5, 12);
        let mut csv = Vec::new();
        write_trace(&day, &mut csv).unwrap();
        let again = read(csv).unwrap();
        assert_eq!((again.ticks, again.pods), (day.ticks, day.pods));
    }

    #[test]
    fn columns_are_found_by_name_and_gzip_by_its_magic() {
        let text = "value,container_ip,timestamp_anon\n5.5,b,157\n7,a,100\n9,a,214\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        for day in [read(text).unwrap(), read(gzip.finish().unwrap()).unwrap()] {
            assert_eq!(day.ticks, 3);
            let pods: Vec<_> = day
                .pods
                .iter()
                .map(|pod| (pod.name.as_str(), pod.arrives, pod.memory.clone()))
                .collect();
            let bytes = |values: &[u64]| values.iter().copied().map(Bytes::new).collect::<Vec<_>>();
            assert_eq!(pods, [("a", 0, bytes(&[7, 7, 9])), ("b", 1, bytes(&[6]))]);
            assert_eq!(day.pods[0].not_reported, [1]);
        }
    }

    #[test]
    fn a_bad_line_is_named_with_its_column() {
        let header = "timestamp_anon,value,container_ip\n";
        for (text, says) in [
            ("timestamp,value\n".to_owned(), ":1: no column \"timestamp_anon\""),
            (format!("{header}0,1,a\n57,x,a\n"), ":3: column \"value\": \"x\" is not a number"),
            (format!("{header}0,-1,a\n"), ":2: column \"value\": \"-1\""),
            (format!("{header}NaN,1,a\n"), ":2: column \"timestamp_anon\": \"NaN\""),
            (format!("{header}0,1\n"), ":2: column \"container_ip\" is missing"),
            (format!("{header}0,1,\n"), ":2: column \"container_ip\": \"\""),
            (format!("{header}0,1,a\n3,1,a\n"), ":3: column \"container_ip\": \"a\" has two rows"),
            (format!("{header}0,1,a\n9e9,1,b\n"), ":3: column \"timestamp_anon\": more than"),
            (header.to_owned(), ": no rows"),
            (String::new(), ": no rows"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
