//! The machine of a run.

use std::fmt;

use super::many;
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The properties of a machine that measurements depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the CPU; empty if the system does not say.
    pub cpu: String,
    /// Cores that the program may use.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Operating system with version and architecture.
    pub os: String,
    /// Number of computing threads.
    pub threads: usize,
    /// Name of the computing device.
    pub device: String,
}

impl Machine {
    /// Describes this machine, computing on `device`.
    pub(crate) fn here(device: &str) -> Self {
        let parts = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(parts);
        let cpu = system.cpus().first().map(|cpu| cpu.brand().trim().to_string());
        let name = System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_string());
        Self {
            cpu: cpu.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            memory_bytes: system.total_memory(),
            os: format!("{name} ({})", std::env::consts::ARCH),
            threads: rayon::current_num_threads(),
            device: device.to_string(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_bytes, os, threads, device } = self;
        let cpu = if cpu.is_empty() { "unknown CPU" } else { cpu };
        let gigabytes = *memory_bytes as f64 / f64::from(1 << 30);
        let (cores, threads) = (many(*cores, "core"), many(*threads, "thread"));
        write!(f, "{cpu}, {cores}, {gigabytes:.0} GiB, {os}, {threads}, device {device}")
    }
}

/// The current UTC time to the second: `2026-03-01T18:05:09Z`.
pub(crate) fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_tells_what_it_is() {
        let machine = Machine::here("flex");
        assert!(machine.cores >= 1 && machine.threads >= 1);
        assert!(machine.memory_bytes > 1 << 28, "{machine:?}");
        let text = machine.to_string();
        assert!(text.contains("GiB") && text.ends_with("device flex"), "{text}");
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
    }

    #[test]
    fn dates_are_to_the_second() {
        let date = now();
        assert_eq!((date.len(), &date[10..11], &date[19..]), (20, "T", "Z"), "{date}");
        assert!(date.as_str() > "2025", "{date}");
    }
}
