//! Common parts of the servers: lines in, lines out, and resources the process has used.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

/// Prints `ready`, then answers each input line by calling `answer` with its first word and the rest. The
/// line `memory` is answered with the peak resident size in MB.
pub fn serve(
    mut answer: impl FnMut(&str, &str) -> Result<String, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let mut write = |text: &str| writeln!(out, "{text}").and_then(|()| out.flush());
    write("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answered = if word == "memory" { memory()? } else { answer(word, rest)? };
        write(&answered)?;
    }
    Ok(())
}

/// Measures wall-clock and CPU milliseconds from its creation on.
pub struct Clock {
    start: Instant,
    cpu: f64,
}

impl Clock {
    pub fn start() -> Result<Self, Box<dyn Error>> {
        let cpu = cpu_milliseconds()?;
        Ok(Self { start: Instant::now(), cpu })
    }

    pub fn stop(&self) -> Result<[f64; 2], Box<dyn Error>> {
        let wall = self.start.elapsed().as_secs_f64() * 1e3;
        Ok([wall, cpu_milliseconds()? - self.cpu])
    }
}

/// CPU time of all threads, from Linux's `/proc`; 0 elsewhere.
fn cpu_milliseconds() -> Result<f64, Box<dyn Error>> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Ok(0.0) };
    let mut nanoseconds = 0.0;
    for task in tasks {
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e6)
}

fn memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(format!("{:.1}", kib.unwrap_or(0.0) / 1024.0))
}
