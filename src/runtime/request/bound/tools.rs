//! Definitions of tools: one that the provider runs itself has a price of its own, or fetches input that nobody bounds.

use super::{
    Terms, Unbounded,
    content::{each, is_text, items, plain},
    json::Steps,
    refused,
};

const TOOL: [&str; 3] = ["type", "function", "cache_control"];
const DEFINITION: [&str; 5] = ["name", "description", "parameters", "strict", "cache_control"];
const FUNCTION: [&str; 4] = ["name", "description", "parameters", "strict"];

/// Steps through `tools`.
pub fn tools(list: &[u8], terms: &Terms) -> Result<(), Unbounded> {
    items(
        &mut Steps::new(list),
        || "tools".to_owned(),
        |steps, at| tool(steps, at, terms),
    )
}

fn tool(steps: &mut Steps<'_>, at: usize, terms: &Terms) -> Result<(), Unbounded> {
    let path = || format!("tools[{at}]");
    let not_ours = || refused(format!("{}.type", path()), "must be function under a budget");
    let mut is_function = false;
    each(steps, &TOOL, path, |steps, name| match name {
        "type" => {
            is_function = is_text(steps.value(), "function");
            if is_function { Ok(()) } else { Err(not_ours()) }
        }
        "function" => definition(steps, || format!("{}.function", path()), terms),
        _ => plain(steps, name, terms, path),
    })?;
    if is_function { Ok(()) } else { Err(not_ours()) }
}

fn definition(steps: &mut Steps<'_>, path: impl Fn() -> String, terms: &Terms) -> Result<(), Unbounded> {
    each(steps, &DEFINITION, &path, |steps, name| {
        plain(steps, name, terms, &path)
    })
}

/// Steps through `functions`: gateways read an object without a name of its own as a tool of the provider, by whatever key it has.
pub fn functions(list: &[u8]) -> Result<(), Unbounded> {
    items(
        &mut Steps::new(list),
        || "functions".to_owned(),
        |steps, at| {
            let path = || format!("functions[{at}]");
            let mut is_named = false;
            each(steps, &FUNCTION, path, |steps, name| {
                let value = steps.value();
                is_named |= name == "name" && value.starts_with(b"\"");
                Ok(())
            })?;
            if is_named {
                return Ok(());
            }
            Err(refused(format!("{}.name", path()), "must be a name under a budget"))
        },
    )
}
