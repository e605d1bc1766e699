//! The program `fake-provider`, as people and benches use it.

use std::{net::SocketAddr, process::Stdio};

use http::{Method, Request};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::process::{Answer, DEADLINE, get, read};

async fn start(arguments: &[&str]) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fake-provider"));
    let mut child = command
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line())
        .await
        .expect("an address in time")
        .unwrap();
    (child, line.expect("an address").parse().unwrap())
}

async fn send(method: Method, address: SocketAddr, path: &str, body: &str) -> Answer {
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    let request = request
        .header("authorization", "Bearer k")
        .body(body.to_owned().into())
        .unwrap();
    read(
        timeout(DEADLINE, client.request(request))
            .await
            .expect("an answer in time")
            .unwrap(),
    )
    .await
}

#[tokio::test]
async fn it_serves_a_format_and_takes_a_script() {
    let (_child, address) = start(&["--format", "OpenAI", "--tokens", "2", "--pace", "1ms"]).await;
    let chat = |body: &'static str| send(Method::POST, address, "/v1/chat/completions", body);
    let right = r#"{"model":"m","messages":[{"role":"user","content":"a b"}]}"#;
    assert_eq!(chat(right).await.json()["usage"]["total_tokens"], 4);
    let refused = chat(r#"{"model":"m","messages":[{}],"nonsense":1}"#).await;
    assert_eq!(refused.status.as_u16(), 400);
    assert!(refused.text.contains("nonsense"), "{}", refused.text);
    let other = send(Method::POST, address, "/v1/messages", right).await;
    assert_eq!(other.status.as_u16(), 404, "only OpenAI's format is served");

    let script = r#"{"acts":[{"row":"openai/server_error"},{"status":418,"body":"{}","delayHeadMs":5}]}"#;
    assert_eq!(
        send(Method::POST, address, "/_script", script).await.json(),
        json!({"acts": 2})
    );
    assert_eq!(
        send(Method::POST, address, "/_script", r#"{"akts":[]}"#)
            .await
            .status
            .as_u16(),
        400
    );
    let statuses = [chat(right).await, chat(right).await, chat(right).await].map(|answer| answer.status.as_u16());
    assert_eq!(statuses, [500, 418, 200]);
    let seen = get(address, "/_seen").await.json();
    assert_eq!(
        (&seen["requests"], &seen["seen"][0]["body"]["messages"][0]["content"]),
        (&json!(6), &json!("a b"))
    );
    send(Method::DELETE, address, "/_script", "").await;
    assert_eq!(get(address, "/_seen").await.json()["requests"], 0);
}
