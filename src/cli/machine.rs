//! Options of every command: where to compute, what to print.

use anyhow::Context;
use burn::tensor::Device;
use clap::ArgAction;
use losparse::device::{Backend, DeviceSpec};

use super::output;

#[derive(clap::Args)]
#[command(next_help_heading = "Machine and output")]
pub struct MachineArgs {
    #[arg(
        long,
        global = true,
        help = format!("Where to compute; this build has {}", backends()),
        env = "LOSPARSE_DEVICE",
        value_name = "DEVICE",
        default_value = "auto",
        value_parser = parse_device
    )]
    device: DeviceSpec,
    /// Threads of the CPU backends [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
    /// Print JSON to stdout, an object a line; text for people goes to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print help
    #[arg(long, short, global = true, action = ArgAction::Help)]
    help: Option<bool>,
}

impl MachineArgs {
    /// Sets up what holds for the whole process.
    pub fn apply(&self) -> anyhow::Result<()> {
        if let Some(threads) = self.threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build_global().context("option threads")?;
        }
        Ok(())
    }

    /// Opens the device.
    pub fn open(&self) -> losparse::Result<Device> {
        self.device.open()
    }

    /// The device by name.
    pub fn device_name(&self) -> String {
        self.device.to_string()
    }

    /// Tells people something, unless they asked for silence.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            output::note(text);
        }
    }
}

/// Names of this build's backends.
fn backends() -> String {
    let names = Backend::compiled().map(Backend::name);
    std::iter::once("auto").chain(names).collect::<Vec<_>>().join(", ")
}

fn parse_device(text: &str) -> Result<DeviceSpec, String> {
    text.parse().map_err(|error| match error {
        // clap's own message names the option and the value already.
        losparse::Error::Device { message, .. } => message,
        other => other.to_string(),
    })
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(threads) => Ok(threads),
        Err(_) => Err("not a number".into()),
    }
}
