//! The vocabulary as a file that is looked up in place: `vocab.bin`, made from `tokenizer.json`.
//!
//! Parsing the tokenizer's JSON costs milliseconds and 30,000 strings in every process; this file costs neither.
//! Layout, all numbers little-endian `u32`:
//!
//! | part | size |
//! |---|---|
//! | magic `AEVOCAB1` | 8 bytes |
//! | tokens `n`, bits of the slot table `b`, bytes of the longest token, id of the unknown token | 4 numbers |
//! | slots: the token's id in the low half, a tag of its hash in the high half; `0xFFFFFFFF` is empty | 2^b numbers |
//! | offsets into the bytes; token `i` ends where `i + 1` begins | n + 1 numbers |
//! | bytes of all tokens, in the order of their ids | the rest |

use std::collections::HashMap;
use std::path::Path;

use memmap2::Mmap;
use serde::Deserialize;

use crate::OpenError;

const MAGIC: &[u8; 8] = b"AEVOCAB1";
const HEAD: usize = MAGIC.len() + 4 * 4;
const EMPTY: u32 = u32::MAX;
/// What marks a piece that continues a word.
const CONTINUATION: &[u8] = b"##";
/// A longest token above this would be a mistake, and the table of prefix hashes lives on the stack.
pub(crate) const MAX_TOKEN_BYTES: usize = 64;
/// Ids fill half a slot, and the last one would look like an empty slot.
const MAX_TOKENS: usize = 0xFFFF;

const FNV_START: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;
/// The hash of `##`, from which the hash of a piece goes on.
const CONTINUED: u32 = step(step(FNV_START, b'#'), b'#');

const fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(FNV_PRIME)
}

/// FNV's low bits are poor: this spreads them before slot and tag are taken.
const fn spread(hash: u32) -> u32 {
    let mixed = (hash ^ (hash >> 15)).wrapping_mul(0x846c_a68b);
    mixed ^ (mixed >> 16)
}

/// The mapped vocabulary.
pub(crate) struct Vocabulary {
    file: Mmap,
    tokens: usize,
    bits: u32,
    longest: usize,
    unknown: u32,
}

impl Vocabulary {
    /// Maps `vocab.bin`. Only the head and the length are looked at: every later read checks its own bounds.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let file = crate::map::map(path)?;
        let damaged = |reason: &str| OpenError::damaged(path, reason);
        if file.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(damaged("it is not a vocabulary of this version"));
        }
        let number = |at: usize| read(&file, MAGIC.len() + 4 * at).ok_or_else(|| damaged("it ends within its head"));
        let (tokens, bits, longest, unknown) = (number(0)? as usize, number(1)?, number(2)? as usize, number(3)?);
        if tokens == 0 || tokens > MAX_TOKENS || bits > 20 || longest > MAX_TOKEN_BYTES || tokens >= 1 << bits {
            return Err(damaged("its head is not believable"));
        }
        let text = HEAD + 4 * (1 << bits) + 4 * (tokens + 1);
        let last = read(&file, text - 4).ok_or_else(|| damaged("it ends within its tables"))?;
        if file.len() - text != last as usize {
            return Err(damaged("its length does not fit its tables"));
        }
        Ok(Self { file, tokens, bits, longest, unknown })
    }

    /// Number of tokens; ids are below it.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Id that stands for words nobody knows.
    pub(crate) fn unknown(&self) -> u32 {
        self.unknown
    }

    /// The longest token that `text` begins with: its id and its bytes in `text`. With `continued`, among the pieces
    /// that continue a word.
    pub(crate) fn longest_prefix(&self, text: &[u8], continued: bool) -> Option<(u32, usize)> {
        let marked = if continued { CONTINUATION.len() } else { 0 };
        let mut hashes = [0; MAX_TOKEN_BYTES];
        let mut hash = if continued { CONTINUED } else { FNV_START };
        let tried = text.get(..self.longest.saturating_sub(marked)).unwrap_or(text);
        for (kept, &byte) in hashes.iter_mut().zip(tried) {
            hash = step(hash, byte);
            *kept = hash;
        }
        for length in (1..=tried.len()).rev() {
            let hash = *hashes.get(length - 1)?;
            if let Some(id) = self.find(hash, continued, text.get(..length)?) {
                return Some((id, length));
            }
        }
        None
    }

    fn find(&self, hash: u32, continued: bool, wanted: &[u8]) -> Option<u32> {
        let (mut slot, tag) = place(hash, self.bits);
        // A damaged file may have no empty slot: the table's size ends the search too.
        for _ in 0..1usize << self.bits {
            let entry = read(&self.file, HEAD + 4 * slot)?;
            if entry == EMPTY {
                return None;
            }
            if entry >> 16 == tag {
                let id = entry & 0xFFFF;
                let token = self.token(id)?;
                let same = if continued { token.strip_prefix(CONTINUATION) } else { Some(token) };
                if same == Some(wanted) {
                    return Some(id);
                }
            }
            slot = (slot + 1) & ((1 << self.bits) - 1);
        }
        None
    }

    fn token(&self, id: u32) -> Option<&[u8]> {
        let offsets = HEAD + (4 << self.bits);
        let text = offsets + 4 * (self.tokens + 1);
        let from = read(&self.file, offsets + 4 * id as usize)? as usize;
        let to = read(&self.file, offsets + 4 * (id as usize + 1))? as usize;
        self.file.get(text + from..text + to)
    }
}

fn read(file: &[u8], at: usize) -> Option<u32> {
    file.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// First slot and tag of a hash.
fn place(hash: u32, bits: u32) -> (usize, u32) {
    let mixed = spread(hash);
    ((mixed as usize) & ((1 << bits) - 1), (mixed >> 16) ^ (hash & 0xFFFF))
}

/// Makes the content of `vocab.bin` out of the content of `tokenizer.json`.
///
/// The tokenizer must be the kind that this crate reads: a lower-casing BERT normaliser and pre-tokenizer, WordPiece with
/// `##` and words of at most 100 characters, ids from 0 on without a gap. Everything else is an error that says what differs.
pub fn build(tokenizer: &[u8]) -> Result<Vec<u8>, String> {
    let parsed: Tokenizer = serde_json::from_slice(tokenizer).map_err(|error| format!("not a tokenizer: {error}"))?;
    let Tokenizer { normalizer, pre_tokenizer, model } = parsed;
    let accents_kept = normalizer.strip_accents == Some(false);
    if normalizer.kind != "BertNormalizer" || !normalizer.lowercase || !normalizer.clean_text || accents_kept {
        return Err("the normaliser is not bert's lower-casing one".to_owned());
    }
    if !normalizer.handle_chinese_chars || pre_tokenizer.kind != "BertPreTokenizer" {
        return Err("the pre-tokenizer is not bert's".to_owned());
    }
    let word_piece = model.kind == "WordPiece" && model.continuing_subword_prefix.as_bytes() == CONTINUATION;
    if !word_piece || model.max_input_chars_per_word != crate::normalize::MAX_WORD_CHARS {
        return Err("the model is not a word piece model with ## and words of 100 characters".to_owned());
    }
    let unknown = *model.vocab.get(&model.unk_token).ok_or("the unknown token is not in the vocabulary")?;
    let mut tokens: Vec<(u32, &str)> = model.vocab.iter().map(|(token, &id)| (id, token.as_str())).collect();
    tokens.sort_unstable();
    if tokens.is_empty() || tokens.len() > MAX_TOKENS || tokens.iter().zip(0..).any(|(token, id)| token.0 != id) {
        return Err(format!("the ids are not 0 to n - 1, with n between 1 and {MAX_TOKENS}"));
    }
    let longest = tokens.iter().map(|token| token.1.len()).max().unwrap_or(0);
    if longest > MAX_TOKEN_BYTES {
        return Err(format!("a token of {longest} bytes is longer than {MAX_TOKEN_BYTES}"));
    }
    Ok(lay_out(&tokens, longest, unknown))
}

/// Writes the tables. At most half of the slots are used, so that most searches end at the first.
fn lay_out(tokens: &[(u32, &str)], longest: usize, unknown: u32) -> Vec<u8> {
    let bits = (tokens.len() * 2).next_power_of_two().trailing_zeros();
    let mut slots = vec![EMPTY; 1 << bits];
    for &(id, token) in tokens {
        let (mut slot, tag) = place(token.bytes().fold(FNV_START, step), bits);
        while slots.get(slot).is_some_and(|&entry| entry != EMPTY) {
            slot = (slot + 1) & ((1 << bits) - 1);
        }
        if let Some(free) = slots.get_mut(slot) {
            *free = tag << 16 | id;
        }
    }
    let mut file = MAGIC.to_vec();
    let mut put = |number: u32| file.extend_from_slice(&number.to_le_bytes());
    [tokens.len() as u32, bits, longest as u32, unknown].into_iter().for_each(&mut put);
    slots.into_iter().for_each(&mut put);
    let mut end = 0;
    put(end);
    for (_, token) in tokens {
        end += token.len() as u32;
        put(end);
    }
    for (_, token) in tokens {
        file.extend_from_slice(token.as_bytes());
    }
    file
}

#[derive(Deserialize)]
struct Tokenizer {
    normalizer: Normalizer,
    pre_tokenizer: PreTokenizer,
    model: WordPiece,
}

#[derive(Deserialize)]
struct Normalizer {
    #[serde(rename = "type")]
    kind: String,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Deserialize)]
struct PreTokenizer {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct WordPiece {
    #[serde(rename = "type")]
    kind: String,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: HashMap<String, u32>,
}
