//! Packing rows into requests and halving them. Needs no server, only the types of the extension.

#[cfg(test)]
mod tests {
    use crate::pg::queue::Job;
    use crate::worker::batch::{Batch, Item, merge, pack_items};
    use autoembed_core::batch::Size;
    use autoembed_core::learned::Load;
    use autoembed_core::{Limits, Vectors};

    fn item(key: &str, text: &str) -> Item {
        let job = Job {
            id: 1,
            token: 1,
            lane: 0,
            key: key.into(),
            if_missing: false,
            is_forced: false,
            attempts: 1,
            queued_at: None,
            place: None,
        };
        Item::new(vec![job], text.into(), Vec::new(), Size { tokens: 0, bytes: 0 })
    }

    /// Items with these texts and the keys "0", "1", ...
    fn items(texts: &[&str]) -> Vec<Item> {
        texts.iter().enumerate().map(|(i, text)| item(&i.to_string(), text)).collect()
    }

    fn limits(inputs: usize) -> Limits {
        Limits { batch_inputs: inputs, batch_tokens: 1_000_000, batch_bytes: 1_000_000, input_tokens: 8192 }
    }

    fn pack(texts: &[&str], inputs: usize, keep_last: bool) -> (Vec<Batch>, Vec<Item>) {
        pack_items(7, items(texts), &limits(inputs), keep_last)
    }

    fn keys(items: &[Item]) -> String {
        items.iter().map(|item| item.key.as_str()).collect::<Vec<_>>().join(",")
    }

    fn shape(batches: &[Batch]) -> Vec<(String, String)> {
        batches.iter().map(|batch| (keys(&batch.items), batch.texts.join(","))).collect()
    }

    fn pair(keys: &str, texts: &str) -> (String, String) {
        (keys.to_string(), texts.to_string())
    }

    /// Each item's own text is where the batch says it is.
    fn check(batch: &Batch) {
        assert_eq!(batch.text_of.len(), batch.items.len());
        for (item, text) in batch.items.iter().zip(&batch.text_of) {
            assert_eq!(batch.texts[*text], item.text);
        }
        let mut texts = batch.texts.clone();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), batch.texts.len(), "no text is sent twice");
    }

    #[test]
    fn packs_as_full_as_the_limits_allow() {
        let (batches, rest) = pack(&["a", "b", "c", "d", "e"], 2, false);
        assert_eq!(shape(&batches), [pair("0,1", "a,b"), pair("2,3", "c,d"), pair("4", "e")]);
        assert!(rest.is_empty() && batches.iter().all(|batch| batch.vectorizer == 7));
        assert!(pack(&[], 2, false).0.is_empty() && pack(&[], 2, true).1.is_empty());
    }

    #[test]
    fn keeps_the_last_items_back_only_where_they_fill_no_request() {
        let (batches, rest) = pack(&["a", "b", "c"], 2, true);
        assert_eq!((shape(&batches), keys(&rest)), (vec![pair("0,1", "a,b")], "2".to_string()));
        let (batches, rest) = pack(&["a", "b", "c", "d"], 2, true);
        assert_eq!((batches.len(), rest.len()), (2, 0), "a full request goes out");
        let (batches, rest) = pack(&["a"], 2, true);
        assert_eq!((batches.len(), keys(&rest)), (0, "0".to_string()));
        // Equal texts do not fill a request, and stay together.
        let (batches, rest) = pack(&["a", "b", "c", "c", "c"], 2, true);
        assert_eq!((shape(&batches), keys(&rest)), (vec![pair("0,1", "a,b")], "2,3,4".to_string()));
    }

    #[test]
    fn sends_equal_texts_once_and_never_in_two_requests() {
        let (batches, rest) = pack(&["a", "b", "a", "c", "b", "a"], 2, false);
        assert_eq!(shape(&batches), [pair("0,1,2,4,5", "a,b"), pair("3", "c")]);
        assert!(rest.is_empty());
        batches.iter().for_each(check);
    }

    #[test]
    fn obeys_tokens_and_bytes_and_lets_a_large_text_stand_alone() {
        let long = "word ".repeat(100);
        let small = Limits { batch_bytes: 100, ..limits(10) };
        let (batches, _) = pack_items(7, items(&["a", &long, "b", "c"]), &small, false);
        assert_eq!(batches.iter().map(|batch| keys(&batch.items)).collect::<Vec<_>>(), ["0", "1", "2,3"]);
        let few = Limits { batch_tokens: 20, ..limits(10) };
        let (batches, _) = pack_items(7, items(&["a", &long, "b", "c"]), &few, false);
        assert_eq!(batches.iter().map(|batch| keys(&batch.items)).collect::<Vec<_>>(), ["0", "1", "2,3"]);
    }

    #[test]
    fn halves_by_texts_so_that_equal_texts_fail_together() {
        let (mut batches, _) = pack(&["a", "b", "a", "c", "b", "d"], 10, false);
        let (left, right) = batches.remove(0).bisect().unwrap();
        assert_eq!(shape(&[left.clone(), right.clone()]), [pair("0,1,2,4", "a,b"), pair("3,5", "c,d")]);
        check(&left);
        check(&right);
        let (a, b) = left.bisect().unwrap();
        assert_eq!(shape(&[a.clone(), b]), [pair("0,2", "a"), pair("1,4", "b")]);
        let alone = a.bisect().unwrap_err();
        assert_eq!(
            (keys(&alone.items), alone.texts.len()),
            ("0,2".to_string(), 1),
            "one text that many rows have stands alone"
        );
    }

    #[test]
    fn halving_comes_to_an_end_and_loses_nothing() {
        for count in 1..40_usize {
            let texts: Vec<String> = (0..count).map(|i| format!("t{}", i * 7 % (1 + count / 2))).collect();
            let (mut open, _) = pack(&texts.iter().map(String::as_str).collect::<Vec<_>>(), 1000, false);
            let (mut seen, mut steps) = (Vec::new(), 0);
            while let Some(batch) = open.pop() {
                steps += 1;
                check(&batch);
                match batch.bisect() {
                    Ok((left, right)) => open.extend([left, right]),
                    Err(alone) => seen.extend(alone.items.into_iter().map(|item| item.key)),
                }
            }
            assert!(steps < 2 * count + 1);
            seen.sort_by_key(|key| key.parse::<usize>().unwrap());
            assert_eq!(seen, (0..count).map(|i| i.to_string()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn gives_each_item_the_vector_of_its_text() {
        let (batches, _) = pack(&["a", "b", "a"], 10, false);
        let vectors = Vectors { dimensions: 2, data: vec![1.0, 2.0, 3.0, 4.0] };
        let of = |i| batches[0].vector(i, &vectors);
        assert_eq!(
            (of(0), of(1), of(2), of(3)),
            (Some(&[1.0, 2.0][..]), Some(&[3.0, 4.0][..]), Some(&[1.0, 2.0][..]), None)
        );
        let short = Vectors { dimensions: 2, data: vec![1.0, 2.0] };
        assert_eq!(batches[0].vector(1, &short), None, "an answer that is too short gives nothing of another's");
    }

    #[test]
    fn counts_the_most_tries_of_a_rows_jobs_and_gives_all_jobs() {
        let mut one = item("0", "a");
        assert_eq!(one.attempts(), 1);
        one.jobs.push(Job { id: 2, attempts: 4, ..one.jobs[0].clone() });
        one.jobs.push(Job { id: 3, attempts: 2, ..one.jobs[0].clone() });
        assert_eq!(one.attempts(), 4);
        let (batches, _) = pack_items(7, vec![one, item("1", "b")], &limits(10), false);
        assert_eq!(
            batches[0].items.iter().flat_map(|item| &item.jobs).map(|job| job.id).collect::<Vec<_>>(),
            [1, 2, 3, 1]
        );
    }

    #[test]
    fn brings_kept_and_new_items_of_a_row_together_with_the_newer_text() {
        let with = |key: &str, text: &str, id: i64| {
            let mut item = item(key, text);
            item.jobs[0].id = id;
            item.hash = text.as_bytes().to_vec();
            item
        };
        let merged = merge(
            vec![with("a", "old", 1), with("b", "b", 2)],
            vec![with("c", "c", 3), with("a", "new", 4), with("c", "c2", 5)],
        );
        let seen: Vec<(String, String, Vec<i64>)> = merged
            .iter()
            .map(|item| {
                assert_eq!(item.hash, item.text.as_bytes());
                let jobs = item.jobs.iter().map(|job| job.id).collect();
                (item.key.clone(), item.text.clone(), jobs)
            })
            .collect();
        let row = |key: &str, text: &str, jobs: &[i64]| (key.to_string(), text.to_string(), jobs.to_vec());
        assert_eq!(seen, [row("a", "new", &[1, 4]), row("b", "b", &[2]), row("c", "c2", &[3, 5])]);
        assert_eq!(keys(&merge(Vec::new(), items(&["x", "y"]))), "0,1");
        assert_eq!(keys(&merge(items(&["x", "y"]), Vec::new())), "0,1");
    }

    #[test]
    fn knows_its_size_and_what_it_fits_into() {
        let (batches, _) = pack(&["a", "bb cc", "a"], 10, false);
        assert_eq!(batches[0].load, Load { inputs: 2, tokens: 3, bytes: 6 });
        assert!(batches[0].fits(&limits(2)) && !batches[0].fits(&limits(1)));
        assert!(!batches[0].fits(&Limits { batch_tokens: 2, ..limits(2) }));
        assert!(!batches[0].fits(&Limits { batch_bytes: 5, ..limits(2) }));
        let (alone, _) = pack(&["bb cc"], 10, false);
        assert!(
            alone[0].fits(&Limits { batch_tokens: 1, batch_bytes: 1, ..limits(1) }),
            "one text always has a request"
        );
    }

    #[test]
    fn what_the_model_wants_before_a_text_counts_as_a_part_of_it() {
        let prefix = Size { tokens: 5, bytes: 20 };
        let mut long = Item::new(item("0", "").jobs, "one two three four five".into(), Vec::new(), prefix);
        let before = long.tokens;
        assert_eq!(Batch::new(7, vec![long.clone()]).load, Load { inputs: 1, tokens: before, bytes: 20 + 23 });
        assert!(long.cut(8) && long.tokens <= 8 && long.tokens > 5, "{}", long.tokens);
        assert!(long.cut(2) && !long.text.is_empty(), "something of the text is always left");
    }

    #[test]
    fn cuts_what_is_longer_than_the_model_takes() {
        let mut long = item("0", "one two three four five");
        long.memory = Some((pgrx::pg_sys::Oid::from(1), [0; 32]));
        assert!(!long.cut(100) && !long.is_cut && long.memory.is_some());
        assert!(long.cut(3) && long.is_cut && long.tokens <= 3);
        assert!("one two three four five".starts_with(&long.text) && long.text.len() < 20, "{}", long.text);
        assert_eq!(long.memory, None, "what is remembered is of another text");
    }

    #[test]
    fn shortens_what_a_server_refused_until_it_is_in_vain() {
        let (mut batches, _) = pack(&["one two three four five six", "a", "one two three four five six"], 10, false);
        let shorter = batches.remove(0).shorten(4).unwrap();
        assert_eq!((shorter.items.len(), shorter.texts.len()), (3, 2));
        assert!(shorter.load.tokens <= 5 && shorter.items[0].is_cut && !shorter.items[1].is_cut);
        check(&shorter);
        assert!(shorter.clone().shorten(4).is_err(), "nothing is longer");
        assert!(shorter.clone().shorten(0).is_err(), "nothing would be left");
        let mut batch = pack(&["word ".repeat(200).as_str()], 10, false).0.remove(0);
        let mut times = 0;
        while let Ok(shorter) = batch.clone().shorten(batch.load.tokens / 2) {
            batch = shorter;
            times += 1;
        }
        assert_eq!(times, 4, "a text that is never short enough is given up");
    }
}
