//! Finds the tokenizer class of transformers that a model folder asks for.

use serde_json::{Map, Value};

use crate::checkpoint::class_of_model;
use crate::checkpoint::format::model_type;

/// How to build a tokenizer from a folder's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// WordPiece; `[CLS] a [SEP] b [SEP]`, types 0 and 1.
    Bert,
    /// WordPiece; `<s> a </s></s> b </s>`.
    Mpnet,
    /// Byte-level BPE; `<s> a </s></s> b </s>`.
    Roberta,
    /// Unigram; `[CLS] a [SEP] b [SEP]`, types 0 and 1.
    DebertaV2,
    /// Unigram; `<s> a </s></s> b </s>`.
    XlmRoberta,
    /// BPE whose words end in `</w>`; `<s> a </s> b </s>`.
    Herbert,
    /// As `tokenizer.json` describes.
    Json,
}

/// A class, as a folder's files name it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) class: Class,
    /// Its name in transformers.
    pub(super) name: String,
    /// The field and file that name it.
    pub(super) place: &'static str,
    /// Whether models get its token types, unless `model_input_names` decides; `None` if no file
    /// names a class.
    pub(super) types: Option<bool>,
}

/// Classes that are written in Python and that no file describes, without `Tokenizer` at their
/// ends.
const PYTHON: &str = "\
    Bartpho BertGeneration BertJapanese Bertweet BioGpt BlenderbotSmall ByT5 CTRL Canine \
    Character CpmAnt Cpm Esm FSMT Flaubert GPTNeoXJapanese GPTSw3 M2M100 Marian Mecab MyT5 \
    PLBart Perceiver Phobert ProphetNet Rag RoCBert Siglip Tapas XLM";

/// Classes that take no more than the vocabulary from `tokenizer.json` and are not built here,
/// without `Tokenizer` at their ends.
const BUILT: &str = "\
    Albert Barthez BigBird Blenderbot CLIP Camembert CodeGen CodeLlama Cohere DPRContextEncoder \
    DPRQuestionEncoder DPRReader Deberta Esmc Funnel GPT2 GPTNeoX Gemma Lasr LayoutLMv2 \
    LayoutLMv3 LayoutXLM Llama Luke MBart MBart50 MLuke MarkupLM Nllb Nougat OpenAIGPT Pegasus \
    Qwen2 Qwen3_5 Reformer RemBert RoFormer SeamlessM4T Siglip2 Splinter T5 Tipsv2 Udop \
    VideoPrism Whisper XGLM XLNet";

/// Further classes that give token types; `tokenizer.json` describes them.
const TYPED: [&str; 4] = [
    "ConvBertTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "FNetTokenizer",
];

/// The class that `tokenizer_config.json` names, or else `config.json`, or else the one for its
/// `model_type`; `None` without any of them. `has_json`: whether the folder has a `tokenizer.json`.
///
/// # Errors
/// If the class is written in Python, or its name is not a string.
pub(super) fn find(
    config: &Map<String, Value>,
    model_config: &Map<String, Value>,
    has_json: bool,
) -> Result<Option<Named>, String> {
    let places = [
        (config, "tokenizer_class of tokenizer_config.json"),
        (model_config, "tokenizer_class of config.json"),
    ];
    for (file, place) in places {
        match file.get("tokenizer_class") {
            None | Some(Value::Null) => {}
            Some(Value::String(name)) if name.is_empty() => {}
            Some(Value::String(name)) => return named(name, place, has_json).map(Some),
            Some(other) => return Err(format!("{place}: {other} is not the name of a class")),
        }
    }
    let model_type =
        model_type(model_config).map_err(|message| format!("config.json: {message}"))?;
    let Some(name) = model_type.as_deref().and_then(class_of_model) else { return Ok(None) };
    named(name, "model_type of config.json", has_json).map(Some)
}

/// Advice on classes that are not built here.
const BY_JSON: &str = "if a tokenizer.json does the same, name PreTrainedTokenizerFast as \
                       tokenizer_class of tokenizer_config.json";

/// Whether a list has the class `name`.
fn among(list: &str, name: &str) -> bool {
    let name = name.strip_suffix("Tokenizer");
    list.split(' ').any(|listed| Some(listed) == name)
}

fn named(name: &str, place: &'static str, has_json: bool) -> Result<Named, String> {
    let short = name.strip_suffix("Fast").unwrap_or(name);
    let (class, types) = match short {
        "BertTokenizer"
        | "ElectraTokenizer"
        | "LayoutLMTokenizer"
        | "LxmertTokenizer"
        | "MobileBertTokenizer"
        | "SqueezeBertTokenizer" => (Class::Bert, true),
        "DistilBertTokenizer" => (Class::Bert, false),
        // If there is a `tokenizer.json`, it describes all of this class.
        "ConvBertTokenizer" if !has_json => (Class::Bert, true),
        "RobertaTokenizer"
        | "BartTokenizer"
        | "LEDTokenizer"
        | "LongformerTokenizer"
        | "MvpTokenizer" => (Class::Roberta, false),
        "MPNetTokenizer" => (Class::Mpnet, false),
        "DebertaV2Tokenizer" => (Class::DebertaV2, true),
        "HerbertTokenizer" => (Class::Herbert, false),
        "XLMRobertaTokenizer" => (Class::XlmRoberta, false),
        _ if among(PYTHON, short) => {
            return Err(format!(
                "{place}: a {short} is written in Python, and no file tells how it splits texts; \
                 {BY_JSON}"
            ));
        }
        // The fast ones are classes of their own, which `tokenizer.json` describes.
        _ if among(BUILT, short) && !(short.starts_with("DPR") && short != name) => {
            return Err(format!(
                "{place}: a {short} is not supported: transformers takes its vocabulary from \
                 tokenizer.json and makes the rest itself; {BY_JSON}"
            ));
        }
        _ => (Class::Json, TYPED.contains(&short)),
    };
    let name = if class == Class::Json { name } else { short };
    Ok(Named { class, name: name.to_string(), place, types: Some(types) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(config: Value, model: Value, has_json: bool) -> Result<Option<Named>, String> {
        find(config.as_object().unwrap(), model.as_object().unwrap(), has_json)
    }

    #[test]
    fn the_first_file_that_names_a_class_decides() {
        let class = |config, model| of(config, model, true).unwrap().map(|named| named.class);
        let bert = || json!({"model_type": "bert"});
        assert_eq!(class(json!({}), bert()), Some(Class::Bert));
        assert_eq!(class(json!({"tokenizer_class": null}), bert()), Some(Class::Bert));
        let herbert = json!({"model_type": "bert", "tokenizer_class": "HerbertTokenizerFast"});
        assert_eq!(class(json!({}), herbert.clone()), Some(Class::Herbert));
        let roberta = json!({"tokenizer_class": "BartTokenizerFast"});
        assert_eq!(class(roberta, herbert), Some(Class::Roberta));
        for (kind, expected) in [
            ("roberta", Class::Roberta),
            ("bart", Class::Roberta),
            ("mpnet", Class::Mpnet),
            ("deberta-v2", Class::DebertaV2),
        ] {
            assert_eq!(class(json!({}), json!({"model_type": kind})), Some(expected));
            let compressed = json!({"model_type": format!("losparse_{kind}"),
                "losparse": {"format_version": 2, "base_model_type": kind,
                    "sha256": "0".repeat(64)}});
            assert_eq!(class(json!({}), compressed), Some(expected));
        }
        assert_eq!(class(json!({}), json!({"model_type": "other"})), None);
        let xlm = json!({"tokenizer_class": "XLMRobertaTokenizer"});
        assert_eq!(class(xlm, bert()), Some(Class::XlmRoberta));
        let any = json!({"tokenizer_class": "DPRContextEncoderTokenizerFast"});
        assert_eq!(class(any, bert()), Some(Class::Json));
    }

    #[test]
    fn what_no_file_describes_is_refused_by_name() {
        let model = json!({"model_type": "bert", "tokenizer_class": "BertJapaneseTokenizer"});
        let error = of(json!({}), model, true).unwrap_err();
        assert!(error.contains("tokenizer_class of config.json"), "{error}");
        assert!(error.contains("BertJapaneseTokenizer"), "{error}");
        let error = of(json!({"tokenizer_class": 3}), json!({}), true).unwrap_err();
        assert!(error.contains("3 is not the name"), "{error}");
    }

    #[test]
    fn token_types_are_those_the_class_gives_models() {
        let types = |name: &str, has_json| {
            of(json!({"tokenizer_class": name}), json!({}), has_json).unwrap().unwrap().types
        };
        assert_eq!(types("BertTokenizer", true), Some(true));
        assert_eq!(types("DistilBertTokenizerFast", true), Some(false));
        assert_eq!(types("PreTrainedTokenizerFast", true), Some(false));
        assert_eq!(types("ElectraTokenizer", true), Some(true));
        assert_eq!(types("ConvBertTokenizer", false), Some(true));
    }
}
