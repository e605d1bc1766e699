//! Addresses: of what is asked for, and where an answer sends on to.

use http::{Uri, uri::Authority};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::SourceError;

/// What stays as it is in one part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One part of a path: a slash in it is none of the path's.
pub fn part(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

/// A path of several parts.
pub fn path(text: &str) -> String {
    text.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// An absolute address.
pub fn absolute(text: &str) -> Result<Uri, SourceError> {
    let parsed: Option<Uri> = text.parse().ok();
    let known = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    parsed
        .filter(known)
        .ok_or_else(|| SourceError::Address(text.split('?').next().unwrap_or_default().to_owned()))
}

/// For people: without the query, which may be a signature, and without a user.
pub fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", Authority::as_str);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{}", uri.path())
}

/// Whether a credential for the one may be shown to the other.
pub fn same_origin(one: &Uri, other: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    (one.scheme(), host(one), port(one)) == (other.scheme(), host(other), port(other))
}

fn port(uri: &Uri) -> u16 {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    uri.port_u16().unwrap_or(usual)
}

/// Where `location`, said in an answer from `base`, leads to; `None` when it is no address, or would leave TLS.
pub fn follow(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let whole = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let (folder, _) = base.path().rsplit_once('/')?;
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let target = absolute(&whole).ok()?;
    let leaves_tls = scheme == "https" && target.scheme_str() != Some("https");
    (!leaves_tls).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_credential_stays_at_its_origin() {
        let hub = uri("https://huggingface.co/a");
        for (other, same) in [
            ("https://huggingface.co:443/b", true),
            ("https://HuggingFace.co/b", true),
            ("https://cdn.huggingface.co/b", false),
            ("https://huggingface.co:8443/b", false),
            ("http://huggingface.co/b", false),
        ] {
            assert_eq!(same_origin(&hub, &uri(other)), same, "{other}");
        }
    }

    #[test]
    fn redirects_are_followed_from_where_they_are_said() {
        let base = uri("https://hub.example/o/r/resolve/main/f?x=1");
        for (location, target) in [
            ("https://cdn.example/f?sig=a#top", Some("https://cdn.example/f?sig=a")),
            ("/api/resolve-cache/f", Some("https://hub.example/api/resolve-cache/f")),
            ("//cdn.example/f", Some("https://cdn.example/f")),
            ("g", Some("https://hub.example/o/r/resolve/main/g")),
            ("http://cdn.example/f", None),
            ("ftp://cdn.example/f", None),
            ("file:///etc/passwd", None),
        ] {
            assert_eq!(follow(&base, location), target.map(uri), "{location}");
        }
    }

    #[test]
    fn a_signature_is_never_shown() {
        assert_eq!(
            shown(&uri("https://u:p@s3.example/m.gguf?X-Sig=secret")),
            "https://s3.example/m.gguf"
        );
        let error = absolute("ftp://a/b?secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_slash_in_a_revision_is_no_slash_of_the_path() {
        assert_eq!(part("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(path("a b/c#d.gguf"), "a%20b/c%23d.gguf");
    }
}
