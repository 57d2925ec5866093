//! Options of every command: the device and its precision, threads, what is printed.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use burn::tensor::Device;
use clap::ArgAction;
use losparse::device::{Backend, DeviceSpec};
use losparse::precision::{Precision, set_products};
use losparse::quantize;
use losparse::train::{Interrupt, RunOptions};

use super::output;
use super::progress::Progress;

#[derive(clap::Args)]
#[command(next_help_heading = "Machine and output")]
pub struct GlobalArgs {
    #[arg(
        long,
        global = true,
        help = format!("Device to compute on; this build has {}", backends()),
        env = "LOSPARSE_DEVICE",
        value_name = "DEVICE",
        default_value = "auto",
        value_parser = parse_device
    )]
    device: DeviceSpec,
    /// Threads to compute with [default: all cores]
    #[arg(long, global = true, env = "LOSPARSE_THREADS", value_name = "N",
        value_parser = parse_threads)]
    threads: Option<usize>,
    /// Format of the factors of matrix products: f32; bf16 if the device has it; f16 or int8, for
    /// inference; int16, to train on CPUs with AVX512-VNNI [default: the model's own]
    #[arg(long, global = true, env = "LOSPARSE_DTYPE", value_name = "FORMAT",
        value_parser = parse_dtype)]
    dtype: Option<Precision>,
    /// Print JSON to stdout, one object a line; text for people goes to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results, warnings and errors only, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print help
    #[arg(long, short, global = true, action = ArgAction::Help)]
    help: Option<bool>,
}

impl GlobalArgs {
    /// Sets up the threads of the process.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn apply(&self) -> anyhow::Result<()> {
        let Some(threads) = self.threads else { return Ok(()) };
        #[cfg(feature = "ndarray")]
        limit_ndarray(threads);
        // Tensors, kernels, decomposition and tokenizers all compute in rayon's global pool.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().context("option --threads")
    }

    /// Opens the device and sets the format of its matrix products.
    ///
    /// # Errors
    /// If the device cannot be opened or lacks the format.
    pub fn open(&self) -> losparse::Result<Device> {
        self.dtype().check_inference()?;
        self.open_with_products()
    }

    fn open_with_products(&self) -> losparse::Result<Device> {
        let device = self.device.open()?;
        quantize::check_path()?;
        if let Some(dtype) = self.dtype {
            set_products(dtype, &device)?;
        }
        Ok(device)
    }

    /// Opens the device to train on it.
    ///
    /// # Errors
    /// Those of [`GlobalArgs::open`], and if the format is for inference only.
    pub fn open_to_train(&self) -> losparse::Result<Device> {
        self.dtype().check_training()?;
        self.open_with_products()
    }

    /// The format of matrix products.
    pub fn dtype(&self) -> Precision {
        self.dtype.unwrap_or_default()
    }

    /// The name of the device, with `auto` resolved, and the format of its products unless `f32`.
    pub fn device_name(&self) -> String {
        let device = self.device.resolve().map_or(self.device, |(device, _)| device);
        match self.dtype() {
            Precision::F32 => device.to_string(),
            precision => format!("{device} in {precision}"),
        }
    }

    /// The number of threads, if it was given.
    pub fn threads(&self) -> Option<usize> {
        self.threads
    }

    /// Options of a run in `output` on `device` that shows its progress: a new one without a
    /// baseline, which replaces none.
    pub fn run_options(&self, output: &Path, device: Device) -> RunOptions {
        RunOptions {
            output: output.to_path_buf(),
            resume: false,
            overwrite: false,
            baseline: None,
            tui: false,
            device,
            device_name: self.device_name(),
            command: output::command_line(std::env::args_os()),
            observer: Arc::new(Progress::new(self.quiet, self.json)),
            interrupt: Interrupt::default(),
        }
    }

    /// Prints a note to stderr, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            output::note(text);
        }
    }
}

/// The devices of this build by name, for the help text.
fn backends() -> String {
    let names = Backend::compiled().map(Backend::name);
    std::iter::once("auto").chain(names).collect::<Vec<_>>().join(", ")
}

fn parse_dtype(text: &str) -> Result<Precision, String> {
    // clap's own message names the option and the value already.
    text.parse().map_err(|_: losparse::Error| "give f32, f16, bf16, int8 or int16".into())
}

pub fn parse_device(text: &str) -> Result<DeviceSpec, String> {
    text.parse().map_err(|error| match error {
        // clap's own message names the option and the value already.
        losparse::Error::Device { message, .. } => message,
        other => other.to_string(),
    })
}

/// Most threads per core; more only wait for each other.
const MOST_PER_CORE: usize = 4;

fn parse_threads(text: &str) -> Result<usize, String> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    check_threads(text, cores)
}

fn check_threads(text: &str, cores: usize) -> Result<usize, String> {
    let most = MOST_PER_CORE * cores;
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(threads) if threads > most => Err(format!(
            "this program may use {cores} of the machine's cores; at most {most} threads"
        )),
        Ok(threads) => Ok(threads),
        Err(_) => Err("not a whole number of threads".into()),
    }
}

/// Limits the pool of `ndarray`'s matrix products, which is its own and has at most four threads.
#[cfg(feature = "ndarray")]
fn limit_ndarray(threads: usize) {
    const VARIABLE: &str = "MATMUL_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: this runs at the start of the program, before any other thread exists.
        unsafe { std::env::set_var(VARIABLE, threads.min(4).to_string()) };
    }
}

#[cfg(test)]
mod tests {
    use super::check_threads;

    #[test]
    fn threads_are_bounded_by_the_cores() {
        assert_eq!(check_threads("1", 2), Ok(1));
        assert_eq!(check_threads("8", 2), Ok(8));
        let too_many = check_threads("9", 2).unwrap_err();
        assert!(too_many.contains("2 of the machine's cores; at most 8 threads"), "{too_many}");
        for wrong in ["0", "-1", "many", "", "2.5", "99999999999999999999999"] {
            assert!(check_threads(wrong, 2).is_err(), "{wrong}");
        }
    }
}
