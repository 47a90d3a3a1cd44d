//! The model's metric: which index there is, in which order rows are found, and what is called similarity.

use autoembed_tests::Site;
use autoembed_tests::db::literal;

/// By word: the operator, the operator class, and similarity in plain SQL.
const METRICS: [(&str, &str, &str, &str); 3] = [
    ("cosine", "<=>", "vector_cosine_ops", "1 - (embedding <=> q)"),
    ("inner_product", "<#>", "vector_ip_ops", "-(embedding <#> q)"),
    ("l2", "<->", "vector_l2_ops", "1 / (1 + (embedding <-> q))"),
];

/// A model of each metric, and a table with vectors of several lengths and directions, of which `q` is that of the query.
fn scene() -> Site {
    let mut site = Site::new();
    for (metric, ..) in METRICS {
        site.create_model(metric, &format!("options => '{{\"metric\": \"{metric}\"}}'"));
        let table = format!("of_{metric}");
        site.db.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, body text, embedding vector(16));
             INSERT INTO {table} SELECT 1, 'three times', q * array_fill(3, ARRAY[16])::vector FROM autoembed.embed('q', 'stub') q
             UNION ALL SELECT 2, 'the same', q FROM autoembed.embed('q', 'stub') q
             UNION ALL SELECT i, 'beside ' || i, q * array_fill(0.1 * i, ARRAY[16])::vector + r FROM autoembed.embed('q', 'stub') q,
                 generate_series(3, 300) i, LATERAL (SELECT autoembed.embed('r' || i % 7, 'stub')) s (r);
             SELECT autoembed.enable('{table}', 'body', '{metric}', backfill => false)"
        ));
    }
    site
}

#[test]
fn each_has_its_index_order_and_similarity() {
    let mut site = scene();
    let mut first = Vec::new();
    for (metric, operator, class, similarity) in METRICS {
        let table = format!("of_{metric}");
        let index = site.db.text(&format!("SELECT pg_get_indexdef('{table}_embedding_idx'::regclass)"));
        // The default class of its kind is left out.
        assert!(
            index.ends_with(&format!("(embedding {class})"))
                || class == "vector_l2_ops" && index.ends_with("(embedding)"),
            "{index}"
        );
        let exact = |more: &str| {
            format!(
                "SELECT id, ({similarity})::real FROM {table}, autoembed.embed('q', '{metric}') q WHERE {more} ORDER BY (embedding {operator} q) + 0.0, id LIMIT 20"
            )
        };
        let rounded = |rows: Vec<autoembed_tests::db::Row>| -> Vec<f64> {
            rows.iter().map(|row| (row[1].as_deref().unwrap().parse::<f64>().unwrap() * 1e4).round()).collect()
        };
        let found = site.db.rows(&format!("SELECT id, similarity FROM similar_{table}('q', 20)"));
        let wanted = site.db.rows(&exact("true"));
        assert_eq!(rounded(found.clone()), rounded(wanted), "{metric}");
        first.push(found[0][0].clone().unwrap());
        let least = found[4][1].clone().unwrap();
        let above =
            site.db.rows(&format!("SELECT id, similarity FROM similar_{table}('q', 20, min_similarity => {least})"));
        assert_eq!(above, found[..5], "{metric}");
        // Rows like another, which is left out.
        let like = site.db.rows(&format!("SELECT id, similarity FROM similar_{table}_to(2, 20)"));
        assert_eq!(rounded(like), rounded(site.db.rows(&exact("id <> 2"))), "{metric}");
        // The statement's order is one that the index has.
        let id = site.status("id", &table);
        let statement = site.db.text(&format!("SELECT autoembed.search_statement({id}, 20, NULL, 'semantic')"));
        site.db.run(&format!(
            "SET enable_seqscan = off; SET enable_sort = off; PREPARE searched (vector, int, real, jsonb) AS {statement}"
        ));
        let vector = site.db.text("SELECT embedding FROM of_l2 LIMIT 1");
        let plan =
            site.db.column(&format!("EXPLAIN (COSTS OFF) EXECUTE searched ('{vector}', 20, NULL, NULL)")).join("\n");
        assert!(plan.contains(&format!("Index Scan using {table}_embedding_idx")), "{plan}");
        site.db.run("DEALLOCATE searched; RESET enable_seqscan; RESET enable_sort");
    }
    // Direction alone; direction and length; the straight line.
    assert!(["1", "2"].contains(&&*first[0]), "{first:?}");
    assert_ne!(first[1], "2");
    assert_eq!(first[2], "2");
}

#[test]
fn words_that_are_none() {
    let mut site = Site::new();
    for wrong in ["\"manhattan\"", "\"L2\"", "null", "2", "\"\""] {
        let options = literal(&format!("{{\"metric\": {wrong}}}"));
        site.db
            .error(&format!("SELECT autoembed.create_model('m', 'openai', 3, options => {options})"))
            .assert("22023", "metric");
    }
}

/// A superuser may change a model's row. Searches go by it at once, also in sessions that have searched before; that the index does
/// not fit any more is said.
#[test]
fn a_metric_that_is_changed() {
    let mut site = scene();
    let mut reader = site.session();
    let first = "SELECT id FROM similar_of_inner_product('q', 1)";
    let before = reader.text(first);
    assert_ne!(before, "2");
    site.db.run("UPDATE autoembed.models SET options = '{\"metric\": \"l2\"}' WHERE name = 'inner_product'");
    assert_eq!(reader.text(first), "2");
    assert_eq!(reader.text("SELECT similarity FROM similar_of_inner_product('q', 1)"), "1");
    site.db.run("ALTER TABLE of_inner_product ADD COLUMN to_be_looked_at int");
    site.until_state("of_inner_product", "active: table \"of_inner_product\" has no valid index");
    site.db.run("CREATE INDEX ON of_inner_product USING hnsw (embedding vector_l2_ops)");
    site.until_state("of_inner_product", "active");
    autoembed_tests::wait::eventually("nothing is said any more", autoembed_tests::site::PATIENCE, || {
        match site.status("state", "of_inner_product") {
            state if state == "active" => Ok(()),
            state => Err(state),
        }
    });
}
