//! What stands inside fields: messages and their parts, definitions of tools, lists of texts.

use super::{
    Terms, Unbounded,
    fields::Met,
    json::{items, members},
    refused, text_of,
};

const MESSAGE: [&str; 12] = [
    "role",
    "content",
    "name",
    "refusal",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "reasoning_content",
    "reasoning",
    "annotations",
    "cache_control",
    "audio",
];

const TWICE: &str = "is written twice: which one counts is not known";
const UNKNOWN: &str = "has no known cost, and the endpoint has a budget: leave it out";

/// Parts of messages that are not text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Media {
    /// Bytes of the body that are theirs.
    pub bytes: u64,
    /// Message and part of the first.
    pub first: Option<(usize, usize)>,
}

/// Looks through `messages`.
pub fn messages(list: &[u8], terms: &Terms) -> Result<Media, Unbounded> {
    if list.first() != Some(&b'[') {
        return Err(refused("messages", "must be a list of objects"));
    }
    let mut media = Media::default();
    for (at, message) in items(list).enumerate() {
        self::message(message, at, terms, &mut media)?;
    }
    Ok(media)
}

fn message(message: &[u8], at: usize, terms: &Terms, media: &mut Media) -> Result<(), Unbounded> {
    let path = || format!("messages[{at}]");
    each(message, &MESSAGE, path, |name, value| match (name, value.first()) {
        ("audio", first) if first != Some(&b'n') => {
            Err(refused(format!("{}.audio", path()), "has another price: leave it out"))
        }
        ("cache_control", _) => cache_control(value, terms, || format!("{}.cache_control", path())),
        ("content", Some(b'[')) => parts(value, at, terms, media),
        ("content", first) if !matches!(first, Some(b'"' | b'n')) => {
            let message = "must be a text or a list of parts";
            Err(refused(format!("{}.content", path()), message))
        }
        _ => Ok(()),
    })
}

fn parts(list: &[u8], message: usize, terms: &Terms, media: &mut Media) -> Result<(), Unbounded> {
    for (at, part) in items(list).enumerate() {
        let path = || format!("messages[{message}].content[{at}]");
        let own = match kind(part) {
            Some(b"\"text\"") => "text",
            Some(b"\"refusal\"") => "refusal",
            Some(b"\"image_url\"") => "image_url",
            Some(b"\"file\"") => "file",
            _ => {
                let message = "has no known cost under a budget: use text, image_url or file";
                return Err(refused(path(), message));
            }
        };
        each(part, &["type", own, "cache_control"], path, |name, value| match name {
            "cache_control" => cache_control(value, terms, || format!("{}.cache_control", path())),
            "image_url" | "file" => {
                media.bytes += value.len() as u64;
                media.first = media.first.or(Some((message, at)));
                Ok(())
            }
            _ => Ok(()),
        })?;
    }
    Ok(())
}

/// The value of `type` as it is written.
fn kind(object: &[u8]) -> Option<&[u8]> {
    members(object)
        .find(|(name, _)| *name == b"type")
        .map(|(_, value)| value)
}

/// Looks through `tools`: a tool that the provider runs itself has a price of its own, or fetches input that nobody bounds.
pub fn tools(list: &[u8], terms: &Terms) -> Result<(), Unbounded> {
    if list.first() != Some(&b'[') && list != b"null" {
        return Err(refused("tools", "must be a list of objects"));
    }
    for (at, tool) in items(list).enumerate() {
        let path = || format!("tools[{at}]");
        if kind(tool) != Some(b"\"function\"") {
            return Err(refused(format!("{}.type", path()), "must be function under a budget"));
        }
        each(
            tool,
            &["type", "function", "cache_control"],
            path,
            |name, value| match name {
                "cache_control" => cache_control(value, terms, || format!("{}.cache_control", path())),
                _ => Ok(()),
            },
        )?;
    }
    Ok(())
}

/// Writing to a cache costs more than reading the input, and keeping it for longer more again: only what has a price may be asked for.
pub fn cache_control(value: &[u8], terms: &Terms, path: impl Fn() -> String) -> Result<(), Unbounded> {
    if value == b"null" {
        return Ok(());
    }
    if !terms.cache_write {
        let message = "has another price: leave it out, or give the backend's price cacheWriteInputPerMillionTokens";
        return Err(refused(path(), message));
    }
    each(value, &["type", "ttl"], &path, |name, value| {
        if name == "ttl" && value != b"\"5m\"" {
            let message = "must be 5m under a budget: a cache that is kept for longer has another price";
            return Err(refused(format!("{}.ttl", path()), message));
        }
        Ok(())
    })
}

/// Looks through `prompt` or `input`, and counts the texts: each gets an answer of its own.
pub fn texts(value: &[u8], field: &[u8]) -> Result<u64, Unbounded> {
    let is_text = |value: &[u8]| value.first() == Some(&b'"');
    let is_token = |value: &[u8]| value.first().is_some_and(u8::is_ascii_digit);
    let is_tokens = |value: &[u8]| value.first() == Some(&b'[') && items(value).all(is_token);
    if is_text(value) || value == b"null" {
        return Ok(1);
    }
    let (mut texts, mut others) = (0, value.first() != Some(&b'['));
    for item in items(value) {
        if is_text(item) || is_tokens(item) {
            texts += 1;
        } else {
            others |= !is_token(item);
        }
    }
    if others {
        return Err(refused(
            text_of(field),
            "must be a text, tokens, or a list of them under a budget",
        ));
    }
    Ok(texts.max(1))
}

/// Takes each member of the object at `path`: known by name, and met once.
fn each<'a, const N: usize>(
    object: &'a [u8],
    known: &[&'static str; N],
    path: impl Fn() -> String,
    mut take: impl FnMut(&'static str, &'a [u8]) -> Result<(), Unbounded>,
) -> Result<(), Unbounded> {
    if object.first() != Some(&b'{') {
        return Err(refused(path(), "must be an object"));
    }
    let mut met = Met::default();
    for (name, value) in members(object) {
        let field = || format!("{}.{}", path(), text_of(name));
        let found = known.iter().enumerate().find(|(_, known)| known.as_bytes() == name);
        let (at, name) = found.ok_or_else(|| refused(field(), UNKNOWN))?;
        if !met.first(at) {
            return Err(refused(field(), TWICE));
        }
        take(name, value)?;
    }
    Ok(())
}

pub fn unknown(name: &[u8]) -> Unbounded {
    refused(text_of(name), UNKNOWN)
}

pub fn twice(name: &[u8]) -> Unbounded {
    refused(text_of(name), TWICE)
}
