use serde_json::json;

use super::{fixtures::backend, *};

#[test]
fn flags_of_the_runtime_are_refused_by_name() {
    for (engine, flag, fix) in [
        ("LlamaCpp", "--port=1", "args: --port is set by the runtime; remove it"),
        (
            "LlamaCpp",
            "-np",
            "args: -np is set by the runtime; remove it and use parallel",
        ),
        (
            "VLLM",
            "--api-key",
            "args: --api-key is set by the runtime; remove it and use access",
        ),
        ("SGLang", "--host", "args: --host is set by the runtime; remove it"),
    ] {
        let error = adapter(&backend(engine, json!({"args": [flag]}))).err().unwrap();
        assert_eq!(error.to_string(), fix);
    }
}

#[test]
fn only_a_custom_engine_may_do_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    for (engine, path) in [
        ("LlamaCpp", Err(SetupError::NoSource)),
        ("VLLM", Err(SetupError::NoSource)),
        ("SGLang", Err(SetupError::NoSource)),
        ("Custom", Ok(None)),
    ] {
        let backend = backend(engine, json!({"source": null, "command": ["serve"]}));
        assert_eq!(model_path(&backend, folder.path(), None), path, "{engine}");
    }
    std::fs::create_dir(folder.path().join("m")).unwrap();
    let folder_of_a_model = model_path(&backend("VLLM", json!({})), folder.path(), None);
    assert_eq!(folder_of_a_model, Ok(Some(folder.path().join("m"))));
    let downloaded = backend("VLLM", json!({"source": {"huggingFace": {"repository": "o/r"}}}));
    let fetched = folder.path().join("m");
    assert_eq!(
        model_path(&downloaded, folder.path(), Some(&fetched)),
        Ok(Some(fetched))
    );
    assert_eq!(model_path(&downloaded, folder.path(), None), Err(SetupError::NoSource));
}
