//! The documents say what the code does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::{fs, path::Path};

use inference_operator::{
    api::EngineKind,
    error::{BudgetRule, CircuitRule, ErrorKind, RetryRule},
    policy::engines::{Variable, own_flags},
};

const fn retry(rule: RetryRule) -> &'static str {
    match rule {
        RetryRule::Never => "no",
        RetryRule::SameBackend => "the same backend, then the next",
        RetryRule::NextBackend => "the next backend",
        RetryRule::OtherReplica => "another replica, or the next backend",
        RetryRule::LongerContext => "only a backend with a longer context",
        RetryRule::RebuiltSession => "once with the key read anew, then the next backend",
        RetryRule::FreeBackend => "only backends that cost nothing",
    }
}

const fn circuit(rule: CircuitRule) -> &'static str {
    match rule {
        CircuitRule::Ignored => "not counted",
        CircuitRule::EndpointFailure => "a failure of the endpoint",
        CircuitRule::CredentialRefused => "opens the credential's at once",
        CircuitRule::EnginePoisoned => "opens the engine's at once",
    }
}

const fn budget(rule: BudgetRule) -> &'static str {
    match rule {
        BudgetRule::None => "nothing was reserved",
        BudgetRule::Release => "given back",
        BudgetRule::Settle => "settled as reported",
        BudgetRule::Denies => "denied before sending",
        BudgetRule::Uncertain => "kept as uncertain",
        BudgetRule::ReleaseIfUnsent => "given back if nothing was sent, else uncertain",
        BudgetRule::ReleaseIfComplete => "given back if the error answer was complete, else uncertain",
    }
}

fn row(kind: ErrorKind) -> String {
    let contract = kind.contract();
    let status = if contract.retry_after {
        format!("{} + Retry-After", contract.http_status)
    } else {
        contract.http_status.to_string()
    };
    let condition = contract
        .condition
        .map_or_else(|| "none".to_owned(), |(kind, reason)| format!("{kind} / {reason}"));
    format!(
        "| `{}` | {status} | {} | {} | {condition} | {} |",
        kind.as_str(),
        retry(contract.retry),
        circuit(contract.circuit),
        budget(contract.budget),
    )
}

#[test]
fn the_table_of_errors_is_the_codes() {
    let expected: Vec<String> = ErrorKind::ALL.into_iter().map(row).collect();
    let document = include_str!("../docs/errors.md");
    let found: Vec<&str> = document.lines().filter(|l| l.starts_with("| `")).collect();
    assert_eq!(found, expected, "docs/errors.md should read:\n{}", expected.join("\n"));
}

#[test]
fn the_refused_arguments_and_the_variables_of_engines_are_the_codes() {
    let document = include_str!("../docs/engines.md");
    for (engine, name) in [
        (EngineKind::LlamaCpp, "- LlamaCpp: "),
        (EngineKind::VLLM, "- VLLM: "),
        (EngineKind::SGLang, "- SGLang: "),
    ] {
        let start = document.find(name).unwrap() + name.len();
        let rest = document.get(start..).unwrap();
        let end = ["\n- ", "\n\n"]
            .iter()
            .filter_map(|after| rest.find(after))
            .min()
            .unwrap();
        let found: Vec<&str> = rest
            .get(..end)
            .unwrap()
            .split(',')
            .map(|flag| flag.trim().trim_matches('`'))
            .collect();
        let expected: Vec<&str> = own_flags(engine).iter().map(|(flag, _)| *flag).collect();
        assert_eq!(found, expected, "{name}");
    }
    for variable in Variable::ALL {
        assert!(
            document.contains(&format!("`$({})`", variable.name())),
            "{}",
            variable.name()
        );
    }
}

/// A page's headings as links name them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    let words = headings.map(|heading| heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
    words
        .map(|words| words.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', ""))
        .collect()
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = fs::read_dir(root.join("docs")).unwrap();
    let pages = folder.map(|entry| entry.unwrap().path());
    for page in pages.chain(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name))) {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            let found = fs::read_to_string(&target);
            let known = found.is_ok_and(|target| anchor.is_empty() || anchors(&target).contains(&anchor.to_owned()));
            assert!(known, "{}: {link}", page.display());
        }
    }
}
