//! The oracle can fail, and does so exactly where a promise is broken.

use super::*;

const A: Register = Register(0);
const B: Register = Register(1);

fn put(register: Register, number: u64) -> Effect {
    Effect::nothing().leaves(register, Some(number))
}

fn got(register: Register, content: Content) -> Effect {
    Effect::glance().meets(register, Met::Exactly(content))
}

fn swapped(register: Register, old: u64, new: u64) -> Effect {
    put(register, new).meets(register, Met::Exactly(Some(old)))
}

/// Two registers without a number.
fn empty() -> History {
    History::new(vec![None; 2])
}

fn call(history: &mut History, effect: &Effect) -> Call {
    history.call(String::new(), effect.clone())
}

/// A call that returns before anything else happens.
fn at_once(history: &mut History, effect: Effect) {
    let call = call(history, &effect);
    history.returned(call, effect);
}

fn is_found(history: &History, found: [Content; 2]) -> bool {
    history.explain_found(&found).is_ok()
}

#[test]
fn what_returned_is_found_and_nothing_else() {
    let mut history = empty();
    at_once(&mut history, put(A, 1));
    assert!(is_found(&history, [Some(1), None]));
    assert!(!is_found(&history, [None, None]), "lost");
    assert!(!is_found(&history, [Some(2), None]), "never written");
    assert!(!is_found(&history, [Some(1), Some(1)]), "written elsewhere");
}

#[test]
fn what_is_under_way_may_be_found_or_not() {
    let mut history = empty();
    at_once(&mut history, put(A, 1));
    let _ = call(&mut history, &put(A, 2));
    assert!(is_found(&history, [Some(1), None]));
    assert!(is_found(&history, [Some(2), None]));
    assert!(!is_found(&history, [None, None]));
}

#[test]
fn the_later_of_two_is_found_and_of_two_at_once_either() {
    let mut history = empty();
    at_once(&mut history, put(A, 1));
    at_once(&mut history, put(A, 2));
    assert!(!is_found(&history, [Some(1), None]), "an older value came back");

    let mut history = empty();
    let first = call(&mut history, &put(A, 1));
    at_once(&mut history, put(A, 2));
    history.returned(first, put(A, 1));
    assert!(is_found(&history, [Some(1), None]));
    assert!(is_found(&history, [Some(2), None]));
}

#[test]
fn what_was_removed_stays_removed() {
    let mut history = empty();
    at_once(&mut history, put(A, 1));
    at_once(&mut history, Effect::nothing().meets(A, Met::Something).leaves(A, None));
    assert!(is_found(&history, [None, None]));
    assert!(!is_found(&history, [Some(1), None]), "it came back");
}

#[test]
fn what_was_read_is_not_lost_though_its_write_was_under_way() {
    let mut history = empty();
    let _ = call(&mut history, &put(A, 1));
    assert!(is_found(&history, [None, None]));
    at_once(&mut history, got(A, Some(1)));
    assert!(is_found(&history, [Some(1), None]));
    assert!(!is_found(&history, [None, None]), "a reader was told");

    // Something newer may be there instead.
    let _ = call(&mut history, &put(A, 2));
    assert!(is_found(&history, [Some(2), None]));
    assert!(!is_found(&history, [None, None]));
}

#[test]
fn reads_do_not_go_back() {
    let mut history = empty();
    let write = call(&mut history, &put(A, 1));
    at_once(&mut history, got(A, Some(1)));
    assert!(history.explain().is_ok());
    at_once(&mut history, got(A, None));
    assert!(history.explain().is_err(), "new, then old");
    history.returned(write, put(A, 1));
    assert!(history.explain().is_err());
}

#[test]
fn a_read_sees_what_returned_before_it() {
    let mut history = empty();
    at_once(&mut history, put(A, 1));
    assert!(history.explain().is_ok());
    at_once(&mut history, got(A, None));
    assert!(history.explain().is_err());
}

#[test]
fn of_two_swaps_of_one_value_one_wins() {
    let mut history = History::new(vec![Some(1), None]);
    let first = call(&mut history, &swapped(A, 1, 2));
    at_once(&mut history, swapped(A, 1, 3));
    let mut lost = history.clone();
    lost.returned(first, got(A, Some(3)));
    assert!(lost.explain().is_ok());
    history.returned(first, swapped(A, 1, 2));
    assert!(history.explain().is_err(), "an update was lost");
}

#[test]
fn a_batch_is_found_whole_or_not_at_all() {
    let batch = put(A, 1).leaves(B, Some(1));
    let mut history = empty();
    let _ = call(&mut history, &batch);
    assert!(is_found(&history, [None, None]));
    assert!(is_found(&history, [Some(1), Some(1)]));
    assert!(!is_found(&history, [Some(1), None]), "half of it");
    assert!(!is_found(&history, [None, Some(1)]), "the other half");

    // Half of it was seen: then all of it happened.
    at_once(&mut history, got(B, Some(1)));
    at_once(&mut history, got(A, None));
    assert!(history.explain().is_ok(), "reads may see one key before the other");
    assert!(!is_found(&history, [None, None]));
    assert!(!is_found(&history, [None, Some(1)]));
    assert!(is_found(&history, [Some(1), Some(1)]));

    // What overwrites half of it does so after all of it.
    let _ = call(&mut history, &put(A, 2));
    assert!(is_found(&history, [Some(2), Some(1)]));
    assert!(!is_found(&history, [Some(2), None]));
}

#[test]
fn batches_do_not_mix() {
    let (one, two) = (put(A, 1).leaves(B, Some(1)), put(B, 2).leaves(A, Some(2)));
    let mut history = empty();
    let first = call(&mut history, &one);
    at_once(&mut history, two);
    history.returned(first, one);
    assert!(is_found(&history, [Some(1), Some(1)]));
    assert!(is_found(&history, [Some(2), Some(2)]));
    assert!(!is_found(&history, [Some(1), Some(2)]));
    at_once(&mut history, got(A, Some(1)));
    at_once(&mut history, got(B, Some(2)));
    assert!(history.explain().is_err());
}

#[test]
fn a_write_does_not_come_between_the_halves_of_a_batch() {
    let batch = put(A, 1).leaves(B, Some(1));
    let mut history = empty();
    let under_way = call(&mut history, &batch);
    at_once(&mut history, got(A, Some(1)));
    at_once(&mut history, put(B, 2));
    history.returned(under_way, batch);
    at_once(&mut history, got(B, Some(1)));
    assert!(history.explain().is_err(), "the batch was before the put");
}

#[test]
fn what_is_refused_has_met_its_reason() {
    let refused = Effect::nothing().meets(B, Met::Something);
    let mut history = empty();
    at_once(&mut history, refused.clone());
    assert!(history.explain().is_err(), "nothing is there that could be in the way");
    let mut history = empty();
    let _ = call(&mut history, &put(B, 1));
    at_once(&mut history, refused);
    assert!(history.explain().is_ok());
    assert!(!is_found(&history, [None, None]));
}
