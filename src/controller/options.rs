//! Flags of `inference-controller`; each has an environment variable of the same name.

use std::net::SocketAddr;

use clap::{ArgAction, Parser};

use crate::{api::names, policy::reach::AllowedAddresses};

/// Turns `InferenceDeployment` objects into running model endpoints.
#[derive(Clone, Debug, Parser)]
#[command(name = "inference-controller", version)]
pub struct Options {
    /// Image of the runtime for deployments that name none in spec.runtimeImage.
    #[arg(long, env = "INFERENCE_CONTROLLER_RUNTIME_IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub runtime_image: String,
    /// Watch only this namespace; all namespaces when absent.
    #[arg(long, env = "INFERENCE_CONTROLLER_NAMESPACE")]
    pub namespace: Option<String>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "INFERENCE_CONTROLLER_ADDRESS", default_value = "0.0.0.0:8080")]
    pub address: SocketAddr,
    /// Hold a Lease while working, so that of several controllers one works.
    #[arg(long, env = "INFERENCE_CONTROLLER_LEADER_ELECTION", default_value_t = true, action = ArgAction::Set)]
    pub leader_election: bool,
    /// Namespace of the Lease; the controller's own when absent.
    #[arg(long, env = "INFERENCE_CONTROLLER_LEADER_ELECTION_NAMESPACE")]
    pub leader_election_namespace: Option<String>,
    /// Name of the Lease: controllers of one name work in turn, those of different names beside each other.
    #[arg(
        long,
        env = "INFERENCE_CONTROLLER_LEADER_ELECTION_NAME",
        default_value = "inference-controller"
    )]
    pub leader_election_name: String,
    /// Name under which this process holds the Lease; the pod's name.
    #[arg(long, env = "POD_NAME", default_value_t = default_identity())]
    pub identity: String,
    /// CIDR blocks, separated by commas, in which endpoints of providers may be although they are loopback, link-local, multicast or a
    /// cloud's metadata. A change replaces all pods.
    #[arg(
        long,
        env = "INFERENCE_CONTROLLER_ALLOW_ENDPOINT_ADDRESSES",
        value_name = "CIDRS",
        default_value_t
    )]
    pub allow_endpoint_addresses: AllowedAddresses,
    /// Address of the Hugging Face hub, or of a mirror of it, from which pods download models. Tokens of sources are sent there. A change
    /// replaces the pods that download from it.
    #[arg(
        long,
        env = "INFERENCE_CONTROLLER_HUGGING_FACE_ENDPOINT",
        value_name = "URL",
        default_value = names::HUGGING_FACE,
        value_parser = hub
    )]
    pub hugging_face_endpoint: String,
    /// Names of Secrets, separated by commas, with which all pods pull their images, beside those of podTemplate.imagePullSecrets. They are
    /// looked for in the namespace of each deployment. A change replaces all pods.
    #[arg(
        long,
        env = "INFERENCE_CONTROLLER_RUNTIME_IMAGE_PULL_SECRETS",
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = secret
    )]
    pub runtime_image_pull_secrets: Vec<String>,
    /// Take the Lease and the budgets' finalizers off all InferenceReplicas, and end: before the operator is removed, when nobody will
    /// fold them any more.
    #[arg(long)]
    pub release_finalizers: bool,
    /// Log filter, for example `info` or `inference_operator=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
}

/// Unique a process: a host name alone would let two processes on one machine share the Lease.
fn default_identity() -> String {
    format!("inference-controller-{:016x}", rand::random::<u64>())
}

/// Without a slash at its end.
fn hub(text: &str) -> Result<String, String> {
    let parsed: Option<http::Uri> = text.parse().ok();
    let known = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match parsed.filter(known) {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err("it is no address like https://huggingface.co".to_owned()),
    }
}

/// A name that a Secret can have.
fn secret(text: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if (1..=253).contains(&text.len()) && text.chars().all(known) {
        Ok(text.to_owned())
    } else {
        Err("it is no name of a Secret".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_the_help_says() {
        let options = Options::try_parse_from(["inference-controller", "--runtime-image=r:1"]).unwrap();
        assert_eq!(options.address.port(), 8080);
        assert!(options.leader_election);
        assert!(options.namespace.is_none());
        assert!(options.allow_endpoint_addresses.is_empty());
        let off = ["inference-controller", "--runtime-image=r", "--leader-election=false"];
        assert!(!Options::try_parse_from(off).unwrap().leader_election);
    }

    #[test]
    fn addresses_are_cidr_blocks() {
        let parse = |flag: &str| Options::try_parse_from(["inference-controller", "--runtime-image=r", flag]);
        let options = parse("--allow-endpoint-addresses=127.0.0.0/8,::1").unwrap();
        assert_eq!(options.allow_endpoint_addresses.to_string(), "127.0.0.0/8,::1/128");
        let error = parse("--allow-endpoint-addresses=localhost").unwrap_err().to_string();
        assert!(error.contains("`localhost` is neither a CIDR block"), "{error}");
    }

    #[test]
    fn pull_secrets_are_names() {
        let parse = |flag: &str| Options::try_parse_from(["inference-controller", "--runtime-image=r", flag]);
        let options = parse("--runtime-image-pull-secrets=registry,a.b-c").unwrap();
        assert_eq!(options.runtime_image_pull_secrets, ["registry", "a.b-c"]);
        for wrong in ["Registry", "a/b", "a,,b"] {
            let error = parse(&format!("--runtime-image-pull-secrets={wrong}")).unwrap_err();
            assert!(error.to_string().contains("no name of a Secret"), "{error}");
        }
    }

    #[test]
    fn the_hub_is_an_address() {
        let parse = |flag: &str| Options::try_parse_from(["inference-controller", "--runtime-image=r", flag]);
        let options = parse("--hugging-face-endpoint=https://mirror.example/hf/").unwrap();
        assert_eq!(options.hugging_face_endpoint, "https://mirror.example/hf");
        let error = parse("--hugging-face-endpoint=mirror.example").unwrap_err().to_string();
        assert!(error.contains("it is no address"), "{error}");
    }

    #[test]
    fn an_empty_runtime_image_is_refused() {
        assert!(Options::try_parse_from(["inference-controller", "--runtime-image="]).is_err());
    }
}
