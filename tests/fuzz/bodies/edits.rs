//! Changes to a valid file that an input asks for, so that not every input ends at a parser's first
//! error.

use serde_json::{Map, Value, json};

use super::input::Input;

/// Most changes to one file.
const MOST: usize = 12;

/// Changes bytes: sets, inserts, removes, copies, cuts off.
pub fn edit_bytes(bytes: &mut Vec<u8>, input: &mut Input) {
    for _ in 0..MOST {
        if input.is_empty() {
            return;
        }
        let kind = input.byte();
        let at = match bytes.len() {
            0 => 0,
            length => (input.short() | usize::from(input.byte()) << 16) % length,
        };
        match kind % 8 {
            0 if !bytes.is_empty() => bytes[at] = input.byte(),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << (input.byte() % 8),
            2 => {
                bytes.splice(at..at, input.piece().iter().copied());
            }
            3 => {
                let end = (at + input.short()).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => bytes.truncate(at),
            5 => {
                let end = (at + usize::from(input.byte())).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = input.short() % (bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            6 => {
                let piece = input.piece();
                let end = (at + piece.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&piece[..end - at]);
            }
            _ => bytes.extend_from_slice(input.piece()),
        }
    }
}

/// Changes values of JSON; `names` are keys that its readers know.
pub fn edit_json(value: &mut Value, input: &mut Input, names: &[&str]) {
    for _ in 0..MOST {
        if input.is_empty() {
            return;
        }
        let mut places = Vec::new();
        collect(value, String::new(), &mut places);
        let place = input.choose(&places).clone();
        match input.byte() % 6 {
            0 | 1 => {
                let new = scalar(input);
                replace(value, &place, new);
            }
            2 => remove(value, &place),
            3 => {
                let from = input.choose(&places);
                let copy = value.pointer(from).cloned().unwrap_or_default();
                replace(value, &place, copy);
            }
            4 => {
                let name = match input.flag() {
                    true => input.choose(names).to_string(),
                    false => input.text(),
                };
                let new = scalar(input);
                match value.pointer_mut(&place) {
                    Some(Value::Object(fields)) => drop(fields.insert(name, new)),
                    Some(Value::Array(items)) => items.push(new),
                    Some(other) => *other = Map::from_iter([(name, new)]).into(),
                    None => {}
                }
            }
            _ => {
                let text = input.text();
                let new = serde_json::from_str(&text).unwrap_or(Value::String(text));
                replace(value, &place, new);
            }
        }
    }
}

/// JSON pointers to all values.
fn collect(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect(field, format!("{place}/{name}"), places);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                collect(item, format!("{place}/{at}"), places);
            }
        }
        _ => {}
    }
    places.push(place);
}

fn replace(value: &mut Value, place: &str, new: Value) {
    if let Some(old) = value.pointer_mut(place) {
        *old = new;
    }
}

fn remove(value: &mut Value, place: &str) {
    let Some((parent, name)) = place.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(&name)),
        Some(Value::Array(items)) => {
            if let Some(at) = name.parse().ok().filter(|at| *at < items.len()) {
                items.remove(at);
            }
        }
        _ => {}
    }
}

/// A value that readers may not expect.
fn scalar(input: &mut Input) -> Value {
    let kind = input.byte();
    let simple = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(7),
        json!(16),
        json!(1_000),
        json!(1_000_000),
        json!(4_294_967_296_u64),
        json!(1_000_000_000_000_u64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(-0.5),
        json!(1e-30),
        json!(1e300),
        json!(-1e300),
        json!(""),
        json!([]),
        json!({}),
        json!("0"),
        json!("1"),
        json!("none"),
        json!([0, 1]),
        json!(["a", "b"]),
        json!("\u{1b}[31m\u{0}\u{feff}é😀"),
    ];
    match simple.get(usize::from(kind)) {
        Some(value) => value.clone(),
        None if kind.is_multiple_of(3) => json!(input.short()),
        None if kind % 3 == 1 => json!(f64::from(input.byte()) / 64.0),
        None => json!(input.text()),
    }
}
