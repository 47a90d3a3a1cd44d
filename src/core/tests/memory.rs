//! What reading a hostile body costs: memory in proportion to the body, whatever is in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use autoembed_core::error::from_response;
use autoembed_core::provider::read_answer;
use autoembed_core::{Model, Provider, Response};

/// Counts for each thread what it holds; a reallocation as if it never grew in place.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    NOW.set(NOW.get() + bytes);
    MOST.set(MOST.get().max(NOW.get()));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many bytes more than before `work` held at its peak on this thread.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = NOW.get();
    MOST.set(before);
    drop(work());
    usize::try_from(MOST.get() - before).unwrap_or(0)
}

/// Short numbers, as `[0,0,0]`, are the worst there is: 2 bytes each, and each takes its place in a list that has just doubled
/// and in the one made of it. Of lists, as `[[],[],[]]`, only so many are kept.
const ANSWER: usize = 8;
const ANSWER_CONSTANT: usize = 5 << 19;

/// More items than are kept.
const ANSWER_SIZE: usize = 3 * 20_000;

/// An error is read over; what is kept of it has an upper limit.
const ERROR: usize = 2;
const ERROR_CONSTANT: usize = 2 << 20;
const ERROR_SIZE: usize = 100_000;

/// `piece` again and again, with commas, up to `size` bytes.
fn many(piece: &str, size: usize) -> String {
    vec![piece; size / (piece.len() + 1)].join(",")
}

/// Bodies that take much more space once they are read than as text, if one is careless.
fn hostile(size: usize) -> Vec<(String, Vec<u8>)> {
    let around = |name: &'static str, open: &'static str, close: &'static str| {
        move |list: &str| (name, format!("{open}{list}{close}"))
    };
    let mut bodies = Vec::new();
    let pieces = [
        "0",
        "1",
        "1.5",
        "null",
        "true",
        "\"\"",
        "\"AA==\"",
        "[]",
        "[0]",
        "[[]]",
        "{}",
        "[null]",
        "{\"\":0}",
        "{\"embedding\":[]}",
        "{\"embedding\":\"\"}",
        "{\"embedding\":[1]}",
        "{\"index\":0,\"embedding\":[]}",
        "{\"values\":[]}",
        "{\"values\":[1]}",
        "{\"msg\":\"\"}",
        "\"\\u0000\"",
    ];
    for piece in pieces {
        let list = many(piece, size);
        for (name, body) in [
            around("alone", "[", "]")(&list),
            around("nested", "[[", "]]")(&list),
            around("data", "{\"data\":[", "]}")(&list),
            around("data[0].embedding", "{\"data\":[{\"index\":0,\"embedding\":[", "]}]}")(&list),
            around("embeddings", "{\"embeddings\":[", "]}")(&list),
            around("embeddings[0]", "{\"embeddings\":[[", "]]}")(&list),
            around("embeddings[0].values", "{\"embeddings\":[{\"values\":[", "]}]}")(&list),
            around("embeddings.float", "{\"embeddings\":{\"float\":[", "]}}")(&list),
            around("embeddings.float[0]", "{\"embeddings\":{\"float\":[[", "]]}}")(&list),
            around("usage", "{\"data\":[],\"usage\":[", "]}")(&list),
            around("error.details", "{\"error\":{\"message\":\"x\",\"details\":[", "]}}")(&list),
            around("detail", "{\"detail\":[", "]}")(&list),
            around("unclosed", "{\"data\":[", "")(&list),
        ] {
            bodies.push((format!("{name}: {piece}"), body.into_bytes()));
        }
    }
    for (name, body) in [
        ("open lists", "[".repeat(size)),
        ("open objects", "{\"a\":".repeat(size / 5)),
        ("open lists in a field", format!("{{\"data\":{}", "[".repeat(size))),
        ("one long text", format!("\"{}\"", "a".repeat(size))),
        ("one long text of escapes", format!("{{\"error\":\"{}\"}}", "\\u0001".repeat(size / 6))),
        ("a long message", format!("{{\"error\":{{\"message\":\"{}\"}}}}", "é ".repeat(size / 3))),
        ("a long code", format!("{{\"error\":{{\"code\":\"{}\"}}}}", "a".repeat(size))),
        ("a long name", format!("{{\"{}\":1}}", "a".repeat(size))),
        ("a long name of escapes", format!("{{\"{}\":1}}", "\\n".repeat(size / 2))),
        ("a long vector", format!("{{\"data\":[{{\"index\":0,\"embedding\":\"{}\"}}]}}", "A".repeat(size))),
        (
            "a long vector of escapes",
            format!("{{\"data\":[{{\"index\":0,\"embedding\":\"{}\"}}]}}", "\\u0041".repeat(size / 6)),
        ),
        ("the same name", format!("{{{}}}", many("\"data\":[]", size))),
        ("the same name of an error", format!("{{{}}}", many("\"error\":{\"message\":\"x\"}", size))),
        (
            "ever other names",
            format!("{{{}}}", (0..size / 10).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",")),
        ),
        (
            "lists of objects",
            format!("[{}]", vec![format!("[{}]", vec!["{\"a\":{\"b\":0}}"; 64].join(",")); 64].join(",")),
        ),
        ("digits", format!("[{}]", "1".repeat(size))),
        ("a page", format!("<html>{}", "x".repeat(size))),
        ("no text", String::from("\u{0}").repeat(size)),
    ] {
        bodies.push((name.to_owned(), body.into_bytes()));
    }
    bodies
}

#[test]
fn answers_cost_a_multiple_of_their_size() {
    let mut worst = 0;
    for (name, body) in hostile(ANSWER_SIZE) {
        let response = Response { status: 200, headers: Vec::new(), body };
        for provider in Provider::ALL.iter().copied().filter(|provider| provider.is_remote()) {
            for (inputs, dimensions) in [(1, 3), (ANSWER_SIZE / 3, 1)] {
                let model = Model::new("m", provider, "remote", dimensions);
                let peak = peak_of(|| read_answer(&model, inputs, &response));
                let most = ANSWER * response.body.len() + ANSWER_CONSTANT;
                assert!(peak <= most, "{provider}, {name}, {inputs} inputs: {peak} bytes");
                worst = worst.max(peak);
            }
        }
    }
    // A limit far from what happens would hold anything.
    assert!(worst > (ANSWER * ANSWER_SIZE + ANSWER_CONSTANT) / 4, "{worst}");
}

#[test]
fn errors_cost_little_more_than_their_size() {
    let model = Model::new("m", Provider::OpenAi, "remote", 3);
    let mut worst = 0;
    for (name, body) in hostile(ERROR_SIZE) {
        let response = Response { status: 400, headers: Vec::new(), body };
        let peak = peak_of(|| from_response(&model, None, 2, &response, 0));
        assert!(peak <= ERROR * response.body.len() + ERROR_CONSTANT, "{name}: {peak} bytes");
        worst = worst.max(peak);
    }
    assert!(worst > ERROR_SIZE, "{worst}");
}

#[test]
fn the_peak_is_seen() {
    let peak = peak_of(|| vec![0_u8; 1 << 20]);
    assert!((1 << 20..1 << 21).contains(&peak), "{peak}");
    assert_eq!(peak_of(|| ()), 0);
}
