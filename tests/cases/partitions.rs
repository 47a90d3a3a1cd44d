//! Partitioned tables.

use autoembed_tests::Site;

fn logs(site: &mut Site) {
    site.db.run(
        "CREATE TABLE logs (region text, id int, content text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a');
         CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b');
         INSERT INTO logs SELECT chr(97 + i % 2), i, 'old ' || i FROM generate_series(1, 20) i",
    );
    site.enable("logs", "content", "");
}

#[test]
fn g30_through_the_root_and_through_a_leaf() {
    let mut site = Site::new();
    logs(&mut site);
    site.db.run("INSERT INTO logs SELECT chr(97 + i % 2), i, 'root ' || i FROM generate_series(21, 40) i");
    site.db.run("INSERT INTO logs_a SELECT 'a', i, 'leaf ' || i FROM generate_series(41, 50) i");
    assert_eq!(site.settle("logs", "content"), 50);
    site.db.run("UPDATE logs SET content = content || ' edited' WHERE id % 7 = 0");
    site.db.run("UPDATE logs_b SET content = content || ' in the leaf' WHERE id % 5 = 0");
    assert_eq!(site.settle("logs", "content"), 50);
    let found = site.db.rows("SELECT region, id FROM similar_logs('leaf 44', 1)").remove(0);
    assert_eq!(found, [Some("a".to_owned()), Some("44".to_owned())]);
}

#[test]
fn g30_a_row_that_moves_between_partitions() {
    let mut site = Site::new();
    logs(&mut site);
    site.settle("logs", "content");
    site.db.run("UPDATE logs SET region = 'b' WHERE region = 'a' AND id < 10");
    site.settle("logs", "content");
    site.stub.hold();
    site.db.run("UPDATE logs SET content = 'edited ' || id");
    site.wait_held(1);
    site.db.run("UPDATE logs SET region = 'a' WHERE id < 15");
    site.stub.release();
    assert_eq!(site.settle("logs", "content"), 20);
}

#[test]
fn g30_partitions_that_come_and_go() {
    let mut site = Site::new();
    logs(&mut site);
    site.settle("logs", "content");
    site.db.run("CREATE TABLE logs_c PARTITION OF logs FOR VALUES IN ('c'); INSERT INTO logs SELECT 'c', i, 'c ' || i FROM generate_series(1, 10) i");
    assert_eq!(site.settle("logs", "content"), 30);
    site.db.run(
        "CREATE TABLE logs_d (LIKE logs INCLUDING ALL); ALTER TABLE logs ATTACH PARTITION logs_d FOR VALUES IN ('d')",
    );
    site.db.run("INSERT INTO logs_d SELECT 'd', i, 'd ' || i FROM generate_series(1, 10) i");
    assert_eq!(site.settle("logs", "content"), 40);
    site.db.run("ALTER TABLE logs DETACH PARTITION logs_b; INSERT INTO logs_b VALUES ('b', 1000, 'on its own')");
    site.db.run("INSERT INTO logs VALUES ('a', 1001, 'still served')");
    assert_eq!(site.settle("logs", "content"), 31);
    site.until_idle("logs");
    site.db.run("DROP TABLE logs_c");
    assert_eq!(site.settle("logs", "content"), 21);
}

#[test]
fn partitions_of_partitions() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE m (y int, q int, id int, body text, PRIMARY KEY (y, q, id)) PARTITION BY RANGE (y);
         CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (2020) TO (2022) PARTITION BY LIST (q);
         CREATE TABLE m1a PARTITION OF m1 FOR VALUES IN (1, 2);
         CREATE TABLE m1b (body text, id int NOT NULL, q int NOT NULL, y int NOT NULL, PRIMARY KEY (y, q, id));
         ALTER TABLE m1 ATTACH PARTITION m1b FOR VALUES IN (3, 4);
         CREATE TABLE m2 PARTITION OF m DEFAULT;
         INSERT INTO m SELECT 2020 + i % 4, 1 + i % 4, i, 'before ' || i FROM generate_series(1, 20) i",
    );
    site.enable("m", "body", "");
    site.db.run("INSERT INTO m SELECT 2020 + i % 4, 1 + i % 4, i, 'after ' || i FROM generate_series(21, 40) i");
    site.db.run("UPDATE m1b SET body = body || ' edited'");
    assert_eq!(site.settle("m", "body"), 40);
}
