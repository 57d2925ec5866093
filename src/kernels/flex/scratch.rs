//! Buffers that each thread keeps from call to call.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Runs `f` with this thread's buffers; they are taken out meanwhile, so that work that the thread
/// takes up in between finds others.
pub(super) fn with_scratch<S: Default, T>(
    key: &'static LocalKey<RefCell<S>>,
    f: impl FnOnce(&mut S) -> T,
) -> T {
    let mut scratch = key.with(RefCell::take);
    let result = f(&mut scratch);
    key.set(scratch);
    result
}
