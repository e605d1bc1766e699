//! Images, audio and files: data in the request, or an address that Google fetches from.

use serde::Serialize;

use super::{Inexpressible, refused, request};

/// Data in the request; Base64, not looked into.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

/// Data that Google fetches.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileData<'a> {
    mime_type: &'static str,
    file_uri: &'a str,
}

/// Either.
#[derive(Debug)]
pub(super) enum Media<'a> {
    Inline(Blob<'a>),
    Address(FileData<'a>),
}

/// Types that Gemini reads, by the ending of an address. It wants to be told the type.
const TYPES: [(&str, &str); 7] = [
    (".png", "image/png"),
    (".jpg", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".webp", "image/webp"),
    (".heic", "image/heic"),
    (".heif", "image/heif"),
    (".gif", "image/gif"),
];

/// `image_url`; `path` names it.
pub(super) fn image<'a>(image: &'a request::ImageUrl<'_>, path: &str) -> Result<Media<'a>, Inexpressible> {
    if image.detail.as_ref().is_some_and(|detail| detail.0 != "auto") {
        let message = "is not offered by Gemini: leave it out or send auto";
        return Err(refused(format!("{path}.detail"), message));
    }
    let url = image.url.as_ref();
    let at = format!("{path}.url");
    if has_scheme(url, "data:") {
        let blob = data_url(url, at.clone())?;
        if !has_scheme(blob.mime_type, "image/") {
            return Err(refused(at, "must hold an image: send another file as file_data"));
        }
        return Ok(Media::Inline(blob));
    }
    if !has_scheme(url, "https:") && !has_scheme(url, "gs:") {
        return Err(refused(at, "must be a data:, https: or gs: URL"));
    }
    let mime_type = type_of(url).ok_or_else(|| {
        refused(
            at,
            "does not end in .png, .jpg, .jpeg, .webp, .heic, .heif or .gif, so its type is unknown: send the image as a data: URL",
        )
    })?;
    Ok(Media::Address(FileData {
        mime_type,
        file_uri: url,
    }))
}

/// `file`; `path` names it.
pub(super) fn file<'a>(file: &'a request::Document<'_>, path: &str) -> Result<Blob<'a>, Inexpressible> {
    if file.file_id.is_some() {
        let message = "names a file that Gemini does not have: send its content as file_data";
        return Err(refused(format!("{path}.file_id"), message));
    }
    let at = format!("{path}.file_data");
    match &file.file_data {
        Some(data) => data_url(&data.0, at),
        None => Err(refused(at, "is required: the file as a data: URL")),
    }
}

/// `input_audio`; `path` names it.
pub(super) fn audio<'a>(audio: &'a request::InputAudio<'_>, path: &str) -> Result<Blob<'a>, Inexpressible> {
    let mime_type = match audio.format.as_ref() {
        "wav" => "audio/wav",
        "mp3" => "audio/mp3",
        "aiff" => "audio/aiff",
        "aac" => "audio/aac",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        _ => {
            let message = "must be one that Gemini reads: wav, mp3, aiff, aac, ogg or flac";
            return Err(refused(format!("{path}.format"), message));
        }
    };
    Ok(Blob {
        mime_type,
        data: &audio.data,
    })
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme))
}

/// `data:TYPE[;PARAMETER…];base64,DATA`.
fn data_url(url: &str, at: String) -> Result<Blob<'_>, Inexpressible> {
    let parts = url.split_once(',').and_then(|(head, data)| {
        let (head, encoding) = head.rsplit_once(';')?;
        let mime_type = head.get("data:".len()..)?.split(';').next()?;
        let known = has_scheme(head, "data:") && mime_type.contains('/') && encoding.eq_ignore_ascii_case("base64");
        known.then_some(Blob { mime_type, data })
    });
    parts.ok_or_else(|| refused(at, "must be a URL of the form data:TYPE;base64,DATA"))
}

fn type_of(url: &str) -> Option<&'static str> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let path = url.get(..end)?.to_ascii_lowercase();
    TYPES.iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, t)| *t)
}
