//! Embeddings: AI Studio's `batchEmbedContents` and Vertex's `predict`.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    Inexpressible, Target,
    answer::NoReply,
    body, parse, refused,
    request::{OneOrMore, Str},
    usage::UsageMetadata,
};
use crate::{
    policy::pricing::Usage,
    runtime::remote::{
        events::Chunk,
        wire::{Asked, Read},
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow)]
    input: OneOrMore<'a>,
    dimensions: Option<u32>,
    #[serde(borrow)]
    encoding_format: Option<Str<'a>>,
    #[serde(rename = "model")]
    _model: IgnoredAny,
    #[serde(rename = "user")]
    _user: Option<IgnoredAny>,
}

#[derive(Debug, Serialize)]
struct Batch<'a> {
    requests: Vec<EmbedContent<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EmbedContent<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Debug, Serialize)]
struct Predict<'a> {
    instances: Vec<Instance<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters>,
}

#[derive(Debug, Serialize)]
struct Instance<'a> {
    content: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    output_dimensionality: u32,
}

/// Whether a request for embeddings asks for Base64, as OpenAI's own clients do unless told otherwise.
#[must_use]
pub fn wants_base64(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Encoding<'a> {
        #[serde(borrow)]
        encoding_format: Option<Str<'a>>,
    }
    let request = serde_json::from_slice::<Encoding<'_>>(body);
    request.is_ok_and(|r| r.encoding_format.is_some_and(|format| format.0 == "base64"))
}

/// A request in Gemini's format.
pub(super) fn encode(body: &[u8], target: Target<'_>, vertex: bool) -> Result<Bytes, Inexpressible> {
    let request: Request<'_> = parse(body)?;
    if request
        .encoding_format
        .is_some_and(|f| f.0 != "float" && f.0 != "base64")
    {
        return Err(refused("encoding_format", "must be float or base64"));
    }
    let texts = request.input.list();
    if texts.is_empty() {
        return Err(refused("input", "must not be empty"));
    }
    if vertex {
        let instances = texts.into_iter().map(|content| Instance { content }).collect();
        let parameters = request
            .dimensions
            .map(|output_dimensionality| Parameters { output_dimensionality });
        return body::write(&Predict { instances, parameters }, body.len());
    }
    let model = match target.model.split_once('/') {
        Some(_) => Cow::Borrowed(target.model),
        None => Cow::Owned(format!("models/{}", target.model)),
    };
    let one = |text| EmbedContent {
        model: &model,
        content: Content { parts: [Part { text }] },
        output_dimensionality: request.dimensions,
    };
    let requests = texts.into_iter().map(one).collect();
    body::write(&Batch { requests }, body.len())
}

/// The answer of either.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    #[serde(borrow)]
    embeddings: Option<Vec<Values<'a>>>,
    #[serde(borrow)]
    predictions: Option<Vec<Prediction<'a>>>,
    usage_metadata: Option<UsageMetadata>,
}

#[derive(Debug, Deserialize)]
struct Prediction<'a> {
    #[serde(borrow)]
    embeddings: Values<'a>,
}

#[derive(Debug, Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
    statistics: Option<Statistics>,
}

#[derive(Debug, Deserialize)]
struct Statistics {
    token_count: Option<f64>,
}

#[derive(Debug, Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Row<'a>>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counts>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    Floats(&'a RawValue),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Counts {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// An answer in OpenAI's format.
pub(super) fn read(body: &[u8], asked: &Asked) -> Read {
    if matches!(super::answer::parse(body), Err(NoReply::Error)) {
        return Read::Error;
    }
    translate(body, asked).unwrap_or(Read::Malformed)
}

fn translate(body: &[u8], asked: &Asked) -> Option<Read> {
    let response: Response<'_> = serde_json::from_slice(body).ok()?;
    let reported = response.usage_metadata.and_then(|usage| usage.counts());
    let values = match (response.embeddings, response.predictions) {
        (Some(values), _) => values,
        (None, Some(predictions)) => predictions.into_iter().map(|p| p.embeddings).collect(),
        (None, None) => return None,
    };
    let usage = reported.or_else(|| counted(&values));
    let data = values
        .into_iter()
        .enumerate()
        .map(|(index, values)| embedding(index, &values, asked.base64));
    let list = List {
        object: "list",
        data: data.collect::<Option<Vec<_>>>()?,
        model: &asked.model,
        usage: usage.map(|usage| Counts {
            prompt_tokens: usage.input_tokens,
            // What is paid for is told, thoughts about an embedding too.
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
        }),
    };
    let chunk = Chunk {
        usage,
        answers: !list.data.is_empty(),
        ..Chunk::default()
    };
    let body = body::write(&list, body.len()).ok()?;
    Some(Read::Answer { body, chunk })
}

/// Vertex counts each text; one without a count makes the sum unknown.
fn counted(values: &[Values<'_>]) -> Option<Usage> {
    let mut input_tokens = 0_u64;
    for one in values {
        let count = one.statistics.as_ref()?.token_count?;
        input_tokens = input_tokens.checked_add(whole(count)?)?;
    }
    Some(Usage {
        input_tokens,
        ..Usage::default()
    })
}

/// Counts come as `5` and as `5.0`.
fn whole(count: f64) -> Option<u64> {
    let exact = count.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&count);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked")]
    exact.then_some(count as u64)
}

fn embedding<'a>(index: usize, values: &Values<'a>, base64: bool) -> Option<Row<'a>> {
    let embedding = if base64 {
        let floats: Vec<f32> = serde_json::from_str(values.values.get()).ok()?;
        let bytes: Vec<u8> = floats.into_iter().flat_map(f32::to_le_bytes).collect();
        Vector::Base64(STANDARD.encode(bytes))
    } else {
        values
            .values
            .get()
            .starts_with('[')
            .then_some(Vector::Floats(values.values))?
    };
    Some(Row {
        object: "embedding",
        index,
        embedding,
    })
}
