//! OpenAI's chat request as it is read: every documented field, and those of Anthropic that clients may add.
//!
//! Messages and parts are flat structs, not enums by role and type: nothing is buffered, so images stay borrowed.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Text;
use super::named::Object;

/// JSON that is passed on or looked at later.
pub(super) type Raw<'a> = Option<&'a RawValue>;

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Chat<'a> {
    #[serde(rename = "model")]
    _model: serde::de::IgnoredAny,
    #[serde(borrow)]
    pub messages: Vec<Object<Message<'a>>>,
    pub stream: Option<bool>,
    #[serde(rename = "stream_options")]
    _stream_options: Option<Object<StreamOptions>>,
    #[serde(rename = "max_tokens")]
    _max_tokens: Option<u64>,
    #[serde(rename = "max_completion_tokens")]
    _max_completion_tokens: Option<u64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
    #[serde(borrow)]
    pub stop: Option<Stop<'a>>,
    #[serde(borrow)]
    pub tools: Option<Vec<Object<Tool<'a>>>>,
    #[serde(borrow)]
    pub tool_choice: Option<ToolChoice<'a>>,
    pub parallel_tool_calls: Option<bool>,
    #[serde(borrow)]
    pub response_format: Option<Object<ResponseFormat<'a>>>,
    #[serde(borrow)]
    pub reasoning_effort: Option<Text<'a>>,
    #[serde(borrow)]
    pub thinking: Raw<'a>,
    #[serde(borrow)]
    pub user: Option<Text<'a>>,
    #[serde(borrow)]
    pub safety_identifier: Option<Text<'a>>,
    #[serde(borrow)]
    pub service_tier: Option<Text<'a>>,
    #[serde(borrow)]
    pub cache_control: Raw<'a>,
    #[serde(borrow)]
    pub audio: Raw<'a>,
    #[serde(borrow)]
    pub frequency_penalty: Raw<'a>,
    #[serde(borrow)]
    pub function_call: Raw<'a>,
    #[serde(borrow)]
    pub functions: Raw<'a>,
    #[serde(borrow)]
    pub logit_bias: Raw<'a>,
    #[serde(borrow)]
    pub logprobs: Raw<'a>,
    #[serde(borrow)]
    pub metadata: Raw<'a>,
    #[serde(borrow)]
    pub modalities: Raw<'a>,
    #[serde(borrow)]
    pub n: Raw<'a>,
    #[serde(borrow)]
    pub prediction: Raw<'a>,
    #[serde(borrow)]
    pub presence_penalty: Raw<'a>,
    #[serde(borrow)]
    pub seed: Raw<'a>,
    #[serde(borrow)]
    pub store: Raw<'a>,
    #[serde(borrow)]
    pub top_logprobs: Raw<'a>,
    #[serde(borrow)]
    pub verbosity: Raw<'a>,
    #[serde(borrow)]
    pub web_search_options: Raw<'a>,
    /// Says which of OpenAI's caches to look in: it changes no answer.
    #[serde(borrow, rename = "prompt_cache_key")]
    _prompt_cache_key: Option<Text<'a>>,
    /// Says how long OpenAI's cache lives: it changes no answer.
    #[serde(borrow, rename = "prompt_cache_retention")]
    _prompt_cache_retention: Option<Text<'a>>,
}

/// Read by the head of the request; padding against eavesdroppers is OpenAI's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamOptions {
    #[serde(rename = "include_usage")]
    _include_usage: Option<bool>,
    #[serde(rename = "include_obfuscation")]
    _include_obfuscation: Option<bool>,
}

/// A message of any role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub role: Text<'a>,
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<Object<ToolCall<'a>>>>,
    #[serde(borrow)]
    pub tool_call_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub function_call: Raw<'a>,
    #[serde(borrow)]
    pub audio: Raw<'a>,
    /// Citations that came with an answer: clients send them back with it.
    #[serde(borrow)]
    pub annotations: Raw<'a>,
    #[serde(borrow)]
    pub reasoning_content: Option<Text<'a>>,
    /// The same at other servers, in text and in pieces.
    #[serde(borrow)]
    pub reasoning: Raw<'a>,
    #[serde(borrow)]
    pub reasoning_details: Raw<'a>,
    #[serde(borrow)]
    pub thinking_blocks: Raw<'a>,
    /// Pictures of an answer.
    #[serde(borrow)]
    pub images: Raw<'a>,
    #[serde(borrow)]
    pub provider_specific_fields: Raw<'a>,
}

/// Text, or a list of parts.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Text(Text<'a>),
    Parts(Vec<Object<Part<'a>>>),
}

/// A part of any type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow)]
    pub image_url: Option<Object<ImageUrl<'a>>>,
    #[serde(borrow)]
    pub file: Option<Object<File<'a>>>,
    #[serde(borrow)]
    pub input_audio: Raw<'a>,
    #[serde(borrow)]
    pub cache_control: Raw<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageUrl<'a> {
    #[serde(borrow)]
    pub url: Text<'a>,
    #[serde(borrow)]
    pub detail: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File<'a> {
    #[serde(borrow, rename = "file_data")]
    pub data: Option<Text<'a>>,
    #[serde(borrow, rename = "file_id")]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub filename: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub function: Option<Object<CalledFunction<'a>>>,
    #[serde(borrow)]
    pub custom: Raw<'a>,
    /// Where the call stood in a stream: clients that put streams together leave it in.
    #[serde(rename = "index")]
    _index: Option<u64>,
    /// What other providers add to a call of theirs means nothing here.
    #[serde(rename = "extra_content")]
    _extra_content: Option<serde::de::IgnoredAny>,
    #[serde(rename = "provider_specific_fields")]
    _provider_specific_fields: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CalledFunction<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
    #[serde(borrow)]
    pub arguments: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tool<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub function: Option<Object<Function<'a>>>,
    #[serde(borrow)]
    pub custom: Raw<'a>,
    #[serde(borrow)]
    pub cache_control: Raw<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
    #[serde(borrow)]
    pub description: Option<Text<'a>>,
    #[serde(borrow)]
    pub parameters: Raw<'a>,
    pub strict: Option<bool>,
}

/// A word, or the name of a tool.
#[derive(Debug)]
pub(super) enum ToolChoice<'a> {
    Mode(Text<'a>),
    Named(NamedChoice<'a>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedChoice<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub function: Option<Object<ChosenFunction<'a>>>,
    #[serde(borrow)]
    pub allowed_tools: Raw<'a>,
    #[serde(borrow)]
    pub custom: Raw<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChosenFunction<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
}

/// A stop sequence, or several.
#[derive(Debug)]
pub(super) enum Stop<'a> {
    One(Text<'a>),
    Several(Vec<Text<'a>>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResponseFormat<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub json_schema: Option<Object<JsonSchema<'a>>>,
}

/// `name` is a label of OpenAI's, and Anthropic's schemas are always strict.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonSchema<'a> {
    #[serde(borrow, rename = "name")]
    _name: Option<Text<'a>>,
    #[serde(rename = "strict")]
    _strict: Option<bool>,
    #[serde(borrow)]
    pub description: Option<Text<'a>>,
    #[serde(borrow)]
    pub schema: Raw<'a>,
}

/// A value that is a string or something else, told apart without buffering either.
macro_rules! text_or {
    ($name:ident, $text:path, $expecting:literal, $visit:ident, $access:ident, $other:expr) => {
        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> Visitor<'de> for Either {
                    type Value = $name<'de>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                        Ok($text(Text(text.into())))
                    }
                    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                        Ok($text(Text(text.to_owned().into())))
                    }
                    fn $visit<A: $access<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
                        ($other)(access)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }
    };
}

text_or!(
    Content,
    Content::Text,
    "a string or a list of parts",
    visit_seq,
    SeqAccess,
    |seq| { Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Content::Parts) }
);
text_or!(
    Stop,
    Stop::One,
    "a string or a list of strings",
    visit_seq,
    SeqAccess,
    |seq| { Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Stop::Several) }
);
text_or!(
    ToolChoice,
    ToolChoice::Mode,
    "a string or an object",
    visit_map,
    MapAccess,
    |map| { NamedChoice::deserialize(MapAccessDeserializer::new(map)).map(ToolChoice::Named) }
);
