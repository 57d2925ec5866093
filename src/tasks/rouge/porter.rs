//! Porter's stemmer (M. Porter, "An algorithm for suffix stripping", Program 14(3), 1980) with
//! NLTK's default changes (`PorterStemmer.NLTK_EXTENSIONS`):
//!
//! - a few irregular words have given stems;
//! - words of one or two letters stay as they are;
//! - four-letter words in `-ies` and `-ied` keep the `e`, longer ones in `-ied` lose `ed`;
//! - final `y` becomes `i` after a consonant that is not the first letter;
//! - `abli → able` is `bli → ble`; `fulli` and `logi` are suffixes of step 2, and what step 2
//!   leaves of a word in `-alli` goes through it again;
//! - a vowel and a consonant alone count as consonant-vowel-consonant.

/// Words whose stems no rule gives.
const IRREGULAR: [(&str, &str); 16] = [
    ("skies", "sky"),
    ("sky", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("inning", "inning"),
    ("innings", "inning"),
    ("outing", "outing"),
    ("outings", "outing"),
    ("canning", "canning"),
    ("cannings", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Step 2: suffixes and their replacements, if the stem before has a vowel-consonant group. The
/// first suffix that fits counts, so longer ones come first.
const DERIVED: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("biliti", "ble"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("alism", "al"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("ator", "ate"),
    ("entli", "ent"),
    ("ousli", "ous"),
    ("fulli", "ful"),
    ("alli", "al"),
    ("bli", "ble"),
    ("eli", "e"),
];

/// Step 3: suffixes and their replacements, as in step 2.
const ADJECTIVAL: [(&str, &str); 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ness", ""),
    ("ful", ""),
];

/// Step 4: suffixes that are dropped if the stem before has two vowel-consonant groups; `ion` only
/// after `s` or `t`.
const DROPPED: [&str; 19] = [
    "ement", "ment", "ance", "ence", "able", "ible", "ant", "ent", "ion", "ism", "ate", "iti",
    "ous", "ive", "ize", "al", "er", "ic", "ou",
];

/// Stems a word of lower-case ASCII letters and digits in place. Other words stay as they are.
pub(super) fn stem(word: &mut String) {
    let plain = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if word.len() <= 2 || !plain {
        return;
    }
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| irregular == word) {
        word.replace_range(.., stem);
        return;
    }
    plural(word);
    past_or_gerund(word);
    final_y(word);
    derived(word);
    replace_first(word, &ADJECTIVAL);
    dropped(word);
    tidy(word);
}

/// Step 1a.
fn plural(word: &mut String) {
    if word.ends_with("sses") || (word.ends_with("ies") && word.len() != 4) {
        shorten(word, 2);
    } else if word.ends_with("ies") || (word.ends_with('s') && !word.ends_with("ss")) {
        shorten(word, 1);
    }
}

/// Step 1b.
fn past_or_gerund(word: &mut String) {
    if word.ends_with("ied") {
        shorten(word, if word.len() == 4 { 1 } else { 2 });
        return;
    }
    if let Some(before) = word.strip_suffix("eed") {
        if Shape::of(before).groups > 0 {
            shorten(word, 1);
        }
        return;
    }
    let Some(before) = word.strip_suffix("ed").or_else(|| word.strip_suffix("ing")) else {
        return;
    };
    let shape = Shape::of(before);
    if !shape.has_vowel {
        return;
    }
    word.truncate(before.len());
    if ["at", "bl", "iz"].iter().any(|end| word.ends_with(end)) {
        word.push('e');
    } else if ends_double_consonant(word, &shape) {
        if !word.ends_with(['l', 's', 'z']) {
            shorten(word, 1);
        }
    } else if shape.groups == 1 && shape.is_short(word) {
        word.push('e');
    }
}

/// Step 1c.
fn final_y(word: &mut String) {
    if let Some(before) = word.strip_suffix('y')
        && before.len() > 1
        && Shape::of(before).consonants[2]
    {
        shorten(word, 1);
        word.push('i');
    }
}

/// Step 2.
fn derived(word: &mut String) {
    if let Some(before) = word.strip_suffix("logi") {
        // The `l` is part of the stem before.
        if Shape::of(&word[..before.len() + 1]).groups > 0 {
            shorten(word, 1);
        }
        return;
    }
    let adverb = word.ends_with("alli");
    if replace_first(word, &DERIVED) && adverb {
        // `-ationalli` and `-tionalli` lose two suffixes.
        replace_first(word, &DERIVED);
    }
}

/// Step 4.
fn dropped(word: &mut String) {
    for suffix in DROPPED {
        if let Some(before) = word.strip_suffix(suffix) {
            let fits = suffix != "ion" || before.ends_with(['s', 't']);
            if fits && Shape::of(before).groups > 1 {
                word.truncate(before.len());
            }
            return;
        }
    }
}

/// Step 5.
fn tidy(word: &mut String) {
    if let Some(before) = word.strip_suffix('e') {
        let shape = Shape::of(before);
        if shape.groups > 1 || (shape.groups == 1 && !shape.is_short(before)) {
            shorten(word, 1);
        }
    }
    if word.ends_with("ll") && Shape::of(&word[..word.len() - 1]).groups > 1 {
        shorten(word, 1);
    }
}

/// Replaces the first suffix of `rules` that the word has, if the stem before has a vowel-consonant
/// group. Returns whether it did.
fn replace_first(word: &mut String, rules: &[(&str, &str)]) -> bool {
    for (suffix, replacement) in rules {
        if let Some(before) = word.strip_suffix(suffix) {
            let fits = Shape::of(before).groups > 0;
            if fits {
                word.truncate(before.len());
                word.push_str(replacement);
            }
            return fits;
        }
    }
    false
}

fn shorten(word: &mut String, bytes: usize) {
    word.truncate(word.len() - bytes);
}

/// The paper's `*d`: whether a word ends with a double consonant.
fn ends_double_consonant(word: &str, shape: &Shape) -> bool {
    matches!(word.as_bytes(), [.., a, b] if a == b) && shape.consonants[2]
}

/// Properties of a stem that the rules ask for.
struct Shape {
    /// The paper's `m`: the number of vowel-consonant groups.
    groups: usize,
    /// The paper's `*v*`: whether it has a vowel.
    has_vowel: bool,
    /// Whether the third last, second last and last letters are consonants.
    consonants: [bool; 3],
}

impl Shape {
    fn of(piece: &str) -> Self {
        let mut shape = Self { groups: 0, has_vowel: false, consonants: [false; 3] };
        let mut after_vowel = false;
        for (index, byte) in piece.bytes().enumerate() {
            let consonant = match byte {
                b'a' | b'e' | b'i' | b'o' | b'u' => false,
                b'y' => index == 0 || after_vowel,
                _ => true,
            };
            shape.groups += usize::from(consonant && after_vowel);
            shape.has_vowel |= !consonant;
            shape.consonants = [shape.consonants[1], shape.consonants[2], consonant];
            after_vowel = !consonant;
        }
        shape
    }

    /// The paper's `*o`: whether `piece`, whose shape this is, ends in a short syllable.
    fn is_short(&self, piece: &str) -> bool {
        match piece.len() {
            0 | 1 => false,
            2 => !self.consonants[1] && self.consonants[2],
            _ => self.consonants == [true, false, true] && !piece.ends_with(['w', 'x', 'y']),
        }
    }
}
