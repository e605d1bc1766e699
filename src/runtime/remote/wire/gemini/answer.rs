//! Gemini's answers, and a whole one in OpenAI's format.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    openai::{self, Drawn, ExtraContent, Function, Logprobs, Said, Token, ToolCall, TopToken},
    request::Str,
    usage::UsageMetadata,
};
use crate::{
    policy::pricing::Usage,
    runtime::remote::{
        events::{Chunk, Finish},
        wire::{Asked, Blocked, Read},
    },
};

/// Candidates are numbered from 0, and Gemini makes 8 at most.
const MOST_CANDIDATES: u64 = 128;
/// OpenAI allows ids of calls 40 characters.
const ID_TAIL: usize = 24;

/// `GenerateContentResponse`, or an error in its place.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reply<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    prompt_feedback: Option<PromptFeedback<'a>>,
    usage_metadata: Option<UsageMetadata>,
    #[serde(borrow)]
    model_version: Option<Str<'a>>,
    #[serde(borrow)]
    response_id: Option<Str<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback<'a> {
    #[serde(borrow)]
    block_reason: Option<Str<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Str<'a>>,
    #[serde(borrow)]
    logprobs_result: Option<LogprobsResult<'a>>,
}

#[derive(Debug, Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Part<'a>>>,
}

/// Other kinds of parts come from tools that nobody can ask for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    thought: Option<bool>,
    #[serde(borrow)]
    thought_signature: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<FunctionCall<'a>>,
    #[serde(borrow)]
    inline_data: Option<InlineData<'a>>,
}

#[derive(Debug, Deserialize)]
struct FunctionCall<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InlineData<'a> {
    #[serde(borrow)]
    mime_type: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogprobsResult<'a> {
    #[serde(borrow)]
    chosen_candidates: Option<Vec<Logprob<'a>>>,
    #[serde(borrow)]
    top_candidates: Option<Vec<TopCandidates<'a>>>,
}

#[derive(Debug, Deserialize)]
struct TopCandidates<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Logprob<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logprob<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    log_probability: Option<f64>,
}

/// What else data is.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoReply {
    Error,
    Malformed,
}

/// Reads the data of an event or a body. Errors come alone or, where Gemini streams JSON, in a list.
pub(super) fn parse(data: &[u8]) -> Result<Reply<'_>, NoReply> {
    match data.trim_ascii_start().first() {
        Some(b'{') => match serde_json::from_slice::<Reply<'_>>(data) {
            Ok(response) if response.error.is_some() => Err(NoReply::Error),
            Ok(response) if response.is_answer() => Ok(response),
            _ => Err(NoReply::Malformed),
        },
        Some(b'[') => match serde_json::from_slice::<Vec<Reply<'_>>>(data) {
            Ok(list) if list.iter().any(|response| response.error.is_some()) => Err(NoReply::Error),
            _ => Err(NoReply::Malformed),
        },
        _ => Err(NoReply::Malformed),
    }
}

impl<'a> Reply<'a> {
    fn is_answer(&self) -> bool {
        let candidates = self.candidates.iter().flatten();
        let said = self.candidates.is_some()
            || self.prompt_feedback.is_some()
            || self.usage_metadata.is_some()
            || self.model_version.is_some()
            || self.response_id.is_some();
        said && candidates.clone().all(|candidate| candidate.index() < MOST_CANDIDATES)
    }

    /// Why the prompt was not answered.
    pub(super) fn blocked(&self) -> Option<&str> {
        let reason = self.prompt_feedback.as_ref()?.block_reason.as_ref()?;
        self.candidates.as_ref().is_none_or(Vec::is_empty).then_some(&reason.0)
    }

    /// Tokens so far.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage_metadata.and_then(|usage| usage.counts())
    }

    /// Who answers, in the place of what was assumed.
    pub(super) fn name(&self, asked: &mut Asked) {
        if let Some(id) = self.response_id.as_ref().filter(|id| !id.0.is_empty()) {
            asked.id = id.0.clone().into_owned();
        }
        if let Some(model) = self.model_version.as_ref().filter(|model| !model.0.is_empty()) {
            asked.model = model.0.clone().into_owned();
        }
    }

    pub(super) fn candidates(self) -> Vec<Candidate<'a>> {
        self.candidates.unwrap_or_default()
    }
}

/// Numbers the calls of one answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calls {
    /// Of all candidates.
    pub(super) named: u64,
    /// Of this candidate.
    pub(super) made: u64,
}

impl<'a> Candidate<'a> {
    /// Its number; JSON leaves 0 out.
    pub(super) fn index(&self) -> u64 {
        self.index.unwrap_or(0)
    }

    /// Gemini's word for why it ended.
    pub(super) const fn reason(&mut self) -> Option<Str<'a>> {
        self.finish_reason.take()
    }

    /// Probabilities of tokens, when asked for.
    pub(super) fn logprobs(&mut self) -> Option<Logprobs<'a>> {
        let result = self.logprobs_result.take()?;
        let mut tops = result.top_candidates.unwrap_or_default().into_iter();
        let token = |chosen: Logprob<'a>| Token {
            chosen: chosen.into(),
            top_logprobs: top_logprobs(tops.next()),
        };
        Some(Logprobs {
            content: result
                .chosen_candidates
                .unwrap_or_default()
                .into_iter()
                .map(token)
                .collect(),
            refusal: None,
        })
    }

    /// What it said; `answer` makes the ids of calls unique where Gemini gives none.
    pub(super) fn said(self, answer: &str, calls: &mut Calls) -> Said<'a> {
        let mut said = Said::default();
        let (mut content, mut reasoning) = (Text::Nothing, Text::Nothing);
        for part in self.content.and_then(|content| content.parts).unwrap_or_default() {
            match (part.text, part.function_call, part.inline_data) {
                (_, Some(call), _) => said
                    .tool_calls
                    .push(tool_call(call, part.thought_signature, answer, calls)),
                (_, _, Some(image)) => {
                    let signature = part.thought_signature;
                    said.images.push(Drawn::new(&image.mime_type, &image.data, signature));
                }
                (Some(text), ..) if part.thought == Some(true) => reasoning.push(text),
                (Some(text), ..) => content.push(text),
                _ => {}
            }
        }
        said.content = content.into_raw();
        said.reasoning_content = reasoning.into_raw();
        said
    }
}

/// Why a candidate ended, if it did, in OpenAI's words and in ours.
pub(super) fn finish(reason: Option<&Str<'_>>, calls: Calls) -> Option<(&'static str, Finish)> {
    match reason?.0.as_ref() {
        "" | "FINISH_REASON_UNSPECIFIED" => None,
        "STOP" => Some((whole(calls), Finish::Regular)),
        "MAX_TOKENS" => Some(("length", Finish::Regular)),
        reason if about_content(reason) => Some(("content_filter", Finish::ContentFilter)),
        _ => Some(("content_filter", Finish::Regular)),
    }
}

const fn whole(calls: Calls) -> &'static str {
    if calls.made > 0 { "tool_calls" } else { "stop" }
}

fn about_content(reason: &str) -> bool {
    const WORDS: [&str; 7] = [
        "SAFETY",
        "RECITATION",
        "BLOCK",
        "PROHIBITED",
        "SPII",
        "MODEL_ARMOR",
        "LANGUAGE",
    ];
    WORDS.iter().any(|word| reason.contains(word))
}

fn top_logprobs(top: Option<TopCandidates<'_>>) -> Vec<TopToken<'_>> {
    let candidates = top.and_then(|top| top.candidates).unwrap_or_default();
    candidates.into_iter().map(TopToken::from).collect()
}

impl<'a> From<Logprob<'a>> for TopToken<'a> {
    fn from(logprob: Logprob<'a>) -> Self {
        Self {
            bytes: logprob.token.as_bytes().to_vec(),
            token: logprob.token,
            logprob: logprob.log_probability.unwrap_or(0.0),
        }
    }
}

fn tool_call<'a>(
    call: FunctionCall<'a>,
    signature: Option<&'a RawValue>,
    answer: &str,
    calls: &mut Calls,
) -> ToolCall<'a> {
    let index = calls.made;
    calls.made += 1;
    calls.named += 1;
    ToolCall {
        index: Some(index),
        id: call
            .id
            .filter(|id| !id.0.is_empty())
            .map_or_else(|| Cow::Owned(call_id(answer, calls.named)), |id| id.0),
        kind: "function",
        function: Function {
            name: call.name,
            arguments: call.args.map_or("{}", RawValue::get),
        },
        extra_content: ExtraContent::signed(signature),
    }
}

/// Letters that every provider allows in an id.
fn call_id(answer: &str, number: u64) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let letters: Vec<char> = answer.chars().filter(allowed).collect();
    let tail: String = letters.iter().skip(letters.len().saturating_sub(ID_TAIL)).collect();
    format!("call_{tail}_{number}")
}

/// JSON strings, put together as they come.
enum Text<'a> {
    Nothing,
    One(&'a RawValue),
    /// Without the quote that ends it.
    More(String),
}

impl<'a> Text<'a> {
    fn push(&mut self, raw: &'a RawValue) {
        let Some(inner) = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return;
        };
        if inner.is_empty() {
            return;
        }
        match self {
            Self::Nothing => *self = Self::One(raw),
            Self::One(first) => {
                let open = first.get().strip_suffix('"').unwrap_or_default();
                *self = Self::More(format!("{open}{inner}"));
            }
            Self::More(text) => text.push_str(inner),
        }
    }

    fn into_raw(self) -> Option<Cow<'a, RawValue>> {
        match self {
            Self::Nothing => None,
            Self::One(raw) => Some(Cow::Borrowed(raw)),
            Self::More(text) => RawValue::from_string(text + "\"").ok().map(Cow::Owned),
        }
    }
}

/// A whole answer in OpenAI's format.
pub(super) fn read(body: &[u8], asked: &Asked) -> Read {
    let response = match parse(body) {
        Ok(response) => response,
        Err(NoReply::Error) => return Read::Error,
        Err(NoReply::Malformed) => return Read::Malformed,
    };
    let usage = response.usage();
    if let Some(reason) = response.blocked() {
        return Read::Blocked(Blocked {
            reason: reason.to_owned(),
            usage,
        });
    }
    let mut asked = asked.clone();
    response.name(&mut asked);
    let (choices, finish) = choices(response.candidates(), &asked.id);
    if choices.is_empty() {
        return Read::Malformed;
    }
    let chunk = Chunk {
        content: true,
        finish,
        finished: choices.len() as u64,
        usage,
        usage_only: false,
        answers: true,
        unfiltered: false,
    };
    openai::completion(&asked, &choices, usage, body.len()).map_or(Read::Malformed, |body| Read::Answer { body, chunk })
}

/// The choices, and whether any of them was cut for its content.
fn choices<'a>(candidates: Vec<Candidate<'a>>, id: &str) -> (Vec<openai::Choice<'a>>, Option<Finish>) {
    let (mut calls, mut finish) = (Calls::default(), None);
    let mut choices = Vec::with_capacity(candidates.len());
    for mut candidate in candidates {
        calls.made = 0;
        let (index, logprobs, reason) = (candidate.index(), candidate.logprobs(), candidate.reason());
        let said = candidate.said(id, &mut calls);
        // A whole answer without a reason is whole.
        let (finish_reason, ended) = self::finish(reason.as_ref(), calls).unwrap_or((whole(calls), Finish::Regular));
        finish = finish.filter(|f| *f == Finish::ContentFilter).or(Some(ended));
        choices.push(openai::Choice {
            index,
            message: said.message(),
            logprobs,
            finish_reason,
        });
    }
    (choices, finish)
}
