//! Messages as Gemini's `contents`.

use std::{borrow::Cow, collections::HashMap};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Inexpressible, NOT_OFFERED, before_gemini_3,
    media::{self, Blob, FileData, Media},
    refused, request,
    request::{Chat, Drawn, ExtraContent, Message, Role, ToolCall},
};

/// What Google documents for a function call that no Gemini made: its check of signatures is left out for it.
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";
/// Bytes of a function's name: Gemini takes no longer one, and every answer of a function repeats it.
const MAX_NAME: usize = 128;

/// Parts of one speaker.
#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
}

/// `systemInstruction`.
#[derive(Debug, Serialize)]
pub(super) struct SystemInstruction<'a> {
    parts: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(flatten)]
    data: Piece<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Piece<'a> {
    Text(&'a str),
    InlineData(Blob<'a>),
    FileData(FileData<'a>),
    FunctionCall(FunctionCall<'a>),
    FunctionResponse(FunctionResponse<'a>),
}

#[derive(Debug, Serialize)]
struct FunctionCall<'a> {
    /// AI Studio's only: Vertex knows no such field.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Response<'a>,
}

/// Gemini wants an object.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Response<'a> {
    Object(Cow<'a, RawValue>),
    Text { output: Cow<'a, str> },
}

impl<'a> From<Media<'a>> for Piece<'a> {
    fn from(media: Media<'a>) -> Self {
        match media {
            Media::Inline(blob) => Self::InlineData(blob),
            Media::Address(address) => Self::FileData(address),
        }
    }
}

impl<'a> From<Piece<'a>> for Part<'a> {
    fn from(data: Piece<'a>) -> Self {
        Self {
            data,
            thought_signature: None,
        }
    }
}

/// What a content is made of: answers of functions stay apart from what a user says, as Gemini counts them against the calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    System,
    User,
    Model,
    Function,
}

struct Translator<'a> {
    /// The function that the call with an id called; the latest counts.
    called: HashMap<&'a str, &'a str>,
    signed: bool,
    ids: bool,
    system: Vec<Part<'a>>,
    contents: Vec<Content<'a>>,
    last: Speaker,
}

/// All messages; those of the system apart.
pub(super) fn translate<'a>(
    chat: &'a Chat<'a>,
    model: &str,
    vertex: bool,
) -> Result<(Vec<Content<'a>>, Option<SystemInstruction<'a>>), Inexpressible> {
    let mut translator = Translator {
        called: HashMap::new(),
        signed: !before_gemini_3(model),
        ids: !vertex,
        system: Vec::new(),
        contents: Vec::new(),
        last: Speaker::System,
    };
    for (at, message) in chat.messages.iter().enumerate() {
        translator.message(at, message)?;
    }
    if translator.contents.is_empty() {
        return Err(refused("messages", "must say something beside what the system says"));
    }
    let parts = translator.system;
    let system = (!parts.is_empty()).then_some(SystemInstruction { parts });
    Ok((translator.contents, system))
}

impl<'a> Translator<'a> {
    fn message(&mut self, at: usize, message: &'a Message<'a>) -> Result<(), Inexpressible> {
        refuse_misplaced(at, message)?;
        let (speaker, parts) = match message.role {
            Role::System | Role::Developer => (Speaker::System, texts(at, message)?),
            Role::User => (Speaker::User, user(at, message)?),
            Role::Assistant => (Speaker::Model, self.assistant(at, message)?),
            Role::Tool => (Speaker::Function, vec![self.tool(at, message)?]),
        };
        self.push(speaker, parts);
        Ok(())
    }

    /// Gemini takes no empty content, and wants speakers to take turns.
    fn push(&mut self, speaker: Speaker, mut parts: Vec<Part<'a>>) {
        if speaker == Speaker::System {
            self.system.append(&mut parts);
            return;
        }
        let role = if speaker == Speaker::Model { "model" } else { "user" };
        match self.contents.last_mut() {
            _ if parts.is_empty() => return,
            Some(content) if self.last == speaker => content.parts.append(&mut parts),
            _ => self.contents.push(Content { role, parts }),
        }
        self.last = speaker;
    }

    fn assistant(&mut self, at: usize, message: &'a Message<'a>) -> Result<Vec<Part<'a>>, Inexpressible> {
        let mut parts = texts(at, message)?;
        if let Some(refusal) = &message.refusal {
            parts.extend(text(&refusal.0));
        }
        for (index, drawn) in message.images.iter().flatten().enumerate() {
            parts.push(self.drawn(drawn, &format!("messages[{at}].images[{index}].image_url"))?);
        }
        let calls = message.tool_calls.as_deref().unwrap_or_default();
        for (index, call) in calls.iter().enumerate() {
            let mut part = self.call(call, &format!("messages[{at}].tool_calls[{index}]"))?;
            if index == 0 && self.signed {
                part.thought_signature.get_or_insert(FOREIGN_SIGNATURE);
            }
            parts.push(part);
        }
        Ok(parts)
    }

    fn drawn(&self, drawn: &'a Drawn<'a>, path: &str) -> Result<Part<'a>, Inexpressible> {
        let data = media::image(&drawn.image_url, path)?.into();
        let signature = drawn.extra_content.as_ref().and_then(ExtraContent::signature);
        Ok(Part {
            data,
            thought_signature: signature.or(self.signed.then_some(FOREIGN_SIGNATURE)),
        })
    }

    fn call(&mut self, call: &'a ToolCall<'a>, path: &str) -> Result<Part<'a>, Inexpressible> {
        if call.kind.as_ref().is_some_and(|kind| kind.0 != "function") {
            let message = "is not offered by Gemini: it must be function";
            return Err(refused(format!("{path}.type"), message));
        }
        let function = call.function.as_ref();
        let function = function.ok_or_else(|| refused(format!("{path}.function"), "is required"))?;
        if function.name.len() > MAX_NAME {
            let message = format!("is longer than {MAX_NAME} bytes, which Gemini does not take");
            return Err(refused(format!("{path}.function.name"), &message));
        }
        self.called.insert(&call.id, &function.name);
        let args = match function.arguments.trim() {
            "" => "{}",
            arguments => arguments,
        };
        let args = object(args).ok_or_else(|| {
            let message = "must be a JSON object, as a string: send what the model gave";
            refused(format!("{path}.function.arguments"), message)
        })?;
        let data = Piece::FunctionCall(FunctionCall {
            id: self.ids.then_some(call.id.as_ref()),
            name: &function.name,
            args,
        });
        Ok(Part {
            data,
            thought_signature: call.extra_content.as_ref().and_then(ExtraContent::signature),
        })
    }

    fn tool(&self, at: usize, message: &'a Message<'a>) -> Result<Part<'a>, Inexpressible> {
        let id = message.tool_call_id.as_ref();
        let id = id.ok_or_else(|| refused(format!("messages[{at}].tool_call_id"), "is required"))?;
        let name = self.called.get(id.0.as_ref()).copied().ok_or_else(|| {
            let message = "names no tool call of an earlier message of the assistant";
            refused(format!("messages[{at}].tool_call_id"), message)
        })?;
        let response = FunctionResponse {
            id: self.ids.then_some(id.0.as_ref()),
            name,
            response: response(joined(at, message)?),
        };
        Ok(Piece::FunctionResponse(response).into())
    }
}

/// Fields that Gemini has nothing like, or that belong to another role.
fn refuse_misplaced(at: usize, message: &Message<'_>) -> Result<(), Inexpressible> {
    let assistant = message.role == Role::Assistant;
    let tool = message.role == Role::Tool;
    let audio = message.audio.is_some();
    let calls = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
    let fields = [
        // A tool's message names its function as Gemini does.
        ("name", message.name.is_some() && !tool, NOT_OFFERED),
        ("audio", audio, "is not offered by Gemini: send content"),
        (
            "function_call",
            message.function_call.is_some(),
            "is not offered by Gemini: send tool_calls",
        ),
        (
            "tool_calls",
            calls && !assistant,
            "belongs to messages of the assistant",
        ),
        (
            "images",
            message.images.as_ref().is_some_and(|images| !images.is_empty()) && !assistant,
            "belongs to messages of the assistant: send parts of content",
        ),
        (
            "refusal",
            message.refusal.is_some() && !assistant,
            "belongs to messages of the assistant",
        ),
        (
            "tool_call_id",
            message.tool_call_id.is_some() && !tool,
            "belongs to messages of a tool",
        ),
    ];
    match fields.into_iter().find(|(_, wrong, _)| *wrong) {
        Some((name, _, message)) => Err(refused(format!("messages[{at}].{name}"), message)),
        None => Ok(()),
    }
}

/// Gemini takes no empty text.
fn text(text: &str) -> Option<Part<'_>> {
    (!text.is_empty()).then(|| Piece::Text(text).into())
}

/// Content that is text only.
fn texts<'a>(at: usize, message: &'a Message<'a>) -> Result<Vec<Part<'a>>, Inexpressible> {
    match &message.content {
        None => Ok(Vec::new()),
        Some(request::Content::Text(all)) => Ok(text(all).into_iter().collect()),
        Some(request::Content::Parts(parts)) => {
            let texts = parts.iter().enumerate().map(|(index, part)| part_text(at, index, part));
            Ok(texts
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .filter_map(text)
                .collect())
        }
    }
}

fn joined<'a>(at: usize, message: &'a Message<'a>) -> Result<Cow<'a, str>, Inexpressible> {
    match &message.content {
        None => Ok(Cow::Borrowed("")),
        Some(request::Content::Text(all)) => Ok(Cow::Borrowed(all)),
        Some(request::Content::Parts(parts)) => {
            let texts = parts.iter().enumerate().map(|(index, part)| part_text(at, index, part));
            texts.collect::<Result<String, _>>().map(Cow::Owned)
        }
    }
}

fn part_text<'a>(at: usize, index: usize, part: &'a request::Part<'_>) -> Result<&'a str, Inexpressible> {
    let path = || format!("messages[{at}].content[{index}]");
    alone(part, path)?;
    let said = match part.kind.as_ref() {
        "text" => &part.text,
        "refusal" => &part.refusal,
        _ => {
            let message = "must be text in a message of this role";
            return Err(refused(format!("{}.type", path()), message));
        }
    };
    let said = said.as_ref().map(|s| s.0.as_ref());
    said.ok_or_else(|| refused(format!("{}.{}", path(), part.kind), "is required"))
}

/// A part has no field of another type.
fn alone(part: &request::Part<'_>, path: impl Fn() -> String) -> Result<(), Inexpressible> {
    let given = [
        ("text", part.text.is_some()),
        ("refusal", part.refusal.is_some()),
        ("image_url", part.image_url.is_some()),
        ("input_audio", part.input_audio.is_some()),
        ("file", part.file.is_some()),
    ];
    match given.into_iter().find(|(name, given)| *given && *name != part.kind) {
        Some((name, _)) => {
            let message = format!("does not belong to a part of type {:?}: leave it out", part.kind);
            Err(refused(format!("{}.{name}", path()), message))
        }
        None => Ok(()),
    }
}

fn user<'a>(at: usize, message: &'a Message<'a>) -> Result<Vec<Part<'a>>, Inexpressible> {
    let Some(request::Content::Parts(parts)) = &message.content else {
        return texts(at, message);
    };
    let parts = parts.iter().enumerate().map(|(index, part)| user_part(at, index, part));
    Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn user_part<'a>(at: usize, index: usize, part: &'a request::Part<'_>) -> Result<Option<Part<'a>>, Inexpressible> {
    if part.kind == "text" {
        return part_text(at, index, part).map(text);
    }
    let kind = part.kind.as_ref();
    alone(part, || format!("messages[{at}].content[{index}]"))?;
    let path = format!("messages[{at}].content[{index}].{kind}");
    let missing = || refused(path.clone(), "is required");
    let data = match kind {
        "image_url" => media::image(part.image_url.as_ref().ok_or_else(missing)?, &path)?.into(),
        "input_audio" => Piece::InlineData(media::audio(part.input_audio.as_ref().ok_or_else(missing)?, &path)?),
        "file" => Piece::InlineData(media::file(part.file.as_ref().ok_or_else(missing)?, &path)?),
        _ => {
            let message = "is not offered by Gemini: it must be text, image_url, input_audio or file";
            return Err(refused(format!("messages[{at}].content[{index}].type"), message));
        }
    };
    Ok(Some(data.into()))
}

fn object(text: &str) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    raw.get().starts_with('{').then_some(raw)
}

/// An object goes as it is, anything else as `output`.
fn response(content: Cow<'_, str>) -> Response<'_> {
    match content {
        Cow::Borrowed(text) => match object(text) {
            Some(object) => Response::Object(Cow::Borrowed(object)),
            None => Response::Text { output: content },
        },
        Cow::Owned(text) => match object(&text).map(ToOwned::to_owned) {
            Some(object) => Response::Object(Cow::Owned(object)),
            None => Response::Text { output: text.into() },
        },
    }
}
