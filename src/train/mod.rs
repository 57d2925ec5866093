//! Training with Burn's `SupervisedTraining`.
