//! What stands inside fields: messages and their parts, lists of texts.

use super::{Terms, Unbounded, fields::Met, json::Steps, media::plays, refused, text_of};

const MESSAGE: [&str; 16] = [
    "role",
    "content",
    "name",
    "refusal",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "thinking_blocks",
    "provider_specific_fields",
    "images",
    "annotations",
    "cache_control",
    "audio",
];
/// Gemini's signatures of thoughts are in `extra_content`, and from LiteLLM in `provider_specific_fields`.
const CALL: [&str; 7] = [
    "id",
    "type",
    "function",
    "index",
    "extra_content",
    "provider_specific_fields",
    "cache_control",
];
const IMAGE: [&str; 4] = ["type", "image_url", "index", "extra_content"];
/// Of parts the types and the fields that hold their contents have the same names.
const PART: [&str; 6] = ["type", "cache_control", "text", "refusal", "image_url", "file"];
const PICTURES: [&str; 2] = ["image_url", "file"];

const TWICE: &str = "is written twice: which one counts is not known";
const UNKNOWN: &str = "has no known cost, and the endpoint has a budget: leave it out";

/// Parts of messages that are not text.
#[derive(Debug, Default)]
pub struct Media {
    /// Bytes of the body that are theirs.
    pub bytes: u64,
    /// Path of the first.
    pub first: Option<String>,
}

impl Media {
    /// A picture or a file, whose cost is not in its bytes.
    fn add(&mut self, value: &[u8], path: impl Fn() -> String) -> Result<(), Unbounded> {
        self.bytes += value.len() as u64;
        no_sound(value, path)
    }
}

/// Steps through `messages`.
pub fn messages(steps: &mut Steps<'_>, terms: &Terms) -> Result<Media, Unbounded> {
    if !steps.enter(b'[') {
        return Err(refused("messages", "must be a list of objects"));
    }
    let (mut media, mut at) = (Media::default(), 0);
    while steps.more(b']') {
        message(steps, at, terms, &mut media)?;
        at += 1;
    }
    Ok(media)
}

fn message(steps: &mut Steps<'_>, at: usize, terms: &Terms, media: &mut Media) -> Result<(), Unbounded> {
    let path = || format!("messages[{at}]");
    each(steps, &MESSAGE, path, |steps, name| match (name, steps.peek()) {
        ("audio", first) if first != Some(b'n') => {
            Err(refused(format!("{}.audio", path()), "has another price: leave it out"))
        }
        ("images", _) => images(steps, at, media),
        ("tool_calls", _) => calls(steps, at, terms),
        ("content", Some(b'[')) => parts(steps, at, terms, media),
        ("content", first) if !matches!(first, Some(b'"' | b'n')) => {
            let message = "must be a text or a list of parts";
            Err(refused(format!("{}.content", path()), message))
        }
        _ => plain(steps, name, terms, path),
    })
}

/// Calls that the assistant made.
fn calls(steps: &mut Steps<'_>, message: usize, terms: &Terms) -> Result<(), Unbounded> {
    let field = || format!("messages[{message}].tool_calls");
    items(steps, field, |steps, at| {
        let path = || format!("{}[{at}]", field());
        each(steps, &CALL, path, |steps, name| plain(steps, name, terms, path))
    })
}

/// Pictures that came with an answer and are sent back with it: gateways show them to the model again.
fn images(steps: &mut Steps<'_>, message: usize, media: &mut Media) -> Result<(), Unbounded> {
    let field = || format!("messages[{message}].images");
    items(steps, field, |steps, at| {
        let path = || format!("{}[{at}]", field());
        media.first.get_or_insert_with(path);
        each(steps, &IMAGE, path, |steps, name| match (name, steps.value()) {
            ("image_url", value) => media.add(value, || format!("{}.image_url", path())),
            _ => Ok(()),
        })
    })
}

fn parts(steps: &mut Steps<'_>, message: usize, terms: &Terms, media: &mut Media) -> Result<(), Unbounded> {
    steps.enter(b'[');
    let mut at = 0;
    while steps.more(b']') {
        let path = || format!("messages[{message}].content[{at}]");
        let (mut kind, mut own) = (None, None);
        each(steps, &PART, path, |steps, name| {
            match name {
                "type" => kind = Some(steps.value()),
                "cache_control" => return cache_control(steps, terms, || format!("{}.cache_control", path())),
                name => {
                    let (value, before) = (steps.value(), own.replace(name));
                    if PICTURES.contains(&name) {
                        media.add(value, || format!("{}.{name}", path()))?;
                    }
                    if before.is_some() {
                        let message = "does not belong to a part that has another content";
                        return Err(refused(format!("{}.{name}", path()), message));
                    }
                }
            }
            Ok(())
        })?;
        let kind = kind.and_then(|kind| PART.iter().find(|name| is_text(kind, name)));
        match kind {
            Some(&("text" | "refusal" | "image_url" | "file")) if own.is_none_or(|own| kind == Some(&own)) => {}
            _ => {
                let message = "has no known cost under a budget: use text, image_url or file";
                return Err(refused(path(), message));
            }
        }
        if kind.is_some_and(|kind| PICTURES.contains(kind)) {
            media.first.get_or_insert_with(path);
        }
        at += 1;
    }
    Ok(())
}

/// The bound of tokens that a picture or a file has, but not its price, holds for sound and video.
fn no_sound(value: &[u8], path: impl Fn() -> String) -> Result<(), Unbounded> {
    if plays(value) {
        return Err(refused(
            path(),
            "is sound or video, which has another price: leave it out",
        ));
    }
    Ok(())
}

/// Whether a value is this text, written without escapes.
pub fn is_text(value: &[u8], text: &str) -> bool {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inner == Some(text.as_bytes())
}

/// Writing to a cache costs more than reading the input, and keeping it for longer more again: only what has a price may be asked for.
pub fn cache_control(steps: &mut Steps<'_>, terms: &Terms, path: impl Fn() -> String) -> Result<(), Unbounded> {
    if steps.peek() == Some(b'n') {
        steps.value();
        return Ok(());
    }
    if !terms.cache_write {
        let message = "has another price: leave it out, or give the backend's price cacheWriteInputPerMillionTokens";
        return Err(refused(path(), message));
    }
    each(steps, &["type", "ttl"], &path, |steps, name| {
        if !is_text(steps.value(), "5m") && name == "ttl" {
            let message = "must be 5m under a budget: a cache that is kept for longer has another price";
            return Err(refused(format!("{}.ttl", path()), message));
        }
        Ok(())
    })
}

/// Passes a member that costs its bytes, or asks for a cache.
pub fn plain(steps: &mut Steps<'_>, name: &str, terms: &Terms, path: impl Fn() -> String) -> Result<(), Unbounded> {
    if name == "cache_control" {
        return cache_control(steps, terms, || format!("{}.cache_control", path()));
    }
    steps.value();
    Ok(())
}

/// Steps through `prompt` or `input`, and counts the texts: each gets an answer of its own.
pub fn texts(steps: &mut Steps<'_>, field: &[u8]) -> Result<u64, Unbounded> {
    if matches!(steps.peek(), Some(b'"' | b'n')) {
        steps.value();
        return Ok(1);
    }
    let (mut texts, mut are_known) = (0, steps.enter(b'['));
    while are_known && steps.more(b']') {
        match steps.peek() {
            Some(b'"') => {
                texts += 1;
                steps.value();
            }
            Some(b'[') => {
                texts += 1;
                are_known = tokens(steps);
            }
            _ => are_known = is_token(steps.value()),
        }
    }
    if are_known {
        return Ok(texts.max(1));
    }
    Err(refused(
        text_of(field),
        "must be a text, tokens, or a list of them under a budget",
    ))
}

fn tokens(steps: &mut Steps<'_>) -> bool {
    let mut all = steps.enter(b'[');
    while steps.more(b']') {
        all &= is_token(steps.value());
    }
    all
}

fn is_token(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_digit)
}

/// Takes each item of the list in `field` with its number; `null` has none. `take` passes the item.
pub fn items<'a>(
    steps: &mut Steps<'a>,
    field: impl Fn() -> String,
    mut take: impl FnMut(&mut Steps<'a>, usize) -> Result<(), Unbounded>,
) -> Result<(), Unbounded> {
    if steps.peek() == Some(b'n') {
        steps.value();
        return Ok(());
    }
    if !steps.enter(b'[') {
        return Err(refused(field(), "must be a list of objects"));
    }
    let mut at = 0;
    while steps.more(b']') {
        take(steps, at)?;
        at += 1;
    }
    Ok(())
}

/// Takes each member of the object at `path`: known by name, and met once. `take` passes its value.
pub fn each<'a, const N: usize>(
    steps: &mut Steps<'a>,
    known: &[&'static str; N],
    path: impl Fn() -> String,
    mut take: impl FnMut(&mut Steps<'a>, &'static str) -> Result<(), Unbounded>,
) -> Result<(), Unbounded> {
    if !steps.enter(b'{') {
        return Err(refused(path(), "must be an object"));
    }
    let mut met = Met::default();
    while steps.more(b'}') {
        let name = steps.name();
        let field = || format!("{}.{}", path(), text_of(name));
        let found = known.iter().enumerate().find(|(_, known)| known.as_bytes() == name);
        let (at, name) = found.ok_or_else(|| refused(field(), UNKNOWN))?;
        if !met.first(at) {
            return Err(refused(field(), TWICE));
        }
        take(steps, name)?;
    }
    Ok(())
}

pub fn unknown(name: &[u8]) -> Unbounded {
    refused(text_of(name), UNKNOWN)
}

pub fn twice(name: &[u8]) -> Unbounded {
    refused(text_of(name), TWICE)
}
