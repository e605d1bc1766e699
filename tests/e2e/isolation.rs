//! An engine's image that means harm, and is old: Debian 11, whose default user is root. What it could get hold of is its answer.

use inference_operator::api::EngineIsolation;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::harness::{self, Namespace, Provider, SOON, figure, post, until, with};

const SECRETS: [&str; 13] = [
    "list=/var/run/inference-operator/keys",
    "read=/var/run/inference-operator/keys/provider/api-key",
    "list=/var/run/inference-operator/peer",
    "read=/var/run/inference-operator/peer/token",
    "read=/var/run/secrets/kubernetes.io/serviceaccount/token",
    "read=/var/run/inference-operator/journal/budget",
    "append=/var/run/inference-operator/journal/budget",
    "read=/proc/1/root/var/run/inference-operator/keys/provider/api-key",
    "read=/proc/1/environ",
    "read=/proc/1/mem",
    "append=/proc/1/oom_score_adj",
    "signal=1",
    "trace=1",
];
/// The runtime's own program: nobody may change it.
const PROGRAM: &str = "append=/inference/inference-runtime";
/// What an engine needs, so that a refusal above is one of a thing that is there.
const ALLOWED: [&str; 5] = [
    "read=/etc/passwd",
    "read=/proc/self/environ",
    "append=/proc/self/comm",
    "append=/tmp/own",
    "append=/var/cache/inference-operator/own",
];

/// The engine's program: longer than an argument may be.
fn program() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hostile"}, "data": {"hostile.pl": include_str!("hostile.pl")}})
}

/// Beside a paid provider, so that there are a key and a journal.
fn hostile(provider: &Provider) -> Value {
    let arguments = SECRETS.iter().chain([&PROGRAM]).chain(&ALLOWED);
    let command: Vec<&str> = ["perl", "/hostile/hostile.pl"]
        .into_iter()
        .chain(arguments.copied())
        .collect();
    let own = json!({
        "engine": "Custom",
        "image": "localhost/old-debian:dev",
        "command": command,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "podTemplate": {
            "volumes": [{"name": "hostile", "configMap": {"name": "hostile"}}],
            "volumeMounts": [{"name": "hostile", "mountPath": "/hostile"}],
        },
    });
    let mut far = harness::remote("assistant", &provider.endpoint)["spec"]["backends"][0].clone();
    far["remote"]["price"] = json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"});
    let object = with(
        harness::local("assistant"),
        "/spec/backends",
        json!([{"name": "own", "local": own}, far]),
    );
    with(object, "/spec/budget", json!({"limit": "1"}))
}

#[tokio::test]
async fn an_engine_that_means_harm_gets_hold_of_nothing() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("isolation").await;
    namespace.apply(&harness::secret("sk")).await;
    namespace.apply(&program()).await;
    namespace.apply(&hostile(&provider)).await;
    namespace.wait("assistant", "ModelLoaded", "True").await;
    let replicas = namespace
        .replicas()
        .list(&ListParams::default())
        .await
        .expect("replicas");
    let status = replicas.items[0].status.clone().expect("a status");
    let engine = status.engine.expect("an engine");
    assert_eq!(
        engine.isolation,
        Some(EngineIsolation::Landlock),
        "this kernel has Landlock"
    );
    let url = format!("{}/v1/chat/completions", namespace.service("assistant"));
    let body = json!({"model": "assistant", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]});
    let said = until("the engine's answer", SOON, async || {
        let answer = post(&url, &body).await?;
        let said = answer.json()["choices"][0]["message"]["content"]
            .as_str()
            .map(str::to_owned);
        said.ok_or(answer.body)
    })
    .await;
    println!("{said}");
    let end = |what: &str| {
        let line = what.replacen('=', " ", 1) + ": ";
        said.lines()
            .find_map(|l| l.strip_prefix(&line))
            .unwrap_or_else(|| panic!("{what}: {said}"))
    };
    for secret in SECRETS {
        assert!(
            ["Permission denied", "Operation not permitted"].contains(&end(secret)),
            "{secret}: {said}"
        );
    }
    assert!(
        ["Permission denied", "Text file busy"].contains(&end(PROGRAM)),
        "{said}"
    );
    for allowed in ALLOWED {
        assert_eq!(end(allowed), "done", "{allowed}: {said}");
    }
    let first = said.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("user 65532: "),
        "the image's default user is root: {first}"
    );
    figure(
        "the runtime beside an engine of",
        first.trim_start_matches("user 65532: "),
    );
    namespace.done().await;
}
