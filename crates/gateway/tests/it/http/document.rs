//! The description of the interface, held against the interface.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::Value;

use super::world::{request, world};

const ROUTES: [&str; 20] = [
    "GET /healthz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /readyz",
    "GET /v1/consents/{recipient}",
    "GET /v1/hold",
    "GET /v1/hold/buried",
    "GET /v1/lanes",
    "GET /v1/messages/{id}",
    "GET /v1/receipts",
    "POST /v1/clock/confirm",
    "POST /v1/consents",
    "POST /v1/explain",
    "POST /v1/hold/kick",
    "POST /v1/lanes/{lane}/pause",
    "POST /v1/lanes/{lane}/resume",
    "POST /v1/messages",
    "POST /v1/messages/bulk",
    "POST /v1/recalls",
    "POST /v1/release",
];

/// Method, path and description of every operation.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((method.to_uppercase(), path.clone(), operation));
        }
    }
    all
}

#[tokio::test]
async fn the_document_describes_every_route_and_no_other() {
    let world = world();
    assert_eq!(world.get("/openapi.json").await.json(), world.document);
    let mut described: Vec<String> = operations(&world.document)
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    described.sort_unstable();
    assert_eq!(described, ROUTES);
    for (method, path, _) in operations(&world.document) {
        let path = path.replace("{lane}", "main").replace(['{', '}'], "");
        let got = world
            .send(request(&method, &path).body(Body::empty()).unwrap())
            .await;
        assert_ne!(got.status, 405, "{method} {path}");
        assert!(!got.text.contains("no-route"), "{method} {path}");
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let world = world();
    let document = &world.document;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(document["info"]["title"], "Nightgate");
    let tags: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].clone().to_string())
        .collect();
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    assert_eq!(
        schemes.keys().collect::<Vec<_>>(),
        ["operator", "producer", "reader"]
    );
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(document) {
        let at = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].clone().to_string()),
            "{at}"
        );
        assert!(tags.contains(&operation["tags"][0].to_string()), "{at}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
        assert!(
            !operation["security"].as_array().unwrap().is_empty(),
            "{at}"
        );
        let named: BTreeSet<_> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let in_path: BTreeSet<_> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(named, in_path, "{at}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{at}"
        );
        for (status, response) in responses {
            assert!(
                !response["description"].as_str().unwrap().is_empty(),
                "{at} {status}"
            );
            let problem = &response["content"]["application/problem+json"];
            assert_eq!(problem.is_null(), status.starts_with('2'), "{at} {status}");
        }
    }
    references(document, document);
}

/// Every reference leads somewhere.
fn references(document: &Value, part: &Value) {
    match part {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(
                    document.pointer(pointer).is_some(),
                    "{reference} leads nowhere"
                );
            }
            map.values().for_each(|part| references(document, part));
        }
        Value::Array(parts) => parts.iter().for_each(|part| references(document, part)),
        _ => {}
    }
}

#[tokio::test]
async fn every_example_is_taken_as_it_stands() {
    let world = world();
    let mut tried = 0;
    for (method, path, operation) in operations(&world.document) {
        let Some(contents) = operation["requestBody"]["content"].as_object() else {
            continue;
        };
        for (media, content) in contents {
            let body = match &content["example"] {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                example => example.to_string(),
            };
            let got = world.post_as(&path, media, body).await;
            assert_eq!(got.status, 200, "{method} {path}: {got:?}");
            assert!(
                !got.text.contains(r#""status":"invalid""#),
                "{path}: {got:?}"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, 6);
}

#[tokio::test]
async fn answers_have_only_statuses_that_are_described() {
    let world = world();
    let document = world.document.clone();
    for (method, path, operation) in operations(&document) {
        for (filled, body) in [("%ff", "{"), ("%20", "{}"), ("main", "7")] {
            let path: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { filled } else { part })
                .collect::<Vec<_>>()
                .join("/");
            for media in ["application/json", "application/x-ndjson", "text/plain"] {
                let request = request(&method, &path).header("content-type", media);
                let got = world.send(request.body(Body::from(body)).unwrap()).await;
                let status = got.status.to_string();
                let described = operation["responses"].as_object().unwrap();
                assert!(
                    described.contains_key(&status),
                    "{method} {path} gives {status}"
                );
            }
        }
    }
}
