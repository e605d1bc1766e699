//! Keys, read when a session is built: files of the projected Secrets, or environment variables beside `--file`.

use std::{
    env, fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use secrecy::{SecretString, zeroize::Zeroizing};

use crate::api::SecretKeyRef;

/// Bytes a key may have: more goes into no header.
const MAX_KEY: u64 = 16 * 1024;
/// What some editors write before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where keys are.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Files `DIR/SECRET/KEY`.
    Directory(PathBuf),
    /// Variables `SECRET_KEY` in upper case, `-` and `.` written as `_`.
    Environment,
}

/// Why there is no key. The messages never hold the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("the key {key} of Secret {secret} is missing: {place} is not there")]
    Missing {
        /// Name of the Secret.
        secret: String,
        /// Key inside it.
        key: String,
        /// File or variable looked at.
        place: String,
    },
    /// Something is there that cannot be read.
    #[error("{place} cannot be read: {error}")]
    Unreadable {
        /// File or variable looked at.
        place: String,
        /// Why.
        error: String,
    },
    /// Something is there that no HTTP header carries.
    #[error("{place} holds no usable key: {fault}")]
    Unusable {
        /// File or variable looked at.
        place: String,
        /// What is wrong with it.
        fault: KeyFault,
    },
}

/// What is wrong with a key, told without a character of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// Nothing but white space.
    Empty,
    /// Several lines or words.
    WhiteSpace,
    /// A character outside visible ASCII, at this byte.
    Character(usize),
    /// Larger than any key.
    TooLarge,
    /// A folder, a pipe, a device.
    NoFile,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::WhiteSpace => f.write_str("it has white space inside; a key is one word on one line"),
            Self::Character(at) => write!(
                f,
                "byte {at} is no visible ASCII character; was it saved as UTF-16 or encoded twice?"
            ),
            Self::TooLarge => write!(f, "it is larger than {MAX_KEY} bytes"),
            Self::NoFile => f.write_str("it is no regular file"),
        }
    }
}

type Bytes = Zeroizing<Vec<u8>>;

enum Unread {
    Io(io::Error),
    Fault(KeyFault),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Keys {
    /// Reads one key; white space around it and a byte order mark are dropped.
    pub fn read(&self, reference: &SecretKeyRef) -> Result<SecretString, KeyError> {
        let (place, found) = match self {
            Self::Directory(folder) => {
                let file = folder.join(&reference.name).join(&reference.key);
                (file.display().to_string(), from_file(&file))
            }
            Self::Environment => from_env(variable(reference)),
        };
        let key = found.and_then(|bytes| usable(&bytes).map_err(Unread::Fault));
        key.map_err(|unread| match unread {
            Unread::Io(error) => unreadable(reference, place, &error),
            Unread::Fault(fault) => KeyError::Unusable { place, fault },
        })
    }
}

/// The key alone; `fault` counts bytes from 1.
fn usable(bytes: &[u8]) -> Result<SecretString, KeyFault> {
    let (text, skipped) = match bytes.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => (text, BYTE_ORDER_MARK.len()),
        None => (bytes, 0),
    };
    let key = text.trim_ascii();
    if key.is_empty() {
        return Err(KeyFault::Empty);
    }
    let skipped = skipped + text.len() - text.trim_ascii_start().len();
    // A file of credentials has lines; who cannot use one says so.
    let is_file = key.starts_with(b"{");
    let allowed = |b: &u8| b.is_ascii_graphic() || (is_file && b.is_ascii_whitespace());
    match key.iter().position(|b| !allowed(b)) {
        Some(at) if key.get(at).is_some_and(u8::is_ascii_whitespace) => Err(KeyFault::WhiteSpace),
        Some(at) => Err(KeyFault::Character(skipped + at + 1)),
        None => std::str::from_utf8(key)
            .map(SecretString::from)
            .map_err(|_| KeyFault::Character(skipped + 1)),
    }
}

/// At most so much as a key may have: what is mounted is a namespace's own. A pipe would never end.
fn from_file(file: &Path) -> Result<Bytes, Unread> {
    let found = fs::metadata(file)?;
    if !found.is_file() {
        return Err(Unread::Fault(KeyFault::NoFile));
    }
    // All of it at once: a buffer that grows would leave copies behind.
    let size = usize::try_from(found.len().min(MAX_KEY)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    fs::File::open(file)?.take(MAX_KEY + 1).read_to_end(&mut bytes)?;
    limited(bytes)
}

fn limited(bytes: Bytes) -> Result<Bytes, Unread> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_KEY) {
        Ok(bytes)
    } else {
        Err(Unread::Fault(KeyFault::TooLarge))
    }
}

fn from_env(name: String) -> (String, Result<Bytes, Unread>) {
    let text = match env::var(&name) {
        Ok(text) => limited(Zeroizing::new(text.into_bytes())),
        Err(env::VarError::NotPresent) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        Err(env::VarError::NotUnicode(_)) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    };
    (format!("the environment variable {name}"), text)
}

fn unreadable(reference: &SecretKeyRef, place: String, error: &io::Error) -> KeyError {
    match error.kind() {
        io::ErrorKind::NotFound => KeyError::Missing {
            secret: reference.name.clone(),
            key: reference.key.clone(),
            place,
        },
        kind => KeyError::Unreadable {
            place,
            error: kind.to_string(),
        },
    }
}

fn variable(reference: &SecretKeyRef) -> String {
    format!("{}_{}", reference.name, reference.key)
        .to_ascii_uppercase()
        .replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn reference() -> SecretKeyRef {
        SecretKeyRef {
            name: "open-ai.test".into(),
            key: "api-key".into(),
        }
    }

    #[test]
    fn variables_are_named_after_secret_and_key() {
        assert_eq!(variable(&reference()), "OPEN_AI_TEST_API_KEY");
    }

    #[test]
    fn a_file_is_read_without_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::Directory(folder.path().to_owned());
        assert!(matches!(keys.read(&reference()), Err(KeyError::Missing { .. })));
        fs::create_dir(folder.path().join("open-ai.test")).unwrap();
        let file = folder.path().join("open-ai.test/api-key");
        fs::write(&file, "sk-test\n").unwrap();
        assert_eq!(keys.read(&reference()).unwrap().expose_secret(), "sk-test");
        fs::write(&file, b"\xef\xbb\xbf  sk-test\r\n").unwrap();
        assert_eq!(keys.read(&reference()).unwrap().expose_secret(), "sk-test");
    }

    #[test]
    fn what_is_no_key_is_told_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::Directory(folder.path().to_owned());
        fs::create_dir(folder.path().join("open-ai.test")).unwrap();
        let file = folder.path().join("open-ai.test/api-key");
        let fault = || match keys.read(&reference()) {
            Err(error @ KeyError::Unusable { fault, .. }) => {
                let text = error.to_string();
                assert!(
                    !text.contains("hunter") && text.contains("open-ai.test/api-key"),
                    "{text}"
                );
                fault
            }
            other => panic!("{other:?}"),
        };
        let large = "x".repeat(16 * 1024 + 1);
        let wide: Vec<u8> = "hunter2".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bad, expected) in [
            (&b""[..], KeyFault::Empty),
            (b"\xef\xbb\xbf\n", KeyFault::Empty),
            (b"hunter2\nhunter3", KeyFault::WhiteSpace),
            (b"hunter2 # mine", KeyFault::WhiteSpace),
            ("\nhunt\u{e4}r2".as_bytes(), KeyFault::Character(6)),
            (b"hunter\0", KeyFault::Character(7)),
            (&wide, KeyFault::Character(2)),
            (large.as_bytes(), KeyFault::TooLarge),
        ] {
            fs::write(&file, bad).unwrap();
            assert_eq!(fault(), expected);
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(fault(), KeyFault::NoFile);
    }
}
