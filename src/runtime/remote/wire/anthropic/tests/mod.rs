//! Tests of the translation, from whole bodies to whole bodies.

mod answers;
mod fields;
mod requests;
mod streams;

use serde_json::Value;

use super::encode;
use crate::runtime::remote::wire::{Asked, Inexpressible, Target};
use crate::runtime::request::head::{self, Operation};

const MODEL: &str = "claude-sonnet-4-6";

fn encoded_for(body: &str, model: &str, output_limit: Option<u64>) -> Result<Value, Inexpressible> {
    let head = head::read(Operation::Chat, body.as_bytes()).unwrap();
    encode(&head, body.as_bytes(), Target { model, output_limit }).map(|bytes| {
        let text = std::str::from_utf8(&bytes).unwrap();
        serde_json::from_str(text).unwrap()
    })
}

fn encoded(body: &str) -> Result<Value, Inexpressible> {
    encoded_for(body, MODEL, None)
}

/// A chat with one message of the user, and fields.
fn chat(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(r#"{{"model":"assistant","messages":[{{"role":"user","content":"Hi"}}]{comma}{fields}}}"#)
}

/// What fields become, without those that every request has.
fn fields(text: &str) -> Result<Value, Inexpressible> {
    encoded(&chat(text)).map(|mut body| {
        let object = body.as_object_mut().unwrap();
        for always in ["model", "messages", "max_tokens"] {
            object.remove(always).unwrap();
        }
        body
    })
}

fn asked(include_usage: bool) -> Asked {
    Asked {
        id: "chatcmpl-1".into(),
        created: 1_700_000_000,
        model: "assistant".into(),
        include_usage,
        n: 1,
        base64: false,
    }
}
