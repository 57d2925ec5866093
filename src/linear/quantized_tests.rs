use burn::tensor::{Device, Distribution, Tensor};

use super::super::{
    CompactLinear, CompressibleLinear, CompressibleLinearConfig, InputCompactLinear, LayerState,
};
use super::*;

fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}

/// 40 → 70, dense or with the named neurons kept beside rank 9.
fn layer(kept: Option<&[usize]>, device: &Device) -> CompressibleLinear {
    let Some(kept) = kept else { return CompressibleLinearConfig::new(40, 70).init(device) };
    let others = 70 - kept.len();
    let low_rank = (others > 0).then(|| (random([40, 9], device), random([9, others], device)));
    let bias = random([1, 70], device).reshape([70]);
    let folded = match kept.len() {
        0 => Tensor::zeros([40, 0], device),
        count => random([40, count], device),
    };
    CompressibleLinear::Compact(CompactLinear::new(folded, low_rank, Some(bias), kept, 70))
}

fn largest(tensor: Tensor<3>) -> f32 {
    tensor.abs().max().into_scalar()
}

/// Inputs are rounded to 1/255 of their range, so an output is off by at most half a step of every input
/// times its weight; twice that for the second product of compact layers.
#[test]
fn outputs_are_those_of_the_rounded_weights_but_for_rounded_inputs() {
    let device = Device::flex();
    let kept: [Option<&[usize]>; 4] = [None, Some(&[1, 5, 69]), Some(&[0, 1, 2]), Some(&[])];
    for kept in kept {
        let exact = layer(kept, &device);
        let int8 = exact.clone().quantize();
        let CompressibleLinear::Quantized(quantized) = &int8 else { panic!("{kept:?}") };
        assert_eq!(int8.weight_elements(), exact.weight_elements());
        assert_eq!(int8.dims(), exact.dims());
        let off = (int8.effective_weight() - exact.effective_weight()).abs().max();
        assert!(off.into_scalar::<f32>() < 0.04, "rounded weights, {kept:?}");
        let floats = quantized.dequantize();
        assert_eq!(floats.state(), exact.state());
        for tokens in [1, 3, 40] {
            let input =
                Tensor::<3>::random([1, tokens, 40], Distribution::Uniform(-1.0, 3.0), &device);
            let (found, expected) = (int8.forward(input.clone()), floats.forward(input));
            let scale = largest(expected.clone());
            let off = largest(found - expected);
            assert!(off > 0.0 && off < 0.02 * scale, "{kept:?}, {tokens} tokens: {off} of {scale}");
        }
    }
}

#[test]
fn rounding_again_changes_nothing() {
    let device = Device::flex();
    for kept in [None, Some(&[1, 5, 69][..])] {
        let once = layer(kept, &device).quantize();
        let again = once.clone().dequantize().quantize();
        let levels = |layer: &CompressibleLinear| match layer {
            CompressibleLinear::Quantized(layer) => layer.first.levels.val().into_data(),
            _ => panic!("not quantized"),
        };
        levels(&once).assert_eq(&levels(&again), true);
    }
}

#[test]
fn columns_of_zeros_and_of_tiny_values_stay_finite() {
    let device = Device::flex();
    let matrix = Tensor::from_floats([[0.0, 1e-44, 3e38], [0.0, -1e-44, -1e38]], &device);
    let rounded = Int8Matrix::quantize(&matrix).dequantize().into_data();
    let rounded: Vec<f32> = rounded.try_into_vec().unwrap();
    assert_eq!(rounded[..2], [0.0, 0.0]);
    assert_eq!(rounded[2], 3e38);
    assert!((rounded[5] + 1e38).abs() <= 3e38 / 254.0, "{}", rounded[5]);
}

#[test]
fn a_layer_of_which_nothing_is_kept_is_one_of_zeros() {
    let device = Device::flex();
    let empty = Int8Matrix::quantize(&Tensor::zeros([6, 0], &device));
    assert_eq!(empty.dequantize().dims(), [6, 0]);
}

/// The kernel is for inference: gradients of the input are those of the rounded weights.
#[test]
fn gradients_of_inputs_pass() {
    let device = Device::flex();
    let layer = layer(Some(&[1, 5, 69]), &device).quantize();
    let tracked = device.clone().autodiff();
    let input = Tensor::<2>::ones([2, 40], &tracked).require_grad();
    let training = layer.clone().train();
    let gradient = input.grad(&training.forward(input.clone()).sum().backward()).unwrap();
    let expected = layer.effective_weight().sum_dim(1).transpose();
    let off = (gradient.narrow(0, 0, 1) - expected).abs().max().into_scalar::<f32>();
    assert!(off < 1e-4, "{off}");
}

#[test]
fn layers_in_training_form_and_after_column_pruning_stay_as_they_are() {
    let device = Device::flex();
    let inputs = InputCompactLinear::new(random([2, 6], &device), None, None, &[2, 5], 6);
    let layer = CompressibleLinear::InputCompact(inputs).quantize();
    assert_eq!(layer.state(), LayerState::InputCompact { kept: 2, rank: 0 });
}
