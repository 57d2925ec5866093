//! Options of every command: where to compute, what to print.

use anyhow::Context;
use burn::tensor::Device;
use clap::ArgAction;
use losparse::device::{Backend, DeviceSpec};
use losparse::precision::{Precision, set_products};

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
    /// Threads that compute, of one pool for all of the program [default: all cores]
    #[arg(long, global = true, env = "LOSPARSE_THREADS", value_name = "N",
        value_parser = parse_threads)]
    threads: Option<usize>,
    /// Format of the numbers that matrix products multiply: f32, f16 (inference only) or bf16, where
    /// the device has it; all else is computed in f32
    #[arg(long, global = true, env = "LOSPARSE_DTYPE", value_name = "FORMAT", default_value_t,
        value_parser = parse_dtype)]
    dtype: Precision,
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
        let Some(threads) = self.threads else { return Ok(()) };
        #[cfg(feature = "ndarray")]
        limit_ndarray(threads);
        // Tensors, kernels, decomposition and tokenizers all compute in rayon's global pool.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().context("option --threads")
    }

    /// Opens the device, with the format of its products.
    pub fn open(&self) -> losparse::Result<Device> {
        let device = self.device.open()?;
        set_products(self.dtype, &device)?;
        Ok(device)
    }

    /// [`MachineArgs::open`], to train.
    pub fn open_to_train(&self) -> losparse::Result<Device> {
        self.dtype.check_training()?;
        self.open()
    }

    /// The format of products.
    pub fn dtype(&self) -> Precision {
        self.dtype
    }

    /// The device by name, `auto` by that of the one it means, and the format of its products if that
    /// is not `f32`.
    pub fn device_name(&self) -> String {
        let device = self.device.resolve().map_or(self.device, |(device, _)| device);
        match self.dtype {
            Precision::F32 => device.to_string(),
            precision => format!("{device} in {precision}"),
        }
    }

    /// Threads that compute, if the user gave a number.
    pub fn threads(&self) -> Option<usize> {
        self.threads
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

fn parse_dtype(text: &str) -> Result<Precision, String> {
    // clap's own message names the option and the value already.
    text.parse().map_err(|_: losparse::Error| "give f32, f16 or bf16".into())
}

pub fn parse_device(text: &str) -> Result<DeviceSpec, String> {
    text.parse().map_err(|error| match error {
        // clap's own message names the option and the value already.
        losparse::Error::Device { message, .. } => message,
        other => other.to_string(),
    })
}

/// More threads than this for each core only wait for each other.
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
            "this program may use {cores} of the machine's cores; {most} threads are the most"
        )),
        Ok(threads) => Ok(threads),
        Err(_) => Err("not a whole number of threads".into()),
    }
}

/// `ndarray`'s matrix products have a pool of their own, of at most four threads.
#[cfg(feature = "ndarray")]
fn limit_ndarray(threads: usize) {
    const VARIABLE: &str = "MATMUL_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: this is the start of the program, which has no other thread yet.
        unsafe { std::env::set_var(VARIABLE, threads.min(4).to_string()) };
    }
}

#[cfg(test)]
mod tests {
    use super::check_threads;

    #[test]
    fn threads_are_within_what_the_machine_can_use() {
        assert_eq!(check_threads("1", 2), Ok(1));
        assert_eq!(check_threads("8", 2), Ok(8));
        let too_many = check_threads("9", 2).unwrap_err();
        assert!(too_many.contains("2 of the machine's cores; 8 threads"), "{too_many}");
        for wrong in ["0", "-1", "many", "", "2.5", "99999999999999999999999"] {
            assert!(check_threads(wrong, 2).is_err(), "{wrong}");
        }
    }
}
