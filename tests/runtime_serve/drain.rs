//! SIGTERM, and configurations that are refused.

use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::{sync::Notify, time::timeout};

use super::{
    process::{DEADLINE, chat_body, command, get, ports, read, start, until},
    requests::{content, done, remote, role, stop},
    upstream::{Act, Ending, Upstream},
};

#[tokio::test]
async fn a_stream_is_finished_before_the_process_ends() {
    let gate = Arc::new(Notify::new());
    let ending = Ending::Gate(Arc::clone(&gate), vec![stop(), done()]);
    let upstream = Upstream::play([Act::Stream(vec![role(), content("Hi")], ending)]).await;
    let mut runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let response = runtime
        .open("/v1/chat/completions", &[], &chat_body(r#","stream":true"#))
        .await;
    runtime.signal(Signal::SIGTERM);
    until("not ready", || async { runtime.readyz().await.as_u16() == 503 }).await;
    gate.notify_one();
    let answer = read(response).await;
    assert_eq!(answer.text, [role(), content("Hi"), stop(), done()].concat());
    assert_eq!(runtime.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_cuts_with_a_typed_event() {
    let upstream = Upstream::play([Act::Stream(vec![role(), content("Hi")], Ending::Hang)]).await;
    let mut runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let response = runtime
        .open("/v1/chat/completions", &[], &chat_body(r#","stream":true"#))
        .await;
    runtime.signal(Signal::SIGTERM);
    until("not ready", || async { runtime.readyz().await.as_u16() == 503 }).await;
    runtime.signal(Signal::SIGTERM);
    let answer = read(response).await;
    assert!(answer.text.contains("event: error"), "{}", answer.text);
    assert!(
        answer.text.contains(r#""kind":"backpressure""#) && !answer.text.contains("[DONE]"),
        "{}",
        answer.text
    );
    assert_eq!(runtime.exit_code().await, Some(0));
}

#[tokio::test]
async fn an_idle_process_ends_at_once() {
    let upstream = Upstream::play([Act::Hang]).await;
    let mut runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    runtime.signal(Signal::SIGTERM);
    assert_eq!(runtime.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_wrong_file_ends_the_process_with_the_fields_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deployment.yaml");
    let text = "apiVersion: inference-operator.dev/v1alpha1\nkind: InferenceDeployment\nmetadata: {name: a}\nspec: {backends: [], modell: x}\n";
    std::fs::write(&file, text).unwrap();
    let output = timeout(DEADLINE, command(&file).output()).await.unwrap().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("spec.backends") && log.contains("spec.modell"), "{log}");
}

/// The example that the documentation points to starts as it is, with its key in the environment.
#[tokio::test]
async fn the_example_is_accepted() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/remote-openai.yaml");
    let mut child = command(&file).env("OPENAI_API_KEY", "sk-test").spawn().unwrap();
    let (_, admin) = timeout(DEADLINE, ports(&mut child)).await.unwrap();
    let status = get(admin, "/status").await.json();
    assert_eq!(
        (&status["activeBackend"], &status["budget"]["limit"]),
        (&"openai".into(), &"5.00".into())
    );
}

/// So does the one with every provider: a key of each in the environment, and nothing is sent before a request comes.
#[tokio::test]
async fn the_example_of_all_providers_is_accepted() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/remote-providers.yaml");
    let mut process = command(&file);
    for name in ["AZURE", "ANTHROPIC", "GEMINI", "LITELLM"] {
        process.env(format!("PROVIDERS_{name}"), "key-of-a-test");
    }
    let mut child = process.spawn().unwrap();
    let (_, admin) = timeout(DEADLINE, ports(&mut child)).await.unwrap();
    let status = get(admin, "/status").await.json();
    assert_eq!(status["activeBackend"], "azure");
    let providers: Vec<_> = status["circuits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["provider"].clone())
        .collect();
    assert_eq!(
        providers.len(),
        8,
        "an endpoint and a credential circuit each: {providers:?}"
    );
}
