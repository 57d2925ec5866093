//! Guard against panics of other parsers: a panic over a damaged file becomes an error.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether panics of this thread are caught here and not printed.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `parse` and turns a panic into an error with its message.
pub(crate) fn guarded<T>(parse: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                others(info);
            }
        }));
    });
    let before = CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(parse));
    CAUGHT.set(before);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        format!("its reader gave up: {}", text.unwrap_or_else(|| "a panic".into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded(|| 3), Ok(3));
        let empty: &[u8] = std::hint::black_box(&[]);
        let error = guarded(|| empty[1]).unwrap_err();
        assert!(error.contains("index out of bounds"), "{error}");
        assert!(!CAUGHT.get());
        assert!(guarded(|| guarded(|| empty[1]).is_err()).unwrap());
    }
}
