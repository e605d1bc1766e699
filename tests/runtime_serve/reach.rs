//! Endpoints at addresses that the operator does not allow, and redirects.

use serde_json::Value;

use super::{
    process::{Answer, Runtime, start, start_with_flags, until},
    requests::{CHAT, named, remote},
    upstream::{Act, Upstream},
};

const KEY: &[(&str, &str, &str)] = &[("openai", "api-key", "sk-right")];
/// Nothing is allowed, as in a pod.
const AS_IN_A_POD: &str = "--allow-endpoint-addresses=";
const NEVER: &str = ", retry: {maxRetries: 0}";

fn at(name: &str, endpoint: &str) -> String {
    let credentials = "credentials: {secret: {name: openai, key: api-key}}";
    format!(
        "- name: {name}\n  remote: {{provider: OpenAI, endpoint: \"{endpoint}\", model: m, {credentials}{NEVER}}}\n"
    )
}

async fn flagged(spec: &str, flag: &str) -> Runtime {
    start_with_flags(spec, KEY, &[], &[flag]).await
}

async fn report(runtime: &Runtime, backend: usize) -> (String, String) {
    let report = runtime.status().await["backends"][backend].clone();
    let text = |field: &str| report[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

fn is_refused(answer: &Answer, what: &str) {
    let message = answer.json()["error"]["message"].clone();
    assert_eq!(answer.status.as_u16(), 502, "{}", answer.text);
    assert!(
        message.as_str().unwrap().contains(what) && answer.text.contains("--allow-endpoint-addresses"),
        "{what} in {}",
        answer.text
    );
}

#[tokio::test]
async fn metadata_is_refused_in_every_spelling_also_on_a_laptop() {
    for endpoint in [
        "http://169.254.169.254/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[64:ff9b::a9fe:a9fe]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://0xa9fea9fe/v1",
        "http://2852039166/v1",
        "http://metadata.google.internal/v1",
        "https://METADATA.google.internal./v1",
    ] {
        let runtime = start(&format!("backends:\n{}", at("openai", endpoint))).await;
        is_refused(&runtime.chat("").await, "metadata");
        let (reason, message) = report(&runtime, 0).await;
        assert_eq!(reason, "EndpointNotAllowed", "{endpoint}: {message}");
        assert_eq!(runtime.circuit("openai", "Endpoint").await, "Closed", "{endpoint}");
        assert_eq!(runtime.circuit("openai", "Credential").await, "Closed", "{endpoint}");
    }
}

#[tokio::test]
async fn loopback_is_refused_where_the_operator_does_not_allow_it_and_the_next_backend_answers() {
    let (refused, second) = (
        Upstream::play_at_localhost([Act::Answer(200, &[], CHAT.into())]).await,
        Upstream::play([Act::Answer(200, &[], CHAT.into())]).await,
    );
    let port = refused.address.port();
    // The second one answers on an address that is allowed alone.
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"] {
        let spec = format!(
            "backends:\n{}{}",
            at("first", &format!("http://{host}:{port}/v1")),
            named("second", &second, "")
        );
        let runtime = flagged(&spec, AS_IN_A_POD).await;
        is_refused(&runtime.chat("").await, "loopback address");
        let allowed = flagged(&spec, "--allow-endpoint-addresses=127.0.0.0/8").await;
        assert_eq!(allowed.chat("").await.text, CHAT, "{host}");
    }
    assert_eq!(
        second.seen().len(),
        1,
        "0.0.0.0 is no loopback address: the second backend answered"
    );
    assert_eq!(refused.seen().len(), 4);
}

#[tokio::test]
async fn a_backend_that_is_refused_is_not_asked_again_and_again() {
    let second = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let first = at("first", "http://169.254.1.1/v1").replace(NEVER, "");
    let runtime = start(&format!("backends:\n{first}{}", named("second", &second, ""))).await;
    for _ in 0..12 {
        assert_eq!(runtime.chat("").await.headers["x-inference-backend"], "second");
    }
    assert_eq!(runtime.circuit("first", "Endpoint").await, "Closed");
    let metrics = runtime.metrics().await;
    assert!(
        !metrics.contains(r#"inference_upstream_retries_total{backend="first"}"#),
        "{metrics}"
    );
    assert_eq!(report(&runtime, 0).await.0, "EndpointNotAllowed");
    assert_eq!(runtime.status().await["activeBackend"], "second");
}

#[tokio::test]
async fn a_wrong_list_ends_the_process_with_the_entry() {
    let mut command = super::process::command(std::path::Path::new("none.yaml"));
    let output = command
        .arg("--allow-endpoint-addresses=localhost")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("`localhost` is neither a CIDR block"),
        "{said}"
    );
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let target = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let location: &'static str = Box::leak(format!("{}/chat/completions", target.endpoint()).into_boxed_str());
    let headers: &'static [(&str, &str)] = Box::leak(Box::new([("location", location)]));
    for status in [301, 302, 303, 307, 308] {
        let upstream = Upstream::play([Act::Answer(status, headers, String::new())]).await;
        let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
        let answer = runtime.chat("").await;
        assert!(answer.status.as_u16() >= 400, "{status} became {}", answer.status);
        assert_ne!(answer.json()["error"]["code"], Value::Null);
        assert_eq!(answer.headers.get("location"), None);
        assert_eq!(upstream.seen().len(), 1, "{status}");
    }
    assert_eq!(target.seen().len(), 0);
}

#[tokio::test]
async fn headers_without_end_are_a_failure_and_no_memory() {
    let big: &'static str = Box::leak("x".repeat(200 * 1024).into_boxed_str());
    let headers: &'static [(&str, &str)] = Box::leak(Box::new([("x-big", big)]));
    let upstream = Upstream::play([Act::Answer(200, headers, CHAT.into())]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (502, "network_error")
    );
    until("still there", || async { runtime.readyz().await.as_u16() == 200 }).await;
}

#[tokio::test]
async fn a_refusal_is_the_deployments_fault_and_neither_retried_nor_counted() {
    for host in ["127.0.0.1", "localhost"] {
        let breaker = ", circuitBreaker: {consecutiveFailures: 1}";
        let endpoint = at("openai", &format!("http://{host}:9/v1")).replace(NEVER, breaker);
        let runtime = flagged(&format!("backends:\n{endpoint}"), AS_IN_A_POD).await;
        for _ in 0..3 {
            let answer = runtime.chat("").await;
            assert_eq!(
                (answer.status.as_u16(), answer.error().1.as_str()),
                (502, "forbidden"),
                "{host}"
            );
            assert_eq!(answer.json()["error"]["retryable"], false);
        }
        for scope in ["Endpoint", "Credential"] {
            assert_eq!(runtime.circuit("openai", scope).await, "Closed", "{host}");
        }
        let metrics = runtime.metrics().await;
        assert!(!metrics.contains("inference_upstream_retries_total{"), "{metrics}");
    }
}
