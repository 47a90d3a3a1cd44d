//! The vocabulary file in the repository is the tokenizer in the repository, no more and no less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::PathBuf;

use autoembed_local::vocabulary::build;

fn builtin(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../share/builtin").join(file)
}

#[test]
fn vocab_bin_is_made_from_tokenizer_json() {
    let made = build(&std::fs::read(builtin("tokenizer.json")).unwrap()).unwrap();
    if std::env::var_os("AUTOEMBED_WRITE_VOCABULARY").is_some() {
        std::fs::write(builtin("vocab.bin"), &made).unwrap();
    }
    let kept = std::fs::read(builtin("vocab.bin")).unwrap();
    assert!(
        made == kept,
        "vocab.bin differs from what tokenizer.json gives; AUTOEMBED_WRITE_VOCABULARY=1 cargo test -p autoembed-local writes it"
    );
}

#[test]
fn other_tokenizers_are_refused() {
    let text = std::fs::read_to_string(builtin("tokenizer.json")).unwrap();
    let edits = [
        ("\"lowercase\":true", "\"lowercase\":false", "normaliser"),
        ("\"strip_accents\":null", "\"strip_accents\":false", "normaliser"),
        ("BertPreTokenizer", "Whitespace", "pre-tokenizer"),
        ("\"WordPiece\",\"unk", "\"BPE\",\"unk", "word piece"),
        ("\"max_input_chars_per_word\":100", "\"max_input_chars_per_word\":50", "word piece"),
        ("\"unk_token\":\"[UNK]\"", "\"unk_token\":\"[NONE]\"", "unknown token"),
        ("\"!\":2,", "\"!\":3,", "ids"),
    ];
    for (from, to, expected) in edits {
        let edited = text.replacen(from, to, 1);
        assert!(edited != text, "{from} is not in the file");
        let error = build(edited.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{to}: {error}");
    }
    assert!(build(b"{}").is_err());
    assert!(build(b"").is_err());
}
