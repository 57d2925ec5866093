//! Panics of the `tokenizers` crate as errors: damaged files make it panic while it reads them, or only
//! at some text.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`guarded`], so that a panic's message is the error's to tell.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Resets the flag, also when unwinding.
struct Quiet(bool);

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(self.0);
    }
}

/// Runs `work`; its panics are errors, and nothing is printed about them.
pub(super) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    let _quiet = Quiet(QUIET.replace(true));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(told(&*panic).into()))
}

fn told(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it cannot be used ({})", message.unwrap_or("unknown cause"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors_and_other_panics_stay() {
        let error = guarded::<()>(|| panic!("at {}", 7)).unwrap_err().to_string();
        assert_eq!(error, "it cannot be used (at 7)");
        assert_eq!(guarded(|| Ok(7)).unwrap(), 7);
        assert!(!QUIET.get());
        // One inside another leaves the outer one quiet.
        guarded(|| {
            assert!(guarded::<()>(|| panic!("inner")).is_err());
            assert!(QUIET.get());
            Ok(())
        })
        .unwrap();
    }
}
