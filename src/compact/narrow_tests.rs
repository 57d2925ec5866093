use burn::module::Param;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use crate::checkpoint::{
    LoadOptions, PretrainedModel, SaveOptions, load_pretrained, save_pretrained,
};
use crate::compact::compact;
use crate::decompose::{DecomposeConfig, Rank, decompose};
use crate::inspect::ModelAccount;
use crate::linear::{Compressible, CompressibleLinear, LayerSelection, leaf};
use crate::models::bart::{BartConfig, BartForConditionalGeneration};
use crate::models::bert::{BertConfig, BertForSequenceClassification};
use crate::models::deberta_v2::{DebertaV2Config, DebertaV2ForSequenceClassification};
use crate::models::{Activation, EncoderInput, Seq2SeqInput};

const WIDTH: usize = 40;

fn bert(activation: Activation) -> BertForSequenceClassification {
    let config = BertConfig {
        vocab_size: 30,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: WIDTH,
        initializer_range: 0.3,
        hidden_act: activation,
        ..BertConfig::default()
    };
    BertForSequenceClassification::new(&config, &Device::default())
}

fn deberta() -> DebertaV2ForSequenceClassification {
    let config = DebertaV2Config {
        vocab_size: 30,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: WIDTH,
        initializer_range: 0.3,
        relative_attention: true,
        position_buckets: 8,
        pos_att_type: vec!["c2p".into(), "p2c".into()],
        ..DebertaV2Config::default()
    };
    DebertaV2ForSequenceClassification::new(&config, &Device::default())
}

fn bart() -> BartForConditionalGeneration {
    let config = BartConfig {
        vocab_size: 30,
        d_model: 16,
        encoder_layers: 1,
        decoder_layers: 1,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        encoder_ffn_dim: WIDTH,
        decoder_ffn_dim: WIDTH,
        max_position_embeddings: 20,
        init_std: 0.3,
        ..BartConfig::default()
    };
    BartForConditionalGeneration::new(&config, &Device::default())
}

/// Logits `[batch · target, vocab_size]`.
fn written(model: &BartForConditionalGeneration) -> Tensor<2> {
    model.forward(Seq2SeqInput::new(input())).flatten(0, 1)
}

fn input() -> EncoderInput {
    let ids: Vec<i64> = (0..3 * 7).map(|at| at * 11 % 30).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [3, 7]), &Device::default());
    EncoderInput::new(ids)
}

/// Decomposed at `rank`, with biases that are not zero and `S` only where `keeps(name, neuron)`.
fn pruned<M: Compressible>(
    mut model: M,
    rank: usize,
    layers: &[&str],
    keeps: impl Fn(&str, usize) -> bool,
) -> M {
    model.for_each_linear_mut(&mut |_, linear| {
        if let CompressibleLinear::Dense(dense) = linear {
            let [_, d_output] = dense.weight.dims();
            let random =
                Tensor::random([d_output], Distribution::Normal(0.0, 0.5), &Device::default());
            dense.bias = Some(leaf(random));
        }
    });
    let config = DecomposeConfig::new(Rank::Fixed(rank));
    let selection = LayerSelection::new(layers.iter().copied());
    let (mut model, _) = decompose(model, &selection, config).unwrap();
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && let Some(sparse) = layer.sparse.take()
        {
            let [_, d_output] = sparse.dims();
            let mask =
                (0..d_output).map(|neuron| f32::from(u8::from(keeps(name, neuron)))).collect();
            let mask =
                Tensor::<2>::from_data(TensorData::new(mask, [1, d_output]), &Device::default());
            layer.sparse = Some(Param::from_tensor(sparse.val() * mask));
        }
    });
    model
}

/// About a third of the neurons, other ones in each layer.
fn third(name: &str, neuron: usize) -> bool {
    (neuron * 7 + name.len() * 3 + name.bytes().map(usize::from).sum::<usize>()) % 10 < 3
}

fn distance(a: Tensor<2>, b: Tensor<2>) -> f32 {
    (a - b).abs().max().into_scalar()
}

/// Widths of the feed-forward networks as stored.
fn widths<M: Compressible>(model: &M) -> Vec<[usize; 2]> {
    let mut widths = Vec::new();
    model.clone().for_each_feed_forward_mut(&mut |pair| {
        widths.push([pair.inner.dims()[1], pair.outer.dims()[0]]);
    });
    widths
}

/// Checks a pruned model of two feed-forward networks and so many other square layers against its
/// compact form, in memory and from a file.
fn check<M: PretrainedModel>(model: M, squares: usize, logits: impl Fn(&M) -> Tensor<2>) {
    let (small, report) = compact(model.clone());
    let expected = logits(&model);
    // Relative to the size of the logits: some hundred f32 products a layer, added up in another order.
    let scale: f32 = expected.clone().abs().max().into_scalar();
    let off = distance(logits(&small), expected.clone()) / scale.max(1.0);
    assert!(off <= 1e-6, "{off}");
    let mut kept = Vec::new();
    for [inner, outer] in widths(&small) {
        assert_eq!(inner, outer);
        assert!(inner > 0 && inner < WIDTH / 2, "{inner} of {WIDTH}");
        kept.push(inner);
    }
    assert_eq!(kept.len(), 2);

    // The account is over the whole width, the same before and after.
    let names: Vec<&str> = report.iter().map(|layer| layer.name.as_str()).collect();
    let (before, after) =
        (ModelAccount::of(&model).over(&names), ModelAccount::of(&small).over(&names));
    assert_eq!(before.linear_ratio(), after.linear_ratio());
    assert_eq!(before.whole_ratio(), after.whole_ratio());
    let dense: usize = after.layers.iter().map(|layer| layer.dense_elements).sum();
    assert_eq!(dense, squares * 16 * 16 + 4 * 16 * WIDTH);
    for (layer, entry) in after.layers.iter().zip(&report) {
        assert_eq!([layer.d_input, layer.d_output], [entry.d_input, entry.d_output]);
        assert_eq!(layer.stored_elements, entry.elements, "{}", layer.name);
        if layer.name.ends_with("intermediate.dense") || layer.name.ends_with("fc1") {
            assert_eq!((entry.state.name(), layer.groups), ("compact", WIDTH));
            assert_eq!(layer.kept, entry.state.kept());
        }
    }

    let folder = tempfile::tempdir().unwrap();
    save_pretrained(&small, folder.path(), &SaveOptions::default()).unwrap();
    let loaded = load_pretrained::<M>(folder.path(), &Device::default(), &LoadOptions::default());
    let (loaded, report) = loaded.unwrap();
    assert!(report.unused.is_empty() && report.newly_initialised.is_empty(), "{report}");
    assert_eq!(widths(&loaded), widths(&small));
    assert_eq!(distance(logits(&loaded), logits(&small)), 0.0);
    assert_eq!(ModelAccount::of(&loaded).over(&names), after);
}

#[test]
fn constants_go_and_the_rest_computes_the_same() {
    for activation in [Activation::Gelu, Activation::Relu, Activation::Sigmoid] {
        check(pruned(bert(activation), 0, &["**"], third), 8, |model| model.forward(input()));
    }
    check(pruned(deberta(), 0, &["**"], third), 8, |model| model.forward(input()));
    check(pruned(bart(), 0, &["**"], third), 12, written);
}

/// A layer that has lost inputs beside neurons may be stored by its inputs.
#[test]
fn a_narrowed_layer_without_some_inputs_loads_again() {
    let mut model = pruned(bert(Activation::Gelu), 0, &["**"], third);
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && name.ends_with("intermediate.dense")
            && let Some(sparse) = layer.sparse.take()
        {
            let rows: Vec<f32> = (0..16).map(|input| f32::from(u8::from(input % 3 > 0))).collect();
            let mask = Tensor::<2>::from_data(TensorData::new(rows, [16, 1]), &Device::default());
            layer.sparse = Some(Param::from_tensor(sparse.val() * mask));
        }
    });
    let (small, report) = compact(model.clone());
    assert!(distance(small.forward(input()), model.forward(input())) <= 1e-6);
    let account = ModelAccount::of(&small);
    for (layer, entry) in account.layers.iter().zip(&report) {
        if layer.name.ends_with("intermediate.dense") {
            assert_eq!((entry.state.name(), layer.d_output), ("column-compact", WIDTH));
            // Inputs are counted, all but the six multiples of three.
            assert_eq!((layer.kept, layer.groups), (10, 16));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    save_pretrained(&small, folder.path(), &SaveOptions::default()).unwrap();
    let (device, options) = (Device::default(), LoadOptions::default());
    let loaded = load_pretrained::<BertForSequenceClassification>(folder.path(), &device, &options);
    let (loaded, report) = loaded.unwrap();
    assert_eq!(report.compressed_layers, 12);
    assert_eq!(widths(&loaded), widths(&small));
    assert_eq!(distance(loaded.forward(input()), small.forward(input())), 0.0);
    assert_eq!(ModelAccount::of(&loaded), account);
}

/// The second layer may be dense, as it is not compressed.
#[test]
fn a_dense_layer_takes_constants_too() {
    let model = pruned(bert(Activation::Gelu), 0, &["intermediate.dense"], third);
    let (small, _) = compact(model.clone());
    assert!(widths(&small).iter().all(|[inner, outer]| inner == outer && *inner < WIDTH));
    assert!(distance(small.forward(input()), model.forward(input())) <= 1e-6);
}

#[test]
fn what_is_not_constant_stays() {
    let whole = vec![[WIDTH; 2]; 2];
    // With a low-rank part no neuron is constant; without pruning none.
    for (rank, keeps) in [(2, third as fn(&str, usize) -> bool), (0, |_, _| true)] {
        let model = pruned(bert(Activation::Gelu), rank, &["**"], keeps);
        let (small, _) = compact(model.clone());
        assert_eq!(widths(&small), whole);
        assert!(distance(small.forward(input()), model.forward(input())) <= 1e-5);
    }
}

/// A network whose neurons are all pruned becomes a bias.
#[test]
fn a_network_of_constants_is_its_bias() {
    let emptied = |name: &str, neuron: usize| {
        !name.ends_with("intermediate.dense") && !name.ends_with("fc1") && third(name, neuron)
    };
    check(pruned(bert(Activation::Gelu), 0, &["**"], emptied), 8, |model| model.forward(input()));
    check(pruned(deberta(), 0, &["**"], emptied), 8, |model| model.forward(input()));
    check(pruned(bart(), 0, &["**"], emptied), 12, written);
    // Nothing is left of the attention either, in fused kernels and out of them.
    for activation in [Activation::Gelu, Activation::Silu] {
        let nothing = pruned(bert(activation), 0, &["**"], |_, _| false);
        check(nothing, 8, |model| model.forward(input()));
    }
    check(pruned(deberta(), 0, &["**"], |_, _| false), 8, |model| model.forward(input()));
    check(pruned(bart(), 0, &["**"], |_, _| false), 12, written);

    let model = pruned(bert(Activation::Sigmoid), 0, &["**"], emptied);
    let (small, report) = compact(model);
    assert_eq!(widths(&small), [[1, 1]; 2]);
    for layer in report.iter().filter(|layer| !layer.name.contains("attention")) {
        assert_eq!((layer.elements, layer.state.kept()), (0, 0), "{}", layer.name);
    }
    // Only one of two networks, before a layer that is not compressed.
    let model = pruned(bert(Activation::Gelu), 0, &["**.0.intermediate.dense"], |_, _| false);
    let (small, _) = compact(model.clone());
    assert_eq!(widths(&small), [[1, 1], [WIDTH, WIDTH]]);
    assert!(distance(small.forward(input()), model.forward(input())) <= 1e-6);
    let folder = tempfile::tempdir().unwrap();
    save_pretrained(&small, folder.path(), &SaveOptions::default()).unwrap();
    let (device, options) = (Device::default(), LoadOptions::default());
    let loaded = load_pretrained::<BertForSequenceClassification>(folder.path(), &device, &options);
    let (loaded, _) = loaded.unwrap();
    assert_eq!(widths(&loaded), widths(&small));
    assert_eq!(distance(loaded.forward(input()), small.forward(input())), 0.0);
}

#[test]
fn a_bias_of_another_length_is_an_error() {
    let (small, _) = compact(pruned(bert(Activation::Gelu), 0, &["**"], third));
    let mut broken = small.clone();
    broken.for_each_feed_forward_mut(&mut |pair| {
        if let CompressibleLinear::Dense(inner) = pair.inner {
            inner.bias = Some(leaf(Tensor::zeros([WIDTH], &Device::default())));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    save_pretrained(&broken, folder.path(), &SaveOptions::default()).unwrap();
    let loaded = load_pretrained::<BertForSequenceClassification>(
        folder.path(),
        &Device::default(),
        &LoadOptions::default(),
    );
    let message = loaded.unwrap_err().to_string();
    assert!(message.contains("intermediate.dense") && message.contains("shape"), "{message}");
}
