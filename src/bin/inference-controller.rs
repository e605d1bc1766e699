//! The controller's process: flags, logs, and [`inference_operator::controller`].

use std::process::ExitCode;

use clap::Parser;
use inference_operator::controller::{options::Options, run::run};
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let filter = match EnvFilter::try_new(&options.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("inference-controller: --log {:?}: {error}", options.log);
            return ExitCode::FAILURE;
        }
    };
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    match Box::pin(run(options)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the controller ends");
            ExitCode::FAILURE
        }
    }
}
