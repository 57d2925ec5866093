//! Names and parts of checkpoints, a table for each architecture.

/// Whether `names` have `name`; a name that ends with a dot stands for all that begin so.
pub(super) fn is_among(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| match known.ends_with('.') {
        true => name.starts_with(known),
        false => name == *known,
    })
}

/// Implements [`crate::linear::Compressible`] for models whose layers are those of their field `$base`,
/// with `$prefix` before their names.
macro_rules! compressible_base {
    ($model:ty $(where [$($generics:tt)*])?: $base:ident, $prefix:expr) => {
        impl$(<$($generics)*>)? $crate::linear::Compressible for $model {
            fn for_each_linear_mut(&mut self, f: $crate::linear::LinearVisitor<'_>) {
                let base = &mut self.$base;
                base.for_each_linear_mut(&mut |name, linear| {
                    f(&format!("{}{name}", $prefix), linear);
                });
            }

            fn for_each_embedding_mut(&mut self, f: $crate::linear::EmbeddingVisitor<'_>) {
                self.$base.for_each_embedding_mut(&mut |name, embedding| {
                    f(&format!("{}{name}", $prefix), embedding);
                });
            }

            fn for_each_feed_forward_mut(&mut self, f: $crate::linear::FeedForwardVisitor<'_>) {
                self.$base.for_each_feed_forward_mut(&mut |network| {
                    let [inner, outer] = network.names.map(|name| format!("{}{name}", $prefix));
                    f($crate::linear::FeedForward { names: [&inner, &outer], ..network });
                });
            }
        }
    };
}
pub(super) use compressible_base;

/// Implements [`crate::checkpoint::PretrainedModel`] for the models of an architecture, from the names of
/// Hugging Face's class, of the layer with an output a label, of the parameters of a head that may be
/// new, and of the tensors that checkpoints have for other heads. Names are those of [`is_among`].
macro_rules! pretrained_models {
    (
        $config:ty, model_type: $model_type:expr, prefix: $prefix:expr,
        names: $names:path, never_used: $never_used:expr;
        $($model:ty $(where [$($generics:tt)*])?: $class:expr => {
            label_layer: $label_layer:expr,
            new: $new:expr,
            unused: $unused:expr,
            $($other:tt)*
        })+
    ) => {$(
        impl$(<$($generics)*>)? $crate::checkpoint::PretrainedModel for $model {
            type Config = $config;
            const MODEL_TYPE: &'static str = $model_type;
            const ARCHITECTURE: &'static str = $class;
            const BASE_PREFIX: &'static str = $prefix;
            const LABEL_LAYER: Option<&'static str> = $label_layer;

            fn build(
                config: &$config,
                _has: &dyn Fn(&str) -> bool,
                device: &burn::tensor::Device,
            ) -> Self {
                Self::new(config, device)
            }

            fn config(&self) -> &$config {
                self.config()
            }

            fn hugging_face_name(path: &str) -> String {
                $names(path)
            }

            fn may_be_new(name: &str) -> bool {
                $crate::models::pretrained::is_among($new, name)
            }

            fn may_be_unused(name: &str) -> bool {
                let among = |names: &[&str]| $crate::models::pretrained::is_among(names, name);
                among($never_used) || among($unused)
            }

            $($other)*
        }
    )+};
}
pub(super) use pretrained_models;
