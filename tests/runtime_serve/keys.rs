//! Keys that are wrong, missing and mended.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{
    process::{Runtime, chat_body, read, start_with_keys, until},
    requests::{CHAT, content, done, named, remote, role, stop},
    upstream::{Act, Ending, Upstream},
};

#[tokio::test]
async fn a_wrong_key_opens_the_credential_circuit_and_a_new_one_closes_it() {
    let upstream = Upstream::play([Act::WantsKey("sk-right")]).await;
    let spec = format!(
        "backends:\n{}",
        remote(&upstream, ", circuitBreaker: {openDuration: 10m}")
    );
    let runtime = start_with_keys(&spec, &[("openai", "api-key", "sk-wrong\n")]).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (502, "unauthorized")
    );
    assert!(!answer.text.contains("sk-wrong"), "{}", answer.text);
    assert_eq!(upstream.seen().len(), 2, "one retry with a rebuilt session");
    assert_eq!(runtime.circuit("openai", "Credential").await, "Open");
    assert_eq!(runtime.circuit("openai", "Endpoint").await, "Closed");
    assert_eq!(runtime.chat("").await.error().1, "circuit_open");
    assert_eq!(upstream.seen().len(), 2, "nothing is sent while it is open");
    assert_eq!(runtime.status().await["backends"][0]["reason"], "Unauthorized");

    runtime.write_key("openai", "api-key", "sk-right\n");
    until("the answer with the new key", || async {
        runtime.chat("").await.text == CHAT
    })
    .await;
    assert_eq!(runtime.circuit("openai", "Credential").await, "Closed");
}

#[tokio::test]
async fn a_key_mended_in_time_is_taken_by_the_rebuilt_session() {
    let upstream = Upstream::play([
        Act::Answer(401, &[], r#"{"error":"Unauthorized"}"#.into()),
        Act::WantsKey("sk-right"),
    ])
    .await;
    let runtime = start_with_keys(
        &format!("backends:\n{}", remote(&upstream, "")),
        &[("openai", "api-key", "sk-right")],
    )
    .await;
    assert_eq!(runtime.chat("").await.text, CHAT);
    assert_eq!(runtime.circuit("openai", "Credential").await, "Closed");
}

#[tokio::test]
async fn a_missing_key_is_named_and_its_arrival_is_seen() {
    let upstream = Upstream::play([Act::WantsKey("sk-right")]).await;
    let spec = format!("backends:\n{}", remote(&upstream, ""));
    let runtime = start_with_keys(&spec, &[("openai", "other", "x")]).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (502, "unauthorized")
    );
    assert!(
        answer.text.contains("the key api-key of Secret openai is missing"),
        "{}",
        answer.text
    );
    assert_eq!(runtime.status().await["backends"][0]["reason"], "CredentialsMissing");
    assert_eq!(upstream.seen().len(), 0);
    runtime.write_key("openai", "api-key", "sk-right");
    until("the answer with the key", || async {
        runtime.chat("").await.text == CHAT
    })
    .await;
}

/// Writes a key as the kubelet does: a new folder behind `..data`, swapped by a rename.
fn project(keys: &Path, version: &str, key: &str) {
    let folder = format!("..{version}");
    fs::create_dir_all(keys.join(&folder).join("openai")).unwrap();
    fs::write(keys.join(&folder).join("openai/api-key"), key).unwrap();
    let _ = fs::remove_file(keys.join("..data_tmp"));
    symlink(&folder, keys.join("..data_tmp")).unwrap();
    fs::rename(keys.join("..data_tmp"), keys.join("..data")).unwrap();
}

/// A process whose keys are a projected volume with `sk-old`.
async fn projected(spec: &str) -> Runtime {
    let runtime = start_with_keys(spec, &[]).await;
    let keys = runtime.folder.path().join("keys");
    fs::create_dir_all(&keys).unwrap();
    project(&keys, "v1", "sk-old");
    symlink("..data/openai", keys.join("openai")).unwrap();
    until("the first key", || async {
        runtime.status().await["backends"][0]["available"] == true
    })
    .await;
    runtime
}

fn keys_of(upstream: &Upstream) -> Vec<String> {
    let seen = upstream.seen();
    let keys = seen.iter().map(|seen| seen.headers["authorization"].to_str().unwrap());
    keys.map(str::to_owned).collect()
}

/// Streams that are open while the key changes end on their old session; requests all the while succeed; the new key is used at once.
#[tokio::test]
async fn a_key_is_swapped_under_load_without_a_failed_request() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let rest = vec![content("lo"), stop(), done()];
    let open = Ending::Gate(std::sync::Arc::clone(&gate), rest.clone());
    let streams = vec![Act::Stream(vec![role(), content("Hel")], open); 50];
    let quick = Act::Stream([vec![role(), content("Hel")], rest].concat(), Ending::Regular);
    let upstream = Upstream::play(streams.into_iter().chain([quick])).await;
    let runtime = projected(&format!(
        "serving: {{maxConcurrent: 200}}\nbackends:\n{}",
        remote(&upstream, "")
    ))
    .await;
    let body = chat_body(r#","stream":true"#);
    let opened = join_all((0..50).map(|_| runtime.open("/v1/chat/completions", &[], &body))).await;
    assert!(opened.iter().all(|response| response.status().as_u16() == 200));
    assert_eq!(keys_of(&upstream), vec!["Bearer sk-old"; 50]);

    let swapped = Instant::now();
    project(&runtime.folder.path().join("keys"), "v2", "sk-new");
    let over = AtomicBool::new(false);
    let load = async {
        let mut requests = 0_u32;
        while !over.load(Ordering::Relaxed) {
            let answer = runtime.post("/v1/chat/completions", &body).await;
            assert!(
                answer.text.ends_with("data: [DONE]\n\n"),
                "{} {}",
                answer.status,
                answer.text
            );
            requests += 1;
        }
        requests
    };
    let new_key = async {
        until("the new key", || async {
            keys_of(&upstream).last().is_some_and(|key| key == "Bearer sk-new")
        })
        .await;
        over.store(true, Ordering::Relaxed);
        swapped.elapsed()
    };
    let (requests, took) = tokio::join!(load, new_key);
    println!(
        "key file swapped → in use, s: {:.3}; {requests} requests meanwhile, none failed",
        took.as_secs_f64()
    );
    assert!(
        took < Duration::from_secs(2),
        "within a second, and a second for a busy machine: {took:?}"
    );

    for _ in 0..50 {
        gate.notify_one();
        tokio::task::yield_now().await;
    }
    let finishing = opened.into_iter().map(|response| async {
        let reading = read(response);
        tokio::pin!(reading);
        loop {
            tokio::select! {
                answer = &mut reading => return answer,
                () = tokio::task::yield_now() => gate.notify_waiters(),
            }
        }
    });
    for answer in join_all(finishing).await {
        assert!(
            answer.text.ends_with("data: [DONE]\n\n"),
            "an open stream ended on its old session: {}",
            answer.text
        );
    }
    let metrics = runtime.metrics().await;
    assert!(!metrics.contains(r#"outcome="unauthorized""#), "{metrics}");
}

#[tokio::test]
async fn a_key_that_goes_blocks_its_backend_alone_until_it_is_back() {
    let (first, second) = (
        Upstream::play([Act::Answer(200, &[], CHAT.into())]).await,
        Upstream::play([Act::Answer(200, &[], CHAT.into())]).await,
    );
    let other = named("second", &second, "").replace("name: openai, key: api-key", "name: other, key: token");
    let spec = format!("backends:\n{}{other}", remote(&first, ""));
    let runtime = start_with_keys(&spec, &[("openai", "api-key", "sk-one"), ("other", "token", "sk-two")]).await;
    let answered_by = || async { runtime.chat("").await.headers["x-inference-backend"].clone() };
    assert_eq!(answered_by().await, "openai");
    fs::remove_dir_all(runtime.folder.path().join("keys/openai")).unwrap();
    until("the other backend", || async { answered_by().await == "second" }).await;
    let reports = runtime.status().await["backends"].clone();
    assert_eq!(
        (&reports[0]["reason"], &reports[1]["available"]),
        (&"CredentialsMissing".into(), &true.into())
    );
    assert!(reports[0]["message"].as_str().unwrap().contains("openai"), "{reports}");
    fs::create_dir(runtime.folder.path().join("keys/openai")).unwrap();
    runtime.write_key("openai", "api-key", "sk-three");
    until("the backend is back", || async { answered_by().await == "openai" }).await;
    assert_eq!(keys_of(&first).last().unwrap(), "Bearer sk-three");
}

#[tokio::test]
async fn what_is_no_key_is_told_by_its_file() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let spec = format!("backends:\n{}", remote(&upstream, ""));
    for (text, told) in [
        (String::new(), "it is empty"),
        ("sk-one\nsk-two".into(), "white space inside"),
        ("x".repeat(20_000), "larger than 16384 bytes"),
    ] {
        let runtime = start_with_keys(&spec, &[("openai", "api-key", &text)]).await;
        let message = runtime.status().await["backends"][0]["message"].to_string();
        assert!(
            message.contains("openai/api-key") && message.contains(told),
            "{message}"
        );
        assert!(!message.contains("sk-"), "{message}");
    }
}
