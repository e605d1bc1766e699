//! Any server that speaks OpenAI's API, by the command that the user gives.

use std::ffi::OsString;

use secrecy::ExposeSecret;

use super::{About, Engine, EngineCommand, Placement, Readiness, Server, SetupError, gpus, log, openai};
use crate::{
    api::LocalBackend,
    policy::engines::{Variable, fill, variables},
    runtime::local::classify::Symptom,
};

/// The adapter.
pub(super) struct Custom {
    backend: LocalBackend,
    program: String,
    /// The rest of `command`, then `args`.
    args: Vec<String>,
}

impl Custom {
    pub(super) fn new(backend: &LocalBackend) -> Result<Self, SetupError> {
        let mut words = backend.command.iter().flatten().chain(&backend.args).cloned();
        let program = words.next().ok_or(SetupError::NoCommand)?;
        let args: Vec<String> = words.collect();
        for variable in args.iter().chain([&program]).flat_map(|word| variables(word)) {
            if let Some(field) = variable.missing(backend) {
                let variable = variable.name();
                return Err(SetupError::NoValue { variable, field });
            }
        }
        Ok(Self {
            backend: backend.clone(),
            program,
            args,
        })
    }

    /// Nothing where the backend does not say.
    fn value(&self, variable: Variable, place: &Placement<'_>) -> Option<OsString> {
        let text = match variable {
            Variable::Model => return place.model.map(Into::into),
            Variable::Host => place.address.ip().to_string(),
            Variable::Port => place.address.port().to_string(),
            Variable::ApiKey => place.api_key.expose_secret().to_owned(),
            Variable::ModelName => place.name.to_owned(),
            Variable::ContextLength => self.backend.context_length?.to_string(),
            Variable::Parallel => self.backend.parallel().to_string(),
            Variable::Gpus => gpus(&self.backend)?.to_string(),
            Variable::Threads => place.threads.to_string(),
        };
        Some(text.into())
    }

    fn filled(&self, text: &str, place: &Placement<'_>) -> String {
        fill(text, |variable| {
            let value = self.value(variable, place).unwrap_or_default();
            value.to_string_lossy().into_owned()
        })
    }
}

impl Server for Custom {
    fn readiness(&self) -> Readiness {
        openai::UNKNOWN
    }

    fn about(&self, answer: &[u8], name: &str) -> About {
        openai::about(answer, name)
    }
}

impl Engine for Custom {
    fn command(&self, place: &Placement<'_>) -> Result<EngineCommand, SetupError> {
        let env = Variable::ALL
            .into_iter()
            .filter_map(|variable| Some((variable.name().into(), self.value(variable, place)?)));
        Ok(EngineCommand {
            program: self.filled(&self.program, place).into(),
            args: self.args.iter().map(|arg| self.filled(arg, place).into()).collect(),
            env: env.collect(),
        })
    }

    fn logs_requests(&self) -> bool {
        true
    }

    /// Whatever it is: what it says of the GPU outside of quotations, in the words of CUDA and of the known engines.
    fn classify(&self, line: &str) -> Option<Symptom> {
        log::device(line).or_else(|| log::is_exception(line).then_some(Symptom::Error))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::local::engine::fixtures::{backend, command, words};

    fn engine(json: serde_json::Value) -> Result<Custom, SetupError> {
        Custom::new(&backend("Custom", json))
    }

    #[test]
    fn the_command_is_told_where_and_what_to_serve() {
        let command = command(
            &engine(json!({
                "command": ["serve", "$(MODEL)"], "args": ["--listen=$(HOST):$(PORT)", "--name", "$(MODEL_NAME)", "$$(PORT)", "$(HOME)"],
                "gpus": {"count": 2},
            }))
            .unwrap(),
        );
        assert_eq!(command.program.to_str(), Some("serve"));
        assert_eq!(
            words(&command.args),
            "/models/m --listen=127.0.0.1:18000 --name assistant $(PORT) $(HOME)"
        );
        let env: Vec<String> = command
            .env
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(
            env,
            [
                "HOST=127.0.0.1",
                "PORT=18000",
                "API_KEY=sekrit",
                "MODEL=/models/m",
                "MODEL_NAME=assistant",
                "PARALLEL=32",
                "GPUS=2",
                "THREADS=8"
            ]
        );
    }

    #[test]
    fn a_value_that_nobody_gives_is_named_with_its_field() {
        let error = engine(json!({"command": ["serve", "-c", "$(CONTEXT_LENGTH)"]}))
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "$(CONTEXT_LENGTH) has no value; set contextLength");
        assert_eq!(engine(json!({})).err(), Some(SetupError::NoCommand));
    }
}
