//! What a working provider says, and what it counts.
//!
//! Counting rule, the same in every format, so that tests know the usage exactly:
//! - input: the words (by white space) of every text of the prompt, system and tool results included, and [`IMAGE`] for each image or file;
//! - cached input and input written to a cache: [`Manner`]'s numbers on top of that;
//! - output: the words of the answer, 1 for each call of a tool, and the reasoning of [`Manner`] on top.

use std::{fmt::Write, time::Duration};

use serde_json::{Map, Value, json};

/// Input tokens of an image or a file.
pub const IMAGE: u64 = 100;

/// How a working provider answers.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The only format served; all when absent.
    pub format: Option<super::Format>,
    /// The only key accepted; any when absent.
    pub key: Option<String>,
    /// Words of an answer.
    pub tokens: u64,
    /// Between two words of a stream.
    pub pace: Duration,
    /// Input tokens read from a cache.
    pub cached: u64,
    /// Input tokens written to a cache; reported by Anthropic and LiteLLM only.
    pub cache_write: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            format: None,
            key: None,
            tokens: 3,
            pace: Duration::ZERO,
            cached: 0,
            cache_write: 0,
            reasoning: 0,
        }
    }
}

/// What any format's request asks for.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    pub max: Option<u64>,
    pub stop: Vec<String>,
    /// The tool that must be called, and the schema of its arguments.
    pub tool: Option<(String, Value)>,
    /// The schema of the answer.
    pub schema: Option<Value>,
    pub answers: usize,
    pub input: u64,
}

/// Why the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    End,
    Stop,
    Length,
    Tool,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Said {
    /// The pieces of the text.
    pub words: Vec<String>,
    /// A call of a tool: name and arguments.
    pub call: Option<(String, Value)>,
    pub finish: Finish,
    /// The stop sequence that ended it.
    pub stopped_by: Option<String>,
}

impl Said {
    pub fn text(&self) -> String {
        self.words.concat()
    }

    /// Output tokens without reasoning.
    pub fn tokens(&self) -> u64 {
        self.words.len() as u64 + u64::from(self.call.is_some())
    }
}

/// The text of an answer of so many words.
pub fn words(count: u64) -> String {
    pieces(count).concat()
}

fn pieces(count: u64) -> Vec<String> {
    let piece = |n| if n == 1 { "w1".to_owned() } else { format!(" w{n}") };
    (1..=count).map(piece).collect()
}

/// The answer to a prompt.
pub fn say(prompt: &Prompt, manner: &Manner) -> Said {
    if let Some((name, schema)) = &prompt.tool {
        return Said {
            words: vec![],
            call: Some((name.clone(), example(schema))),
            finish: Finish::Tool,
            stopped_by: None,
        };
    }
    let mut words = match &prompt.schema {
        Some(schema) => vec![example(schema).to_string()],
        None => pieces(manner.tokens),
    };
    let mut finish = Finish::End;
    if let Some(max) = prompt.max.and_then(|max| usize::try_from(max).ok())
        && words.len() > max
    {
        words.truncate(max);
        finish = Finish::Length;
    }
    let found = words
        .iter()
        .position(|word| prompt.stop.iter().any(|stop| word.contains(stop.as_str())));
    let stopped_by = found.and_then(|at| {
        let word = words.get(at).cloned().unwrap_or_default();
        words.truncate(at);
        prompt.stop.iter().find(|stop| word.contains(stop.as_str())).cloned()
    });
    Said {
        words,
        call: None,
        finish: if stopped_by.is_some() { Finish::Stop } else { finish },
        stopped_by,
    }
}

/// A value that a JSON schema admits: every property, each as plain as can be.
pub fn example(schema: &Value) -> Value {
    let kind = schema["type"].as_str().map(str::to_lowercase);
    match kind.as_deref() {
        Some("string") => schema["enum"].get(0).cloned().unwrap_or_else(|| json!("w1")),
        Some("integer") => json!(1),
        Some("number") => json!(0.5),
        Some("boolean") => json!(true),
        Some("array") => json!([example(&schema["items"])]),
        _ => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            let made: Map<String, Value> = properties.iter().map(|(name, s)| (name.clone(), example(s))).collect();
            Value::Object(made)
        }
    }
}

/// Input tokens of every text below `value`, found under the names that formats use for text.
pub fn count(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => {
            let is_image = ["image_url", "source", "inlineData", "fileData", "file"];
            let image = fields.keys().any(|name| is_image.contains(&name.as_str()));
            let named = ["text", "content", "parts", "functionResponse", "response", "result"];
            let text: u64 = fields
                .iter()
                .filter(|(name, _)| named.contains(&name.as_str()))
                .map(|(_, inner)| count(inner))
                .sum();
            text + if image { IMAGE } else { 0 }
        }
        _ => 0,
    }
}

/// A vector for a text: its bytes, folded into so many numbers.
pub fn embedding(text: &str, dimensions: usize) -> Vec<f64> {
    let mut vector = vec![0_f64; dimensions.max(1)];
    let length = vector.len();
    for (at, byte) in text.bytes().enumerate() {
        if let Some(number) = vector.get_mut(at % length) {
            *number += f64::from(byte) / 256.0;
        }
    }
    vector
}

/// A server-sent event.
pub fn event(name: Option<&str>, data: &Value) -> String {
    let mut text = String::new();
    if let Some(name) = name {
        // A string takes whatever is written to it.
        let _ = writeln!(text, "event: {name}");
    }
    text + &format!("data: {data}\n\n")
}
