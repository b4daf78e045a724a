//! Child processes that never outlive their test.

use std::ffi::c_int;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use super::eventually::eventually;

/// Lines of each log that a failing test prints.
const LOG_TAIL_LINES: usize = 30;

/// Characters of each line: some print whole objects.
const LOG_LINE_CHARACTERS: usize = 500;

/// A running program with its log. Dropping it kills it and its children.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, its output appended to
    /// `<name>.log` in `log_folder`.
    pub fn spawn(name: &str, mut command: Command, log_folder: &Path) -> Self {
        let log = log_folder.join(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.expect("a log file");
        let errors = output.try_clone().expect("a second handle of the log file");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        die_with_parent(&mut command);
        let child = spawn_from_lasting_thread(command)
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// The process's id, which is its process group's too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal (`libc::SIGSTOP`, …) to the process alone, if it still runs.
    pub fn signal(&mut self, signal: c_int) {
        if self.exit_status().is_none() {
            send(self.group(), signal);
        }
    }

    /// Sends a signal to the process and its children, if it still runs.
    pub fn signal_all(&mut self, signal: c_int) {
        if self.exit_status().is_none() {
            send(-self.group(), signal);
        }
    }

    /// Its exit status, once it has one.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child to wait for")
    }

    /// Waits for the process to end by itself or by a signal sent before.
    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(deadline, &what, async || self.exit_status()).await
    }

    /// Fails the test when the process has ended, so that waiting for what it
    /// would have done does not hide why.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.exit_status() {
            panic!("{} ended: {status}", self.name);
        }
    }

    /// Kills the process and its children, and returns when it is gone.
    pub fn kill(&mut self) {
        if self.exit_status().is_none() {
            send(-self.group(), libc::SIGKILL);
            self.child.wait().expect("a child to wait for");
        }
    }

    /// Everything that it has written so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn group(&self) -> libc::pid_t {
        libc::pid_t::try_from(self.pid()).expect("a process id")
    }

    fn print_log_tail(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("---- the end of {}'s log", self.name);
        for line in &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..] {
            eprintln!("{}", line.chars().take(LOG_LINE_CHARACTERS).collect::<String>());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            self.print_log_tail();
        }
    }
}

/// The same command as if on a machine of that name, where kube-scheduler and filmgate look it up:
/// in a UTS namespace of its own, as each pod has one.
pub fn on_host(hostname: &str, command: &Command) -> Command {
    let mut there = Command::new("unshare");
    if !is_root() {
        there.arg("--map-root-user");
    }
    there.args(["--uts", "--", "sh", "-c", "hostname \"$0\" && exec \"$@\"", hostname]);
    there.arg(command.get_program()).args(command.get_args());
    there
}

/// Whether this process may do everything.
#[allow(unsafe_code)]
pub fn is_root() -> bool {
    // SAFETY: geteuid(2) has no arguments and always succeeds.
    unsafe { libc::geteuid() == 0 }
}

/// A process id below zero means its whole group.
#[allow(unsafe_code)]
fn send(process: libc::pid_t, signal: c_int) {
    // SAFETY: kill(2) touches no memory of ours. The id is a child's that has not
    // been waited for, so the kernel has not given it to anyone else.
    unsafe { libc::kill(process, signal) };
}

/// Has the kernel kill the child when this process ends in a way that runs no
/// destructors.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let arrange = || {
        // SAFETY: prctl(2) with these arguments touches no memory.
        let outcome = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec, `arrange` makes one system call and allocates
    // nothing.
    unsafe { command.pre_exec(arrange) };
}

/// The kernel takes "parent" to be the thread that forked, and a test's threads
/// end long before the test program does; so one thread, which never ends,
/// starts them all.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        requests
    });
    let (reply, answer) = mpsc::channel();
    SPAWNER.send((command, reply)).expect("the spawning thread never ends");
    answer.recv().expect("the spawning thread answers")
}
