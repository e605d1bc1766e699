//! Callers with and without the endpoint's own key.

use serde_json::json;

use super::{
    process::{chat_body, start_with_keys},
    requests::{CHAT, remote},
    upstream::{Act, Upstream},
};

#[tokio::test]
async fn a_callers_wrong_key_is_theirs_and_never_forwarded() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let access = "access: {type: ApiKey, apiKey: {secret: {name: callers, key: token}}}";
    let spec = format!("{access}\nbackends:\n{}", remote(&upstream, ""));
    let keys = [("openai", "api-key", "sk-right"), ("callers", "token", "open-sesame")];
    let runtime = start_with_keys(&spec, &keys).await;
    for path in ["/v1/chat/completions", "/v1/models", "/v1/nothing"] {
        let answer = runtime
            .post_with(path, &[("authorization", "Bearer wrong")], &chat_body(""))
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().0.as_str()),
            (401, "invalid_api_key"),
            "{path}"
        );
        assert_ne!(answer.json()["error"]["inference_error"]["kind"], json!("unauthorized"));
    }
    assert_eq!(runtime.chat("").await.status.as_u16(), 401, "no key at all");
    let headers = [("authorization", "Bearer open-sesame")];
    assert_eq!(
        runtime
            .post_with("/v1/chat/completions", &headers, &chat_body(""))
            .await
            .text,
        CHAT
    );
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(upstream.seen()[0].headers["authorization"], "Bearer sk-right");
}
