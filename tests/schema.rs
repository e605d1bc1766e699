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
        }
    }
}
