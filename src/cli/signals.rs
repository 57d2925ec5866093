//! Ctrl-C and the signals that ask a process to end.

use std::time::{Duration, Instant};

use anyhow::Context;
use losparse::train::Interrupt;

use super::output;

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
            (true, true) => std::process::exit(super::INTERRUPTED.into()),
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
