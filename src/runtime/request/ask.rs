//! The request in a provider's format, and the reader of its answer.

use jiff::Timestamp;

use super::{
    attempt::Question,
    order::Job,
    outcome::Miss,
    rewrite::{LimitField, Wanted, rewrite},
};
use crate::{
    error::RetryRule,
    runtime::{
        backends::Remote,
        remote::wire::{Asked, Dialect, Inexpressible, Reader, Target, address::is_vertex, anthropic, gemini},
    },
};

/// The limit on what may be generated.
#[derive(Clone, Copy, Debug)]
pub struct OutputLimit {
    /// Tokens to write where the request names none.
    pub default: Option<u64>,
    /// The limit is paid for: it must be in a field that the provider heeds.
    pub binding: bool,
}

/// Writes the request. What the provider has no way to say is the next backend's.
pub fn question(remote: &Remote, job: &Job, limit: OutputLimit) -> Result<Question, Miss> {
    let dialect = Dialect::of(remote.spec.provider);
    let (head, model) = (&job.head, remote.spec.model.as_str());
    let target = Target {
        model,
        output_limit: limit.default,
    };
    let body = match dialect {
        Dialect::OpenAi | Dialect::Azure => {
            let wanted = Wanted {
                model,
                output_limit: limit.default,
                limit_field: LimitField::of(Some(remote.spec.provider), head.operation),
                binding: limit.binding,
            };
            Ok(rewrite(&job.body, head, wanted))
        }
        Dialect::Anthropic => anthropic::encode(head, &job.body, target),
        Dialect::Gemini => gemini::encode(head, &job.body, target, is_vertex(&remote.spec.endpoint)),
    };
    Ok(Question {
        body: body.map_err(|error| inexpressible(&error))?,
        stream: head.stream,
        reader: Reader::new(dialect, head.operation, asked(job, model)),
    })
}

fn asked(job: &Job, model: &str) -> Asked {
    Asked {
        id: format!("chatcmpl-{}", job.id.to_str().unwrap_or_default()),
        created: Timestamp::now().as_second(),
        model: model.to_owned(),
        include_usage: job.head.include_usage,
    }
}

/// As the client is told.
#[must_use]
pub fn inexpressible(error: &Inexpressible) -> Miss {
    Miss::inexpressible(&error.field, &error.message, RetryRule::NextBackend)
}
