//! A change of model while users write and search.

use super::{NEXT, Scene};
use autoembed_stub::{Do, Script};
use autoembed_tests::site::{self, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, eventually};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn under_load(model: &'static str) {
    let rows = site::rows(2000);
    let mut scene = Scene::with(Site::builder().setting("autoembed.batch_delay", "5ms").start(), 0);
    scene.site.insert(1, rows);
    scene.site.settle_within("messages", "content", "embedding", seconds(1500));
    scene.site.until_idle("messages");
    let (is_over, searches, writes) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    // What a debug build of the extension keeps up with on a busy machine.
    let pause = Duration::from_millis(if rows > 10_000 { 250 } else { 40 });
    let begun = std::time::Instant::now();
    std::thread::scope(|threads| {
        for n in 0..3_usize {
            let mut db = scene.site.session();
            let (is_over, searches) = (&is_over, &searches);
            threads.spawn(move || {
                let mut turn = n;
                while !is_over.load(Ordering::Relaxed) {
                    turn += 3;
                    // Rows that nobody changes: every tenth.
                    let id = 10 * (1 + turn * 7 % (rows / 10));
                    if n == 2 {
                        db.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
                    }
                    for _ in 0..=n {
                        let found = db.rows(&format!("SELECT id, similarity FROM similar_messages('text {id}', 5)"));
                        assert_eq!(found.len(), 5, "row {id}: {found:?}");
                        assert_eq!(found[0][0].as_deref(), Some(id.to_string().as_str()), "{found:?}");
                        let similarity: f64 = found[0][1].as_deref().unwrap().parse().unwrap();
                        assert!(similarity > 0.999, "row {id}: the query's vector is of another model: {found:?}");
                        let like_it = db.int(&format!(
                            "SELECT count(*) FILTER (WHERE id <> {id}) FROM similar_messages_to({id}, 5)"
                        ));
                        assert_eq!(like_it, 5, "row {id}");
                        searches.fetch_add(1, Ordering::Relaxed);
                    }
                    if n == 2 {
                        db.run("COMMIT");
                    }
                    std::thread::sleep(pause / 10);
                }
            });
        }
        for n in 0..2_usize {
            let mut db = scene.site.session();
            let (is_over, writes) = (&is_over, &writes);
            threads.spawn(move || {
                let mut turn = 0;
                while !is_over.load(Ordering::Relaxed) {
                    turn += 1;
                    let id = 10 * (1 + (turn * 13 + n * 5) % (rows / 10)) + 1 + n;
                    db.run(&format!("UPDATE messages SET content = 'edit {turn} of {n}' WHERE id = {id}"));
                    db.run(&format!("INSERT INTO messages (content) VALUES ('new {turn} of {n}')"));
                    db.run(&format!("DELETE FROM messages WHERE id = {}", id + 3));
                    writes.fetch_add(3, Ordering::Relaxed);
                    std::thread::sleep(pause);
                }
            });
        }
        let mut db = scene.site.session();
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            db.run(&format!("SELECT autoembed.set_model('messages', '{model}')"));
            db.until("SELECT model FROM autoembed.status", model, seconds(1500));
            // And some more after it.
            let after = searches.load(Ordering::Relaxed) + 20;
            eventually("searches go on", PATIENCE, || {
                let seen = searches.load(Ordering::Relaxed);
                if seen > after { Ok(()) } else { Err(seen.to_string()) }
            });
        }));
        is_over.store(true, Ordering::Relaxed);
        if let Err(why) = changed {
            println!("{}", scene.site.cluster.log_tail(20));
            std::panic::resume_unwind(why);
        }
    });
    println!(
        "{model}: {rows} rows in {:.1} s, {} searches and {} writes beside it",
        begun.elapsed().as_secs_f64(),
        searches.load(Ordering::Relaxed),
        writes.load(Ordering::Relaxed)
    );
    let left = scene.settle(model);
    assert!(left > rows / 2);
}

#[test]
fn a_change_under_load_to_other_dimensions() {
    under_load("next");
}

#[test]
fn a_change_under_load_to_the_same_dimensions() {
    under_load("same");
}

/// Rows come about as fast as the new model takes them, so that its queue is never empty, nor young. The change comes nevertheless, and
/// no row is missed by searches that they have found.
#[test]
fn a_queue_that_never_empties() {
    let mut scene = Scene::with(Site::builder().setting("autoembed.batch_delay", "5ms").start(), 5);
    // Five rows at a time, six times a second.
    scene.next.script(Script::always(Do::delay(Duration::from_millis(150))));
    scene.site.db.run(&format!(
        "SELECT autoembed.create_model('slow', 'openai', dimensions => {NEXT}, model => 'stub-model', url => '{}', max_batch_inputs => 5, max_concurrent_requests => 1)",
        scene.next.url()
    ));
    let is_over = AtomicBool::new(false);
    let begun = std::time::Instant::now();
    let oldest = "SELECT COALESCE(EXTRACT(epoch FROM now() - min(queued_at)), 0) FROM autoembed.job WHERE vectorizer_id <> (SELECT id FROM autoembed.status)";
    let (mut youngest, mut looks) = (f64::MAX, 0);
    std::thread::scope(|threads| {
        let (mut writer, is_over) = (scene.site.session(), &is_over);
        threads.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                writer.run(
                    "INSERT INTO messages (content) SELECT 'new ' || gen_random_uuid() FROM generate_series(1, 6)",
                );
                writer.run("UPDATE messages SET content = 'edit ' || gen_random_uuid() WHERE id = 3");
                std::thread::sleep(Duration::from_millis(220));
            }
        });
        let mut db = scene.site.session();
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            db.run("SELECT autoembed.set_model('messages', 'slow')");
            db.run("INSERT INTO messages (content) SELECT 'new ' || gen_random_uuid() FROM generate_series(1, 220)");
            let mut known = String::from("{}");
            let mut model = "stub".to_owned();
            while begun.elapsed() < seconds(120) && model == "stub" {
                let age: f64 = db.text(oldest).parse().unwrap();
                model = db.text("SELECT model FROM autoembed.status");
                // The queue that the change leaves is another's.
                if model == "stub" && begun.elapsed() > seconds(6) {
                    youngest = youngest.min(age);
                }
                let gone =
                    db.column(&format!("SELECT id FROM messages WHERE id = ANY ('{known}') AND embedding IS NULL"));
                assert_eq!(gone, [""; 0], "rows that were found have no vector any more");
                known = db.text("SELECT array_agg(id) FROM (SELECT id FROM messages WHERE embedding IS NOT NULL ORDER BY id DESC LIMIT 20) x");
                let found = db.rows("SELECT m.id = s.id, s.similarity > 0.999 FROM (SELECT * FROM messages WHERE embedding IS NOT NULL ORDER BY id DESC LIMIT 1) m CROSS JOIN LATERAL similar_messages(m.content, 1) s");
                assert_eq!(found, [[Some("t".to_owned()), Some("t".to_owned())]]);
                looks += 1;
            }
            assert_eq!(model, "slow", "the change never came; its oldest row was {youngest} s old");
        }));
        is_over.store(true, Ordering::Relaxed);
        if let Err(why) = changed {
            println!("{}", scene.site.cluster.log_tail(20));
            std::panic::resume_unwind(why);
        }
    });
    println!("after {:?}, {looks} looks; the oldest row was never younger than {youngest:.1} s", begun.elapsed());
    scene.next.clear();
    assert!(scene.settle("slow") > 180);
}
