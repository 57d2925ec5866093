//! Bodies of the fuzz targets. Each writes files made of its input, has them read as users would, and
//! checks what must hold of any file. It may refuse, but never panic.

mod checkpoint;
mod edits;
mod files;
mod input;
mod model;
mod recipe;
mod seeds;
mod squad;
mod table;
mod tokenizer;

pub use checkpoint::checkpoint;
pub use model::{config, weights};
pub use recipe::recipe;
pub use squad::squad;
pub use table::table;
pub use tokenizer::tokenizer;

/// Whether what was made of an input was taken; if not, the message.
pub type Outcome = Result<(), String>;

/// The outcome of something that users do, its message checked.
fn outcome<T>(result: losparse::Result<T>) -> Outcome {
    let message = match result {
        Ok(_) => return Ok(()),
        Err(error) => error.to_string(),
    };
    assert!(!message.trim().is_empty(), "an error without a message");
    assert!(message.len() < 100_000, "a message of {} bytes", message.len());
    Err(message)
}
