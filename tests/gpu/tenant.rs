//! A process that holds memory of a GPU, and how it is told to.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use filmgate::engine::Bytes;

use crate::TENANT;
use crate::cuda::Context;

/// What frees all memory; any other line is an amount in bytes to allocate.
const FREE: &str = "free";

/// The process, which ends with its standard input.
pub(crate) struct Tenant {
    child: Child,
    orders: Option<ChildStdin>,
    reports: Lines<BufReader<ChildStdout>>,
    /// Its GPU's UUID, without what stands before the hexadecimal digits.
    pub(crate) gpu: String,
}

impl Tenant {
    /// Starts it, and waits for its context on the GPU.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(TENANT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
        let gpu = reports.next().expect("CUDA to work").unwrap();
        Self { orders: child.stdin.take(), child, reports, gpu }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn allocate(&mut self, bytes: Bytes) {
        self.order(&bytes.get().to_string());
    }

    pub(crate) fn free(&mut self) {
        self.order(FREE);
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        assert_eq!(self.reports.next().expect("CUDA to work").unwrap(), "done");
    }

    /// Lets it end. Returns its number.
    pub(crate) fn end(mut self) -> u32 {
        drop(self.orders.take());
        assert!(self.child.wait().unwrap().success());
        self.child.id()
    }
}

/// What the process does.
pub(crate) fn run() {
    let mut context = Context::on_first_gpu();
    println!("{}", context.uuid());
    for order in std::io::stdin().lines().map(Result::unwrap) {
        match order.as_str() {
            FREE => context.free_all(),
            bytes => context.allocate(bytes.parse().unwrap()),
        }
        println!("done");
    }
}
