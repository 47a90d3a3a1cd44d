//! From a script to what happens to one request.

use crate::answer::{Item, Spoil, items};
use crate::vectors::next;
use crate::{Do, Fault, Rule, Script};

/// What the script wants for one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) what: Do,
    /// The items to strike are those whose text contains this; without it, the first.
    pub(crate) marked: Option<String>,
}

/// A script and how far it was played.
pub(crate) struct Player {
    script: Script,
    seen: u64,
    used: Vec<u64>,
    dice: u64,
}

impl Player {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            seen: 0,
            used: vec![0; script.rules.len()],
            dice: script.random.as_ref().map_or(0, |random| random.seed),
            script,
        }
    }

    /// The verdict on the next request, which has these inputs.
    pub(crate) fn next(&mut self, inputs: &[String]) -> Option<Verdict> {
        self.seen += 1;
        for (rule, used) in self.script.rules.iter().zip(&mut self.used) {
            if rule.times.is_none_or(|times| *used < times) && matches(rule, self.seen, inputs) {
                *used += 1;
                return Some(Verdict { what: rule.what.clone(), marked: rule.when.text_contains.clone() });
            }
        }
        let random = self.script.random.as_ref()?;
        // Two throws each time, whatever they say, so that the sequence depends on the number of requests alone.
        let (chance, choice) = (next(&mut self.dice), next(&mut self.dice));
        if (chance >> 11) as f64 / (1u64 << 53) as f64 >= random.probability {
            return None;
        }
        let place = choice.checked_rem(random.faults.len() as u64)?;
        let what = random.faults.get(usize::try_from(place).ok()?)?.clone();
        applies(&what, inputs).then_some(Verdict { what, marked: None })
    }
}

fn matches(rule: &Rule, seen: u64, inputs: &[String]) -> bool {
    let when = &rule.when;
    when.nth.is_none_or(|[from, to]| (from..=to).contains(&seen))
        && when.every.is_none_or(|n| n > 0 && seen.is_multiple_of(n))
        && when.inputs_over.is_none_or(|n| inputs.len() > n)
        && when.text_contains.as_ref().is_none_or(|text| contain(inputs, text))
        && applies(&rule.what, inputs)
}

fn contain(inputs: &[String], text: &str) -> bool {
    inputs.iter().any(|input| input.contains(text))
}

/// Whether a fault with a condition of its own has anything to do here.
fn applies(what: &Do, inputs: &[String]) -> bool {
    match &what.fault {
        Some(Fault::TooManyInputs(most)) => inputs.len() > *most,
        Some(Fault::Poison(text) | Fault::ServerErrorOn(text)) => contain(inputs, text),
        _ => true,
    }
}

/// The items of the answer to these inputs, with the fault in them if it is one of items. `indexed`: the format has indexes.
pub(crate) fn spoilt(fault: Option<&Fault>, marked: Option<&str>, inputs: &[String], indexed: bool) -> Vec<Item> {
    let mut all = items(inputs.len());
    let first = inputs.iter().position(|input| marked.is_some_and(|text| input.contains(text))).unwrap_or(0);
    let spoil = match fault {
        Some(Fault::Nan) => Some(Spoil::Nan),
        Some(Fault::Inf) => Some(Spoil::Inf),
        Some(Fault::Zero) => Some(Spoil::Zero),
        _ => None,
    };
    if spoil.is_some() {
        for (item, input) in all.iter_mut().zip(inputs) {
            let struck = marked.map_or(item.of == 0, |text| input.contains(text));
            item.spoil = if struck { spoil } else { None };
        }
    }
    match fault {
        Some(Fault::Missing) if first < all.len() => {
            all.remove(first);
        }
        Some(Fault::Double) => double(&mut all, indexed),
        Some(Fault::Extra) => all.push(Item { index: Some(inputs.len()), of: 0, spoil: None }),
        Some(Fault::Shuffled) => {
            // Turned by half and then reversed: no item of three or more stays with its neighbours.
            let half = all.len() / 2;
            all.rotate_left(half);
            all.reverse();
        }
        Some(Fault::NoIndex) => all.iter_mut().for_each(|item| item.index = None),
        _ => {}
    }
    all
}

/// The last item takes the index of the first; an only item comes twice, and so does the first where there are no indexes.
fn double(all: &mut Vec<Item>, indexed: bool) {
    match all.as_mut_slice() {
        [] => {}
        [first, .., last] if indexed => last.index = first.index,
        [first, ..] => {
            let copy = *first;
            all.push(copy);
        }
    }
}

/// A gzip stream that unpacks to so many mebibytes of blanks, 159 times its own size.
///
/// One block with the fixed codes (RFC 1951): a blank, then "258 bytes, one back" again and again. Checksum and length at
/// the end are not right, which nobody notices who stops in time.
pub(crate) fn gzip_bomb(mebibytes: u32) -> Vec<u8> {
    let copies = (u64::from(mebibytes) << 20) / 258;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut count) = (0u32, 0);
    let mut put = |code: u32, length: u32| {
        bits |= code << count;
        count += length;
        while count >= 8 {
            out.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            count -= 8;
        }
    };
    put(0b011, 3); // The last block, with fixed codes.
    put(reversed(0x30 + u32::from(b' '), 8), 8);
    for _ in 0..copies {
        put(reversed(0b1100_0101, 8), 13); // Length 258, then distance 1, which is five zero bits.
    }
    put(0, 7 + 7); // End of block, then at least enough to fill the last byte.
    out.extend_from_slice(&[0; 8]);
    out
}

/// Huffman codes go in with their first bit lowest.
fn reversed(code: u32, length: u32) -> u32 {
    code.reverse_bits() >> (32 - length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let script = Script::default()
            .rule(Rule::new(Fault::Close).nth(2, 3).times(1))
            .rule(Rule::new(Fault::Poison("bad".into())))
            .rule(Rule::new(Fault::Html).text_contains("web"))
            .rule(Rule::new(Fault::Zero).every(5))
            .rule(Rule::new(Fault::Nan).inputs_over(2));
        let mut player = Player::new(script);
        let mut next = |inputs: &[&str]| player.next(&texts(inputs)).and_then(|verdict| verdict.what.fault);
        assert_eq!(next(&["good"]), None);
        assert_eq!(next(&["web"]), Some(Fault::Close));
        assert_eq!(next(&["web"]), Some(Fault::Html));
        assert_eq!(next(&["web", "bad"]), Some(Fault::Poison("bad".into())));
        assert_eq!(next(&["good"]), Some(Fault::Zero));
        assert_eq!(next(&["a", "b"]), None);
        assert_eq!(next(&["a", "b", "c"]), Some(Fault::Nan));
    }

    #[test]
    fn chance_is_replayed() {
        let script = Script::default().random(42, 0.3, vec![Fault::Nan.into(), Fault::Close.into()]);
        let play = |script: Script| {
            let mut player = Player::new(script);
            (0..1000).map(|_| player.next(&texts(&["x"])).map(|v| v.what)).collect::<Vec<_>>()
        };
        let first = play(script.clone());
        assert_eq!(first, play(script.clone()));
        let struck = first.iter().flatten().count();
        assert!((200..400).contains(&struck), "{struck} of 1000 at 0.3");
        assert!(first.iter().flatten().any(|what| what.fault == Some(Fault::Nan)));
        assert!(first.iter().flatten().any(|what| what.fault == Some(Fault::Close)));
        let other = Script::default().random(43, 0.3, vec![Fault::Nan.into(), Fault::Close.into()]);
        assert_ne!(first, play(other));
        assert!(play(Script::default().random(1, 1.0, vec![])).iter().all(Option::is_none));
    }

    #[test]
    fn items_are_spoilt_as_named() {
        let inputs = texts(&["a", "b", "c"]);
        let indexes = |fault: Fault| -> Vec<Option<usize>> {
            spoilt(Some(&fault), None, &inputs, true).iter().map(|item| item.index).collect()
        };
        assert_eq!(indexes(Fault::Missing), [Some(1), Some(2)]);
        assert_eq!(indexes(Fault::Double), [Some(0), Some(1), Some(0)]);
        assert_eq!(indexes(Fault::Extra), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(indexes(Fault::NoIndex), [None, None, None]);
        let shuffled = spoilt(Some(&Fault::Shuffled), None, &inputs, true);
        assert!(shuffled.iter().enumerate().any(|(place, item)| item.of != place));
        assert!(shuffled.iter().all(|item| item.index == Some(item.of)));
        let struck = spoilt(Some(&Fault::Nan), Some("b"), &inputs, true);
        let spoils: Vec<_> = struck.iter().map(|item| item.spoil).collect();
        assert_eq!(spoils, [None, Some(Spoil::Nan), None]);
        assert_eq!(spoilt(Some(&Fault::Zero), None, &inputs, true)[0].spoil, Some(Spoil::Zero));
        assert_eq!(spoilt(Some(&Fault::Double), None, &texts(&["a"]), true).len(), 2);
        let copied: Vec<_> = spoilt(Some(&Fault::Double), None, &inputs, false).iter().map(|item| item.of).collect();
        assert_eq!(copied, [0, 1, 2, 0]);
        assert!(spoilt(Some(&Fault::Missing), None, &[], true).is_empty());
    }
}
