//! Why there is no model.

use std::{io, path::Path, time::Duration};

use crate::{
    api::SecretKeyRef,
    error::InferenceError,
    runtime::{config::KeyError, local::Verdict, remote::connect::NotAllowed},
};

/// Why a model could not be downloaded. Messages hold no token and no query of a URL, which may be a signature.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// A path that would lead out of the model's folder.
    #[error("{0:?} is no path of a file inside a repository")]
    Path(String),
    /// An address that is none.
    #[error("{0:?} is no http or https address")]
    Address(String),
    /// The token cannot be read.
    #[error("{0}; it is the token of source.huggingFace.tokenSecret")]
    Token(#[from] KeyError),
    /// 401 and 403.
    #[error("{what}: refused with status {status}{}; {}", words(.said), remedy(.secret.as_ref(), *.status))]
    Refused {
        /// What was asked for.
        what: String,
        /// 401 or 403.
        status: u16,
        /// What the server says.
        said: String,
        /// Where the token is that was shown; none was when absent.
        secret: Option<SecretKeyRef>,
    },
    /// 404 and its like.
    #[error("{what} does not exist{}; check source", words(.said))]
    NotFound {
        /// What was asked for.
        what: String,
        /// What the server says.
        said: String,
    },
    /// An address that the operator does not allow.
    #[error("{0}")]
    NotAllowed(#[from] NotAllowed),
    /// Redirects without an end, or to where nothing may be sent.
    #[error("{what}: {why}")]
    Redirect {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The disk is too small.
    #[error(
        "no space: {needed} bytes are still to be downloaded and {free} are free in {folder}; give the volume or the node more room"
    )]
    NoSpace {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
        /// Where.
        folder: String,
    },
    /// Other bytes than expected, twice.
    #[error("{file} has the checksum {found} and not {wanted}; it was deleted")]
    Checksum {
        /// The file.
        file: String,
        /// Hexadecimal digits.
        wanted: String,
        /// Hexadecimal digits.
        found: String,
    },
    /// The file system refuses.
    #[error("{path}: {cause}")]
    Disk {
        /// The file.
        path: String,
        /// What the system says.
        cause: String,
    },
    /// An answer that is none of the hub's.
    #[error("{what}: {why}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// Worth another try.
    #[error("{what}: {why}")]
    Interrupted {
        /// What was asked for.
        what: String,
        /// What happened.
        why: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
}

fn words(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" ({said})")
    }
}

fn remedy(secret: Option<&SecretKeyRef>, status: u16) -> String {
    match (secret, status) {
        (None, _) => "set source.huggingFace.tokenSecret to a token that may read it".to_owned(),
        (Some(SecretKeyRef { name, key }), 401) => format!("put a valid token into key {key} of Secret {name}"),
        (Some(SecretKeyRef { name, key }), _) => {
            format!("let the owner of the token in key {key} of Secret {name} ask for access")
        }
    }
}

impl SourceError {
    /// What the file system says of `path`.
    #[must_use]
    pub fn disk(path: &Path, error: &io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::NoSpace {
                needed: 1,
                free: 0,
                folder: path.parent().unwrap_or(path).display().to_string(),
            };
        }
        Self::Disk {
            path: path.display().to_string(),
            cause: error.to_string(),
        }
    }

    /// The verdict on a pod whose model could not be had.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Path(_) | Self::Address(_) | Self::NotAllowed(_) => Verdict::InvalidSpec,
            Self::Token(_) | Self::Refused { .. } => Verdict::DownloadUnauthorized,
            Self::NotFound { .. } => Verdict::DownloadNotFound,
            Self::NoSpace { .. } => Verdict::DownloadNoSpace,
            Self::Checksum { .. } => Verdict::DownloadChecksumMismatch,
            Self::Redirect { .. } | Self::Disk { .. } | Self::Answer { .. } | Self::Interrupted { .. } => {
                Verdict::DownloadFailed
            }
        }
    }

    /// In the terms of the error contract (design section 5): none of them is the fault of a caller.
    #[must_use]
    pub fn contract(&self) -> InferenceError {
        let message = format!("the model cannot be downloaded: {self}");
        match self {
            Self::Token(_) | Self::Refused { status: 401, .. } => InferenceError::Unauthorized { message },
            Self::Refused { .. } | Self::NotAllowed(_) => InferenceError::Forbidden { message },
            Self::Interrupted { .. } | Self::Redirect { .. } => InferenceError::NetworkError { message },
            _ => InferenceError::Internal { message },
        }
    }
}
