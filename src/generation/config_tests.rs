use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn settings_are_those_of_generation_config_or_of_config() {
    let model = r#"{"model_type": "bart", "num_beams": 4, "early_stopping": "never",
        "decoder_start_token_id": 2, "eos_token_id": [2, 3], "bos_token_id": 0,
        "force_bos_token_to_be_generated": true, "min_length": null}"#;
    let only = folder(&[("config.json", model)]);
    let config = GenerationConfig::from_folder(only.path()).unwrap();
    assert_eq!((config.num_beams, config.min_length), (Some(4), None));
    assert_eq!(config.early_stopping, Some(EarlyStopping::Never));
    assert_eq!(config.forced_bos_token_id, Some(0));

    let own = r#"{"num_beams": 6, "bos_token_id": 7}"#;
    let both = folder(&[("config.json", model), ("generation_config.json", own)]);
    let config = GenerationConfig::from_folder(both.path()).unwrap();
    assert_eq!((config.num_beams, config.early_stopping), (Some(6), None));
    assert_eq!((config.bos_token_id, config.decoder_start_token_id), (Some(7), Some(2)));
    assert_eq!(config.eos_token_id, Some(TokenIds::Many(vec![2, 3])));

    let mine = GenerationConfig { num_beams: Some(1), ..GenerationConfig::default() };
    let merged = mine.or(&config);
    assert_eq!((merged.num_beams, merged.bos_token_id), (Some(1), Some(7)));
    let text = serde_json::to_string(&merged).unwrap();
    assert_eq!(serde_json::from_str::<GenerationConfig>(&text).unwrap(), merged);

    let damaged = folder(&[("config.json", "{"), ("generation_config.json", own)]);
    let error = GenerationConfig::from_folder(damaged.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}

#[test]
fn lengths_count_the_start_token() {
    let config = GenerationConfig { bos_token_id: Some(0), ..GenerationConfig::default() };
    let lengths = |config: GenerationConfig, model| {
        config.resolve(9, model).map(|r| (r.min_length, r.max_length))
    };
    assert_eq!(lengths(config.clone(), 100).unwrap(), (0, 21));
    assert_eq!(lengths(config.clone(), 15).unwrap(), (0, 15));
    let new = GenerationConfig {
        max_new_tokens: Some(15),
        max_length: Some(99),
        min_new_tokens: Some(3),
        min_length: Some(9),
        ..config
    };
    assert_eq!(lengths(new.clone(), 15).unwrap(), (4, 16));
    assert!(lengths(new, 14).is_err());
}

#[test]
fn what_is_open_is_as_in_transformers() {
    let nothing = GenerationConfig::default().completed();
    assert_eq!((nothing.longest(), nothing.shortest()), (Some(21), 0));
    assert_eq!((nothing.num_beams, nothing.no_repeat_ngram_size), (Some(1), Some(0)));
    let some = GenerationConfig {
        max_length: Some(60),
        min_new_tokens: Some(5),
        num_beams: Some(4),
        ..GenerationConfig::default()
    };
    let some = some.completed();
    assert_eq!((some.longest(), some.shortest(), some.num_beams), (Some(60), 6, Some(4)));
}

#[test]
fn what_is_beyond_the_model_is_refused() {
    let config = GenerationConfig { bos_token_id: Some(0), ..GenerationConfig::default() };
    let error = |config: GenerationConfig| config.resolve(9, 30).unwrap_err().to_string();
    let beams = GenerationConfig { num_beams: Some(1_000_000_000), ..config.clone() };
    assert!(error(beams).contains("option num_beams: 1000000000 beams are more than"));
    for penalty in [f64::NAN, f64::INFINITY, 1e300, -1e300, 60.0] {
        let penalty_of = |num_beams| GenerationConfig {
            num_beams: Some(num_beams),
            length_penalty: Some(penalty),
            ..config.clone()
        };
        // Greedy decoding divides by nothing.
        assert_eq!(penalty_of(1).resolve(9, 30).is_ok(), penalty.is_finite());
        let config = penalty_of(2);
        assert!(error(config).contains("option length_penalty"), "{penalty}");
    }
    let long = GenerationConfig { max_new_tokens: Some(usize::MAX), ..config };
    assert!(error(long).contains("option max_length"));
}

#[test]
fn settings_that_are_not_supported_are_named_with_their_file() {
    for (setting, name) in [
        (r#""do_sample": true"#, "do_sample"),
        (r#""diversity_penalty": 0.5"#, "diversity_penalty"),
        (r#""bad_words_ids": [[3]]"#, "bad_words_ids"),
        (r#""dola_layers": "high""#, "dola_layers"),
    ] {
        let own = format!("{{{setting}}}");
        let folder = folder(&[("config.json", "{}"), ("generation_config.json", &own)]);
        let error = GenerationConfig::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("generation_config.json: "), "{error}");
        assert!(error.contains(&format!("{name} is not supported")), "{error}");
    }
    let harmless = r#"{"do_sample": false, "bad_words_ids": null, "sequence_bias": {},
        "num_beam_groups": 1, "diversity_penalty": 0.0, "top_k": 50, "temperature": 0.7}"#;
    let folder = folder(&[("config.json", "{}"), ("generation_config.json", harmless)]);
    GenerationConfig::from_folder(folder.path()).unwrap();
}
