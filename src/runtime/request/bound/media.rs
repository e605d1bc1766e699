//! What a part of a message is where its bytes are not text: providers read sound and video from parts for pictures and files too, and
//! have other prices for them.

use std::borrow::Cow;

use super::json::Steps;

/// What the type of sound or video begins with.
const TYPES: [&str; 2] = ["audio/", "video/"];
/// How its address or its file's name ends.
const ENDINGS: [&str; 18] = [
    ".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".3gp", ".avi", ".flv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".webm",
];

/// Whether one of the texts in an `image_url` or a `file`, or the text that it is, says that it holds sound or video.
pub fn plays(part: &[u8]) -> bool {
    let mut steps = Steps::new(part);
    if !steps.enter(b'{') {
        return text_plays(part);
    }
    let mut found = false;
    while steps.more(b'}') {
        steps.name();
        found |= text_plays(steps.value());
    }
    found
}

fn text_plays(value: &[u8]) -> bool {
    let Some(text) = read(value) else { return false };
    let text = text.trim_ascii();
    let is_data = begins(text, b"data:");
    let kind = if is_data {
        text.get(5..).unwrap_or_default()
    } else {
        text
    };
    if TYPES.iter().any(|t| begins(kind.trim_ascii_start(), t.as_bytes())) {
        return true;
    }
    let path = text.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default();
    !is_data && ENDINGS.iter().any(|ending| ends(path, ending.as_bytes()))
}

/// A text without its quotes, copied only where it has escapes.
fn read(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let text: String = serde_json::from_slice(value).ok()?;
    Some(Cow::Owned(text.into_bytes()))
}

fn begins(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len())
        .is_some_and(|front| front.eq_ignore_ascii_case(with))
}

fn ends(text: &[u8], with: &[u8]) -> bool {
    let at = text.len().checked_sub(with.len());
    at.and_then(|at| text.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(with))
}
