//! Parses option values, and lays those that were given over a recipe's settings.

use std::fmt::Display;
use std::path::PathBuf;

use losparse::train::Recipe;
use losparse::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Help text that ends in `[default: …]`. Take the value from the recipe's own defaults.
pub fn shown(text: &str, default: impl Display) -> String {
    format!("{text} [default: {default}]")
}

/// The default of a setting, spelled as in recipes.
pub fn default_word<T: Default + Serialize>() -> String {
    let value = serde_json::to_value(T::default()).unwrap_or_default();
    value.as_str().unwrap_or_default().to_string()
}

/// Parses a setting that is one of several words; `-` and `_` are the same.
pub fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Parses a share: `0.2`, or the same as `20%`.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, of) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let message = "a share is a number such as 0.2, or the same as 20%";
    Ok(number.trim().parse::<f64>().map_err(|_| message.to_string())? / of)
}

/// Parses a name: the text without the blanks around it.
pub fn trimmed(text: &str) -> Result<String, String> {
    Ok(text.trim().to_string())
}

/// Copies each option that was given to the field of the same name.
macro_rules! override_settings {
    ($args:ident => $target:expr; $($field:ident),*; optional $($maybe:ident),*) => {{
        let target = $target;
        $(if let Some(value) = &$args.$field { target.$field = value.clone(); })*
        $(if let Some(value) = &$args.$maybe { target.$maybe = Some(value.clone()); })*
    }};
}
pub(super) use override_settings;

/// The name of the first option that was given, if any.
macro_rules! first_given {
    ($args:ident; $($field:ident),*) => {
        None$(.or($args.$field.as_ref().map(|_| stringify!($field))))*
    };
}
pub(super) use first_given;

/// Largest count that options accept: examples in a batch, tokens, runs.
pub const MOST: usize = 1 << 16;

/// Checks that `count`, the value of `option`, is from 1 to [`MOST`].
pub fn check_count(option: &str, count: usize) -> Result<()> {
    match count {
        1..=MOST => Ok(()),
        _ => Err(Error::option(option, format!("{count} is not within 1 to {MOST}"))),
    }
}

/// Reads a recipe file; without one, the default recipe.
pub fn read_recipe(path: Option<&PathBuf>) -> Result<Recipe> {
    path.map_or_else(|| Ok(Recipe::default()), Recipe::read)
}
