//! Parts of a message's content as blocks.

use super::chat::{Content, File, ImageUrl, Part};
use super::named::{NOT_OFFERED, Object, wrong};
use super::request::{Block, Source};
use crate::runtime::remote::wire::Inexpressible;

/// What the parts of a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// System messages.
    Text,
    /// Assistant messages.
    TextAndRefusals,
    /// Tool messages: Anthropic takes images among results.
    TextAndImages,
    /// User messages.
    All,
}

/// The blocks of a message's content at `path`. Empty text has no block.
pub(super) fn blocks<'a>(
    content: Option<&'a Content<'a>>,
    allowed: Allowed,
    path: &str,
) -> Result<Vec<Block<'a>>, Inexpressible> {
    match content {
        None => Ok(Vec::new()),
        Some(Content::Text(text)) => Ok(self::text(text.as_str(), None).into_iter().collect()),
        Some(Content::Parts(parts)) => parts
            .iter()
            .enumerate()
            .filter_map(|(i, Object(part))| block(part, allowed, &format!("{path}[{i}]")).transpose())
            .collect(),
    }
}

/// A block of text, unless it is empty.
pub(super) fn text<'a>(text: &'a str, cache_control: Option<&'a serde_json::value::RawValue>) -> Option<Block<'a>> {
    (!text.is_empty()).then_some(Block::Text { text, cache_control })
}

fn block<'a>(part: &'a Part<'a>, allowed: Allowed, path: &str) -> Result<Option<Block<'a>>, Inexpressible> {
    let kind = part.kind.as_str();
    let fits = match kind {
        "text" => true,
        "refusal" => allowed == Allowed::TextAndRefusals,
        "image_url" => matches!(allowed, Allowed::TextAndImages | Allowed::All),
        "file" => allowed == Allowed::All,
        "input_audio" => return Err(wrong(format!("{path}.input_audio"), NOT_OFFERED)),
        _ => false,
    };
    if !fits {
        return Err(wrong(
            format!("{path}.type"),
            format!("is {kind:?}, which Anthropic does not take in such a message"),
        ));
    }
    alone(part, path)?;
    let missing = || wrong(format!("{path}.{kind}"), "is required");
    let cache_control = part.cache_control;
    Ok(match kind {
        "text" => text(part.text.as_ref().ok_or_else(missing)?.as_str(), cache_control),
        "refusal" => text(part.refusal.as_ref().ok_or_else(missing)?.as_str(), cache_control),
        "image_url" => {
            let Object(image) = part.image_url.as_ref().ok_or_else(missing)?;
            let source = source(image, &format!("{path}.image_url"))?;
            Some(Block::Image { source, cache_control })
        }
        _ => {
            let Object(file) = part.file.as_ref().ok_or_else(missing)?;
            let title = file.filename.as_ref().map(super::Text::as_str);
            let source = document(file, &format!("{path}.file"))?;
            Some(Block::Document {
                source,
                title,
                cache_control,
            })
        }
    })
}

/// A part has no field of another type.
fn alone(part: &Part<'_>, path: &str) -> Result<(), Inexpressible> {
    let given = [
        ("text", part.text.is_some()),
        ("refusal", part.refusal.is_some()),
        ("image_url", part.image_url.is_some()),
        ("file", part.file.is_some()),
        ("input_audio", part.input_audio.is_some()),
    ];
    let kind = part.kind.as_str();
    match given.into_iter().find(|(name, given)| *given && *name != kind) {
        Some((name, _)) => Err(wrong(
            format!("{path}.{name}"),
            format!("does not belong to a part of type {kind:?}: leave it out"),
        )),
        None => Ok(()),
    }
}

/// Anthropic looks at every image in full: `high` and `auto` are that, `low` cannot be said.
fn source<'a>(image: &'a ImageUrl<'a>, path: &str) -> Result<Source<'a>, Inexpressible> {
    if let Some(detail) = image.detail.as_ref().filter(|d| !matches!(d.as_str(), "auto" | "high")) {
        return Err(wrong(
            format!("{path}.detail"),
            format!("must be auto or high for Anthropic, it is {:?}", detail.as_str()),
        ));
    }
    let url = image.url.as_str();
    let path = format!("{path}.url");
    if starts_with(url, "https://") || starts_with(url, "http://") {
        return Ok(Source::Url { url });
    }
    let (media_type, data) =
        data_url(url).ok_or_else(|| wrong(&path, "must be an http or https URL or data:image/…;base64,…"))?;
    let media_type = match media_type.to_ascii_lowercase().as_str() {
        "image/jpeg" | "image/jpg" => "image/jpeg",
        "image/png" => "image/png",
        "image/gif" => "image/gif",
        "image/webp" => "image/webp",
        _ => return Err(wrong(path, "must be a JPEG, PNG, GIF or WebP image for Anthropic")),
    };
    Ok(Source::Base64 { media_type, data })
}

fn document<'a>(file: &'a File<'a>, path: &str) -> Result<Source<'a>, Inexpressible> {
    if file.id.is_some() {
        return Err(wrong(
            format!("{path}.file_id"),
            "names a file kept at OpenAI: send its content in file_data",
        ));
    }
    let data = file
        .data
        .as_ref()
        .ok_or_else(|| wrong(format!("{path}.file_data"), "is required"))?;
    data_url(data.as_str())
        .filter(|(media_type, _)| media_type.eq_ignore_ascii_case("application/pdf"))
        .map(|(_, data)| Source::Base64 {
            media_type: "application/pdf",
            data,
        })
        .ok_or_else(|| {
            wrong(
                format!("{path}.file_data"),
                "must be data:application/pdf;base64,…: Anthropic takes PDF files only",
            )
        })
}

/// Media type, its parameters aside, and base64 text of a `data:` URL.
fn data_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.get(5..).filter(|_| starts_with(url, "data:"))?;
    let (kind, data) = rest.split_once(',')?;
    let kind = kind
        .get(..kind.len().checked_sub(7)?)
        .filter(|_| kind.to_ascii_lowercase().ends_with(";base64"))?;
    Some((kind.split(';').next().unwrap_or(kind), data))
}

/// Schemes of URLs have no case.
fn starts_with(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}
