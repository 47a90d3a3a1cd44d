#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

fn cut(text: &str, size: usize, overlap: usize) -> Vec<&str> {
    pieces(text, Sizes { size, overlap }).into_iter().map(|range| &text[range]).collect()
}

/// A text of so many paragraphs, each of some sentences.
fn prose(paragraphs: usize, seed: u64) -> String {
    let mut state = seed;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut text = String::new();
    for paragraph in 0..paragraphs {
        if paragraph % 7 == 0 {
            text.push_str(&format!("## Part {paragraph}\n\n"));
        }
        for _ in 0..2 + below(5) {
            let mut words = Vec::new();
            for _ in 0..5 + below(15) {
                words.push(format!("w{}", "abcdefghi".split_at(below(8) as usize + 1).0.repeat(1 + below(2) as usize)));
            }
            text.push_str(&format!("The {} {}. ", below(1000), words.join(" ")));
        }
        text.push_str("\n\n");
    }
    text
}

#[test]
fn nothing_and_blanks_have_no_piece() {
    for text in ["", " ", "\n\n\t  \r\n", "\u{3000}\u{a0}"] {
        assert_eq!(pieces(text, Sizes { size: 100, overlap: 10 }), [], "{text:?}");
    }
}

#[test]
fn a_short_text_is_one_piece_without_the_blanks_around_it() {
    assert_eq!(cut("  hello world\n", 100, 10), ["hello world"]);
    assert_eq!(cut("hello", 0, 9), ["hello"]);
}

#[test]
fn headings_lead_and_stay_with_their_text() {
    let words = "some words that say something about it. ";
    let text =
        format!("# One\n\n{}\n\n## Two\n\n{}\n\n# Three\n\n{}", words.repeat(3), words.repeat(3), words.repeat(3));
    let cut = cut(&text, 60, 0);
    assert_eq!(cut.len(), 3, "{cut:#?}");
    assert!(
        cut[0].starts_with("# One\n\nsome")
            && cut[1].starts_with("## Two\n\nsome")
            && cut[2].starts_with("# Three\n\n")
    );
}

#[test]
fn code_has_no_headings() {
    let code = "# a comment\nlet it = be;\n".repeat(6);
    let text = format!("Some words before it, enough for a piece.\n\n```sh\n{code}```\n\nAfter it.\n");
    let cut = cut(&text, 90, 0);
    // The paragraph is the strongest place; a comment in code is a line like others.
    assert!(cut[0].starts_with("Some words") && !cut.iter().any(|piece| piece.starts_with("```\n")), "{cut:#?}");
    assert_eq!(Outline::of(&text).strongest(0..text.len(), Rank::Heading), None);
}

#[test]
fn paragraphs_go_before_lines_and_those_before_sentences() {
    let text = "One line here.\nAnd one more line.\n\nAnother paragraph of words.\nIts second line is here.";
    assert_eq!(
        cut(text, 16, 0),
        ["One line here.\nAnd one more line.", "Another paragraph of words.", "Its second line is here."]
    );
    let text = "A first sentence of words. A second one, of words too. And the third is here.";
    let cut = cut(text, 20, 0);
    assert!(cut.iter().all(|piece| piece.ends_with('.')), "{cut:?}");
}

#[test]
fn words_graphemes_and_characters() {
    let cut_words = cut("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu", 16, 0);
    assert!(
        cut_words.len() > 1 && cut_words.iter().all(|piece| piece.chars().all(|c| c.is_ascii_lowercase() || c == ' '))
    );
    assert!(cut_words.join(" ").starts_with("alpha beta gamma"));
    // Families, flags and letters with marks stay whole.
    for one in ["👨‍👩‍👧‍👦", "🇩🇪", "e\u{301}\u{323}", "한"] {
        let text = one.repeat(40);
        for piece in cut(&text, 40, 0) {
            assert_eq!(piece.len() % one.len(), 0, "{one}: {piece}");
        }
    }
    // A grapheme that is longer than a piece is cut between characters.
    let text = format!("a{}", "\u{301}".repeat(100));
    assert!(cut(&text, 16, 0).len() > 5);
    assert_eq!(cut(&text, 16, 0).concat(), text);
}

#[test]
fn languages() {
    let chinese = "這是一個很長的句子，用來測試分段。".repeat(20);
    let pieces = cut(&chinese, 80, 0);
    assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece.ends_with('。')), "{pieces:?}");
    let arabic = "هذه جملة طويلة لاختبار التقسيم. ".repeat(20);
    assert!(cut(&arabic, 80, 0).iter().all(|piece| piece.ends_with('.')));
}

#[test]
fn what_is_repeated() {
    let text = (0..200).map(|i| format!("word{i}")).collect::<Vec<_>>().join(" ");
    let ranges = pieces(&text, Sizes { size: 40, overlap: 10 });
    assert!(ranges.len() > 5);
    for pair in ranges.windows(2) {
        let repeated = &text[pair[1].start..pair[0].end];
        let tokens = estimate_tokens(repeated);
        assert!((7..=10).contains(&tokens) && repeated.starts_with("word"), "{tokens} tokens: {repeated:?}");
    }
    // Without white space graphemes are repeated.
    let text = "漢字".repeat(200);
    for pair in pieces(&text, Sizes { size: 40, overlap: 10 }).windows(2) {
        assert_eq!(estimate_tokens(&text[pair[1].start..pair[0].end]), 10);
    }
}

/// How many pieces of the edited text were not there before.
fn new_ones(before: &str, after: &str, sizes: Sizes) -> usize {
    let there: std::collections::HashSet<&str> =
        pieces(before, sizes).into_iter().map(|range| &before[range]).collect();
    pieces(after, sizes).into_iter().filter(|range| !there.contains(&after[range.clone()])).count()
}

#[test]
fn an_edit_changes_the_pieces_near_it() {
    let mut worst = 0;
    let (mut sum, mut edits) = (0, 0);
    for overlap in [0, 20] {
        let sizes = Sizes { size: 200, overlap };
        for seed in 0..20 {
            let text = prose(120, seed);
            let middle = floor(&text, text.len() / 2);
            let middle = middle + text[middle..].find(' ').unwrap() + 1;
            for word in
                ["inserted ", "a whole sentence that was not there before, as it happens. ", "new\n\n# Part\n\n"]
            {
                let edited = format!("{}{word}{}", &text[..middle], &text[middle..]);
                let new = new_ones(&text, &edited, sizes);
                assert!(new > 0 && new <= 8, "{new} new pieces of {}", pieces(&edited, sizes).len());
                worst = worst.max(new);
                sum += new;
                edits += 1;
            }
        }
    }
    println!("{:.2} new pieces an edit, at most {worst}", f64::from(sum as u32) / f64::from(edits));
}

/// The same where a text has no structure but sentences.
#[test]
fn an_edit_of_one_long_paragraph() {
    let sizes = Sizes { size: 200, overlap: 0 };
    let (mut sum, mut worst) = (0, 0);
    for seed in 0..20 {
        let text = prose(120, seed).replace("\n\n", " ").replace("## ", "");
        let new = new_ones(&text, &format!("Some words that are new. {text}"), sizes);
        (sum, worst) = (sum + new, worst.max(new));
    }
    println!("{:.2} new pieces an edit, at most {worst}", f64::from(sum as u32) / 20.0);
    assert!(worst <= 12, "{worst}");
}

#[test]
fn what_an_edit_leaves() {
    let stored = |number: i32, range: Range<usize>, hash: u8| Stored { number, range, hash: vec![hash] };
    let there = [stored(0, 0..5, 1), stored(1, 6..9, 2), stored(2, 10..12, 3), stored(3, 13..15, 2)];
    let ranges = [0..5, 6..8, 9..12, 13..15, 16..18];
    let new = |place: usize, hash: &'static [u8], has_vector: bool| New { range: &ranges[place], hash, has_vector };
    // Stays as it is; new; the second moves on by one; the third's text goes; the fourth is at its number with another range.
    let wanted = [new(0, &[1], false), new(1, &[9], true), new(2, &[2], false), new(3, &[2], false)];
    let changes = changes(&there, &wanted).unwrap();
    assert_eq!(changes.gone, [1, 2]);
    assert!(changes.shifted.is_empty());
    assert_eq!(changes.added, [(1, None), (2, Some(1))]);
    // A vector that was asked for anew replaces the one that is there.
    let changes = super::changes(&there, &[new(0, &[1], true)]).unwrap();
    assert_eq!((changes.gone, changes.added), (vec![0, 1, 2, 3], vec![(0, None)]));
    assert_eq!(super::changes(&there, &[new(0, &[7], false)]), None);
    let changes = super::changes(&there, &[new(1, &[1], false)]).unwrap();
    assert_eq!((changes.shifted, changes.gone), (vec![0], vec![1, 2, 3]));
    assert_eq!(super::changes(&there, &[]).unwrap().gone, [0, 1, 2, 3]);
}

proptest! {
    #[test]
    fn every_promise(
        text in r"(\PC|[a-zA-Z0-9 \n\t.#-]|\n\n|# |[a-z]{1,20} |\. [A-Z]|[\u{300}-\u{310}]|[\u{4e00}-\u{4e20}]|\u{200d}|🇩🇪|```){0,100}",
        size in 16usize..80, part in 0usize..=50,
    ) {
        let sizes = Sizes { size, overlap: size * part / 100 };
        let ranges = pieces(&text, sizes);
        prop_assert_eq!(&ranges, &pieces(&text, sizes));
        let mut covered = 0;
        for (i, range) in ranges.iter().enumerate() {
            let piece = &text[range.clone()];
            // Marks may stand on a blank.
            let first = piece.graphemes(true).next().unwrap();
            prop_assert!(piece.trim_end() == piece && !first.trim().is_empty(), "{piece:?}");
            prop_assert!(estimate_tokens(piece) <= size, "{} tokens: {piece:?}", estimate_tokens(piece));
            // What is between two pieces is white space; what is in both is the overlap that was asked for.
            if range.start >= covered {
                prop_assert!(text[covered..range.start].trim().is_empty());
            } else {
                prop_assert!(sizes.overlap > 0 && estimate_tokens(&text[range.start..covered]) <= sizes.overlap);
            }
            prop_assert!(range.end > covered && (i == 0 || range.start > ranges[i - 1].start));
            covered = range.end;
        }
        prop_assert!(text[covered..].trim().is_empty());
    }

    #[test]
    fn no_grapheme_is_cut(text in r"([a-z]{1,9} |\PC|[a-z][\u{300}-\u{303}]{1,2}|👨‍👩‍👧|🇩🇪|한){0,80}") {
        let ends: std::collections::HashSet<usize> = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect();
        for range in pieces(&text, Sizes { size: 60, overlap: 12 }) {
            prop_assert!(ends.contains(&range.start) && ends.contains(&range.end));
        }
    }

    #[test]
    fn changes_bring_about_what_is_wanted(
        there in proptest::collection::vec((0u8..6, 0usize..3), 0..8), wanted in proptest::collection::vec((0u8..6, 0usize..3, any::<bool>()), 0..8),
    ) {
        let stored: Vec<Stored> = there.iter().enumerate()
            .map(|(i, (hash, at))| Stored { number: i as i32, range: *at..*at + 1, hash: vec![*hash] }).collect();
        let hashes: Vec<Vec<u8>> = wanted.iter().map(|(hash, ..)| vec![*hash]).collect();
        let ranges: Vec<Range<usize>> = wanted.iter().map(|(_, at, _)| *at..*at + 1).collect();
        let new: Vec<New<'_>> = wanted.iter().zip(&hashes).zip(&ranges)
            .map(|(((_, _, has_vector), hash), range)| New { range, hash, has_vector: *has_vector }).collect();
        let known = |hash: &[u8]| stored.iter().any(|piece| piece.hash == hash);
        let Some(changes) = super::changes(&stored, &new) else {
            prop_assert!(new.iter().any(|piece| !piece.has_vector && !known(piece.hash)));
            return Ok(());
        };
        let mut table: HashMap<i32, (Range<usize>, Vec<u8>)> = stored.iter().map(|p| (p.number, (p.range.clone(), p.hash.clone()))).collect();
        changes.gone.iter().for_each(|number| drop(table.remove(number).unwrap()));
        for place in &changes.shifted {
            table.get_mut(&(*place as i32)).unwrap().0 = new[*place].range.clone();
        }
        for (place, from) in &changes.added {
            if let Some(from) = from {
                prop_assert_eq!(&stored.iter().find(|p| p.number == *from).unwrap().hash, new[*place].hash);
            }
            prop_assert_eq!(from.is_none(), new[*place].has_vector);
            prop_assert!(table.insert(*place as i32, (new[*place].range.clone(), new[*place].hash.to_vec())).is_none());
        }
        let all: Vec<_> = (0..new.len()).map(|i| table.remove(&(i as i32)).unwrap()).collect();
        prop_assert!(table.is_empty());
        for (there, new) in all.iter().zip(&new) {
            prop_assert_eq!((&there.0, there.1.as_slice()), (new.range, new.hash));
        }
    }
}
