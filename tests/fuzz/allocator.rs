//! An allocator that gives no piece of more than 1 GiB: libFuzzer's own limit needs a sanitizer.

use std::alloc::{GlobalAlloc, Layout, System};

/// The most bytes one allocation may have.
const MOST: usize = 1 << 30;

/// The system's allocator with a limit.
pub struct Limited;

/// Ends the process as a panic does, but allocates nothing.
fn refuse(bytes: usize) -> ! {
    eprintln!("an allocation of {bytes} bytes");
    std::process::abort()
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST {
            refuse(layout.size());
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST {
            refuse(layout.size());
        }
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > MOST {
            refuse(size);
        }
        unsafe { System.realloc(pointer, layout, size) }
    }
}
