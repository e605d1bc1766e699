//! The controller: desired state to cluster state (design section 11).
//!
//! One reconcile is `dereference → validate → build → apply → update_status`, a file each with an error enum each. The middle is pure;
//! only the first and the last two hold a client or a cache.
//!
//! # Rights that the controller needs
//!
//! The chart's ClusterRole is written from this table. The rows marked with a star are held only to be handed out: Kubernetes lets
//! nobody give a right away that he does not have, and the controller never has `escalate` or `bind`.
//!
//! | group | resource | verbs |
//! |---|---|---|
//! | inference-operator.dev | inferencedeployments | get, list, watch, patch (annotations) |
//! | inference-operator.dev | inferencedeployments/status | patch |
//! | inference-operator.dev | inferencereplicas | get, list, watch, create, patch, delete |
//! | inference-operator.dev | inferencereplicas/status | patch * |
//! | apps | deployments, controllerrevisions | get, list, watch, create, patch, delete |
//! | resource.k8s.io | resourceclaimtemplates | get, list, watch, create, delete |
//! | leaderworkerset.x-k8s.io | leaderworkersets | get, list, watch, create, patch, delete |
//! | (core) | services, serviceaccounts | get, list, watch, create, patch, delete |
//! | (core) | pods | list, watch |
//! | networking.k8s.io | networkpolicies | get, list, watch, create, patch, delete |
//! | policy | poddisruptionbudgets | get, list, watch, create, patch, delete |
//! | rbac.authorization.k8s.io | roles, rolebindings | get, list, watch, create, patch, delete |
//! | events.k8s.io | events | create, patch |
//! | (core) | events | create *, patch * |
//!
//! And, in its own namespace only: `coordination.k8s.io` leases: get, create, update. Secrets: nothing. Where the API server runs the
//! admission plugin OwnerReferencesPermissionEnforcement, `update` on inferencedeployments/finalizers in addition.

mod apply;
mod batch;
mod build;
mod call;
mod decide;
mod dereference;
mod discover;
mod events;
mod groups;
mod image_volumes;
mod kinds;
mod lease;
mod memory;
mod metrics;
#[cfg(test)]
mod mock;
pub mod options;
mod orphans;
mod pace;
mod pods;
mod reconcile;
pub mod run;
mod server;
mod server_time;
mod status;
mod stores;
mod tried;
mod validate;
mod watch;
