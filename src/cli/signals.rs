//! Ctrl-C and the signals that ask a process to end.

use std::time::{Duration, Instant};

use anyhow::Context;
use losparse::train::Interrupt;

use super::output;

/// Exit code of a run stopped by Ctrl-C, SIGTERM or SIGHUP; the one that shells give Ctrl-C.
pub const INTERRUPTED: u8 = 130;
/// Signals that follow the first within this time count as one: a terminal that closes sends
/// several.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Makes the first Ctrl-C, SIGTERM or SIGHUP stop the run after its batch, and the second end the
/// process at once.
///
/// # Errors
/// If the signals cannot be listened for.
pub fn stop_on_ctrl_c(interrupt: Interrupt) -> anyhow::Result<()> {
    let mut first = None;
    let handler = move || {
        let again = first.get_or_insert_with(Instant::now).elapsed() > SAME_SIGNAL;
        match (interrupt.stopped(), again) {
            (true, true) => std::process::exit(INTERRUPTED.into()),
            (true, false) => return,
            (false, _) => {}
        }
        interrupt.stop("by Ctrl-C, or a signal to end");
        output::note("stopping after this batch; press Ctrl-C again to stop at once");
    };
    let ignored = hangup_is_ignored();
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")?;
    if ignored {
        ignore_hangup();
    }
    Ok(())
}

/// Makes a write beyond the limit on file sizes (`ulimit -f`) an error like that of a full disk. Without
/// this the signal ends the process.
pub fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal installs no handler, so none of our code runs in one.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Whether this process should outlive its terminal (`nohup`).
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    // SAFETY: a null action changes nothing. The present action is written to `now`, for which
    // zeros are a valid value.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut now) == 0
            && now.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn hangup_is_ignored() -> bool {
    false
}

fn ignore_hangup() {
    // SAFETY: ignoring a signal installs no handler, so none of our code runs in one.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
}
