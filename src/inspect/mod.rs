//! Accounting: what a model stores, layer by layer.
