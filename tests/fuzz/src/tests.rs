//! A target finds what is wrong with a reader, whatever kind of wrong it is.

use std::panic::AssertUnwindSafe;

use cpu_time::ThreadTime;

use super::*;
use crate::run::way;

/// Runs a target of which the corpus is one file, and gives what it panicked with.
fn run(name: &'static str, property: impl Fn(&[u8]) -> Judged + Send + 'static) -> Result<(), String> {
    let fuzz = Fuzz::new(name, env!("CARGO_MANIFEST_DIR"))
        .base(["other"])
        .words(["bad"])
        .time(Duration::from_millis(10))
        .memory(1 << 20);
    let fuzz = Fuzz { corpus: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/own"), ..fuzz };
    let run = panic::catch_unwind(AssertUnwindSafe(|| fuzz.run(property)));
    run.map_err(|payload| payload.downcast_ref::<String>().expect("a text").clone())
}

fn plain(input: &[u8]) -> Judged {
    match input.len() {
        0..10 => Ok(Verdict::Used),
        _ => Ok(Verdict::Refused("it is too long".into())),
    }
}

fn is_bad(input: &[u8]) -> bool {
    input.windows(3).any(|word| word == b"bad")
}

#[test]
fn a_reader_that_keeps_its_promises_passes() {
    run("own-passes", plain).expect("nothing is wrong");
}

#[test]
fn a_panic_is_told_with_the_smallest_input_and_how_to_keep_it() {
    let told = run("own-panics", |input| {
        assert!(!is_bad(input), "there it is");
        plain(input)
    });
    let told = told.expect_err("it is found");
    assert!(told.contains("it panicked: there it is") && told.contains("b\"bad\""), "{told}");
    assert!(
        told.ends_with("/NAME.base64 (base64 -d shows it):\nYmFk") && told.contains("AIRLOCK_FUZZ_SEED="),
        "{told}"
    );
}

#[test]
fn a_broken_promise_a_reason_of_nothing_and_too_much_memory_are_told() {
    let broken = |input: &[u8]| {
        promised!(!is_bad(input), "a promise of {}", 1);
        plain(input)
    };
    assert!(run("own-broken", broken).expect_err("it is found").contains("a promise of 1"));
    let silent = |input: &[u8]| match is_bad(input) {
        true => Ok(Verdict::LeftOut(String::new())),
        false => plain(input),
    };
    assert!(run("own-silent", silent).expect_err("it is found").contains("no reason that people read"));
    let hoarding = |input: &[u8]| {
        let held = vec![1_u8; if is_bad(input) { 2 << 20 } else { 1 }];
        plain(&input[..input.len() * usize::from(held[0])])
    };
    assert!(run("own-hoards", hoarding).expect_err("it is found").contains("and may hold 1048576"));
}

#[test]
fn what_takes_too_long_and_what_never_ends_are_told_alike() {
    let busy = |time: Duration| {
        let begun = ThreadTime::now();
        while begun.elapsed() < time {}
    };
    let slow = move |input: &[u8]| {
        if is_bad(input) {
            busy(Duration::from_millis(10) * SLOWER * 2);
        }
        plain(input)
    };
    assert!(run("own-slow", slow).expect_err("it is found").contains("of processor time, and may take"));
    let endless = move |input: &[u8]| {
        while is_bad(input) {
            busy(Duration::from_millis(1));
        }
        plain(input)
    };
    let told = run("own-endless", endless).expect_err("it is found");
    assert!(told.contains("it does not end") && told.contains("bad"), "{told}");
}

#[test]
fn a_target_that_sees_one_kind_of_outcome_only_fails() {
    let told = run("own-blind", |_| Ok(Verdict::Used)).expect_err("nothing is refused");
    assert!(told.contains(" 0 refused"), "{told}");
}

#[test]
fn ways_differ_by_their_words_and_not_by_numbers_and_quotations() {
    let refused = |text: &str| way(&Verdict::Refused(text.into()));
    assert_eq!(refused("line 1: no 'a'"), refused("line 27: no 'b'"));
    assert_ne!(refused("line 1: no 'a'"), refused("line 1: not 'a'"));
    assert_ne!(refused("line"), way(&Verdict::LeftOut("line".into())));
}
