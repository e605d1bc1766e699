//! What the API server checks of an object besides its CEL rules: types, required and unknown fields, patterns, ranges, enums.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Map, Value};

use crate::api::schema::SchemaViolation;

/// Everything in `object` that the CRD's schema refuses. `apiVersion`, `kind` and `metadata` are the API server's own.
pub fn violations(crd: &CustomResourceDefinition, object: &Value) -> Vec<SchemaViolation> {
    let schema = crd
        .spec
        .versions
        .first()
        .and_then(|v| v.schema.as_ref())
        .and_then(|s| s.open_api_v3_schema.as_ref());
    let Some(schema) = schema else { return Vec::new() };
    let mut check = Check(Vec::new());
    match object {
        Value::Object(map) => {
            let own: Map<String, Value> = map
                .iter()
                .filter(|(key, _)| !["apiVersion", "kind", "metadata"].contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            check.object("", schema, &own);
        }
        _ => check.wrong("the document", "must be an object"),
    }
    check.0
}

struct Check(Vec<SchemaViolation>);

impl Check {
    fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(SchemaViolation {
            field: field.to_owned(),
            message: message.into(),
        });
    }

    fn value(&mut self, field: &str, schema: &JSONSchemaProps, value: &Value) {
        if value.is_null() && schema.nullable == Some(true) {
            return;
        }
        if schema.x_kubernetes_int_or_string == Some(true) {
            if !(value.is_string() || value.is_number()) {
                self.wrong(field, "must be a string or a whole number");
            }
            return;
        }
        match (schema.type_.as_deref(), value) {
            (Some("object"), Value::Object(map)) => self.object(field, schema, map),
            (Some("array"), Value::Array(items)) => self.array(field, schema, items),
            (Some("string"), Value::String(text)) => self.string(field, schema, text),
            (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.range(field, schema, number.as_f64());
            }
            (Some("number"), Value::Number(number)) => self.range(field, schema, number.as_f64()),
            (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(wanted), _) => self.wrong(field, wrong_type(wanted, value)),
        }
    }

    fn object(&mut self, field: &str, schema: &JSONSchemaProps, map: &Map<String, Value>) {
        for name in schema.required.iter().flatten().filter(|name| !map.contains_key(*name)) {
            self.wrong(&join(field, name), "is required");
        }
        if let Some(most) = schema.max_properties
            && i64::try_from(map.len()).is_ok_and(|n| n > most)
        {
            self.wrong(field, format!("has more than {most} entries"));
        }
        for (name, value) in map {
            self.property(&join(field, name), schema, name, value);
        }
    }

    fn property(&mut self, field: &str, schema: &JSONSchemaProps, name: &str, value: &Value) {
        let known = schema.properties.as_ref().and_then(|p| p.get(name));
        match (known, &schema.additional_properties) {
            (Some(known), _) => self.value(field, known, value),
            (None, Some(JSONSchemaPropsOrBool::Schema(values))) => self.value(field, values, value),
            (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
            (None, _) if schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
            (None, _) => {
                let names: Vec<_> = schema.properties.iter().flatten().map(|(n, _)| n.as_str()).collect();
                self.wrong(field, format!("is no field here; there are: {}", names.join(", ")));
            }
        }
    }

    fn array(&mut self, field: &str, schema: &JSONSchemaProps, items: &[Value]) {
        let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
        self.length(field, (schema.min_items, schema.max_items), length, "items");
        if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                self.value(&format!("{field}[{index}]"), schema, item);
            }
        }
    }

    fn string(&mut self, field: &str, schema: &JSONSchemaProps, text: &str) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        self.length(field, (schema.min_length, schema.max_length), length, "characters");
        let allowed: Vec<_> = schema.enum_.iter().flatten().filter_map(|v| v.0.as_str()).collect();
        if !allowed.is_empty() && !allowed.contains(&text) {
            self.wrong(field, format!("is {text:?}, must be one of {}", allowed.join(", ")));
        }
        if let Some(pattern) = &schema.pattern
            && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
        {
            self.wrong(field, format!("is {text:?}, must match {pattern}"));
        }
    }

    fn length(&mut self, field: &str, (least, most): (Option<i64>, Option<i64>), length: i64, unit: &str) {
        if let Some(least) = least.filter(|least| length < *least) {
            self.wrong(field, format!("has {length} {unit}, at least {least} are needed"));
        }
        if let Some(most) = most.filter(|most| length > *most) {
            self.wrong(field, format!("has {length} {unit}, at most {most} are allowed"));
        }
    }

    fn range(&mut self, field: &str, schema: &JSONSchemaProps, number: Option<f64>) {
        let Some(number) = number else { return };
        if let Some(least) = schema.minimum.filter(|least| number < *least) {
            self.wrong(field, format!("is {number}, must be at least {least}"));
        }
        if let Some(most) = schema.maximum.filter(|most| number > *most) {
            self.wrong(field, format!("is {number}, must be at most {most}"));
        }
    }
}

fn join(field: &str, name: &str) -> String {
    if field.is_empty() {
        name.to_owned()
    } else {
        format!("{field}.{name}")
    }
}

fn wrong_type(wanted: &str, value: &Value) -> String {
    let article = if wanted.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    let hint = if wanted == "string" && value.is_number() {
        ": put it in quotes"
    } else {
        ""
    };
    format!("is {value}, must be {article} {wanted}{hint}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::schema::inference_deployment_crd;

    fn fields(spec: Value) -> Vec<String> {
        let object = json!({"apiVersion": "x", "kind": "y", "metadata": {"name": "z"}, "spec": spec});
        let found = violations(&inference_deployment_crd().unwrap(), &object);
        found.into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn types_ranges_and_unknown_fields_are_found_together() {
        let spec = json!({
            "replicas": 1001,
            "model": 7,
            "backends": [{"name": "UPPER", "remote": {"provider": "OpenAI", "endpoint": "https://x.example", "extra": 1}}],
        });
        let mut found = fields(spec);
        found.sort();
        assert_eq!(
            found,
            [
                "spec.backends[0].name",
                "spec.backends[0].remote.extra",
                "spec.backends[0].remote.model",
                "spec.model",
                "spec.replicas"
            ]
        );
    }

    #[test]
    fn the_shape_of_the_whole_document_is_checked() {
        let crd = inference_deployment_crd().unwrap();
        assert_eq!(violations(&crd, &json!([])).len(), 1);
        assert_eq!(fields(json!({"backends": []})), ["spec.backends"]);
        assert_eq!(fields(json!({"backends": {}})), ["spec.backends"]);
    }
}
