//! The most that a request can use under a budget, proved or refused (design section 8).
//!
//! A token stands for at least one byte of text, and JSON never writes a text shorter than it is: the bytes of the whole body bound the
//! input tokens of everything written in it. Servers show models what they have taken apart and written again: a space after each
//! separator, and definitions of tools over indented lines, count as well, and [`frame`] for what a provider writes around it all.
//! What is not written in the body (images, files) counts as the backend's context length. Fields whose cost is not known are refused
//! by name, each provider's its own ([`fields`]).

mod content;
mod fields;
mod json;
mod media;
mod tools;

use content::{Media, cache_control, messages, texts, twice, unknown};
use fields::{Met, Rule, rule};
pub use json::objects;
use json::{Steps, growth, separators};
use tools::{functions, tools};

use super::head::{Head, Operation};
use crate::{
    api::{NanoUsd, RemoteProvider},
    policy::pricing::Prices,
};

/// The output limit of requests that name none, when `serving.defaultMaxTokens` does not set one.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 4_096;

/// Tokens that a provider writes around a prompt: markers of roles, what it tells the model about tools, its own first words. The
/// servers behind the last two are anybody's, with templates that begin with a page of text.
const fn frame(provider: RemoteProvider) -> u64 {
    match provider {
        RemoteProvider::OpenAI | RemoteProvider::AzureOpenAI | RemoteProvider::Anthropic | RemoteProvider::Gemini => {
            1_024
        }
        RemoteProvider::LiteLLM | RemoteProvider::OpenAICompatible => 2_048,
    }
}

/// The request has no proved bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct Unbounded {
    /// The field, as a path.
    pub field: String,
    /// Why and what to do.
    pub message: String,
}

/// What of a backend decides how much a request can use there.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whose API it is.
    pub provider: RemoteProvider,
    /// Tokens of context a request may have.
    pub context_length: Option<u32>,
    /// Input that is written to a cache has a price.
    pub cache_write: bool,
    /// Output tokens of requests that name no limit.
    pub default_limit: u64,
}

/// The most that a request can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Input tokens of all prompts.
    pub input: u64,
    /// Output tokens of one answer to each prompt.
    pub output: u64,
    /// Answers to each prompt.
    pub answers: u64,
}

impl Bound {
    /// What that costs.
    pub fn worst_case(&self, prices: &Prices) -> Result<NanoUsd, Unbounded> {
        let most = prices.worst_case(self.input, self.output, self.answers);
        most.ok_or_else(too_much)
    }
}

/// Proves the bound of a request whose head was read.
pub fn bound(head: &Head, body: &[u8], terms: &Terms) -> Result<Bound, Unbounded> {
    let mut scan = Scan::default();
    let mut met = Met::default();
    let mut steps = Steps::new(body);
    steps.enter(b'{');
    while steps.more(b'}') {
        let name = steps.name();
        let (at, rule) = rule(head.operation, terms.provider, name).ok_or_else(|| unknown(name))?;
        if !met.first(at) {
            return Err(twice(name));
        }
        scan.field(rule, name, &mut steps, terms)?;
    }
    let output = match head.operation {
        Operation::Embeddings => 0,
        Operation::Chat | Operation::Completions => head.output_limit.unwrap_or(terms.default_limit),
    };
    Ok(Bound {
        input: scan.input(body, terms)?,
        output: output.checked_mul(scan.prompts.max(1)).ok_or_else(too_much)?,
        answers: head.n,
    })
}

/// What was found in the fields.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes that what is written again grows by.
    growth: u64,
    media: Media,
    prompts: u64,
}

impl Scan {
    fn field(&mut self, rule: Rule, name: &[u8], steps: &mut Steps<'_>, terms: &Terms) -> Result<(), Unbounded> {
        match rule {
            Rule::Messages => self.media = messages(steps, terms)?,
            Rule::Texts => self.prompts = texts(steps, name)?,
            Rule::CacheControl => cache_control(steps, terms, || text_of(name))?,
            Rule::Only(values) => only(name, steps.value(), values)?,
            Rule::Limit => limit(name, steps.value())?,
            Rule::Tools => {
                let list = steps.value();
                tools(list, terms)?;
                self.rewritten(list);
            }
            Rule::Functions => {
                let list = steps.value();
                functions(list)?;
                self.rewritten(list);
            }
            Rule::Rewritten => self.rewritten(steps.value()),
            Rule::Free => {
                steps.value();
            }
        }
        Ok(())
    }

    fn rewritten(&mut self, json: &[u8]) {
        self.growth = self.growth.saturating_add(growth(json));
    }

    fn input(&self, body: &[u8], terms: &Terms) -> Result<u64, Unbounded> {
        let written = (body.len() as u64).saturating_sub(self.media.bytes);
        let text = written
            .saturating_add(separators(body))
            .saturating_add(self.growth)
            .saturating_add(frame(terms.provider));
        let Some(first) = &self.media.first else {
            return Ok(text);
        };
        let length = terms.context_length.ok_or_else(|| {
            let message = "is no text; under a budget that needs contextLength in the backend's spec";
            refused(first, message)
        })?;
        Ok(text.max(u64::from(length)))
    }
}

/// How many prompts the value of `prompt` holds; one where that is not known.
#[must_use]
pub fn prompts(value: &[u8]) -> u64 {
    texts(&mut Steps::new(value), b"prompt").unwrap_or(1)
}

/// Fields that are allowed with values of known cost only, however they are spaced.
fn only(name: &[u8], value: &[u8], values: &[&str]) -> Result<(), Unbounded> {
    let given = || value.iter().filter(|byte| !byte.is_ascii_whitespace());
    if values.iter().any(|value| given().eq(value.as_bytes())) {
        return Ok(());
    }
    let message = format!(
        "must be {} under a budget: other values have another price",
        values.join(" or ")
    );
    Err(refused(text_of(name), message))
}

fn limit(name: &[u8], value: &[u8]) -> Result<(), Unbounded> {
    if value == b"0" {
        let message = "must be at least 1 under a budget: some servers take 0 for no limit";
        return Err(refused(text_of(name), message));
    }
    Ok(())
}

fn too_much() -> Unbounded {
    refused("max_tokens", "is more than can be paid for")
}

fn refused(field: impl Into<String>, message: impl Into<String>) -> Unbounded {
    Unbounded {
        field: field.into(),
        message: message.into(),
    }
}

/// A field's name for people.
fn text_of(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
