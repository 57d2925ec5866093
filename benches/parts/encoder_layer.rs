//! One encoder layer, dense, compact and without kept neurons.

use losparse::models::ForwardContext;
use losparse::models::bert::{BertAttention, BertConfig, BertModel};
use losparse::models::deberta_v2::{DebertaV2Config, DebertaV2Model};

use super::*;

fn bert(bencher: Bencher<'_, '_>, shape: &Shape<2>, form: fn(BertModel) -> BertModel) {
    let device = device();
    let config = BertConfig { num_hidden_layers: 1, ..BertConfig::default() };
    let model = form(BertModel::new(&config, false, &device));
    let encoder = &model.encoder;
    let x = random([shape.0[0], shape.0[1], 768], &device);
    let context = ForwardContext::default();
    bencher.bench_local(|| encoder.forward(black_box(x.clone()), &context, |_, _| {}));
}

#[divan::bench(args = BATCHES.map(Shape))]
fn bert_dense(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    bert(bencher, shape, |model| model);
}

#[divan::bench(args = BATCHES.map(Shape))]
fn bert_compact(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    bert(bencher, shape, |model| compacted(model, Some(RATIO)));
}

/// A layer that keeps no neuron: attention, normalisation and products of rank 20.
#[divan::bench(args = BATCHES.map(Shape))]
fn bert_attention_and_norms(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    bert(bencher, shape, |model| compacted(model, None));
}

/// Attention with its projections, composed of Burn's operations as when attention maps are requested.
#[divan::bench(args = BATCHES.map(Shape))]
fn bert_attention_composed(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let device = device();
    let attention = BertAttention::new(&BertConfig::default(), &device);
    let x = random([shape.0[0], shape.0[1], 768], &device);
    let context = ForwardContext::default().with_attentions(true);
    bencher.bench_local(|| attention.forward(black_box(x.clone()), &context));
}

fn deberta(bencher: Bencher<'_, '_>, shape: &Shape<2>, form: fn(DebertaV2Model) -> DebertaV2Model) {
    let device = device();
    // DeBERTa-v3-base's layer; the defaults are those of v2-xlarge.
    let config = DebertaV2Config {
        hidden_size: 768,
        num_attention_heads: 12,
        intermediate_size: 3072,
        num_hidden_layers: 1,
        relative_attention: true,
        position_buckets: 256,
        pos_att_type: vec!["p2c".into(), "c2p".into()],
        share_att_key: true,
        ..DebertaV2Config::default()
    };
    let model = form(DebertaV2Model::new(&config, &device));
    let x = random([shape.0[0], shape.0[1], config.hidden_size], &device);
    let context = ForwardContext::default();
    bencher.bench_local(|| model.encoder.forward(black_box(x.clone()), None, &context, |_, _| {}));
}

#[divan::bench(args = BATCHES.map(Shape))]
fn deberta_dense(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    deberta(bencher, shape, |model| model);
}

#[divan::bench(args = BATCHES.map(Shape))]
fn deberta_attention_and_norms(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    deberta(bencher, shape, |model| compacted(model, None));
}

#[divan::bench(args = BATCHES.map(Shape))]
fn deberta_compact(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    deberta(bencher, shape, |model| compacted(model, Some(RATIO)));
}
