//! `make check-docs` sees what it is there for: a small tree that holds together, and each fault put into it.

#[path = "../src/bin/check_docs/mod.rs"]
mod check_docs;

use std::path::Path;

const FILES: [(&str, &str); 8] = [
    ("README.md", "# A\n\n[docs](docs/README.md)\n\n```sql\nSELECT 1;\n```\n"),
    ("Makefile", "test: ## tests\n\ttrue\n"),
    ("docs/README.md", "# Index\n\n[one](one.md#a-heading)\n"),
    (
        "docs/one.md",
        "# One\n\n## A heading\n\n![drawn](one/x.svg) `make test` `docs/one.md` `cases::it_works`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\napp=# SELECT 2;\n```\n",
    ),
    ("docs/one/x.svg", "<svg/>"),
    ("examples/x.sql", "SELECT 1;"),
    ("tests/cases/cases.rs", "fn it_works() {}\n"),
    ("tests/documented.txt", "# page number how\nREADME.md 1 by hand: why not\ndocs/one.md 1 cases::it_works\n"),
];

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// What is said of the tree when `file` is another one.
fn complaints(file: &str, change: impl Fn(&str) -> String) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        let text = if name == file { change(text) } else { text.to_owned() };
        write(folder.path(), name, &text);
    }
    if !FILES.iter().any(|(name, _)| *name == file) {
        write(folder.path(), file, &change(""));
    }
    let found = check_docs::check(folder.path()).unwrap();
    assert!(found.pages >= 3 && found.links >= 2 && found.blocks >= 1, "{found:?}");
    found.complaints
}

#[test]
fn a_tree_that_holds_together() {
    assert_eq!(complaints("README.md", str::to_owned), [""; 0]);
}

#[test]
fn each_fault_is_named() {
    let cases: [(&str, &str, &str, &str); 14] = [
        // (file, what stands there, what stands there instead, what is said)
        ("docs/README.md", "one.md#a-heading", "two.md", "docs/README.md:3: a link to nothing: two.md"),
        (
            "docs/README.md",
            "#a-heading",
            "#another",
            "docs/README.md:3: an anchor that is no heading's: one.md#another",
        ),
        (
            "docs/one.md",
            "## A heading",
            "## Another",
            "docs/README.md:3: an anchor that is no heading's: one.md#a-heading",
        ),
        ("docs/README.md", "one.md#a-heading", "../../x", "docs/README.md:3: a link out of the repository: ../../x"),
        ("docs/README.md", "[one](one.md#a-heading)", "[a](../README.md)", "docs/README.md: no link to docs/one.md"),
        ("README.md", "[docs](docs/README.md)", "[docs](docs/one.md)", "README.md: no link to docs/README.md"),
        ("docs/one.md", "![drawn](one/x.svg)", "", "docs/one/x.svg: on no page"),
        ("docs/one.md", "make test", "make tests", "docs/one.md:5: no verb of the Makefile: make tests"),
        ("docs/one.md", "`docs/one.md`", "`docs/gone.md`", "docs/one.md:5: no such file: docs/gone.md"),
        ("docs/one.md", "cases::it_works", "cases::it_did", "docs/one.md:5: no such scenario: cases::it_did"),
        ("docs/one.md", "| 1 | 2 |", "| 1 | 2 | 3 |", "docs/one.md:7: a row of 3 cells below 2: 1"),
        (
            "tests/documented.txt",
            "cases::it_works",
            "cases::it_did",
            "tests/documented.txt:3: no such scenario: cases::it_did",
        ),
        ("tests/documented.txt", "README.md 1", "README.md 2", "tests/documented.txt:2: README.md has 1 blocks, not 2"),
        (
            "tests/documented.txt",
            "docs/one.md 1 cases::it_works\n",
            "",
            "docs/one.md:11: who runs this block? tests/documented.txt does not say",
        ),
    ];
    for (file, from, to, said) in cases {
        let found = complaints(file, |text| {
            assert!(text.contains(from), "{file} has no {from}");
            text.replacen(from, to, 1)
        });
        assert!(found.iter().any(|complaint| complaint == said), "{said}\n{found:#?}");
    }
    let unlinked = complaints("docs/two.md", |_| "# Two\n".to_owned());
    assert_eq!(unlinked, ["docs/README.md: no link to docs/two.md"]);
}
