//! The Hugging Face hub, purely: its addresses, what it says of a repository, and which of its files a model is.

use http::Uri;
use serde::Deserialize;

use super::{
    address::{absolute, part, path},
    digest::Digest,
    error::SourceError,
    plan::{Wanted, safe},
};
use crate::api::{EngineKind, HuggingFaceSource};

/// The revision of a repository when the spec names none.
const MAIN: &str = "main";
/// Weights for other frameworks than those that read safetensors.
const OTHER_WEIGHTS: [&str; 10] = [
    ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ot", ".tflite", ".gguf", ".ckpt",
];

/// Folders that hold the same weights once more, for the maker's own code: Meta's and gpt-oss's, and gpt-oss's for Apple.
const OTHER_FORMS: [&str; 2] = ["original/", "metal/"];

/// A repository of the spec.
#[derive(Clone, Copy)]
pub struct Repository<'a> {
    /// Address of the hub, without a slash at its end.
    pub endpoint: &'a str,
    /// The spec.
    pub source: &'a HuggingFaceSource,
}

impl Repository<'_> {
    /// The revision that is asked for.
    pub fn revision(&self) -> &str {
        self.source.revision.as_deref().unwrap_or(MAIN)
    }

    /// The commit when the spec names one: nothing has to be asked for it.
    pub fn pinned(&self) -> Option<&str> {
        Some(self.revision()).filter(|revision| is_commit(revision))
    }

    /// Where it is told which commit the revision is, and its files.
    pub fn listing(&self) -> Result<Uri, SourceError> {
        let Self { endpoint, source } = self;
        let (name, revision) = (path(&source.repository), part(self.revision()));
        absolute(&format!("{endpoint}/api/models/{name}/revision/{revision}?blobs=true"))
    }

    /// Where a file of a commit is.
    pub fn file(&self, commit: &str, file: &str) -> Result<Uri, SourceError> {
        let Self { endpoint, source } = self;
        let name = path(&source.repository);
        absolute(&format!("{endpoint}/{name}/resolve/{commit}/{}", path(file)))
    }

    /// For people.
    pub fn shown(&self) -> String {
        format!(
            "repository {} at revision {} of {}",
            self.source.repository,
            self.revision(),
            self.endpoint
        )
    }

    /// The files of `listing` that the model of `engine` is, with the addresses they have.
    pub fn wanted(&self, listing: &Listing, engine: EngineKind) -> Result<Vec<Wanted>, SourceError> {
        if !is_commit(&listing.sha) {
            return Err(self.unreadable("it names no commit"));
        }
        let chosen: Vec<&Sibling> = match &self.source.file {
            Some(file) => shards(file)
                .iter()
                .map(|shard| listing.find(shard).ok_or_else(|| self.missing(shard)))
                .collect::<Result<_, _>>()?,
            None => listing.snapshot(engine),
        };
        if chosen.is_empty() {
            return Err(self.unreadable("it has no files"));
        }
        chosen
            .into_iter()
            .map(|sibling| self.want(&listing.sha, sibling))
            .collect()
    }

    fn want(&self, commit: &str, sibling: &Sibling) -> Result<Wanted, SourceError> {
        let digest = sibling
            .digest()
            .ok_or_else(|| self.unreadable(&format!("it gives no checksum of {}", sibling.rfilename)))?;
        Ok(Wanted {
            path: safe(&sibling.rfilename)?.to_owned(),
            size: Some(sibling.size()),
            digest,
            url: self.file(commit, &sibling.rfilename)?,
        })
    }

    fn missing(&self, file: &str) -> SourceError {
        SourceError::NotFound {
            what: format!("file {file} in {}", self.shown()),
            said: String::new(),
        }
    }

    /// The hub's answer cannot be used.
    pub fn unreadable(&self, why: &str) -> SourceError {
        SourceError::Answer {
            what: self.shown(),
            why: format!("the hub's answer cannot be used: {why}"),
        }
    }
}

/// 40 hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What the hub says of a revision.
#[derive(Debug, Deserialize)]
pub struct Listing {
    /// The commit.
    pub sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Sibling {
    fn size(&self) -> u64 {
        self.lfs.as_ref().map_or(self.size.unwrap_or_default(), |lfs| lfs.size)
    }

    fn digest(&self) -> Option<Digest> {
        match (&self.lfs, &self.blob_id) {
            (Some(lfs), _) => Some(Digest::Sha256(lfs.sha256.clone())),
            // Its size is part of what it is the checksum of.
            (None, Some(blob)) => self.size.map(|_| Digest::GitBlob(blob.clone())),
            (None, None) => None,
        }
    }
}

impl Listing {
    fn find(&self, file: &str) -> Option<&Sibling> {
        self.siblings.iter().find(|sibling| sibling.rfilename == file)
    }

    /// What an engine reads of the whole. vLLM and SGLang read safetensors where there are some; the same weights for other frameworks
    /// would be downloaded for nothing. What engine Custom reads is not known.
    fn snapshot(&self, engine: EngineKind) -> Vec<&Sibling> {
        let other_form = |name: &str| OTHER_FORMS.iter().any(|folder| name.starts_with(folder));
        let read = |name: &str| name.ends_with(".safetensors") && !other_form(name);
        let has_safetensors = self.siblings.iter().any(|s| read(&s.rfilename));
        let choosy = matches!(engine, EngineKind::VLLM | EngineKind::SGLang) && has_safetensors;
        let other = |name: &str| other_form(name) || OTHER_WEIGHTS.iter().any(|ending| name.ends_with(ending));
        let wanted = |s: &&Sibling| s.rfilename != ".gitattributes" && !(choosy && other(&s.rfilename));
        self.siblings.iter().filter(wanted).collect()
    }
}

/// All parts of a file that is the first of several, `NAME-00001-of-00003.gguf`: llama.cpp finds the others beside it.
pub fn shards(file: &str) -> Vec<String> {
    let several = || {
        let stem = file.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (name, first) = rest.rsplit_once('-')?;
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 5);
        let (count, 1) = (number(count)?, number(first)?) else {
            return None;
        };
        let shard = |n| format!("{name}-{n:05}-of-{count:05}.gguf");
        (1..=1000).contains(&count).then(|| (1..=count).map(shard).collect())
    };
    several().unwrap_or_else(|| vec![file.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn source(json: serde_json::Value) -> HuggingFaceSource {
        serde_json::from_value(json).unwrap()
    }

    /// In the shape that the hub answers with, shortened.
    fn listing() -> Listing {
        serde_json::from_value(serde_json::json!({
            "id": "o/r", "sha": COMMIT, "private": false, "gated": "manual",
            "siblings": [
                {"rfilename": ".gitattributes", "size": 1, "blobId": "aa"},
                {"rfilename": "config.json", "size": 12, "blobId": "bb"},
                {"rfilename": "model.safetensors", "size": 99, "blobId": "cc", "lfs": {"sha256": "dd", "size": 100, "pointerSize": 134}},
                {"rfilename": "metal/model.bin", "size": 99, "blobId": "gg", "lfs": {"sha256": "hh", "size": 100, "pointerSize": 134}},
                {"rfilename": "original/model.safetensors", "size": 99, "blobId": "ii", "lfs": {"sha256": "jj", "size": 100, "pointerSize": 134}},
                {"rfilename": "pytorch_model.bin", "size": 99, "blobId": "ee", "lfs": {"sha256": "ff", "size": 100, "pointerSize": 134}},
            ],
        }))
        .unwrap()
    }

    fn names(json: serde_json::Value, engine: EngineKind) -> Result<Vec<String>, String> {
        let source = source(json);
        let repository = Repository {
            endpoint: "https://hub.example",
            source: &source,
        };
        let wanted = repository
            .wanted(&listing(), engine)
            .map_err(|error| error.to_string())?;
        Ok(wanted.into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn addresses_are_those_of_the_hub() {
        let source = source(serde_json::json!({"repository": "o/r", "revision": "refs/pr/1"}));
        let repository = Repository {
            endpoint: "https://hub.example/mirror",
            source: &source,
        };
        assert_eq!(
            repository.listing().unwrap(),
            "https://hub.example/mirror/api/models/o/r/revision/refs%2Fpr%2F1?blobs=true"
        );
        assert_eq!(
            repository.file(COMMIT, "a/b c.gguf").unwrap(),
            format!("https://hub.example/mirror/o/r/resolve/{COMMIT}/a/b%20c.gguf").as_str()
        );
        assert_eq!(repository.pinned(), None);
    }

    #[test]
    fn a_file_is_wanted_with_its_checksum() {
        let source = source(serde_json::json!({"repository": "o/r", "file": "model.safetensors"}));
        let repository = Repository {
            endpoint: "https://h",
            source: &source,
        };
        let wanted = repository.wanted(&listing(), EngineKind::LlamaCpp).unwrap();
        assert_eq!(wanted.len(), 1);
        assert_eq!(
            (wanted[0].size, &wanted[0].digest),
            (Some(100), &Digest::Sha256("dd".into()))
        );
        let missing = names(
            serde_json::json!({"repository": "o/r", "file": "x.gguf"}),
            EngineKind::LlamaCpp,
        );
        assert_eq!(
            missing.unwrap_err(),
            "file x.gguf in repository o/r at revision main of https://hub.example does not exist; check source"
        );
    }

    #[test]
    fn a_snapshot_is_what_the_engine_reads() {
        let whole = serde_json::json!({"repository": "o/r"});
        assert_eq!(
            names(whole.clone(), EngineKind::VLLM).unwrap(),
            ["config.json", "model.safetensors"]
        );
        assert_eq!(
            names(whole, EngineKind::Custom).unwrap(),
            [
                "config.json",
                "model.safetensors",
                "metal/model.bin",
                "original/model.safetensors",
                "pytorch_model.bin"
            ]
        );
    }

    #[test]
    fn a_snapshot_without_safetensors_of_its_own_is_whole() {
        let siblings = ["config.json", "original/model.safetensors", "pytorch_model.bin"]
            .map(|name| serde_json::json!({"rfilename": name, "size": 1, "blobId": "aa"}));
        let listing: Listing =
            serde_json::from_value(serde_json::json!({"sha": COMMIT, "siblings": siblings})).unwrap();
        assert_eq!(listing.snapshot(EngineKind::VLLM).len(), 3);
    }

    #[test]
    fn a_file_in_parts_is_all_of_them() {
        assert_eq!(
            shards("q/m-00001-of-00003.gguf"),
            [
                "q/m-00001-of-00003.gguf",
                "q/m-00002-of-00003.gguf",
                "q/m-00003-of-00003.gguf"
            ]
        );
        for alone in [
            "m.gguf",
            "m-00002-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-00000.gguf",
        ] {
            assert_eq!(shards(alone), [alone]);
        }
    }

    #[test]
    fn a_hub_that_lists_a_path_out_of_the_folder_is_refused() {
        let source = source(serde_json::json!({"repository": "o/r"}));
        let repository = Repository {
            endpoint: "https://h",
            source: &source,
        };
        for path in ["../x", "/etc/x", "a/../../x", "a//b", "", "a/.inference-x"] {
            let listing =
                serde_json::json!({"sha": COMMIT, "siblings": [{"rfilename": path, "size": 1, "blobId": "aa"}]});
            let listing: Listing = serde_json::from_value(listing).unwrap();
            let error = repository.wanted(&listing, EngineKind::Custom).unwrap_err();
            assert!(matches!(error, SourceError::Path(_)), "{path}: {error}");
        }
    }
}
