//! Questions, and how SQuAD's JSON holds them. It is parsed question by question, so that errors can
//! name question and field.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A right answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QaAnswer {
    /// The answer as in the context; never empty.
    pub text: String,
    /// Its first character, in Unicode characters from the start of the context; `None` if the file
    /// does not tell (−1 or null).
    pub start: Option<usize>,
}

/// A question about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QaExample {
    /// The question's id in the file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text that holds the answer; questions about the same text share it.
    pub context: Arc<str>,
    /// Right answers; empty if the context holds none, or the file gives none.
    pub answers: Vec<QaAnswer>,
}

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Asked>,
}

/// A question as soon as it is read: its JSON takes several times the memory.
#[derive(Deserialize)]
#[serde(from = "Map<String, Value>")]
struct Asked(Result<Question, Fault>);

struct Question {
    id: String,
    question: String,
    answers: Vec<QaAnswer>,
    /// Whether it has answers but none with text.
    empty: bool,
}

/// Error in a question, with the question's id if that is readable.
struct Fault {
    id: Option<String>,
    message: String,
}

impl From<Map<String, Value>> for Asked {
    fn from(mut fields: Map<String, Value>) -> Self {
        let id = match id(&fields) {
            Ok(id) => id,
            Err(message) => return Self(Err(Fault { id: None, message })),
        };
        let question = match fields.remove("question") {
            Some(Value::String(question)) => Ok(question),
            other => Err(wrong("question", other.as_ref(), "a text")),
        };
        let read = question.and_then(|question| Ok((question, answers(&fields)?)));
        Self(match read {
            Ok((question, (answers, empty))) => Ok(Question { id, question, answers, empty }),
            Err(message) => Err(Fault { id: Some(id), message }),
        })
    }
}

/// All questions of a file, each with whether it has answers but none with text.
pub(super) fn questions(json: &str) -> Result<Vec<(QaExample, bool)>, String> {
    let file: File = serde_json::from_str(json)
        .map_err(|e| format!("not SQuAD's JSON (data, paragraphs, context, qas): {e}"))?;
    let mut questions = Vec::new();
    for paragraph in file.data.into_iter().flat_map(|article| article.paragraphs) {
        let context: Arc<str> = paragraph.context.into();
        for Asked(asked) in paragraph.qas {
            let Question { id, question, answers, empty } = asked.map_err(|fault| {
                let number = || format!("number {}", questions.len() + 1);
                format!("question {}: {}", fault.id.unwrap_or_else(number), fault.message)
            })?;
            let context = context.clone();
            questions.push((QaExample { id, question, context, answers }, empty));
        }
    }
    Ok(questions)
}

/// The message about a field that is missing or not as `wanted`.
fn wrong(field: &str, value: Option<&Value>, wanted: &str) -> String {
    match value {
        None => format!("{field} is missing"),
        Some(value) => {
            let shown: String = value.to_string().chars().take(60).collect();
            format!("{field}: {shown} is not {wanted}")
        }
    }
}

fn id(fields: &Map<String, Value>) -> Result<String, String> {
    match fields.get("id") {
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        other => Err(wrong("id", other, "a text or a number")),
    }
}

/// A question's answers with text, and whether it has answers but none with text.
fn answers(fields: &Map<String, Value>) -> Result<(Vec<QaAnswer>, bool), String> {
    match fields.get("is_impossible") {
        None | Some(Value::Null | Value::Bool(false)) => {}
        // An impossible question has no answers, whatever the file lists.
        Some(Value::Bool(true)) => return Ok((vec![], false)),
        other => return Err(wrong("is_impossible", other, "true or false")),
    }
    let items = match fields.get("answers") {
        None | Some(Value::Null) => return Ok((vec![], false)),
        Some(Value::Array(items)) => items,
        other => return Err(wrong("answers", other, "a list of objects")),
    };
    let mut answers = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let field = |name: &str| format!("answers[{at}].{name}");
        let Value::Object(item) = item else {
            return Err(wrong(&format!("answers[{at}]"), Some(item), "an object"));
        };
        let text = match item.get("text") {
            Some(Value::String(text)) => text.clone(),
            other => return Err(wrong(&field("text"), other, "a text")),
        };
        if text.trim().is_empty() {
            continue;
        }
        let start = start(item.get("answer_start"))
            .map_err(|value| wrong(&field("answer_start"), Some(value), "a whole number"))?;
        answers.push(QaAnswer { text, start });
    }
    let empty = answers.is_empty() && !items.is_empty();
    Ok((answers, empty))
}

/// The start of an answer; `None` if the file does not tell it: missing, null or negative.
fn start(value: Option<&Value>) -> Result<Option<usize>, &Value> {
    let Some(value) = value else { return Ok(None) };
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<u32>().ok().map(f64::from),
        _ => None,
    };
    match number.filter(|number| number.fract() == 0.0 && number.abs() < f64::from(u32::MAX)) {
        Some(number) => Ok((number >= 0.0).then_some(number as usize)),
        None => Err(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(question: &str) -> Result<(QaExample, bool), String> {
        let file = format!(
            r#"{{"data": [{{"paragraphs": [{{"context": "The cat sleeps.", "qas": [{question}]}}]}}]}}"#
        );
        questions(&file).map(|mut questions| questions.remove(0))
    }

    fn with(fields: &str) -> Result<(QaExample, bool), String> {
        parse(&format!(r#"{{"question": "Who?", {fields}}}"#))
    }

    #[test]
    fn ids_may_be_numbers_and_starts_may_be_unknown() {
        let id = |fields: &str| with(fields).unwrap().0.id;
        assert_eq!(id(r#""id": 388140"#), "388140");
        assert_eq!(id(r#""id": "x", "answers": null"#), "x");
        for (start, wanted) in [
            ("4", Some(4)),
            ("4.0", Some(4)),
            ("\"4\"", Some(4)),
            ("0", Some(0)),
            ("-1", None),
            ("null", None),
        ] {
            let answers = format!(r#"[{{"text": "cat", "answer_start": {start}}}]"#);
            let (found, empty) = with(&format!(r#""id": 1, "answers": {answers}"#)).unwrap();
            assert_eq!(found.answers, [QaAnswer { text: "cat".into(), start: wanted }], "{start}");
            assert!(!empty);
        }
        let (found, _) = with(r#""id": 1, "answers": [{"text": "cat"}]"#).unwrap();
        assert_eq!(found.answers[0].start, None);
    }

    #[test]
    fn answers_without_text_are_ignored() {
        let (found, empty) =
            with(r#""id": 1, "answers": [{"text": " ", "answer_start": 0}]"#).unwrap();
        assert!(found.answers.is_empty() && empty);
        let both = r#""id": 1, "answers": [{"text": "", "answer_start": -1},
            {"text": "cat", "answer_start": 4}]"#;
        let (found, empty) = with(both).unwrap();
        assert_eq!((found.answers.len(), empty), (1, false));
        assert!(!with(r#""id": 1, "answers": []"#).unwrap().1);
    }

    #[test]
    fn answers_to_impossible_questions_are_ignored() {
        for answers in [
            "null",
            "7",
            r#"[{"text": "", "answer_start": -1}]"#,
            r#"[{"text": null, "answer_start": "x"}]"#,
            r#"[{"text": "cat", "answer_start": 4}]"#,
        ] {
            let fields = format!(r#""id": 1, "is_impossible": true, "answers": {answers}"#);
            let (found, empty) = with(&fields).unwrap();
            assert!(found.answers.is_empty() && !empty, "{answers}");
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (question, wanted) in [
            (r#"{"question": "Who?"}"#, "question number 1: id is missing"),
            (r#"{"id": [1], "question": "Who?"}"#, "question number 1: id: [1] is not a text or"),
            (r#"{"id": "a"}"#, "question a: question is missing"),
            (r#"{"id": "a", "question": 3}"#, "question a: question: 3 is not a text"),
            (
                r#"{"id": "a", "question": "?", "is_impossible": "true"}"#,
                "question a: is_impossible: \"true\" is not true or false",
            ),
            (
                r#"{"id": "a", "question": "?", "answers": {"text": ["cat"]}}"#,
                "question a: answers: {\"text\":[\"cat\"]} is not a list",
            ),
            (
                r#"{"id": "a", "question": "?", "answers": [{"answer_start": 1}]}"#,
                "question a: answers[0].text is missing",
            ),
            (
                r#"{"id": "a", "question": "?", "answers": [{"text": "cat", "answer_start": 1.5}]}"#,
                "question a: answers[0].answer_start: 1.5 is not a whole number",
            ),
            (
                r#"{"id": "a", "question": "?", "answers": [{"text": "cat", "answer_start": 1e300}]}"#,
                "answers[0].answer_start: 1e+300 is not a whole number",
            ),
        ] {
            let error = parse(question).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
        for (file, wanted) in [
            ("[]", "not SQuAD's JSON"),
            (r#"{"data": [{"id": "a", "context": "c"}]}"#, "missing field `paragraphs`"),
            (r#"{"data": [{"paragraphs": [{"qas": []}]}]}"#, "missing field `context`"),
            (r#"{"data": [{"paragraphs": [{"context": "c"}]}]}"#, "missing field `qas`"),
        ] {
            let error = questions(file).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
