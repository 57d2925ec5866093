//! Fuzz targets: each hands its input to a body, which the ordinary tests run over the corpus too.

#[path = "bodies/mod.rs"]
pub mod bodies;

mod allocator;

#[global_allocator]
static ALLOCATOR: allocator::Limited = allocator::Limited;

#[doc(hidden)]
pub use libfuzzer_sys;

/// The entry of the target whose body has this name.
#[macro_export]
macro_rules! target {
    ($body:ident) => {
        use $crate::libfuzzer_sys;
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $crate::bodies::$body(data);
        });
    };
}
