//! The schema's rules without a cluster, and that no rule and no field is without its fixture. The same fixtures go to a real API server
//! in `tests/e2e/schema.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and helpers of tests are no test functions to clippy"
)]

use std::collections::BTreeSet;

use inference_operator::{
    api::{
        InferenceDeployment,
        schema::{check_rules, inference_deployment_crd, inference_replica_crd},
    },
    policy::support::{Mode, unsupported},
};
use regex::Regex;
use serde_json::Value;

mod support;

use support::cases;

fn crd() -> Value {
    serde_json::to_value(inference_deployment_crd().unwrap()).unwrap()
}

fn root(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

fn check(object: Value) -> Result<(), String> {
    let deployment: InferenceDeployment = serde_json::from_value(object).map_err(|e| e.to_string())?;
    check_rules(&deployment).map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[test]
fn every_rule_accepts_and_rejects() {
    for case in cases::rules() {
        assert_eq!(check(case.accepted()), Ok(()), "accept: {}", case.rule);
        let said = check(case.rejected()).expect_err(&case.rule);
        assert!(
            said.contains(&case.rule) || said.contains("is no duration"),
            "reject: {}: {said}",
            case.rule
        );
    }
}

#[test]
fn every_example_is_carried_out() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    for file in folder.map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in text.split("\n---\n") {
            let deployment: InferenceDeployment = serde_saphyr::from_str(document).unwrap();
            assert_eq!(mistyped(document), Vec::<String>::new(), "{}", file.display());
            assert_eq!(check_rules(&deployment), Ok(()), "{}", file.display());
            let carried_out = |mode| unsupported(&deployment.spec, mode).is_empty();
            assert!(
                carried_out(Mode::Cluster) || carried_out(Mode::File),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn the_manifest_of_the_readme_is_of_the_schema() {
    let readme = include_str!("../README.md");
    let mut found = 0;
    for block in readme.split("```yaml\n").skip(1) {
        let manifest = block.split("```").next().unwrap();
        assert_eq!(mistyped(manifest), Vec::<String>::new(), "{manifest}");
        found += 1;
    }
    assert!(found > 0, "README.md has no manifest");
}

/// What the API server would say of a manifest before it looks at rules. Our own reading is kinder: it takes a number for a text.
fn mistyped(manifest: &str) -> Vec<String> {
    let object: Value = serde_saphyr::from_str(manifest).unwrap();
    let crd = crd();
    let mut found = Vec::new();
    check_types(&root(&crd)["properties"]["spec"], &object["spec"], "spec", &mut found);
    found
}

fn check_types(schema: &Value, value: &Value, path: &str, into: &mut Vec<String>) {
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => schema["x-kubernetes-int-or-string"] == true && (value.is_string() || value.is_i64()),
    };
    let pattern = schema["pattern"].as_str().map(|pattern| Regex::new(pattern).unwrap());
    let fits = pattern.is_none_or(|pattern| value.as_str().is_none_or(|text| pattern.is_match(text)));
    let known = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    if !(is && fits && known) {
        into.push(format!("{path}: {value}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            into.push(format!("{path}: no {required}"));
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            Some(schema) => check_types(schema, value, &path, into),
            None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => into.push(format!("{path}: unknown")),
        }
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        check_types(&schema["items"], value, &format!("{path}[{index}]"), into);
    }
}

#[test]
fn every_rule_has_a_fixture() {
    let mut messages = BTreeSet::new();
    collect_messages(root(&crd()), &mut messages);
    let covered: BTreeSet<String> = cases::rules().into_iter().map(|c| c.rule).collect();
    assert_eq!(messages, covered);
}

fn collect_messages(schema: &Value, into: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let rules = map.get("x-kubernetes-validations").and_then(Value::as_array);
            into.extend(
                rules
                    .into_iter()
                    .flatten()
                    .filter_map(|r| r["message"].as_str().map(str::to_owned)),
            );
            map.values().for_each(|v| collect_messages(v, into));
        }
        Value::Array(list) => list.iter().for_each(|v| collect_messages(v, into)),
        _ => {}
    }
}

#[test]
fn every_field_has_a_fixture() {
    let mut leaves = BTreeSet::new();
    collect_leaves(&root(&crd())["properties"]["spec"], "spec", &mut leaves);
    let covered: BTreeSet<String> = cases::fields()
        .into_iter()
        .map(|c| c.field.replace("[0]", "").replace("[1]", ""))
        .collect();
    let missing: Vec<_> = leaves.difference(&covered).collect();
    assert!(
        missing.is_empty(),
        "tests/schema/fields.yaml has no row for {missing:?}"
    );
}

#[test]
fn every_wrong_value_is_one() {
    for case in cases::fields() {
        assert_ne!(
            case.rejected(),
            cases::base(),
            "{}: the row changes nothing",
            case.field
        );
    }
}

/// Leaves of our own schema; Kubernetes' own types (below `podTemplate` and `resources`) count as one leaf each.
fn collect_leaves(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let foreign = path.ends_with(".resources")
        || path
            .rsplit_once('.')
            .is_some_and(|(parent, _)| parent.ends_with(".podTemplate"));
    let object = schema
        .get("properties")
        .or_else(|| schema["items"].get("properties"))
        .and_then(Value::as_object);
    match object {
        Some(properties) if !foreign => {
            properties
                .iter()
                .for_each(|(name, child)| collect_leaves(child, &format!("{path}.{name}"), into));
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn the_crds_in_the_tree_are_current() {
    for crd in [inference_deployment_crd().unwrap(), inference_replica_crd().unwrap()] {
        let current = serde_json::to_value(&crd).unwrap();
        for folder in ["crds", "charts/inference-operator-crds/files"] {
            let file = format!("{}/{folder}/{}.yaml", env!("CARGO_MANIFEST_DIR"), crd.spec.names.plural);
            let stored: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            assert_eq!(stored, current, "{file} is stale: run `make crds`");
            let words = current.to_string().to_lowercase();
            for ours in ["design section", "pod-shaped"] {
                assert!(
                    !words.contains(ours),
                    "a description says {ours:?}, which only this repository knows"
                );
            }
        }
    }
}
