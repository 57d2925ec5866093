//! A study on several devices: a process for each, since what draws random numbers is one for a
//! process.
//!
//! ```text
//! this process ─ spawns ─► losparse study … --device cuda:0   claims a run, does it, writes tables
//!       │ holds their stdin ► losparse study … --device cuda:1   claims another …
//!       └ closes it on Ctrl-C, or when it is gone itself: they stop after the batch at hand
//! ```

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use losparse::device::{Backend, DeviceSpec};
use losparse::study::{Study, StudyReport, forget_failures, write_study};
use losparse::train::Interrupt;
use losparse::{Error, Result};
use serde_json::Value;

use super::machine::MachineArgs;
use super::output;
use super::study::Args;

/// Time between looks at the processes.
const POLL: Duration = Duration::from_millis(50);

/// The processes that do a study's runs.
pub struct Workers {
    children: Vec<Child>,
    readers: Vec<JoinHandle<()>>,
    output: std::path::PathBuf,
}

impl Workers {
    /// Starts a process on each of `devices`. Runs that failed before are tried again.
    ///
    /// # Errors
    /// If the results' folder cannot be written to or a process cannot be started.
    pub fn start(
        args: &Args,
        study: &Study,
        devices: &[DeviceSpec],
        machine: &MachineArgs,
    ) -> Result<Self> {
        write_study(study, &args.output)?;
        forget_failures(study, &args.output)?;
        let program = std::env::current_exe().map_err(|e| Error::io("losparse", e))?;
        let command_line = output::command_line(std::env::args_os());
        let mut workers =
            Self { children: Vec::new(), readers: Vec::new(), output: args.output.clone() };
        for (at, device) in devices.iter().enumerate() {
            let mut command = Command::new(&program);
            command.arg("study").arg(&args.grid).arg("--output").arg(&args.output);
            command.args(["--device", &device.to_string(), "--worker", &command_line]);
            if let Some(threads) = machine.threads().or_else(|| share_of_cores(devices, *device)) {
                command.args(["--threads", &threads.to_string()]);
            }
            command.args(["--dtype", machine.dtype().name()]);
            command.args(machine.quiet.then_some("--quiet"));
            command.args(machine.json.then_some("--json"));
            command.stdin(Stdio::piped()).stderr(Stdio::piped());
            command.stdout(if machine.json { Stdio::piped() } else { Stdio::null() });
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

    /// Waits until all have ended, then writes the tables of everything. On `interrupt` they are told
    /// to stop.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or if the tables cannot be written.
    pub fn wait(mut self, study: &Study, interrupt: &Interrupt) -> Result<StudyReport> {
        loop {
            if interrupt.stopped() {
                self.children.iter_mut().for_each(|child| drop(child.stdin.take()));
            }
            // One that cannot be asked is as good as ended; what it left shows in the table.
            if self.children.iter_mut().all(|child| !matches!(child.try_wait(), Ok(None))) {
                break;
            }
            thread::sleep(POLL);
        }
        for reader in self.readers.drain(..) {
            // It only printed; a panic of it has said so itself.
            let _ = reader.join();
        }
        let report = write_study(study, &self.output)?;
        interrupt.check()?;
        Ok(report)
    }
}

/// Threads for a process on `device`, where several compute on the CPU: its share of the cores.
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
        // A process that nobody listens to would stand still, so whatever comes is read.
        let lines = BufReader::new(from).split(b'\n').map_while(|line| line.ok());
        lines.for_each(|line| f(&String::from_utf8_lossy(&line)));
    })
}

/// Prints a process's event as its own, with the device it came from.
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
