//! Models that the runtime downloads before it starts the engine (design section 10).
//!
//! [`hub`], [`plan`] and [`address`] know what is to be had from where to where; [`client`] asks; [`transfer`] brings one file, by way of
//! [`part`], which gives a file its name only when it is whole and verified. A folder is of one revision, so that a volume may hold many
//! models and be shared by pods; [`lock`] keeps two processes apart.

mod address;
mod client;
mod digest;
mod error;
mod hub;
mod lock;
mod part;
mod plan;
mod progress;
mod transfer;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;

use self::{
    client::{Client, Token},
    digest::Digest,
    hub::{Listing, Repository, is_commit, shards},
    plan::{OWN, Plan, Wanted, check_space, name_of, safe},
    progress::Meter,
    transfer::{Transfer, Tries},
};
use super::{options::Options, view::EngineView};
use crate::{
    api::{EngineKind, HuggingFaceSource, LocalBackend, SecretKeyRef, UrlSource, names},
    policy::retry::RetryPolicy,
    runtime::config::Keys,
};

pub use client::Patience;
pub use error::SourceError;

/// What downloads need of the place.
#[derive(Clone, Debug)]
pub struct Means {
    /// Address of the Hugging Face hub, without a slash at its end.
    pub hub: String,
    /// Where the token is.
    pub keys: Keys,
    /// How long a server may take.
    pub patience: Patience,
    /// Tries without a byte in between.
    pub retry: RetryPolicy,
}

impl Default for Means {
    fn default() -> Self {
        Self {
            hub: names::HUGGING_FACE.to_owned(),
            keys: Keys::Environment,
            patience: Patience {
                connect: Duration::from_secs(10),
                silence: Duration::from_secs(60),
            },
            retry: RetryPolicy {
                max_retries: 8,
                initial_backoff: Duration::from_secs(1),
                max_backoff: Duration::from_secs(60),
            },
        }
    }
}

/// Downloads the model of `backend`; `None` when it is mounted, or there is none. Returns when it is there and verified, and its path.
pub async fn fetch(
    options: &Options,
    backend: &LocalBackend,
    view: &watch::Sender<EngineView>,
) -> Result<Option<PathBuf>, SourceError> {
    let mut fetcher = Fetcher {
        options,
        meter: Meter::new(view),
    };
    match backend
        .source
        .as_ref()
        .map(|source| (&source.url, &source.hugging_face))
    {
        Some((Some(url), _)) => fetcher.url(url).await.map(Some),
        Some((None, Some(repository))) => fetcher.repository(repository, backend.engine).await.map(Some),
        _ => Ok(None),
    }
}

struct Fetcher<'a> {
    options: &'a Options,
    meter: Meter<'a>,
}

impl Fetcher<'_> {
    async fn url(&mut self, source: &UrlSource) -> Result<PathBuf, SourceError> {
        let url = address::absolute(&source.location)?;
        let wanted = Wanted {
            path: name_of(&url),
            size: None,
            digest: Digest::Sha256(source.sha256.clone()),
            url,
        };
        let folder = self.options.models.join("url").join(&source.sha256);
        let place = wanted.place(&folder);
        if !wanted.is_there(&folder) {
            let client = self.client(None)?;
            let files = vec![wanted];
            self.obtain(&client, Plan { folder, files }).await?;
        }
        Ok(place)
    }

    async fn repository(&mut self, source: &HuggingFaceSource, engine: EngineKind) -> Result<PathBuf, SourceError> {
        let repository = Repository {
            endpoint: &self.options.source.hub,
            source,
        };
        let place = Place::new(&self.options.models, source, engine)?;
        if let Some(there) = repository.pinned().and_then(|commit| place.complete(commit)) {
            return Ok(there);
        }
        let client = self.client(source.token_secret.as_ref())?;
        let remembered = place.remembered(repository.revision());
        let listing = match list(&client, &repository).await {
            // What was downloaded once is served, though nobody can say whether the branch has moved.
            Err(SourceError::Interrupted { why, .. }) if remembered.is_some() => {
                tracing::warn!(
                    why,
                    "the hub does not answer: the revision that was downloaded last is taken"
                );
                return remembered.ok_or_else(|| repository.unreadable(&why));
            }
            Err(error) => self.list_again(&client, &repository, error).await?,
            Ok(listing) => listing,
        };
        let files = repository.wanted(&listing, engine)?;
        let folder = place.folder(&listing.sha);
        self.obtain(&client, Plan { folder, files }).await?;
        place.remember(repository.revision(), &listing.sha)
    }

    async fn list_again(
        &self,
        client: &Client,
        repository: &Repository<'_>,
        mut error: SourceError,
    ) -> Result<Listing, SourceError> {
        let mut tries = Tries::new(self.options.source.retry);
        loop {
            tries.next(error).await?;
            match list(client, repository).await {
                Err(next) => error = next,
                Ok(listing) => return Ok(listing),
            }
        }
    }

    /// With the token for the hub, read anew at every start of the process.
    fn client(&self, secret: Option<&SecretKeyRef>) -> Result<Client, SourceError> {
        let Means {
            hub, keys, patience, ..
        } = &self.options.source;
        let token = match secret {
            None => None,
            Some(secret) => {
                let (value, secret) = (keys.read(secret)?, secret.clone());
                Some((address::absolute(hub)?, Token { value, secret }))
            }
        };
        Client::new(self.options.allowed.clone(), *patience, token).map_err(|error| SourceError::Answer {
            what: "TLS".to_owned(),
            why: error.to_string(),
        })
    }

    /// All files of `plan`, whoever brings them.
    async fn obtain(&mut self, client: &Client, plan: Plan) -> Result<(), SourceError> {
        let folder = &plan.folder;
        fs::create_dir_all(folder).map_err(|error| SourceError::disk(folder, &error))?;
        let _locked = lock::lock(folder, || self.meter.set(plan.present(), plan.total())).await?;
        self.meter.set(plan.present(), plan.total());
        check_space(folder, plan.missing())?;
        let mut transfer = Transfer {
            client,
            retry: self.options.source.retry,
            meter: &mut self.meter,
        };
        for file in &plan.files {
            transfer.file(folder, file).await?;
        }
        Ok(())
    }
}

async fn list(client: &Client, repository: &Repository<'_>) -> Result<Listing, SourceError> {
    let answer = client.listing(&repository.listing()?, &repository.shown()).await?;
    serde_json::from_slice(&answer).map_err(|error| repository.unreadable(&error.to_string()))
}

/// Where a repository's revisions lie.
struct Place<'a> {
    home: PathBuf,
    file: Option<&'a str>,
    /// Left beside a snapshot that is whole.
    mark: &'static str,
}

impl<'a> Place<'a> {
    fn new(models: &Path, source: &'a HuggingFaceSource, engine: EngineKind) -> Result<Self, SourceError> {
        let file = source.file.as_deref().map(safe).transpose()?;
        let mark = match engine {
            EngineKind::VLLM | EngineKind::SGLang => "snapshot",
            EngineKind::LlamaCpp | EngineKind::Custom | EngineKind::External => "snapshot-whole",
        };
        let home = models.join("huggingface").join(source.repository.replace('/', "--"));
        Ok(Self { home, file, mark })
    }

    fn folder(&self, commit: &str) -> PathBuf {
        self.home.join(commit)
    }

    fn mark(&self, commit: &str) -> PathBuf {
        self.folder(commit).join(format!("{OWN}{}", self.mark))
    }

    /// What the engine is given, when all of it is there.
    fn complete(&self, commit: &str) -> Option<PathBuf> {
        let folder = self.folder(commit);
        match self.file {
            Some(file) => {
                let whole = shards(file).iter().all(|shard| folder.join(shard).is_file());
                whole.then(|| folder.join(file))
            }
            None => self.mark(commit).is_file().then_some(folder),
        }
    }

    /// What a branch or tag was when it was downloaded last.
    fn remembered(&self, revision: &str) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.reference(revision)).ok()?;
        Some(commit)
            .filter(|commit| is_commit(commit))
            .and_then(|commit| self.complete(&commit))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.home.join(format!("{OWN}revision-{}", address::part(revision)))
    }

    /// All of `commit` is there.
    fn remember(&self, revision: &str, commit: &str) -> Result<PathBuf, SourceError> {
        let write =
            |path: PathBuf, text: &str| fs::write(&path, text).map_err(|error| SourceError::disk(&path, &error));
        if self.file.is_none() {
            write(self.mark(commit), "")?;
        }
        if !is_commit(revision) {
            write(self.reference(revision), commit)?;
        }
        let folder = self.folder(commit);
        Ok(self.file.map_or_else(|| folder.clone(), |file| folder.join(file)))
    }
}
