//! Keys, read when a session is built: files of the projected Secrets, or environment variables beside `--file`.

use std::{env, fs, io, path::PathBuf};

use secrecy::SecretString;

use crate::api::SecretKeyRef;

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
    /// Empty, or with characters that no HTTP header carries.
    #[error("{place} holds no usable key: it must be one non-empty line of visible ASCII characters")]
    Unusable {
        /// File or variable looked at.
        place: String,
    },
}

impl Keys {
    /// Reads one key; white space around it is dropped.
    pub fn read(&self, reference: &SecretKeyRef) -> Result<SecretString, KeyError> {
        let (place, text) = match self {
            Self::Directory(folder) => {
                let file = folder.join(&reference.name).join(&reference.key);
                let text = fs::read_to_string(&file);
                (file.display().to_string(), text)
            }
            Self::Environment => from_env(variable(reference)),
        };
        let text = text.map_err(|error| unreadable(reference, &place, &error))?;
        usable(text.trim(), place)
    }
}

fn usable(key: &str, place: String) -> Result<SecretString, KeyError> {
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(KeyError::Unusable { place });
    }
    Ok(SecretString::from(key))
}

fn from_env(name: String) -> (String, io::Result<String>) {
    let text = env::var(&name).map_err(|error| match error {
        env::VarError::NotPresent => io::ErrorKind::NotFound.into(),
        env::VarError::NotUnicode(_) => io::Error::from(io::ErrorKind::InvalidData),
    });
    (format!("the environment variable {name}"), text)
}

fn unreadable(reference: &SecretKeyRef, place: &str, error: &io::Error) -> KeyError {
    match error.kind() {
        io::ErrorKind::NotFound => KeyError::Missing {
            secret: reference.name.clone(),
            key: reference.key.clone(),
            place: place.to_owned(),
        },
        kind => KeyError::Unreadable {
            place: place.to_owned(),
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
        for bad in ["", "\n", "two\nlines", "grün"] {
            fs::write(&file, bad).unwrap();
            assert!(
                matches!(keys.read(&reference()), Err(KeyError::Unusable { .. })),
                "{bad:?}"
            );
        }
    }
}
