//! A study on several devices: one process for each, since Burn has one random generator a process.
//!
//! ```text
//! this process ─ spawns ─► losparse study … --device cuda:0   claims a run, does it, writes tables
//!       │ holds their stdin ► losparse study … --device cuda:1   claims another …
//!       └ closes it on Ctrl-C or when it ends itself: they stop after the current batch
//! ```

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use losparse::device::{Backend, DeviceSpec};
use losparse::study::{Study, StudyReport, forget_failures, write_study};
use losparse::train::Interrupt;
use losparse::{Error, Result};
use serde_json::Value;

use crate::cli::global::GlobalArgs;
use crate::cli::output;

/// Time between two looks at the processes.
const POLL: Duration = Duration::from_millis(50);

/// The processes that do a study's runs.
pub struct Workers {
    children: Vec<Child>,
    readers: Vec<JoinHandle<()>>,
    output: PathBuf,
}

impl Workers {
    /// Starts a process on each of `devices` that works on the `grid` file's study in the folder
    /// `output`. Runs that failed before are tried again.
    ///
    /// # Errors
    /// If the folder cannot be written to or a process cannot be started.
    pub fn start(
        [grid, output]: [&Path; 2],
        study: &Study,
        devices: &[DeviceSpec],
        global: &GlobalArgs,
    ) -> Result<Self> {
        write_study(study, output)?;
        forget_failures(study, output)?;
        let program = std::env::current_exe().map_err(|e| Error::io("losparse", e))?;
        let command_line = output::command_line(std::env::args_os());
        let (children, readers) = (Vec::new(), Vec::new());
        let mut workers = Self { children, readers, output: output.to_path_buf() };
        for (at, device) in devices.iter().enumerate() {
            let mut command = Command::new(&program);
            command.arg("study").arg(grid).arg("--output").arg(output);
            command.args(["--device", &device.to_string(), "--worker", &command_line]);
            if let Some(threads) = global.threads().or_else(|| share_of_cores(devices, *device)) {
                command.args(["--threads", &threads.to_string()]);
            }
            command.args(["--dtype", global.dtype().name()]);
            command.args(global.quiet.then_some("--quiet"));
            command.args(global.json.then_some("--json"));
            command.stdin(Stdio::piped()).stderr(Stdio::piped());
            command.stdout(if global.json { Stdio::piped() } else { Stdio::null() });
            let mut child = command.spawn().map_err(|e| Error::io(&program, e))?;
            let alike = devices[..at].iter().filter(|other| *other == device).count();
            let name = match alike {
                0 => device.to_string(),
                n => format!("{device} ({})", n + 1),
            };
            if let Some(out) = child.stdout.take() {
                let name = name.clone();
                workers.readers.push(each_line(out, move |line| pass_event(&name, line)));
            }
            if let Some(err) = child.stderr.take() {
                workers.readers.push(each_line(err, move |line| {
                    output::note(&format!("{name}: {line}"));
                }));
            }
            workers.children.push(child);
        }
        Ok(workers)
    }

    /// Waits until all processes have ended, then writes the study's tables. Tells the processes to
    /// stop on `interrupt`.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or if the tables cannot be written.
    pub fn wait(mut self, study: &Study, interrupt: &Interrupt) -> Result<StudyReport> {
        loop {
            if interrupt.stopped() {
                self.children.iter_mut().for_each(|child| drop(child.stdin.take()));
            }
            // A process whose state cannot be read counts as ended; the table shows what it left.
            if self.children.iter_mut().all(|child| !matches!(child.try_wait(), Ok(None))) {
                break;
            }
            thread::sleep(POLL);
        }
        for reader in self.readers.drain(..) {
            // A reader only prints, and its panic has printed its own message.
            let _ = reader.join();
        }
        let report = write_study(study, &self.output)?;
        interrupt.check()?;
        Ok(report)
    }
}

/// Threads for a process on `device` if several of `devices` are the CPU: its share of the cores.
fn share_of_cores(devices: &[DeviceSpec], device: DeviceSpec) -> Option<usize> {
    let on_cpu = |device: &DeviceSpec| {
        device.backend.is_none_or(|backend| matches!(backend, Backend::Flex | Backend::NdArray))
    };
    let sharers = devices.iter().filter(|device| on_cpu(device)).count();
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    (on_cpu(&device) && sharers > 1).then(|| (cores / sharers).max(1))
}

/// Calls `f` with every line of `from`, in a thread of its own.
fn each_line(
    from: impl Read + Send + 'static,
    mut f: impl FnMut(&str) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        // A process blocks if nobody reads what it prints, so lines that are not UTF-8 are read
        // too.
        let lines = BufReader::new(from).split(b'\n').map_while(|line| line.ok());
        lines.for_each(|line| f(&String::from_utf8_lossy(&line)));
    })
}

/// Prints a process's event as an event of this one, with the name of its device.
fn pass_event(device: &str, line: &str) {
    let Ok(Value::Object(mut event)) = serde_json::from_str(line) else { return };
    event.insert("device".into(), device.into());
    output::print_event(&event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_by_processes_on_the_cpu() {
        let devices = |names: &str| -> Vec<DeviceSpec> {
            names.split(',').map(|name| name.parse().unwrap()).collect()
        };
        let of = |names: &str| -> Vec<Option<usize>> {
            let devices = devices(names);
            devices.iter().map(|device| share_of_cores(&devices, *device)).collect()
        };
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        assert_eq!(of("flex"), [None]);
        assert_eq!(of("flex,cuda:0"), [None, None]);
        assert_eq!(
            of("flex,cuda:0,flex"),
            [Some((cores / 2).max(1)), None, Some((cores / 2).max(1))]
        );
        assert_eq!(of(&["flex"; 64].join(","))[0], Some((cores / 64).max(1)));
    }
}
