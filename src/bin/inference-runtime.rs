//! The process in the pod, and on a laptop: `inference-runtime serve --file deployment.yaml`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use inference_operator::{
    api::names,
    policy::reach::AllowedAddresses,
    runtime::{
        install::install,
        local::{
            exec,
            gpu::{probe, watch},
        },
        logs,
        serve::{FollowOptions, Options, ServeError, follow, run},
    },
};
use tracing::{error, info};

/// Serves one model endpoint: an OpenAI-compatible API in front of own engines and paid providers.
#[derive(Debug, Parser)]
#[command(name = "inference-runtime", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves an InferenceDeployment: the pod's own one, or that of a file.
    Serve {
        /// Read the InferenceDeployment from this YAML file; keys come from variables like OPENAI_API_KEY (Secret openai, key api-key).
        #[arg(long)]
        file: Option<PathBuf>,
        /// Address of the OpenAI-compatible API.
        #[arg(long, default_value = "0.0.0.0:8000")]
        address: SocketAddr,
        /// Address of /livez, /readyz, /metrics and /status.
        #[arg(long, default_value = "0.0.0.0:9000")]
        admin: SocketAddr,
        /// Address on which a pod with an engine takes requests from its peers.
        #[arg(long, default_value = "0.0.0.0:8001")]
        peer: SocketAddr,
        /// Folder of keys, one file a key: DIR/SECRET/KEY. Changed files take effect without a restart.
        #[arg(long)]
        keys: Option<PathBuf>,
        /// CIDR blocks, separated by commas, in which endpoints of providers may be although they are loopback, link-local, multicast or a
        /// cloud's metadata. Absent: loopback with --file, none in a pod. Empty: none.
        // No environment variable: an image or spec.podTemplate could set it, and this is the operator's alone.
        #[arg(long, value_name = "CIDRS")]
        allow_endpoint_addresses: Option<AllowedAddresses>,
        /// Address of the Hugging Face hub or of a mirror, from which models are downloaded.
        // The operator's alone for the same reason: the token of a source is sent there.
        #[arg(long, value_name = "URL", default_value = names::HUGGING_FACE)]
        hugging_face_endpoint: String,
    },
    /// Runs this pod's part of an engine whose leader is in another pod.
    Follow {
        /// Address of /livez, /readyz and /metrics, which is empty.
        #[arg(long, default_value = "0.0.0.0:9000")]
        admin: SocketAddr,
        /// CIDR blocks, separated by commas, that models may be downloaded from although they are loopback, link-local, multicast or a
        /// cloud's metadata.
        #[arg(long, value_name = "CIDRS", default_value = "")]
        allow_endpoint_addresses: AllowedAddresses,
        /// Address of the Hugging Face hub or of a mirror, from which models are downloaded.
        #[arg(long, value_name = "URL", default_value = names::HUGGING_FACE)]
        hugging_face_endpoint: String,
    },
    /// Says in one line of JSON whether a new process can compute on the GPUs; exit code 0 when it can, 90 when one fails, 91 when there is
    /// none.
    #[command(name = probe::SUBCOMMAND)]
    GpuProbe {
        /// Wait first until the device uses no more memory than this, give or take what the driver keeps.
        #[arg(long, value_name = "UUID=BYTES", value_parser = idle)]
        idle: Vec<(String, u64)>,
        /// Wait for memory no longer than this.
        #[arg(long, value_name = "SECONDS", default_value = "10")]
        free_within: u64,
        /// After this long the driver counts as hanging.
        #[arg(long, value_name = "SECONDS", default_value = "60")]
        limit: u64,
    },
    /// Says what GPUs there are and then every critical Xid, a line of JSON each, until nobody reads.
    #[command(name = watch::SUBCOMMAND)]
    GpuWatch,
    /// Copies this program to DIR/inference-runtime.
    Install {
        /// An existing folder.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    // Not for people: what this program's own child goes through on its way to become the engine.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == exec::SUBCOMMAND) {
        return exec::run(words);
    }
    let arguments = Arguments::parse();
    logs::start();
    match arguments.command {
        Command::GpuProbe {
            idle,
            free_within,
            limit,
        } => probe::run(probe::Question {
            idle,
            free_within: Duration::from_secs(free_within),
            limit: Duration::from_secs(limit),
        }),
        Command::GpuWatch => watch::run(),
        Command::Serve {
            file,
            address,
            admin,
            peer,
            keys,
            allow_endpoint_addresses,
            hugging_face_endpoint,
        } => block_on(run(Options {
            file,
            keys,
            address,
            admin,
            peer,
            allowed: allow_endpoint_addresses,
            hub: hugging_face_endpoint,
        })),
        Command::Follow {
            admin,
            allow_endpoint_addresses,
            hugging_face_endpoint,
        } => block_on(follow(FollowOptions {
            admin,
            allowed: allow_endpoint_addresses,
            hub: hugging_face_endpoint,
        })),
        Command::Install { dir } => match install(&dir) {
            Ok(target) => {
                info!(target = %target.display(), "installed");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
    }
}

/// `UUID=BYTES`.
fn idle(text: &str) -> Result<(String, u64), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(uuid, bytes)| Some((uuid.to_owned(), bytes.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is not UUID=BYTES"))
}

fn block_on(served: impl Future<Output = Result<u8, ServeError>> + Send + 'static) -> ExitCode {
    // The number of workers follows the cgroup's CPU limit, which available_parallelism reads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(logs::parks)
        .build();
    // In a worker, not in this thread: the heap that reading the schema leaves behind is then the one that requests use.
    match runtime.map(|runtime| runtime.block_on(async { tokio::spawn(served).await })) {
        Ok(Ok(Ok(code))) => ExitCode::from(code),
        Ok(Ok(Err(error))) => fail(&error),
        Ok(Err(error)) => fail(&error),
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    error!("{error}");
    ExitCode::FAILURE
}
