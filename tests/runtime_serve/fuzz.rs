//! Anything at the port: an answer always comes, in OpenAI's shape, and the process lives.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngSeed, TestRunner},
};
use tokio::time::timeout;

use super::{
    process::{DEADLINE, chat_body, read, start},
    requests::{CHAT, remote},
    upstream::{Act, Upstream},
};

const REQUESTS: usize = 600;

type Wild = (String, String, Vec<(String, Vec<u8>)>, Vec<u8>);

fn wild() -> impl Strategy<Value = Wild> {
    let method = prop_oneof![4 => Just("POST".to_owned()), 2 => Just("GET".to_owned()), 1 => "[A-Z]{1,9}"];
    let path = prop_oneof![
        4 => Just("/v1/chat/completions".to_owned()),
        1 => Just("/v1/completions".to_owned()),
        1 => Just("/v1/embeddings".to_owned()),
        1 => "/v1/models(/[a-z%0-9.]{0,20})?",
        2 => "/[!-~&&[^#<>\"{}|\\\\^`]]{0,60}",
    ];
    let name = prop_oneof![
        Just("x-request-id".to_owned()),
        Just("x-inference-priority".to_owned()),
        Just("x-inference-hop".to_owned()),
        Just("x-stainless-read-timeout".to_owned()),
        Just("authorization".to_owned()),
        Just("content-type".to_owned()),
        "x-[a-z]{1,20}",
    ];
    let value = proptest::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..0xff_u8], 0..60);
    let known = prop_oneof![
        Just(b"critical".to_vec()),
        Just(b"1e999".to_vec()),
        Just(b"-1".to_vec()),
        Just(b"Bearer x".to_vec())
    ];
    let headers = proptest::collection::vec((name, prop_oneof![value, known]), 0..6);
    let json = "\\{\"model\":(\"assistant\"|\"m\"|null|7),\"(stream|n|max_tokens|messages|stream_options)\":(true|-1|[0-9]{1,25}|\"a\"|\\[\\]|\\{\\}|null)\\}";
    let body = prop_oneof![
        3 => json.prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => Just(chat_body("").into_bytes()),
        1 => Just([b"[".repeat(20_000), b"]".repeat(20_000)].concat()),
    ];
    (method, path, headers, body)
}

#[tokio::test]
async fn whatever_comes_is_answered_in_openais_shape() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let (mut runner, wild) = (TestRunner::new(config), wild());
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..REQUESTS {
        let (method, path, headers, body) = wild.new_tree(&mut runner).unwrap().current();
        let shown = format!(
            "{method} {path} {headers:?} {}",
            String::from_utf8_lossy(&body[..body.len().min(200)])
        );
        let mut request = Request::builder()
            .method(method.as_str())
            .uri(format!("http://{}{path}", runtime.api));
        for (name, value) in &headers {
            request = request.header(name, value.as_slice());
        }
        // What is no HTTP request at all is never sent.
        let Ok(request) = request.body(Full::new(Bytes::from(body))) else {
            continue;
        };
        if ["CONNECT", "HEAD"].contains(&request.method().as_str()) {
            continue;
        }
        let response = timeout(DEADLINE, client.request(request))
            .await
            .unwrap_or_else(|_| panic!("no answer: {shown}"));
        let answer = read(response.unwrap_or_else(|error| panic!("{error:?}: {shown}"))).await;
        *statuses.entry(answer.status.as_u16()).or_default() += 1;
        let id = answer
            .headers
            .get("x-request-id")
            .unwrap_or_else(|| panic!("no id: {shown}"));
        if !answer.status.is_success() {
            let error = &answer.json()["error"];
            assert_eq!(error["request_id"].as_str(), id.to_str().ok(), "{shown}");
            for field in ["message", "type", "code"] {
                assert!(error[field].is_string(), "{field}: {} for {shown}", answer.text);
            }
            assert!(answer.status.as_u16() < 500, "{}: {shown}", answer.text);
        }
    }
    println!("answers by status: {statuses:?}");
    assert!(statuses.len() >= 4 && statuses[&200] > 0);
    assert_eq!(runtime.chat("").await.text, CHAT);
}
