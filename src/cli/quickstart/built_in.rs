//! Models of the repository's `models/` folder that are built into the program.

use losparse::tasks::MetricKind;

/// Names of the built-in models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Model {
    /// A small BERT that tells good film reviews from bad
    #[default]
    #[value(name = "movie-sentiment")]
    MovieSentiment,
    /// A small BART that writes how English words are pronounced
    #[value(name = "g2p-bart")]
    G2pBart,
}

impl Model {
    /// The model of this name.
    pub fn built_in(self) -> &'static BuiltIn {
        match self {
            Self::MovieSentiment => &MOVIE_SENTIMENT,
            Self::G2pBart => &G2P_BART,
        }
    }
}

/// A model with its data and recipe, and what the quick start shows of them.
pub struct BuiltIn {
    /// Its name, and the name of the folder it is unpacked to.
    pub name: &'static str,
    /// Description, as the beginning of a sentence.
    pub about: &'static str,
    /// The model folder's files, `train.tsv` and `dev.tsv`, and the data's licence.
    pub files: &'static [(&'static str, &'static [u8])],
    /// `recipe.toml`; the paths of model and data are set later.
    pub recipe: &'static str,
    /// The metrics to show, each with its name for people.
    pub metrics: &'static [(MetricKind, &'static str)],
    /// Work to time.
    pub timed: Timed,
    /// Texts to try the compressed model on.
    pub texts: &'static [&'static str],
    /// A text for the user to try next.
    pub own_text: &'static str,
    /// Options that name the columns of the user's own data.
    pub own_columns: &'static str,
}

/// Work to time.
#[derive(Debug, Clone, Copy)]
pub enum Timed {
    /// A forward pass over a batch: `[texts, tokens]`.
    Pass([usize; 2]),
    /// Generation of the answers to the first texts of the evaluation data, in one batch of this
    /// size.
    Write(usize),
}

/// Files of a folder of `models/`, and after `;` those of its folder `data`, by their names.
macro_rules! files {
    ($model:literal: $($file:literal),*; $($data:literal),*) => {
        &[
            $(($file, include_bytes!(concat!("../../../models/", $model, "/", $file))),)*
            $(($data, include_bytes!(concat!("../../../models/", $model, "/data/", $data))),)*
        ]
    };
}

static MOVIE_SENTIMENT: BuiltIn = BuiltIn {
    name: "movie-sentiment",
    about: "A small BERT (2 layers, width 384) rates film reviews",
    files: files!(
        "movie-sentiment": "config.json", "model.safetensors", "tokenizer.json";
        "train.tsv", "dev.tsv", "LICENSE"
    ),
    recipe: include_str!("../../../models/movie-sentiment/recipe.toml"),
    metrics: &[(MetricKind::Accuracy, "accuracy on held-out sentences")],
    timed: Timed::Pass([32, 32]),
    texts: &[
        "A quiet, funny and deeply moving film.",
        "Two hours that feel like five, and not one laugh.",
        "The plot is thin, but the two leads carry it with charm.",
        "It wants to be profound and ends up merely loud.",
    ],
    own_text: "your own sentence",
    own_columns: "--text COLUMN --label COLUMN",
};

static G2P_BART: BuiltIn = BuiltIn {
    name: "g2p-bart",
    about: "A small BART (2 + 2 layers, width 128) writes how words are pronounced",
    files: files!(
        "g2p-bart": "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json";
        "train.tsv", "dev.tsv", "LICENSE"
    ),
    recipe: include_str!("../../../models/g2p-bart/recipe.toml"),
    metrics: &[
        (MetricKind::WordAccuracy, "held-out words all right"),
        (MetricKind::PhonemeErrorRate, "phoneme error rate (less is better)"),
    ],
    timed: Timed::Write(64),
    // The first five are held out with their pronunciations, the last is in no dictionary.
    texts: &["werewolf", "mirror", "enchanter", "elongation", "papadakis", "losparse"],
    own_text: "yourword",
    own_columns: "--task g2p --document COLUMN --summary COLUMN",
};
