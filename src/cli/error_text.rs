//! Errors that name options as they are typed, `--max-length`, where the library names settings as
//! recipes do, `max_length`.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use losparse::Error;
use regex::Regex;

/// Settings whose option has another name: setting and option.
const RENAMED: [(&str, &str); 4] = [
    ("summarization.max_length", "max_summary_length"),
    ("summarization.min_length", "min_summary_length"),
    ("summarization.max_source_length", "max_length"),
    ("max_source_length", "max_length"),
];

/// A name of several words between blanks and punctuation. Names in quotes are the user's and stay.
static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(^|[ (])([a-z][a-z0-9]*(?:_[a-z0-9]+)+)([ ,;:)]|\. |\.?$)").ok());

/// The options of the command that runs.
pub struct TypedOptions {
    /// Names as in recipes, and whether each was typed.
    options: Vec<(String, bool)>,
    /// The recipe file of the command: its settings keep their names.
    recipe: Option<PathBuf>,
}

impl TypedOptions {
    /// The options of the subcommand of `command` that `matches` chose.
    pub fn of(command: &Command, matches: &ArgMatches) -> Self {
        let chosen = matches.subcommand();
        let chosen = chosen.and_then(|(name, given)| Some((command.find_subcommand(name)?, given)));
        let Some((command, given)) = chosen else {
            return Self { options: vec![], recipe: None };
        };
        let typed = |id: &str| {
            use ValueSource::{CommandLine, EnvVariable};
            matches!(given.value_source(id), Some(CommandLine | EnvVariable))
        };
        let options: Vec<(String, bool)> = command
            .get_arguments()
            .filter_map(|arg| {
                Some((arg.get_long()?.replace('-', "_"), typed(arg.get_id().as_str())))
            })
            .collect();
        let recipe = given.try_get_one::<PathBuf>("recipe").ok().flatten().cloned();
        Self { options, recipe }
    }

    /// The text of `error`, with options as they are typed.
    pub fn describe(&self, error: &anyhow::Error) -> String {
        match error.downcast_ref() {
            Some(Error::Option { option, message }) if error.chain().count() == 1 => {
                let message = self.with_options(message);
                match self.option(&option.replace(' ', "_")) {
                    Some(typed) => format!("option {typed}: {message}"),
                    None => format!("{}option {option}: {message}", self.recipe_of(option)),
                }
            }
            _ => format!("{error:#}"),
        }
    }

    /// The beginning of a message about `option`: the recipe file, if that sets it.
    fn recipe_of(&self, option: &str) -> String {
        let setting = option.rsplit('.').next().unwrap_or(option);
        let sets = |line: &str| line.trim_start().starts_with(setting);
        let text =
            self.recipe.as_ref().and_then(|file| Some((file, fs::read_to_string(file).ok()?)));
        match text {
            Some((file, text)) if text.lines().any(sets) => format!("{}: ", file.display()),
            _ => String::new(),
        }
    }

    /// A message with settings replaced by options as they are typed.
    fn with_options(&self, message: &str) -> String {
        let Some(name) = NAME.as_ref() else { return message.to_string() };
        let option = |found: &regex::Captures| match self.option(&found[2]) {
            Some(typed) => format!("{}{typed}{}", &found[1], &found[3]),
            None => found[0].to_string(),
        };
        name.replace_all(message, option).into_owned()
    }

    /// `--max-length` for `max_length`; `None` if the command has no such option or its recipe sets
    /// it.
    fn option(&self, setting: &str) -> Option<String> {
        let renamed = RENAMED.iter().find(|(name, _)| *name == setting).map(|(_, flag)| *flag);
        let name = renamed.unwrap_or(setting.strip_prefix("summarization.").unwrap_or(setting));
        let (name, typed) = self.options.iter().find(|(known, _)| known == name)?;
        (*typed || self.recipe.is_none()).then(|| format!("--{}", name.replace('_', "-")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::CommandFactory;

    fn said(args: &[&str], option: &str, message: &str) -> String {
        let mut command = Cli::command();
        command.build();
        let matches = command.clone().get_matches_from([&["losparse"], args].concat());
        TypedOptions::of(&command, &matches).describe(&Error::option(option, message).into())
    }

    #[test]
    fn options_are_called_as_they_are_typed() {
        let predict = ["predict", "m", "a"];
        for (option, flag) in [
            ("max_length", "--max-length"),
            ("max_source_length", "--max-length"),
            ("summarization.max_length", "--max-summary-length"),
            ("summarization.num_beams", "--num-beams"),
            ("num_beams", "--num-beams"),
            ("pair", "--pair"),
            ("threads", "--threads"),
            ("TEXT", "TEXT"),
            ("max_target_length", "max_target_length"),
            ("grid.method", "grid.method"),
        ] {
            assert_eq!(said(&predict, option, "no"), format!("option {flag}: no"));
        }
        let message =
            "3 is more than max_length, 2; \"max_length\" num_beams_x (num_beams). n_best";
        let wanted =
            "3 is more than --max-length, 2; \"max_length\" num_beams_x (--num-beams). --n-best";
        assert_eq!(said(&predict, "text", message), format!("option --text: {wanted}"));
        let compress = ["compress", "m", "-o", "x"];
        assert_eq!(said(&compress, "final warmup steps", "no"), "option --final-warmup-steps: no");
        assert_eq!(said(&compress, "task", "no"), "option --task: no");
        assert_eq!(said(&["study", "x", "-o", "y"], "ratio", "no"), "option ratio: no");
    }

    #[test]
    fn a_recipe_keeps_its_own_words_beside_those_typed() {
        let recipe = ["compress", "m", "-o", "x", "--recipe", "r.toml", "--lr", "1"];
        assert_eq!(said(&recipe, "ratio", "no"), "option ratio: no");
        assert_eq!(said(&recipe, "learning_rate", "no"), "option --learning-rate: no");
        assert_eq!(
            said(&recipe, "summarization.max_length", "no"),
            "option summarization.max_length: no"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.toml").display().to_string();
        std::fs::write(&file, "[training]\nlearning_rate = nan\n").unwrap();
        let recipe = ["compress", "m", "-o", "x", "--recipe", &file];
        let wanted = format!("{file}: option learning_rate: no");
        assert_eq!(said(&recipe, "learning_rate", "no"), wanted);
        assert_eq!(said(&recipe, "epochs", "no"), "option epochs: no");
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        let options = TypedOptions { options: vec![("max_length".into(), true)], recipe: None };
        let error = Error::format("f.csv", "no column; the columns are: max_length, x");
        assert_eq!(
            options.describe(&error.into()),
            "f.csv: no column; the columns are: max_length, x"
        );
    }
}
