//! One model behind all its handles.
//!
//! Burn's learner keeps its module while it updates a clone. Weights that two modules hold cannot be
//! changed in place, so every update would copy them all. `Shared` holds the model for all clones: an
//! update takes it out, and is its only holder meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{
    Content, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
};

use crate::optim::delegate_to_inner_module;

/// A module whose clones are handles to the same values. What makes another module of it (`valid`,
/// `fork`, loading a record) gives that its own values.
pub struct Shared<M>(Arc<Mutex<Option<M>>>);

impl<M> Clone for Shared<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> std::fmt::Debug for Shared<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl<M: Module> Shared<M> {
    /// The only handle to `model`.
    pub fn new(model: M) -> Self {
        Self(Arc::new(Mutex::new(Some(model))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clones the model; while the clone lives, updates copy.
    pub fn get(&self) -> M {
        match &*self.lock() {
            Some(model) => model.clone(),
            None => unreachable!("an update puts the model back"),
        }
    }

    /// Changes the model for all handles; other threads wait meanwhile.
    pub fn update<T>(&self, f: impl FnOnce(M) -> (M, T)) -> T {
        let mut slot = self.lock();
        let Some(model) = slot.take() else { unreachable!("an update puts the model back") };
        let (model, result) = f(model);
        *slot = Some(model);
        result
    }

    /// Takes the model out; its weights are copied if there are other handles.
    pub fn into_inner(self) -> M {
        match Arc::try_unwrap(self.0) {
            Ok(slot) => match slot.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(model) => model,
                None => unreachable!("an update puts the model back"),
            },
            Err(shared) => Self(shared).get(),
        }
    }

    fn with(self, f: impl FnOnce(M) -> M) -> Self {
        Self::new(f(self.into_inner()))
    }
}

impl<M: Module> Module for Shared<M> {
    delegate_to_inner_module!(get);

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        self.with(|model| model.map(mapper))
    }
}

impl<M: Module + ModuleDisplay> ModuleDisplayDefault for Shared<M> {
    fn content(&self, content: Content) -> Option<Content> {
        self.get().content(content)
    }

    fn num_params(&self) -> usize {
        Module::num_params(&self.get())
    }
}

impl<M: Module + ModuleDisplay> ModuleDisplay for Shared<M> {
    fn format(&self, settings: DisplaySettings) -> String {
        self.get().format(settings)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    use crate::kernels::float_address;
    use crate::optim::AdamWConfig;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{GradientsParams, ModuleOptimizer};

    fn address(model: &Shared<Linear>) -> usize {
        float_address(&model.get().weight.val().inner()).unwrap()
    }

    /// As Burn's learner does: it keeps its module while a clone is updated.
    fn update(learner: &mut Shared<Linear>, optimizer: &mut ModuleOptimizer) {
        let model = learner.get();
        let loss = model.weight.val().square().sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        drop(model);
        let clone = learner.clone();
        clone.update(|model| (optimizer.step(1e-2, model, gradients), ()));
        *learner = clone;
    }

    #[test]
    fn updates_are_in_place_while_nothing_else_holds_the_model() {
        let model: Linear = LinearConfig::new(40, 30).init(&Device::flex().autodiff());
        let mut learner = Shared::new(model);
        let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
        let (before, values) = (address(&learner), learner.get().weight.val().to_data());
        update(&mut learner, &mut optimizer);
        assert_eq!(address(&learner), before);
        assert_ne!(learner.get().weight.val().to_data(), values);

        // A copy that a checkpoint or an evaluation holds stays as it is.
        let snapshot = learner.valid();
        let values = snapshot.get().weight.val().to_data();
        update(&mut learner, &mut optimizer);
        assert_ne!(address(&learner), address(&snapshot));
        assert_eq!(snapshot.get().weight.val().to_data(), values);
        assert_ne!(learner.get().weight.val().to_data(), values);
    }

    #[test]
    fn what_makes_another_model_leaves_this_one() {
        let device = Device::flex();
        let model: Linear = LinearConfig::new(4, 3).init(&device);
        let (shared, other) = (Shared::new(model), LinearConfig::new(4, 3).init(&device));
        let before = shared.get().weight.val().to_data();
        let loaded = shared.clone().load_record(Shared::new(other).into_record());
        assert_eq!(shared.get().weight.val().to_data(), before);
        assert_ne!(loaded.get().weight.val().to_data(), before);
        assert_eq!(Module::num_params(&loaded), 15);
    }
}
