//! What a file's bytes must come to.

use std::fmt::Write as _;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// A file's fingerprint in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the bytes: of a spec, and of large files of the hub.
    Sha256(String),
    /// Git's own name of the bytes: of small files of the hub.
    GitBlob(String),
}

impl Digest {
    /// The digits.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }
}

/// Takes a file's bytes in order.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Of a file of `size` bytes, which is part of what Git hashes.
    pub fn new(digest: &Digest, size: Option<u64>) -> Self {
        match digest {
            Digest::Sha256(_) => Self(Context::new(&SHA256)),
            Digest::GitBlob(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {}\0", size.unwrap_or_default()).as_bytes());
                Self(context)
            }
        }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// What they came to.
    pub fn hex(self) -> String {
        self.0.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
            // A String takes every text.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: &Digest, text: &str) -> String {
        let mut hasher = Hasher::new(digest, Some(text.len() as u64));
        let (one, other) = text.as_bytes().split_at(text.len() / 2);
        hasher.update(one);
        hasher.update(other);
        hasher.hex()
    }

    /// `printf 'hello\n' | sha256sum`, `printf 'hello\n' | git hash-object --stdin`.
    #[test]
    fn both_kinds_are_what_their_programs_say() {
        assert_eq!(
            hex(&Digest::Sha256(String::new()), "hello\n"),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
        assert_eq!(
            hex(&Digest::GitBlob(String::new()), "hello\n"),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
    }
}
