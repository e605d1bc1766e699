//! Models that are downloaded before the engine starts; a local server plays the hub and the network behind it.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use inference_operator::{
    error::ErrorKind,
    policy::{reach::AllowedAddresses, retry::RetryPolicy},
    runtime::{
        config::Keys,
        local::{Download, EngineView, Termination, Verdict, source::Patience},
    },
};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, DEADLINE, Engine, fake, fake_of, read_json, send},
    hub::{COMMIT, Fault, Hub, REPOSITORY},
};

const TOKEN: &str = "hf_sekrit";
const SIZE: usize = 1_000_000;

/// Bytes that are no two alike far apart.
fn weights() -> Vec<u8> {
    (0..SIZE).map(|n| u8::try_from(n * 7 / 13 % 251).unwrap()).collect()
}

async fn hub() -> Hub {
    let weights = weights();
    let files: [(&str, &[u8]); 4] = [
        ("config.json", b"{\"hidden_size\": 64}"),
        ("model.gguf", &weights),
        ("model.safetensors", &weights[1..]),
        ("sub/tokenizer.json", b"{}"),
    ];
    Hub::start(IpAddr::V4(Ipv4Addr::LOCALHOST), &files).await
}

/// With patience short enough for tests.
fn placed(mut bench: Bench, hub: &Hub) -> Bench {
    let source = &mut bench.options.source;
    source.hub = hub.endpoint();
    source.keys = Keys::Directory(bench.folder.path().join("keys"));
    source.patience = Patience {
        connect: Duration::from_secs(2),
        silence: Duration::from_millis(300),
    };
    source.retry = RetryPolicy {
        max_retries: 3,
        initial_backoff: Duration::from_millis(20),
        max_backoff: Duration::from_millis(50),
    };
    std::fs::create_dir_all(bench.path("keys/hf")).unwrap();
    std::fs::write(bench.path("keys/hf/token"), format!("{TOKEN}\n")).unwrap();
    bench
}

fn bench(hub: &Hub, source: &Value) -> Bench {
    let mut bench = placed(fake("well"), hub);
    bench.backend.source = serde_json::from_value(source.clone()).unwrap();
    bench
}

fn at_url(hub: &Hub) -> Value {
    json!({"url": {"location": hub.location("model.gguf"), "sha256": hub.sha256("model.gguf")}})
}

fn at_hub() -> Value {
    json!({"huggingFace": {"repository": REPOSITORY, "file": "model.gguf", "tokenSecret": {"name": "hf", "key": "token"}}})
}

/// What the engine was told to load.
async fn served(engine: &mut Engine) -> PathBuf {
    let target = engine.ready().await;
    let report = read_json(send(&target, "POST", "/report", r#"{"read": [], "write": []}"#).await).await;
    let words: Vec<&str> = report["arguments"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let at = words
        .iter()
        .position(|word| ["--model", "serve"].contains(word))
        .unwrap();
    PathBuf::from(words[at + 1])
}

async fn refused(bench: Bench) -> Termination {
    let (termination, bench) = bench.start().ended().await;
    let termination = termination.expect("a termination");
    let written = std::fs::read_to_string(bench.path("termination-log")).unwrap();
    let written: Termination = serde_json::from_str(&written).unwrap();
    assert_eq!(written, termination, "the kubelet reads the same");
    assert!(!written.to_json().contains(TOKEN) && !written.to_json().contains("signature"));
    termination
}

/// Files below a folder, those of our own left out but for `.inference-partial`.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else if !name.starts_with(".inference-") || name.contains("partial") {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_file_at_a_url_is_downloaded_verified_and_served() {
    let hub = hub().await;
    let mut engine = bench(&hub, &at_url(&hub)).start();
    let model = served(&mut engine).await;
    let home = engine.bench.path("models/url").join(hub.sha256("model.gguf"));
    assert_eq!(model, home.join("model.gguf"));
    assert_eq!(std::fs::read(&model).unwrap(), weights());
    assert_eq!(files(&home), ["model.gguf"]);
    let (_, bench) = engine.stop().await;
    // What is there is not asked for again.
    let (before, mut again) = (hub.asked().len(), bench.start());
    served(&mut again).await;
    assert_eq!(hub.asked().len(), before);
    again.stop().await;
}

#[tokio::test]
async fn what_was_cut_is_gone_on_with() {
    let hub = hub().await;
    hub.faults(&[Fault::Cut(400_000), Fault::Status(503), Fault::Stall(200_000)]);
    let mut engine = bench(&hub, &at_url(&hub)).start();
    let model = served(&mut engine).await;
    assert_eq!(std::fs::read(&model).unwrap(), weights());
    let asked = hub.bytes_asked();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.range.as_deref()).collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=400000-"),
            Some("bytes=400000-"),
            Some("bytes=600000-")
        ]
    );
    let version = format!("\"{}\"", hub.sha256("model.gguf"));
    assert_eq!(asked[1].if_range.as_ref(), Some(&version));
    engine.stop().await;
}

#[tokio::test]
async fn another_process_goes_on_with_what_was_begun() {
    let hub = hub().await;
    hub.faults(&[Fault::Stall(500_000)]);
    let mut first = bench(&hub, &at_url(&hub));
    first.options.source.patience.silence = DEADLINE;
    let mut first = first.start();
    until(&mut first, |download| download.bytes >= 450_000).await;
    let (termination, bench) = first.stop().await;
    assert_eq!(termination, None, "asked to end while it downloads");
    let mut second = bench.start();
    let model = served(&mut second).await;
    assert_eq!(std::fs::read(&model).unwrap(), weights());
    let resumed = hub.bytes_asked()[1].range.clone().unwrap();
    println!("FIGURE sources.resumed_range: {resumed}");
    assert_ne!(resumed, "bytes=0-");
    second.stop().await;
}

async fn until(engine: &mut Engine, enough: impl Fn(&Download) -> bool) -> Download {
    let reached = engine
        .local
        .view
        .wait_for(|view| matches!(view, EngineView::Downloading(d) if enough(d)));
    let view = tokio::time::timeout(DEADLINE, reached)
        .await
        .expect("no progress")
        .unwrap()
        .clone();
    let EngineView::Downloading(download) = view else {
        panic!("{view:?}")
    };
    download
}

#[tokio::test]
async fn a_server_without_ranges_begins_anew() {
    let hub = hub().await;
    hub.faults(&[Fault::Cut(300_000), Fault::IgnoreRange]);
    let mut engine = bench(&hub, &at_url(&hub)).start();
    assert_eq!(std::fs::read(served(&mut engine).await).unwrap(), weights());
    assert_eq!(hub.bytes_asked().len(), 2);
    engine.stop().await;
}

#[tokio::test]
async fn a_server_that_says_when_to_come_again_is_believed() {
    let hub = hub().await;
    hub.faults(&[Fault::Busy("0.7")]);
    let began = Instant::now();
    let mut engine = bench(&hub, &at_url(&hub)).start();
    served(&mut engine).await;
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    engine.stop().await;
}

/// Each whole answer brings bytes, but none that had not come before.
#[tokio::test]
async fn a_file_that_its_server_has_only_a_part_of_is_given_up() {
    for fault in [Fault::Short(SIZE - 1), Fault::CutWhole(300_000)] {
        let hub = hub().await;
        hub.faults(&[fault; 40]);
        let termination = refused(bench(&hub, &at_hub())).await;
        assert_eq!(termination.reason, Verdict::DownloadFailed);
        assert!(hub.bytes_asked().len() < 12, "{} times", hub.bytes_asked().len());
    }
}

#[tokio::test]
async fn wrong_bytes_are_asked_for_once_more_and_then_refused() {
    let hub = hub().await;
    hub.faults(&[Fault::Corrupt]);
    let mut engine = bench(&hub, &at_url(&hub)).start();
    assert_eq!(std::fs::read(served(&mut engine).await).unwrap(), weights());
    assert_eq!(hub.bytes_asked().len(), 2);
    engine.stop().await;

    hub.faults(&[Fault::Corrupt, Fault::Corrupt]);
    let bench = bench(&hub, &at_url(&hub));
    let (termination, bench) = bench.start().ended().await;
    let termination = termination.unwrap();
    assert_eq!(termination.reason, Verdict::DownloadChecksumMismatch);
    assert!(
        termination.message.contains(&hub.sha256("model.gguf")),
        "{}",
        termination.message
    );
    assert_eq!(files(&bench.path("models/url")), Vec::<String>::new());
    assert_eq!(hub.bytes_asked().len(), 4);
}

#[tokio::test]
async fn the_token_is_shown_to_the_hub_and_to_nobody_else() {
    let hub = hub().await;
    hub.require_token(Some(TOKEN));
    let mut engine = bench(&hub, &at_hub()).start();
    let model = served(&mut engine).await;
    let folder = engine.bench.path("models/huggingface/tiny--model").join(COMMIT);
    assert_eq!(model, folder.join("model.gguf"));
    assert_eq!(std::fs::read(&model).unwrap(), weights());
    let asked = hub.asked();
    let shown = format!("Bearer {TOKEN}");
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].path.starts_with("/api/models/tiny/model/"), "{asked:?}");
    for asked in asked {
        assert_eq!(asked.authorization.is_some(), asked.at_hub, "{asked:?}");
        assert!(asked.authorization.is_none_or(|token| token == shown));
    }
    // The engine has neither the file nor a variable of it, and cannot write to what was verified.
    let target = engine.ready().await;
    let key = engine.bench.path("keys/hf/token");
    let paths = json!({"read": [key.to_str(), model.to_str()], "write": [model.to_str()]});
    let report = read_json(send(&target, "POST", "/report", &paths.to_string()).await).await;
    let denied = "Permission denied (os error 13)";
    assert_eq!(report["read"][key.to_str().unwrap()], denied, "{report}");
    assert_eq!(report["read"][model.to_str().unwrap()], "ok", "{report}");
    assert_eq!(report["write"][model.to_str().unwrap()], denied, "{report}");
    assert!(!report.to_string().contains(TOKEN), "{report}");
    engine.stop().await;
}

#[tokio::test]
async fn refusals_name_the_secret_and_what_to_do() {
    let hub = hub().await;
    hub.require_token(Some("another"));
    let wrong = refused(bench(&hub, &at_hub())).await;
    assert_eq!(
        (wrong.reason, wrong.error.kind()),
        (Verdict::DownloadUnauthorized, ErrorKind::Unauthorized)
    );
    assert!(wrong.message.contains("key token of Secret hf"), "{}", wrong.message);

    let mut none = at_hub();
    none["huggingFace"]["tokenSecret"] = Value::Null;
    let none = refused(bench(&hub, &none)).await;
    assert!(
        none.message.contains("set source.huggingFace.tokenSecret"),
        "{}",
        none.message
    );

    let missing = bench(&hub, &at_hub());
    std::fs::remove_file(missing.path("keys/hf/token")).unwrap();
    let missing = refused(missing).await;
    assert_eq!(missing.reason, Verdict::DownloadUnauthorized);
    assert!(
        missing.message.contains("key token of Secret hf is missing"),
        "{}",
        missing.message
    );

    hub.refuse(403, "GatedRepo");
    let gated = refused(bench(&hub, &at_hub())).await;
    assert_eq!(
        (gated.reason, gated.error.kind()),
        (Verdict::DownloadUnauthorized, ErrorKind::Forbidden)
    );
    assert!(
        gated.message.contains("ask for access") && gated.message.contains("the hub's own words"),
        "{}",
        gated.message
    );
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let hub = hub().await;
    let with = |field: &str, value: &str| {
        let mut source = at_hub();
        source["huggingFace"][field] = value.into();
        source
    };
    for (source, named) in [
        (with("repository", "tiny/other"), "tiny/other"),
        (with("revision", "v9"), "revision v9"),
        (with("file", "absent.gguf"), "file absent.gguf"),
        (
            json!({"url": {"location": hub.location("absent.gguf"), "sha256": hub.sha256("model.gguf")}}),
            "absent.gguf",
        ),
    ] {
        let termination = refused(bench(&hub, &source)).await;
        assert_eq!(termination.reason, Verdict::DownloadNotFound, "{}", termination.message);
        assert!(termination.message.contains(named), "{named}: {}", termination.message);
    }
}

#[tokio::test]
async fn a_model_larger_than_the_disk_is_not_begun() {
    let hub = hub().await;
    hub.claim(1 << 60);
    let termination = refused(bench(&hub, &at_hub())).await;
    assert_eq!(termination.reason, Verdict::DownloadNoSpace);
    assert!(
        termination.message.contains("1152921504606846976 bytes"),
        "{}",
        termination.message
    );
    assert_eq!(hub.bytes_asked().len(), 0);
}

#[tokio::test]
async fn a_source_that_stays_silent_is_given_up() {
    let hub = hub().await;
    hub.faults(&[Fault::Status(503); 8]);
    let termination = refused(bench(&hub, &at_hub())).await;
    assert_eq!(
        (termination.reason, termination.error.kind()),
        (Verdict::DownloadFailed, ErrorKind::NetworkError)
    );
    assert!(termination.message.contains("503"), "{}", termination.message);
    assert_eq!(hub.bytes_asked().len(), 4, "one try and three more");
}

#[tokio::test]
async fn an_address_that_the_operator_does_not_allow_is_not_asked() {
    let hub = hub().await;
    let mut bench = bench(&hub, &at_url(&hub));
    bench.options.allowed = AllowedAddresses::default();
    let termination = refused(bench).await;
    assert_eq!(termination.reason, Verdict::InvalidSpec);
    assert!(
        termination.message.contains("a loopback address"),
        "{}",
        termination.message
    );
    assert_eq!(hub.asked().len(), 0);
}

#[tokio::test]
async fn progress_is_told_in_bytes() {
    let hub = hub().await;
    hub.faults(&[Fault::Pause(520_000)]);
    let mut bench = bench(&hub, &at_url(&hub));
    bench.options.source.patience.silence = DEADLINE;
    let mut engine = bench.start();
    let half = until(&mut engine, |download| download.bytes >= 500_000).await;
    assert_eq!(
        half,
        Download {
            bytes: 500_000,
            total: Some(SIZE as u64)
        }
    );
    hub.go_on();
    served(&mut engine).await;
    engine.stop().await;
}

#[tokio::test]
async fn two_processes_download_into_one_folder_once() {
    let hub = hub().await;
    hub.faults(&[Fault::Pause(500_000)]);
    let mut first = bench(&hub, &at_hub());
    first.options.source.patience.silence = DEADLINE;
    let mut second = bench(&hub, &at_hub());
    second.options.models.clone_from(&first.options.models);
    let mut first = first.start();
    until(&mut first, |download| download.bytes >= 500_000).await;
    let mut second = second.start();
    // It waits for its turn, and tells of what the first one has done.
    until(&mut second, |download| download.bytes >= 500_000).await;
    hub.go_on();
    let (one, other) = (served(&mut first).await, served(&mut second).await);
    assert_eq!(one, other);
    assert_eq!(std::fs::read(&one).unwrap(), weights());
    assert_eq!(hub.bytes_asked().len(), 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_whole_and_needs_the_hub_once() {
    let hub = hub().await;
    hub.faults(&[Fault::Cut(5), Fault::Corrupt]);
    let snapshot = |revision: &str| {
        let source = json!({"huggingFace": {"repository": REPOSITORY, "revision": revision}});
        placed(fake_of("well", json!({"engine": "VLLM", "source": source})), &hub)
    };
    let mut engine = snapshot("main").start();
    let folder = served(&mut engine).await;
    assert_eq!(folder, engine.bench.path("models/huggingface/tiny--model").join(COMMIT));
    // GGUF is none of vLLM's where there are safetensors.
    assert_eq!(
        files(&folder),
        ["config.json", "model.safetensors", "sub/tokenizer.json"]
    );
    assert_eq!(
        std::fs::read(folder.join("model.safetensors")).unwrap(),
        &weights()[1..]
    );
    let models = engine.bench.options.models.clone();
    let (_, bench) = engine.stop().await;

    let before = hub.asked().len();
    let mut pinned = snapshot(COMMIT);
    pinned.options.models.clone_from(&models);
    let mut pinned = pinned.start();
    assert_eq!(served(&mut pinned).await, folder);
    assert_eq!(hub.asked().len(), before, "a commit does not change");
    pinned.stop().await;

    hub.refuse(503, "");
    let mut branch = bench.start();
    assert_eq!(served(&mut branch).await, folder, "the last known commit");
    branch.stop().await;
}
