//! Full text and vectors together: what a match of words is worth beside a similarity.
//!
//! A word that few rows have says much about the row that is looked for, one that all have says nothing: its information is the
//! logarithm of how rare it is. A row's matched words are evidence for one of two reasons: they are most of what the query says, or
//! they are more than chance brings. To pick one row of N takes ln N; a row that matches no more than that may be anybody's, a row
//! that matches twice as much is hardly found by accident. A row that matches more than one word could say, were it in no other row, has
//! several of them, by chance or not: that counts as far as the vectors say the same of it. Below all, a match gets no credit at all, however
//! it ranks.
//!
//! Similarities differ from model to model (unrelated texts have 0.1 with one and 0.7 with another), so the vectors' side is put
//! between what any row has and what the best one has.

/// Words with a digit are codes, numbers and versions. Models do not know them, and nobody writes them by chance: they say
/// this much more than a word that is as rare.
const IDENTIFIER: f64 = 3.0;
/// The share of the query's information above which a match counts.
const SHARE: f64 = 0.4;
/// What a full match is worth, in distances between any row and the best one.
const WEIGHT: f64 = 2.0;
/// What the best match is worth that says more than one word could, where the row is the most similar one as well.
const SEVERAL: f64 = 1.0;
/// By how much more, as a share of what one word could say, it is worth that.
const MORE: f64 = 0.05;
/// How fast further occurrences of a word stop to count (k1 of BM25).
const SATURATION: f64 = 1.2;
/// How much longer texts are held to more (b of BM25).
const LENGTH: f64 = 0.5;

/// How often a word was found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Rows in the table.
    pub rows: f64,
    /// Rows that were found to have it.
    pub having: f64,
    /// The share of the table that was looked at, 0 to 1: less where the look ended early.
    pub looked_at: f64,
}

/// The information of a word, in nats; more than 0.
#[must_use]
pub fn information(word: &str, found: Found) -> f64 {
    let having = found.having.max(0.0) / found.looked_at.clamp(1e-6, 1.0);
    let rows = found.rows.max(having).max(1.0);
    // As BM25 has it, which stays above 0 where all rows have the word.
    let information = ((rows - having.min(rows) + 0.5) / (having.min(rows) + 0.5)).ln_1p();
    if word.chars().any(|c| c.is_ascii_digit()) { IDENTIFIER * information } else { information }
}

/// A word of the query in one row.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// Its [`information`].
    pub information: f64,
    /// How often the row has it, as the sum of 1/n² over its occurrences: 0 where it has not, else 1 to 1.645.
    pub occurs: f64,
}

/// What the vectors say of one row.
#[derive(Debug, Clone, Copy)]
pub struct Similarity {
    /// The row's; `None` where it has no vector.
    pub own: Option<f64>,
    /// That of any row.
    pub usual: f64,
    /// That of the best one.
    pub best: f64,
}

/// How much the words say that a row has. `length`: the row's length by the usual one.
#[must_use]
pub fn matched(words: &[Word], length: f64) -> f64 {
    let held_to = SATURATION * (1.0 - LENGTH + LENGTH * length.clamp(0.0, 1e6));
    let found = words.iter().filter(|word| word.occurs > 0.0);
    found.map(|word| word.information * word.occurs * (SATURATION + 1.0) / (word.occurs + held_to)).sum()
}

/// What a row's words are worth, 0 where they are no evidence. `own`: what [`matched`] gives for it, `best`: the most that it gives for any
/// row; `likeness`: its [`likeness`]; `rows`: rows in the table.
#[must_use]
pub fn credit(words: &[Word], (own, best): (f64, f64), likeness: f64, rows: f64) -> f64 {
    let all: f64 = words.iter().map(|word| word.information).sum();
    if all <= 0.0 || own <= 0.0 {
        return 0.0;
    }
    let information: f64 = words.iter().filter(|word| word.occurs > 0.0).map(|word| word.information).sum();
    let share = (information / all - SHARE) / (1.0 - SHARE);
    let rows = rows.max(3.0);
    let beyond_chance = information / rows.ln() - 1.0;
    let of_one_word = self::information("", Found { rows, having: 1.0, looked_at: 1.0 });
    let of_several = (information / of_one_word - 1.0) / MORE;
    let full = WEIGHT * share.max(beyond_chance).clamp(0.0, 1.0) * own / all;
    full.max(SEVERAL * of_several.clamp(0.0, 1.0) * likeness.clamp(0.0, 1.0) * own / best.max(own))
}

/// How similar a row is: 0 as any row or less, 1 as the best one.
#[must_use]
pub fn likeness(similarity: Similarity) -> f64 {
    let range = (similarity.best - similarity.usual).max(1e-3);
    // Of a row without a vector nothing is known, so it is taken for any row. To be less similar than that says nothing more.
    similarity.own.map_or(0.0, |own| ((own - similarity.usual) / range).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: f64, having: f64) -> Found {
        Found { rows, having, looked_at: 1.0 }
    }

    fn words(occurs: &[(f64, f64)]) -> Vec<Word> {
        occurs.iter().map(|&(information, occurs)| Word { information, occurs }).collect()
    }

    /// Where no row has better words.
    fn credited(words: &[Word], length: f64, rows: f64) -> f64 {
        let own = matched(words, length);
        credit(words, (own, own), 0.0, rows)
    }

    fn score(similarity: Similarity, credit: f64) -> f64 {
        likeness(similarity) + credit
    }

    const COSINE: Similarity = Similarity { own: Some(0.3), usual: 0.1, best: 0.5 };

    #[test]
    fn rare_words_say_more_than_common_ones_and_codes_more_than_words() {
        let of = |having| information("word", found(1000.0, having));
        assert!(of(1.0) > of(10.0) && of(10.0) > of(500.0) && of(500.0) > of(1000.0) && of(1000.0) > 0.0);
        assert!(of(0.0) > of(1.0));
        assert!((information("e4711", found(1000.0, 1.0)) / of(1.0) - 3.0).abs() < 1e-9);
        // A look that ended after a tenth of the table, with as much found as another found in all of it.
        let early = Found { rows: 1000.0, having: 50.0, looked_at: 0.1 };
        assert!((information("word", early) - of(500.0)).abs() < 1e-9);
    }

    #[test]
    fn numbers_that_do_not_fit_stay_numbers() {
        for rows in [-1.0, 0.0, 1.0, 1e12] {
            for having in [-1.0, 0.0, 5.0, 1e13] {
                for looked_at in [-1.0, 0.0, 0.5, 2.0] {
                    let value = information("word", Found { rows, having, looked_at });
                    assert!(value.is_finite() && value > 0.0, "{rows} {having} {looked_at}: {value}");
                    let credit = credited(&words(&[(value, 1.0), (value, 0.0)]), looked_at, rows);
                    assert!(credit.is_finite() && credit >= 0.0);
                }
            }
        }
        assert_eq!(credited(&[], 1.0, 100.0), 0.0);
        let flat = Similarity { own: Some(0.5), usual: 0.5, best: 0.5 };
        assert_eq!(score(flat, 0.0), 0.0);
    }

    #[test]
    fn no_match_no_credit() {
        assert_eq!(credited(&words(&[(5.0, 0.0), (3.0, 0.0)]), 1.0, 1000.0), 0.0);
    }

    #[test]
    fn a_word_of_three_is_no_evidence_and_two_of_three_are() {
        // In a table of 144 rows a word that one row has says about as much as picks one row.
        let rare = information("sugar", found(144.0, 1.0));
        assert_eq!(credited(&words(&[(rare, 1.0), (rare, 0.0), (rare, 0.0)]), 1.0, 144.0), 0.0);
        assert!(credited(&words(&[(rare, 1.0), (rare, 1.0), (rare, 0.0)]), 1.0, 144.0) > 0.5);
    }

    #[test]
    fn a_code_is_evidence_by_itself() {
        let code = information("e4711", found(800.0, 1.0));
        let other = information("mean", found(800.0, 0.0));
        assert!(credited(&words(&[(code, 1.0), (other, 0.0)]), 1.0, 800.0) > 1.0);
    }

    #[test]
    fn much_information_counts_though_it_is_a_small_share() {
        let word = information("word", found(10_000.0, 10.0));
        let mut query = vec![(word, 1.0); 3];
        query.extend(vec![(word, 0.0); 6]);
        assert!(credited(&words(&query), 1.0, 10_000.0) > 0.3);
    }

    #[test]
    fn several_words_of_many_count_as_far_as_the_row_is_similar() {
        // Each in a tenth of the rows, and the two together in one of a hundred, of many words that nothing has.
        let word = information("word", found(130.0, 11.0));
        let other = information("word", found(130.0, 5.0));
        let absent = information("word", found(130.0, 0.0));
        let mut query = vec![(word, 1.0), (other, 1.0)];
        query.extend(vec![(absent, 0.0); 6]);
        let query = words(&query);
        let own = matched(&query, 1.0);
        let one_row = information("word", found(130.0, 1.0));
        assert!(word + other > one_row);
        let best = credit(&query, (own, own), 1.0, 130.0);
        assert!(best > 0.5 && best <= SEVERAL, "{best}");
        assert!((credit(&query, (own, 2.0 * own), 1.0, 130.0) - best / 2.0).abs() < 1e-9);
        assert!((credit(&query, (own, own), 0.5, 130.0) - best / 2.0).abs() < 1e-9);
        assert!(credit(&query, (own, own), 0.0, 130.0) < 0.1);
        // What one word says, and be it in this row alone, is none of it.
        let mut query = vec![(one_row, 1.0)];
        query.extend(vec![(absent, 0.0); 6]);
        let own = matched(&words(&query), 1.0);
        assert_eq!(credit(&words(&query), (own, own), 1.0, 130.0), 0.0);
    }

    #[test]
    fn a_full_match_beats_the_most_similar_row_and_a_longer_text_is_held_to_more() {
        let both = words(&[(6.0, 1.0), (4.0, 1.0)]);
        let full = credited(&both, 1.0, 1000.0);
        assert!((full - WEIGHT).abs() < 1e-9, "{full}");
        assert!(score(COSINE, full) > score(Similarity { own: Some(0.5), ..COSINE }, 0.0));
        assert!(credited(&both, 2.0, 1000.0) < full && credited(&both, 0.5, 1000.0) > full);
        assert!(credited(&words(&[(6.0, 1.5), (4.0, 1.0)]), 1.0, 1000.0) > full);
    }

    #[test]
    fn without_credit_the_order_is_that_of_similarity_for_every_model() {
        let of = |own: f64, scale: f64, shift: f64| {
            score(
                Similarity { own: Some(own * scale + shift), usual: 0.1 * scale + shift, best: 0.6 * scale + shift },
                0.2,
            )
        };
        for (a, b) in [(0.5, 0.4), (0.3, 0.2), (0.2, 0.1)] {
            assert!(of(a, 1.0, 0.0) > of(b, 1.0, 0.0));
            assert!((of(a, 1.0, 0.0) - of(a, 0.3, 0.65)).abs() < 1e-9);
        }
        assert!((score(Similarity { own: None, ..COSINE }, 0.7) - 0.7).abs() < 1e-9);
        // In a small table the best row is no further above any row than another below it.
        assert!(
            score(Similarity { own: Some(0.0), usual: 0.2, best: 0.3 }, 1.5)
                > score(Similarity { own: Some(0.3), usual: 0.2, best: 0.3 }, 0.0)
        );
    }
}
