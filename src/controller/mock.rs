//! A small API server in memory for tests: create, get, server-side apply, merge patch, delete; uids, resource versions and
//! managedFields; and a fault at a chosen call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// Before a call that is only tried.
const DRY_RUN: &str = "dry run: ";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before the server has done anything.
    Before,
    /// The connection breaks after the server has done it.
    After,
    /// The server answers with an error.
    Status(u16, &'static str),
    /// The server never answers.
    Hang,
}

/// State of the server.
#[derive(Debug, Default)]
pub struct State {
    /// Objects by path.
    pub objects: BTreeMap<String, Value>,
    /// Calls so far, `METHOD path`, of trials after [`DRY_RUN`].
    pub calls: Vec<String>,
    /// At which call, counted from 0, what goes wrong.
    pub fault: Option<(usize, Fault)>,
    /// As an API server without the feature gate.
    pub drops_image_volumes: bool,
    version: u64,
}

/// A handle to the server.
#[derive(Clone, Debug, Default)]
pub struct Server(pub Arc<Mutex<State>>);

type Answer = (u16, Value);

impl Server {
    /// A client of this server.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, "default")
    }

    /// Writes an object as somebody else would.
    pub fn put(&self, path: &str, object: Value) {
        let mut state = self.0.lock().unwrap();
        state.store(path, object);
    }

    /// Objects whose path contains `plural`.
    pub fn list(&self, plural: &str) -> Vec<Value> {
        let part = format!("/{plural}/");
        let state = self.0.lock().unwrap();
        state
            .objects
            .iter()
            .filter(|(p, _)| p.contains(&part))
            .map(|(_, o)| o.clone())
            .collect()
    }

    /// Calls that were writes, since the count `since`.
    pub fn writes(&self, since: usize) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state
            .calls
            .iter()
            .skip(since)
            .filter(|c| !c.starts_with("GET") && !c.starts_with(DRY_RUN))
            .cloned()
            .collect()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let kind = parts
            .headers
            .get("content-type")
            .map_or("", |v| v.to_str().unwrap())
            .to_owned();
        let tried = parts.uri.query().is_some_and(|query| query.contains("dryRun=All"));
        let (fault, answer) = {
            let mut state = self.0.lock().unwrap();
            let number = state.calls.len();
            let prefix = if tried { DRY_RUN } else { "" };
            state.calls.push(format!("{prefix}{} {path}", parts.method));
            let fault = state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
            let done = !matches!(fault, Some(Fault::Before | Fault::Status(..) | Fault::Hang));
            let answer = done.then(|| {
                if tried {
                    state.trial(body)
                } else {
                    state.handle(&parts.method, &path, &kind, body)
                }
            });
            (fault, answer)
        };
        match (fault, answer) {
            (Some(Fault::Status(code, reason)), _) => Ok(response(failure(code, reason))),
            (Some(Fault::Hang), _) => std::future::pending().await,
            (None, Some(answer)) => Ok(response(answer)),
            _ => Err(std::io::Error::other("connection reset")),
        }
    }
}

fn response((code, body): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn failure(code: u16, reason: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code});
    (code, body)
}

impl State {
    fn handle(&mut self, method: &Method, path: &str, content: &str, body: Value) -> Answer {
        match method.as_str() {
            "GET" => self.found(path),
            "POST" => self.create(path, body),
            "DELETE" => self.delete(path),
            "PATCH" if content.contains("apply-patch") => self.apply(path, body),
            "PATCH" => self.merge(path, &body),
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    /// What would be stored.
    fn trial(&self, mut body: Value) -> Answer {
        if self.drops_image_volumes {
            body["spec"]["template"]["spec"]["volumes"] = json!([]);
        }
        (201, body)
    }

    fn found(&self, path: &str) -> Answer {
        if path.ends_with("/pods") || path.ends_with("/inferencereplicas") {
            let items = self.objects.iter().filter(|(p, _)| p.starts_with(&format!("{path}/")));
            let items: Vec<_> = items.map(|(_, object)| object.clone()).collect();
            return (
                200,
                json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}),
            );
        }
        self.objects
            .get(path)
            .map_or_else(|| failure(404, "NotFound"), |o| (200, o.clone()))
    }

    fn store(&mut self, path: &str, mut object: Value) -> Answer {
        if self.objects.get(path) == Some(&object) {
            return (200, object);
        }
        self.version += 1;
        let uid = format!("uid-{}", self.version);
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.entry("uid").or_insert(json!(uid));
        meta.insert("resourceVersion".into(), json!(self.version.to_string()));
        self.objects.insert(path.into(), object.clone());
        (200, object)
    }

    fn create(&mut self, path: &str, mut body: Value) -> Answer {
        let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&path) {
            return failure(409, "AlreadyExists");
        }
        body["metadata"]["managedFields"] = json!([{"manager": "inference-controller", "operation": "Update"}]);
        self.store(&path, body)
    }

    fn apply(&mut self, path: &str, body: Value) -> Answer {
        let (path, status) = path.strip_suffix("/status").map_or((path, false), |p| (p, true));
        let Some(before) = self.objects.get(path).cloned() else {
            return failure(404, "NotFound");
        };
        if body["metadata"]["uid"] != before["metadata"]["uid"] {
            return failure(409, "Conflict");
        }
        let mut after = if status { before.clone() } else { body.clone() };
        let version = &body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        if status {
            after["status"] = body["status"].clone();
            // Another manager's fields stay.
            for field in ["circuits", "budget", "gpus"] {
                if let Some(theirs) = before["status"].get(field) {
                    after["status"][field] = theirs.clone();
                }
            }
            return self.store(path, after);
        }
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        if let Some(status) = before.get("status") {
            after["status"] = status.clone();
        }
        let mut fields = before["metadata"]["managedFields"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if !fields.iter().any(|f| f["operation"] == "Apply") {
            fields.push(json!({"manager": "inference-controller", "operation": "Apply"}));
        }
        after["metadata"]["managedFields"] = fields.into();
        self.store(path, after)
    }

    fn merge(&mut self, path: &str, body: &Value) -> Answer {
        let (path, status) = path.strip_suffix("/status").map_or((path, false), |p| (p, true));
        let Some(mut object) = self.objects.get(path).cloned() else {
            return failure(404, "NotFound");
        };
        if body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        let part = if status { "status" } else { "metadata" };
        merge(&mut object[part], &body[part]);
        let held = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        if !held && !object["metadata"]["deletionTimestamp"].is_null() {
            self.objects.remove(path);
            return (200, object);
        }
        self.store(path, object)
    }

    fn delete(&mut self, path: &str) -> Answer {
        if let Some(object) = self.objects.get(path)
            && object["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        {
            let mut object = object.clone();
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            return self.store(path, object);
        }
        let gone = self.objects.remove(path);
        gone.map_or_else(|| failure(404, "NotFound"), |object| (200, object))
    }
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (field, value) in fields {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(field);
        } else {
            merge(&mut into[field], value);
        }
    }
}
