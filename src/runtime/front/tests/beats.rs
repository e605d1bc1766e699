//! What of an answer counts as a sign of life of the own engine.

use super::*;

/// An engine whose every stream has these events.
async fn streaming(events: String) -> Server {
    let router = axum::Router::new().fallback(move || {
        let events = events.clone();
        async move { ([(header::CONTENT_TYPE, "text/event-stream")], events) }
    });
    Server {
        address: serve(router).await,
        seen: Arc::default(),
        may: Arc::new(Semaphore::new(0)),
    }
}

/// Signs of life that were seen after one stream of these events.
async fn beats(events: &[&str]) -> u64 {
    let key = signer("k1");
    let cluster = cluster(&[&key]);
    let engine = streaming(events.join("\n\n") + "\n\n").await;
    let pod = pod(Plan {
        cluster: &cluster,
        signer: &key,
        engine: Some(ready(&engine, 4)),
        peers: vec![],
        spec: spec(None),
    })
    .await;
    let body = r#"{"model":"assistant","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let request =
        http::Request::post(format!("http://{}/v1/chat/completions", pod.api)).body(Full::new(Bytes::from(body)));
    let answer = client(DEADLINE).unwrap().request(request.unwrap()).await.unwrap();
    let _whole = answer.into_body().collect().await.unwrap();
    pod.front.registry.engine.as_ref().unwrap().activity.beats()
}

#[tokio::test]
async fn only_what_was_computed_is_a_sign_of_life() {
    let role = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
    let error = r#"data: {"error":{"message":"EngineCore encountered an issue.","code":500}}"#;
    assert_eq!(beats(&[": ping", role, error, "data: [DONE]"]).await, 0);
    let text = r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#;
    assert_eq!(beats(&[role, text, error, "data: [DONE]"]).await, 1);
    let thought = r#"data: {"choices":[{"index":0,"delta":{"reasoning":"hm"}}]}"#;
    let end = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    assert_eq!(beats(&[role, thought, thought, end, "data: [DONE]"]).await, 3);
}
