//! Choosing layers by pattern on their full names.

use regex::Regex;

use super::{Compressible, linear_names};
use crate::{Error, Result};

/// Patterns that select the layers to compress.
///
/// A pattern is matched against the end of a layer's full name, from a dot on: `attention.self.query`
/// matches `bert.encoder.layer.3.attention.self.query`. `*` stands for anything within one part of
/// the name, `**` for anything. A pattern that starts with `!` excludes layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSelection {
    patterns: Vec<String>,
}

/// Layers matched by one pattern, for dry runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerMatch {
    /// The pattern as given.
    pub pattern: String,
    /// Names of the matched layers.
    pub layers: Vec<String>,
}

impl Default for LayerSelection {
    fn default() -> Self {
        Self::all()
    }
}

impl LayerSelection {
    /// Every compressible layer of the model.
    pub fn all() -> Self {
        Self { patterns: vec!["**".to_string()] }
    }

    /// Layers that match any of `patterns` (and no pattern that starts with `!`).
    pub fn new<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> Self {
        Self { patterns: patterns.into_iter().map(Into::into).collect() }
    }

    /// The patterns.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Finds the layers of `model` that each pattern matches, without changing anything.
    pub fn dry_run<M: Compressible>(&self, model: &M) -> Result<Vec<LayerMatch>> {
        self.matches(&linear_names(model))
    }

    fn matches(&self, names: &[String]) -> Result<Vec<LayerMatch>> {
        self.patterns
            .iter()
            .map(|pattern| {
                let regex = compile(pattern)?;
                let layers = names.iter().filter(|name| regex.is_match(name)).cloned().collect();
                Ok(LayerMatch { pattern: pattern.clone(), layers })
            })
            .collect()
    }

    /// Names of the selected layers, in traversal order.
    ///
    /// # Errors
    /// If a pattern is malformed or matches nothing, or if nothing is selected.
    pub fn resolve<M: Compressible>(&self, model: &M) -> Result<Vec<String>> {
        self.resolve_names(linear_names(model))
    }

    /// Selects among the layers of a model called `names`, in their order.
    ///
    /// # Errors
    /// As [`LayerSelection::resolve`].
    pub fn resolve_names(&self, names: Vec<String>) -> Result<Vec<String>> {
        let matches = self.matches(&names)?;
        if let Some(unmatched) = matches.iter().find(|m| m.layers.is_empty()) {
            let example = names.first().map_or("no layer at all", String::as_str);
            return Err(Error::option(
                "layers",
                format!(
                    "pattern `{}` matches no layer; the model has {} compressible layers such as \
                     `{example}`",
                    unmatched.pattern,
                    names.len()
                ),
            ));
        }
        let matched = |name: &String, excluding: bool| {
            matches
                .iter()
                .any(|m| m.pattern.starts_with('!') == excluding && m.layers.contains(name))
        };
        let selected: Vec<String> =
            names.into_iter().filter(|n| matched(n, false) && !matched(n, true)).collect();
        if selected.is_empty() {
            return Err(Error::option("layers", "the patterns select no layer"));
        }
        Ok(selected)
    }
}

fn compile(pattern: &str) -> Result<Regex> {
    let body = pattern.strip_prefix('!').unwrap_or(pattern);
    if body.is_empty() {
        return Err(Error::option("layers", "a pattern is empty"));
    }
    let escaped = regex::escape(body).replace(r"\*\*", ".*").replace(r"\*", "[^.]*");
    Regex::new(&format!(r"(^|\.){escaped}$"))
        .map_err(|e| Error::option("layers", format!("pattern `{pattern}`: {e}")))
}
