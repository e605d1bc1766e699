//! Shapes of texts and values in error bodies.

use serde_json::Value;

/// Bytes of text that are kept.
pub const TEXT: usize = 16 * 1024;
/// Bytes that a machine word may have.
const WORD: usize = 96;

/// `{}`, `[]`, `null`, `""`.
pub fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Letters and digits in lower case, without Smithy's namespace (`com.amazonaws#Name`) and link (`Name:http://…`).
pub fn as_word(text: &str) -> String {
    let name = text.rsplit('#').next().unwrap_or(text);
    let name = name.split(':').next().unwrap_or(name);
    let kept = front(name, WORD).chars().filter(char::is_ascii_alphanumeric);
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

/// At most `most` bytes from the front, on a boundary of characters.
pub fn front(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Lower case, white space made single.
pub fn normal(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(
            word.chars()
                .flat_map(char::to_lowercase)
                .map(|c| if c == '\u{2019}' { '\'' } else { c }),
        );
    }
    line
}

/// A value as one writes it: strings without quotes.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `"22s"`, `22`, or protobuf's `{"seconds": 22}`.
pub fn delay(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(parts) => parts.get("seconds").map(plain),
        _ => None,
    }
}

/// Whether one of Azure's verdicts is that the content was filtered.
pub fn any_filtered(results: &Value) -> bool {
    let verdicts = results.as_object().into_iter().flat_map(|fields| fields.values());
    verdicts
        .into_iter()
        .any(|verdict| verdict.get("filtered").and_then(Value::as_bool) == Some(true))
}

/// The first JSON object or list inside a text, and the text before it. Python's `b'…\n…'` escapes line ends.
pub fn embedded(text: &str) -> Option<(&str, Value)> {
    let text = front(text, 4 * TEXT);
    let (before, json) = text.split_at_checked(text.find(['{', '['])?)?;
    let first = |json: &str| {
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
        values
            .next()?
            .ok()
            .filter(|value| value.is_object() || value.pointer("/0").is_some_and(Value::is_object))
    };
    let value = first(json).or_else(|| json.contains("\\n").then(|| first(&json.replace("\\n", " ")))?)?;
    Some((before, value))
}

/// A text up to where pydantic, as Python writes its errors, repeats the caller's words.
pub fn without_input(text: &str) -> &str {
    let echoes = [("'loc': (", "'input': "), ("[type=", "input_value=")];
    let echo = |(error, input): (&str, &str)| {
        let from = text.find(error)?;
        text.get(..from + text.get(from..)?.find(input)?)
    };
    echoes.into_iter().find_map(echo).unwrap_or(text)
}

/// The data of the first event with JSON: some servers answer a streaming request with an error's status and an event as its body.
pub fn event(text: &str) -> Option<Value> {
    if !text.starts_with("event:") && !text.starts_with("data:") && !text.starts_with(':') {
        return None;
    }
    let mut data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.find_map(|json| serde_json::from_str(json).ok())
}

/// The title of an HTML page: the rest is for browsers, and its words would mislead.
pub fn page(html: &str) -> String {
    let html = front(html, TEXT);
    let lower = html.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let start = at + lower.get(at..)?.find('>')? + 1;
        let end = start + lower.get(start..)?.find('<')?;
        html.get(start..end)
    });
    match title {
        Some(title) if !title.trim().is_empty() => title.to_owned(),
        _ => "an HTML page without a title".to_owned(),
    }
}
