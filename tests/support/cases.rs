//! The accept and reject fixtures of `tests/schema`, as objects.

use serde::Deserialize;
use serde_json::{Map, Value};

/// A CEL rule with one object that keeps it and one that breaks it.
#[derive(Deserialize)]
pub struct RuleCase {
    pub rule: String,
    accept: Map<String, Value>,
    reject: Map<String, Value>,
}

/// A field with a wrong value.
#[derive(Deserialize)]
pub struct FieldCase {
    pub field: String,
    set: Map<String, Value>,
}

impl RuleCase {
    pub fn accepted(&self) -> Value {
        with(&self.accept)
    }

    pub fn rejected(&self) -> Value {
        with(&self.reject)
    }
}

impl FieldCase {
    pub fn rejected(&self) -> Value {
        with(&self.set)
    }
}

pub fn rules() -> Vec<RuleCase> {
    serde_saphyr::from_str(include_str!("../schema/rules.yaml")).expect("tests/schema/rules.yaml")
}

pub fn fields() -> Vec<FieldCase> {
    serde_saphyr::from_str(include_str!("../schema/fields.yaml")).expect("tests/schema/fields.yaml")
}

pub fn base() -> Value {
    serde_saphyr::from_str(include_str!("../schema/base.yaml")).expect("tests/schema/base.yaml")
}

fn with(changes: &Map<String, Value>) -> Value {
    let mut object = base();
    for (pointer, value) in changes {
        set(&mut object, pointer, value);
    }
    object
}

/// Sets the value at a JSON pointer; null removes, and `-` behind a list appends.
pub fn set(object: &mut Value, pointer: &str, value: &Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with /");
    match (object.pointer_mut(parent), value) {
        (Some(Value::Array(list)), value) if key == "-" => list.push(value.clone()),
        (Some(Value::Array(list)), Value::Null) => {
            list.remove(key.parse::<usize>().expect("an index"));
        }
        (Some(Value::Array(list)), value) => list[key.parse::<usize>().expect("an index")] = value.clone(),
        (Some(Value::Object(map)), Value::Null) => {
            map.remove(key).expect("null removes what is there");
        }
        (Some(Value::Object(map)), value) => {
            map.insert(key.to_owned(), value.clone());
        }
        _ => panic!("{pointer}: base.yaml has nothing there"),
    }
}
