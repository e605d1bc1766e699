//! What a runtime may do (design section 4), and nothing else: no Secrets, no other deployment's object by name.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject as RbacSubject},
};

use super::Subject;
use crate::api::GROUP;

/// The identity of the pods. The token is mounted by hand where it is needed, never by default.
pub fn account(subject: &Subject) -> ServiceAccount {
    ServiceAccount {
        metadata: subject.meta(subject.name.clone(), subject.labels()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Its rights. The admission policy of the chart narrows the status patch to the caller's own InferenceReplica.
pub fn role(subject: &Subject) -> Role {
    const READ: &[&str] = &["get", "list", "watch"];
    let mut own = rule(GROUP, "inferencedeployments", READ);
    own.resource_names = Some(vec![subject.name.clone()]);
    Role {
        metadata: subject.meta(subject.name.clone(), subject.labels()),
        rules: Some(vec![
            own,
            rule(GROUP, "inferencereplicas", READ),
            rule(GROUP, "inferencereplicas/status", &["patch"]),
            rule("", "events", &["create", "patch"]),
            rule("events.k8s.io", "events", &["create", "patch"]),
        ]),
    }
}

/// Ties both together.
pub fn binding(subject: &Subject) -> RoleBinding {
    RoleBinding {
        metadata: subject.meta(subject.name.clone(), subject.labels()),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "Role".into(),
            name: subject.name.clone(),
        },
        subjects: Some(vec![RbacSubject {
            api_group: None,
            kind: "ServiceAccount".into(),
            name: subject.name.clone(),
            namespace: Some(subject.namespace.clone()),
        }]),
    }
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.into()]),
        resources: Some(vec![resource.into()]),
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        ..PolicyRule::default()
    }
}
