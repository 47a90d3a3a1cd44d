//! The model as its users meet it: right vectors, useful searches, and no text or file that upsets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::PathBuf;

use autoembed_local::{Model, OpenError};
use serde::Deserialize;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn model() -> Model {
    Model::open(&root().join("share/builtin")).unwrap()
}

/// What another implementation (model2vec 0.10 in Python, without a token limit) makes of a text.
#[derive(Deserialize)]
struct Reference {
    text: String,
    tokens: usize,
    /// The first eight values.
    vector: Vec<f32>,
}

#[test]
fn vectors_are_those_of_the_reference() {
    let text = std::fs::read_to_string(root().join("src/local/tests/reference.json")).unwrap();
    let references: Vec<Reference> = serde_json::from_str(&text).unwrap();
    assert!(references.len() >= 50);
    let model = model();
    let mut out = vec![0.0; model.dimensions()];
    for reference in references {
        let embedded = model.embed_into(&reference.text, &mut out);
        assert_eq!(embedded.known, reference.tokens, "{:?}", reference.text);
        // The padding token is known and its vector is zero.
        let any = reference.vector.iter().any(|&x| x != 0.0);
        assert_eq!(embedded.usable, any, "{:?}", reference.text);
        for (ours, theirs) in out.iter().zip(&reference.vector) {
            assert!((ours - theirs).abs() < 1e-6, "{:?}: {ours} and {theirs}", reference.text);
        }
    }
}

#[derive(Deserialize)]
struct Retrieval {
    queries: Vec<String>,
    docs: Vec<String>,
}

#[test]
fn questions_find_their_answers() {
    let text = std::fs::read_to_string(root().join("tests/data/everyday.json")).unwrap();
    let set: Retrieval = serde_json::from_str(&text).unwrap();
    let model = model();
    let docs: Vec<Vec<f32>> = set.docs.iter().map(|text| model.embed(text).unwrap()).collect();
    let (mut reciprocal, mut found) = (0.0, 0);
    for (right, query) in set.queries.iter().enumerate() {
        let query = model.embed(query).unwrap();
        let cosine = |doc: &Vec<f32>| query.iter().zip(doc).map(|(x, y)| x * y).sum::<f32>();
        let best = cosine(&docs[right]);
        let rank = 1 + docs.iter().filter(|doc| cosine(doc) > best).count();
        if rank <= 10 {
            reciprocal += 1.0 / rank as f64;
            found += 1;
        }
    }
    let n = set.queries.len() as f64;
    let (mrr, recall) = (reciprocal / n, f64::from(found) / n);
    println!("MRR@10 {mrr:.3}, recall@10 {recall:.3} of {n} questions");
    assert!(n >= 144.0 && mrr >= 0.81 && recall >= 0.97, "MRR@10 {mrr}, recall@10 {recall}");
}

#[test]
fn a_usable_vector_has_length_one_and_an_unusable_one_is_zero() {
    let model = model();
    let mut out = vec![7.0; model.dimensions()];
    let texts = [
        ("my parcel never arrived", true),
        ("😀🎉👍🏽👨‍👩‍👧", false),
        ("", false),
        (" \t\n\u{2003}", false),
        ("\0\u{1}\u{200b}\u{fffd}", false),
        ("ᚠᚢᚦᚨᚱᚲ", false),
        ("[UNK]", false),
        ("😀 happy", true),
    ];
    for (text, usable) in texts {
        let embedded = model.embed_into(text, &mut out);
        assert_eq!(embedded.usable, usable, "{text:?}");
        assert_eq!(model.embed(text).is_some(), usable, "{text:?}");
        let length: f32 = out.iter().map(|x| x * x).sum();
        let expected = if usable { 1.0 } else { 0.0 };
        assert!((length - expected).abs() < 1e-5, "{text:?}: {length}");
    }
    let embedded = model.embed_into("😀 happy ☃☃", &mut out);
    assert_eq!((embedded.known, embedded.unknown), (1, 2));
    let mut short = vec![7.0; 3];
    assert!(!model.embed_into("happy", &mut short).usable);
    assert_eq!(short, [0.0; 3]);
}

#[test]
fn long_texts_are_read_to_their_end() {
    let model = model();
    let sentence = "the parcel was left at the neighbour's door. ";
    let long = sentence.repeat((1 << 20) / sentence.len());
    let mut out = vec![0.0; model.dimensions()];
    let embedded = model.embed_into(&long, &mut out);
    assert_eq!(embedded.known % model.embed_into(sentence, &mut out).known, 0);
    assert!(embedded.known > 200_000);
    let (whole, once) = (model.embed(&long).unwrap(), model.embed(sentence).unwrap());
    assert!(whole.iter().zip(&once).all(|(x, y)| (x - y).abs() < 1e-3));
    // One word of a megabyte is one unknown word.
    let embedded = model.embed_into(&"x".repeat(1 << 20), &mut out);
    assert_eq!((embedded.known, embedded.unknown, embedded.usable), (0, 1, false));
}

#[test]
fn any_bytes_that_are_text_are_taken() {
    let model = model();
    let mut out = vec![0.0; model.dimensions()];
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let mut usable = 0;
    for round in 0..4000 {
        let length = random() % 200;
        let text: String = if round % 2 == 0 {
            let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            (0..length).filter_map(|_| char::from_u32(random() % 0x11_0000)).collect()
        };
        let embedded = model.embed_into(&text, &mut out);
        usable += usize::from(embedded.usable);
        let length: f32 = out.iter().map(|x| x * x).sum();
        let expected = if embedded.usable { 1.0 } else { 0.0 };
        assert!((length - expected).abs() < 1e-5, "{text:?}");
    }
    assert!(usable > 1000, "{usable} texts had a known token");
}

/// A folder with the model's files, one of them changed.
fn damaged(name: &str, file: &str, change: impl Fn(&mut Vec<u8>)) -> Result<Model, OpenError> {
    let folder = std::env::temp_dir().join(format!("autoembed-local-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for kept in ["model.safetensors", "vocab.bin"] {
        let mut bytes = std::fs::read(root().join("share/builtin").join(kept)).unwrap();
        if kept == file {
            change(&mut bytes);
        }
        std::fs::write(folder.join(kept), bytes).unwrap();
    }
    let model = Model::open(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    model
}

#[test]
fn damaged_files_are_errors_that_name_them() {
    assert!(damaged("good", "", |_| ()).is_ok());
    for file in ["model.safetensors", "vocab.bin"] {
        for length in [0, 1, 7, 8, 9, 23, 24, 100, 160, 200, 262_000, 400_000, 570_000] {
            let error = damaged("cut", file, |bytes| bytes.truncate(length)).err();
            let error = error.unwrap_or_else(|| panic!("{file} of {length} bytes passed")).to_string();
            assert!(error.contains(file) && error.starts_with("the built-in model's file"), "{error}");
        }
        let error = damaged("junk", file, |bytes| bytes.iter_mut().for_each(|byte| *byte = 0xAB)).err();
        assert!(matches!(error, Some(OpenError::Damaged { .. })), "{file}: {error:?}");
    }
    let error = Model::open(&root().join("share/nothing")).err().unwrap().to_string();
    assert!(error.starts_with("could not open") && error.contains("vocab.bin"), "{error}");
}

#[test]
fn wrong_tables_give_wrong_vectors_and_nothing_worse() {
    // Behind a believable head, slots and offsets may point anywhere: reads stay within the file and searches end.
    for (name, fill) in [("zeros", 0x00), ("ones", 0x01), ("high", 0x7F), ("fe", 0xFE)] {
        let model = damaged(name, "vocab.bin", |bytes| {
            let end = bytes.len() - 190_146 - 4;
            bytes[24..end].fill(fill);
        });
        let model = model.unwrap();
        for text in ["my parcel never arrived", "[PAD]", "Straße", "a"] {
            let vector = model.embed(text);
            assert!(vector.is_none_or(|vector| vector.iter().all(|x| x.is_finite())), "{name}");
        }
    }
}
