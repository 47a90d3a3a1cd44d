//! Every provider's format: the answer, what is refused and in which words, where the key goes, and each fault in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod client;

use autoembed_stub::{Body, Fault, Format, Kind, Script, Stub, StubConfig, Vectors, hashed_vector};
use client::{Answer, Client, answered, key_line, path, request, said, vector, with};
use serde_json::{Value, json};

/// Formats whose items carry an index.
const INDEXED: [Format; 5] = [Format::OpenAi, Format::Azure, Format::Voyage, Format::Jina, Format::Mistral];

fn hashed(dims: usize) -> Stub {
    Stub::start(StubConfig::vectors(Vectors::Hashed(dims)).recorded()).unwrap()
}

fn ask(stub: &Stub, format: Format, body: &Value) -> Answer {
    Client::connect(stub).post(&path(format), body)
}

#[test]
fn answers_have_the_shape_of_the_provider() {
    let stub = hashed(2);
    // Two texts of two tokens each.
    let texts = ["one text", "another"];
    let [a, b] = texts.map(|text| json!(hashed_vector(text, 2)));
    let data = json!([
        {"object": "embedding", "index": 0, "embedding": a},
        {"object": "embedding", "index": 1, "embedding": b}
    ]);
    let list = |usage: Value| json!({"object": "list", "data": data, "model": "m", "usage": usage});
    let with_id = |mut list: Value| {
        list["id"] = json!("00000000000040008000000000000000");
        list
    };
    for format in Format::ALL {
        let expected = match format {
            Format::OpenAi | Format::Azure => list(json!({"prompt_tokens": 4, "total_tokens": 4})),
            Format::Voyage => list(json!({"total_tokens": 4})),
            Format::Jina => list(json!({"total_tokens": 4, "prompt_tokens": 4})),
            Format::Mistral => with_id(list(json!({"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0}))),
            Format::Ollama => json!({
                "model": "m", "embeddings": [a, b], "total_duration": 1_000_000, "load_duration": 1000,
                "prompt_eval_count": 4,
            }),
            Format::Tei => json!([a, b]),
            Format::Cohere => json!({
                "id": "00000000-0000-4000-8000-000000000000", "embeddings": {"float": [a, b]}, "texts": texts,
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4}},
                "response_type": "embeddings_by_type",
            }),
            Format::Gemini => json!({"embeddings": [{"values": a}, {"values": b}]}),
        };
        let answer = ask(&stub, format, &request(format, &texts));
        assert_eq!(answer.status, 200, "{format:?}");
        // As numbers of the same width: a JSON parser reads an f32's digits as an f64.
        let narrow = |value: &Value| value.to_string();
        assert_eq!(narrow(&widened(&answer.json())), narrow(&widened(&expected)), "{format:?}");
    }
}

/// Every number through f32 and back, so that two spellings of one f32 are equal.
fn widened(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => json!(f64::from(number.as_f64().unwrap() as f32)),
        Value::Array(items) => items.iter().map(widened).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), widened(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn base64_where_the_provider_has_it() {
    let stub = hashed(5);
    for (format, field, value) in [
        (Format::OpenAi, "encoding_format", json!("base64")),
        (Format::Azure, "encoding_format", json!("base64")),
        (Format::Voyage, "encoding_format", json!("base64")),
        (Format::Mistral, "encoding_format", json!("base64")),
        (Format::Jina, "embedding_type", json!("base64")),
        (Format::Cohere, "embedding_types", json!(["base64"])),
    ] {
        let body = ask(&stub, format, &with(request(format, &["a", "b"]), field, value)).json();
        let first = body.pointer("/data/0/embedding").or_else(|| body.pointer("/embeddings/base64/0")).unwrap();
        assert!(first.is_string(), "{format:?}: {first}");
        assert_eq!(answered(format, &body), [hashed_vector("a", 5), hashed_vector("b", 5)], "{format:?}");
    }
}

#[test]
fn dimensions_kind_and_truncation_are_read_and_recorded() {
    let field = |format: Format| match format {
        Format::OpenAi | Format::Azure | Format::Ollama | Format::Tei | Format::Jina => "dimensions",
        Format::Cohere | Format::Voyage | Format::Mistral => "output_dimension",
        Format::Gemini => "outputDimensionality",
    };
    for format in Format::ALL {
        let stub = hashed(9);
        let body = with(request(format, &["some text"]), field(format), json!(7));
        assert_eq!(answered(format, &ask(&stub, format, &body).json()), [hashed_vector("some text", 7)]);
        let record = &stub.requests()[0];
        assert_eq!(record.format, Some(format));
        assert_eq!((record.dimensions, record.count, record.tokens, record.status), (Some(7), 1, 3, 200), "{format:?}");
        assert_eq!(record.model, if format == Format::Tei { "" } else { "m" });
        let by_default = matches!(format, Format::Ollama | Format::Cohere | Format::Voyage | Format::Gemini);
        assert_eq!(record.truncate, by_default, "{format:?}");
        let kind = (format == Format::Cohere).then_some(Kind::Document);
        assert_eq!(record.kind, kind, "{format:?}: nothing is taken for granted");
    }
    let words = [
        (Format::Cohere, "input_type", "search_document", "search_query", Some("clustering")),
        (Format::Voyage, "input_type", "document", "query", None),
        (Format::Jina, "task", "retrieval.passage", "retrieval.query", Some("text-matching")),
        (Format::Gemini, "taskType", "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY", Some("CLUSTERING")),
        (Format::Tei, "prompt_name", "document", "query", Some("passage")),
    ];
    for (format, field, document, query, other) in words {
        let stub = hashed(2);
        let all = [Some(document), Some(query), other];
        for word in all.into_iter().flatten() {
            assert_eq!(ask(&stub, format, &with(request(format, &["a"]), field, json!(word))).status, 200);
        }
        let kinds: Vec<Kind> = stub.requests().iter().filter_map(|record| record.kind).collect();
        let expected = [Some(Kind::Document), Some(Kind::Query), other.map(|_| Kind::Other)];
        assert_eq!(kinds, expected.into_iter().flatten().collect::<Vec<_>>(), "{format:?}");
        let wrong = ask(&stub, format, &with(request(format, &["a"]), field, json!("passages")));
        assert!([400, 422].contains(&wrong.status), "{format:?}");
    }
    let switches = [
        (Format::Ollama, "truncate", json!(false), false),
        (Format::Tei, "truncate", json!(true), true),
        (Format::Jina, "truncate", json!(true), true),
        (Format::Voyage, "truncation", json!(false), false),
        (Format::Cohere, "truncate", json!("NONE"), false),
        (Format::Cohere, "truncate", json!("START"), true),
    ];
    for (format, field, value, truncate) in switches {
        let stub = hashed(2);
        assert_eq!(ask(&stub, format, &with(request(format, &["a"]), field, value)).status, 200);
        assert_eq!(stub.requests()[0].truncate, truncate, "{format:?}");
    }
}

#[test]
fn what_the_provider_would_refuse_is_refused() {
    let stub = hashed(4);
    for format in Format::ALL {
        let schema = match format {
            Format::Mistral | Format::Jina | Format::Tei => 422,
            _ => 400,
        };
        let good = request(format, &["a"]);
        let texts = match format {
            Format::Cohere => "texts",
            Format::Tei => "inputs",
            Format::Gemini => "content",
            _ => "input",
        };
        let refused = |body: &Value, status: u16, what: &str| {
            let answer = ask(&stub, format, body);
            assert_eq!(answer.status, status, "{format:?}: {what}");
            assert!(said(format, &answer.json()).len() > 5, "{format:?}: {what}");
        };
        let unknown = if format == Format::Cohere { 422 } else { schema };
        refused(&with(good.clone(), "colour", json!("blue")), unknown, "an unknown field");
        refused(&with(good.clone(), texts, json!(7)), schema, "a text that is a number");
        refused(&json!(7), schema, "no object");
        refused(&json!(["m", "a"]), schema, "an array of the fields");
        if format != Format::Ollama {
            let empty = if format == Format::Jina { 422 } else { 400 };
            refused(&request(format, &[]), empty, "no text");
            refused(&request(format, &["a", ""]), empty, "an empty text");
        }
        if !matches!(format, Format::Azure | Format::Tei | Format::Gemini) {
            let mut nameless = good.clone();
            nameless.as_object_mut().unwrap().remove("model");
            refused(&nameless, schema, "no model");
        }
        assert_eq!(ask(&stub, format, &good).status, 200, "{format:?}: and well after all that");
    }
    let mut untyped = request(Format::Cohere, &["a"]);
    untyped.as_object_mut().unwrap().remove("input_type");
    let answer = ask(&stub, Format::Cohere, &untyped);
    assert_eq!(answer.status, 400);
    assert!(said(Format::Cohere, &answer.json()).contains("valid input_type must be provided"));
    let other = with(request(Format::Gemini, &["a"]), "model", json!("models/other"));
    assert_eq!(ask(&stub, Format::Gemini, &other).status, 400, "the model of the path");
    let mixed = json!({"requests": [
        {"model": "models/m", "content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"},
        {"model": "models/m", "content": {"parts": [{"text": "b"}]}}
    ]});
    assert_eq!(ask(&stub, Format::Gemini, &mixed).status, 400, "one purpose for all");
    let versionless =
        Client::connect(&stub).post("/azure/openai/deployments/m/embeddings", &request(Format::Azure, &["a"]));
    assert_eq!((versionless.status, versionless.json()["error"]["code"].as_str()), (404, Some("404")));
    let v1 = Client::connect(&stub).post("/azure/openai/v1/embeddings", &request(Format::OpenAi, &["a"]));
    assert_eq!(v1.status, 200, "Azure's newer API names the model in the body");
}

#[test]
fn too_many_texts_are_each_providers_own_number() {
    let stub = hashed(1);
    for (format, most, status) in [
        (Format::OpenAi, 2048, 400),
        (Format::Azure, 2048, 400),
        (Format::Tei, 32, 413),
        (Format::Cohere, 96, 400),
        (Format::Voyage, 1000, 400),
        (Format::Jina, 512, 400),
        (Format::Mistral, 512, 400),
        (Format::Gemini, 100, 400),
    ] {
        let texts = vec!["a"; most + 1];
        assert_eq!(ask(&stub, format, &request(format, &texts[..most])).status, 200, "{format:?}");
        let answer = ask(&stub, format, &request(format, &texts));
        assert_eq!(answer.status, status, "{format:?}");
        let message = said(format, &answer.json());
        assert!(message.contains(&most.to_string()) || format == Format::Mistral, "{format:?}: {message}");
    }
    assert_eq!(stub.stats().oversized, 8);
    assert_eq!(ask(&stub, Format::Ollama, &request(Format::Ollama, &["a"; 5000])).status, 200);
}

#[test]
fn keys_are_taken_where_the_provider_takes_them() {
    for format in Format::ALL {
        let config = StubConfig { key: Some("right".to_owned()), ..StubConfig::vectors(Vectors::Hashed(2)) };
        let stub = Stub::start(config).unwrap();
        let status = |line: &str| {
            let answer = Client::connect(&stub).post_with(&path(format), &request(format, &["a"]), line);
            (answer.status, answer)
        };
        let (wrong, answer) = status(&key_line(format, "wrong"));
        match format {
            Format::Gemini => {
                assert_eq!(wrong, 400);
                assert_eq!(answer.json()["error"]["details"][0]["reason"], "API_KEY_INVALID");
            }
            Format::Tei => assert_eq!((wrong, answer.body.as_slice()), (401, b"".as_slice())),
            _ => assert!(wrong == 401 && said(format, &answer.json()).len() > 5, "{format:?}: {wrong}"),
        }
        let refused = if format == Format::Gemini { 403 } else { 401 };
        assert_eq!(status("").0, refused, "{format:?}: none at all");
        let elsewhere = match format {
            Format::Azure | Format::Gemini => "authorization: Bearer right\r\n",
            _ => "api-key: right\r\nx-goog-api-key: right\r\nauthorization: right\r\n",
        };
        assert_eq!(status(elsewhere).0, refused, "{format:?}: in another provider's header");
        assert_eq!(status(&key_line(format, "right")).0, 200, "{format:?}");
        let names: Vec<_> = stub.requests().iter().map(|record| record.key_header).collect();
        let name = key_line(format, "").split(':').next().unwrap().to_owned();
        assert_eq!(names, [Some(name.as_str()), None, None, Some(name.as_str())], "{format:?}");
        // A bad body does not get past the key.
        assert_eq!(Client::connect(&stub).post(&path(format), &json!(7)).status, refused, "{format:?}");
    }
}

#[test]
fn errors_of_every_status_have_the_providers_shape() {
    for format in Format::ALL {
        let stub = hashed(2);
        for code in [400, 401, 403, 404, 413, 422, 429, 500, 503] {
            stub.script(Script::first(1, Fault::status(code)));
            let answer = ask(&stub, format, &request(format, &["a"]));
            assert_eq!(answer.status, code, "{format:?}");
            if format == Format::Tei && [401, 403].contains(&code) {
                assert!(answer.body.is_empty(), "nothing is said of keys");
                continue;
            }
            let body = answer.json();
            assert!(said(format, &body).len() > 5, "{format:?} {code}: {body}");
            if format == Format::Gemini {
                assert_eq!(body["error"]["code"], code, "Google repeats the status");
                assert!(body["error"]["status"].is_string());
            }
        }
        stub.script(Script::first(1, Fault::status_with(429, Body::InsufficientQuota)));
        let spent = ask(&stub, format, &request(format, &["a"]));
        assert_eq!(spent.status, 429);
        assert!(said(format, &spent.json()).len() > 5);
        let lost = Client::connect(&stub).post(&format!("/{}/nothing", format.name()), &json!({}));
        assert_eq!(lost.status, 404, "{format:?}");
    }
}

#[test]
fn items_are_spoilt_in_every_format() {
    let texts = ["a", "b", "c"];
    let [a, b, c] = texts.map(|text| hashed_vector(text, 6));
    for format in Format::ALL {
        let stub = hashed(6);
        let struck = |fault: Fault| {
            stub.script(Script::first(1, fault));
            ask(&stub, format, &request(format, &texts))
        };
        let found = |fault: Fault| answered(format, &struck(fault).json());
        let indexed = INDEXED.contains(&format);
        assert_eq!(found(Fault::Missing), [b.clone(), c.clone()], "{format:?}");
        assert_eq!(found(Fault::Extra), [a.clone(), b.clone(), c.clone(), a.clone()], "{format:?}");
        assert_eq!(found(Fault::Zero), [vec![0.0; 6], b.clone(), c.clone()], "{format:?}");
        assert_eq!(found(Fault::Shuffled), [a.clone(), c.clone(), b.clone()], "{format:?}");
        assert!(found(Fault::WrongDimensions(4)).iter().all(|vector| vector.len() == 4), "{format:?}");
        assert!(found(Fault::Inf)[0].iter().any(|x| x.is_infinite()), "{format:?}");
        let nan = struck(Fault::Nan);
        assert!(String::from_utf8(nan.body).unwrap().contains("NaN"), "{format:?}");
        let double = struck(Fault::Double).json();
        if indexed {
            assert_eq!(double["data"][2]["index"], 0, "{format:?}");
            let bare = struck(Fault::NoIndex).json();
            assert!(bare["data"].as_array().unwrap().iter().all(|item| item.get("index").is_none()), "{format:?}");
        } else {
            assert_eq!(answered(format, &double), [a.clone(), b.clone(), c.clone(), a.clone()], "{format:?}");
            assert_eq!(found(Fault::NoIndex), [a.clone(), b.clone(), c.clone()], "{format:?}");
        }
        assert_eq!(ask(&stub, format, &request(format, &texts)).status, 200);
    }
}

#[test]
fn whole_answers_are_spoilt_in_every_format() {
    for format in Format::ALL {
        let stub = hashed(6);
        let struck = |fault: Fault| {
            stub.script(Script::first(1, fault));
            let mut client = Client::connect(&stub);
            client.send(&path(format), &request(format, &["a", "poison", "c"]), "");
            client.read()
        };
        assert!(struck(Fault::Close).is_none(), "{format:?}");
        let cut = struck(Fault::Truncate(9)).unwrap();
        assert_eq!((cut.status, cut.body.len(), cut.complete), (200, 9, false), "{format:?}");
        let home = struck(Fault::Redirect(None)).unwrap();
        let here = path(format);
        assert_eq!(home.header("location"), here.split('?').next(), "{format:?}");
        assert_eq!(struck(Fault::Html).unwrap().header("content-type"), Some("text/html"));
        assert_eq!(struck(Fault::NotJson).unwrap().body, b"this is not json");
        let refused = |fault: Fault| struck(fault).unwrap();
        let many = refused(Fault::TooManyInputs(2));
        assert_eq!(many.status, if format == Format::Tei { 413 } else { 400 }, "{format:?}");
        assert!(said(format, &many.json()).len() > 5);
        let poison = refused(Fault::Poison("poison".into()));
        assert_eq!(poison.status, if format == Format::Tei { 422 } else { 400 }, "{format:?}");
        let crash = refused(Fault::ServerErrorOn("poison".into()));
        assert_eq!(crash.status, if format == Format::Tei { 424 } else { 500 }, "{format:?}");
        stub.script(Script::first(1, Fault::Endless));
        let mut client = Client::connect(&stub);
        client.send(&path(format), &request(format, &["a"]), "");
        assert_eq!(client.read_head().unwrap().header("transfer-encoding"), Some("chunked"));
        let line = client.read_line();
        let first = client.read_line();
        assert_eq!(usize::from_str_radix(&line, 16).unwrap(), first.len(), "a chunk as long as it says");
        let good = ask(&stub, format, &request(format, &["a"]));
        let begun = first.strip_suffix("[0,0,").unwrap();
        assert!(String::from_utf8(good.body).unwrap().starts_with(begun), "{format:?} begins as its answers do");
    }
}

#[test]
fn jina_reads_documents_too() {
    let stub = hashed(3);
    let body = json!({"model": "m", "input": [{"text": "a"}, {"text": "b"}]});
    let answer = ask(&stub, Format::Jina, &body).json();
    assert_eq!(answered(Format::Jina, &answer), [hashed_vector("a", 3), hashed_vector("b", 3)]);
    assert_eq!(vector(&answer["data"][1]["embedding"]), hashed_vector("b", 3));
}
