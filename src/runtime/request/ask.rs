//! The request in a provider's format, and the reader of its answer.

use jiff::Timestamp;

use super::{
    attempt::Question,
    bound,
    head::Operation,
    order::Job,
    outcome::Miss,
    rewrite::{Wanted, rewrite},
};
use crate::{
    api::{OutputLimitField, RemoteProvider},
    error::RetryRule,
    runtime::{
        backends::Remote,
        remote::wire::{Asked, Dialect, Inexpressible, Reader, Target, address::is_vertex, anthropic, gemini},
    },
};

/// Objects that a body may have that is translated. The shortest have a few bytes and take a few hundred of memory each: 16 MiB of them would
/// be half a gigabyte.
const MOST_OBJECTS: usize = 100_000;

/// Objects of a body that is large enough to have too many.
fn objects(body: &[u8]) -> usize {
    if body.len() < MOST_OBJECTS {
        return 0;
    }
    bound::objects(body)
}

/// The limit on what may be generated.
#[derive(Clone, Copy, Debug)]
pub struct OutputLimit {
    /// Tokens to write where the request names none.
    pub default: Option<u64>,
    /// The limit is paid for: it must be in a field that the provider heeds.
    pub binding: bool,
}

/// Writes the request; with `stream_options` where the server takes them. What the provider has no way to say is the next backend's.
pub fn question(remote: &Remote, job: &Job, limit: OutputLimit, stream_options: bool) -> Result<Question, Miss> {
    let dialect = Dialect::of(remote.spec.provider);
    let (head, model) = (&job.head, remote.spec.model.as_str());
    let target = Target {
        model,
        output_limit: limit.default,
    };
    if matches!(dialect, Dialect::Anthropic | Dialect::Gemini) && objects(&job.body) > MOST_OBJECTS {
        return Err(inexpressible(&Inexpressible {
            field: "the body".to_owned(),
            message: format!("has more than {MOST_OBJECTS} objects, too many to be translated for this provider"),
        }));
    }
    let body = match dialect {
        Dialect::OpenAi | Dialect::Azure => {
            let wanted = Wanted {
                model,
                output_limit: limit.default,
                limit_field: match head.operation {
                    Operation::Chat => remote.spec.output_limit_field(),
                    Operation::Completions | Operation::Embeddings => OutputLimitField::MaxTokens,
                },
                sole: limit.binding && knows_one(remote.spec.provider),
                stream_options,
            };
            Ok(rewrite(&job.body, head, wanted))
        }
        Dialect::Anthropic => anthropic::encode(head, &job.body, target),
        Dialect::Gemini => gemini::encode(head, &job.body, target, is_vertex(&remote.spec.endpoint)),
    };
    Ok(Question {
        body: body.map_err(|error| inexpressible(&error))?,
        stream: head.stream,
        reader: match dialect {
            Dialect::OpenAi | Dialect::Azure => Reader::openai(head.include_usage, head.choices.into()),
            Dialect::Anthropic | Dialect::Gemini => Reader::new(dialect, head.operation, asked(job, model, dialect)),
        },
    })
}

/// OpenAI and Azure heed either field of the limit or refuse the request. Of other servers some pass over the one that they do not
/// know, some refuse it, and some refuse both together.
const fn knows_one(provider: RemoteProvider) -> bool {
    matches!(provider, RemoteProvider::LiteLLM | RemoteProvider::OpenAICompatible)
}

fn asked(job: &Job, model: &str, dialect: Dialect) -> Asked {
    let is_translated = dialect == Dialect::Gemini && job.head.operation == Operation::Embeddings;
    Asked {
        base64: is_translated && gemini::wants_base64(&job.body),
        id: format!("chatcmpl-{}", job.id.to_str().unwrap_or_default()),
        created: Timestamp::now().as_second(),
        model: model.to_owned(),
        include_usage: job.head.include_usage,
        n: job.head.choices.into(),
    }
}

/// As the client is told.
#[must_use]
pub fn inexpressible(error: &Inexpressible) -> Miss {
    Miss::inexpressible(&error.field, &error.message, RetryRule::NextBackend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_and_texts_passed_over() {
        let small = format!("[{}]", vec![r#"{"a":"{{\"{","b\\":{}}"#; 10_000].join(","));
        assert_eq!(objects(small.as_bytes()), 20_000);
        let text = format!(r#"{{"content":"{}"}}"#, "{".repeat(200_000));
        assert_eq!(objects(text.as_bytes()), 1);
        assert_eq!(objects("{\"".repeat(100_000).as_bytes()), 50_000, "whatever it is");
        assert_eq!(objects(b"{}"), 0, "too small to matter");
    }
}
