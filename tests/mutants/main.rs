//! One-line changes of the core, each of which breaks a decision: the tests must notice every one.
//!
//! `make mutants` applies those of `list.txt` one by one in a copy of the pure parts and their tests below `target/`,
//! builds that, and runs the tests until one fails. `MUTANTS=drift` takes those whose name contains this,
//! `MUTANTS_QUICK=1` runs only the test program that the list names. The normal
//! tests only look whether each text is still found in the sources.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod list;
mod tree;

use list::Mutant;
use tree::{Outcome, Tree};

/// The fewest that the list must have.
const MUTANTS_MIN: usize = 60;

fn read(path: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{root}/{path}")).unwrap()
}

#[test]
fn every_mutant_is_found_where_the_list_says() {
    let all = list::mutants();
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|mutant| {
            let why = mutant.applied(&read(&mutant.file)).err()?;
            Some(format!("{}: {why}", mutant.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(all.len() >= MUTANTS_MIN, "{}", all.len());
}

#[test]
fn every_mutant_says_what_it_breaks_and_who_notices() {
    let all = list::mutants();
    for mutant in &all {
        let name = &mutant.name;
        assert!(
            !mutant.breaks.is_empty() && !mutant.noticed.is_empty(),
            "{name}"
        );
        assert_eq!(mutant.second.is_empty(), mutant.with.is_empty(), "{name}");
        assert_eq!(all.iter().filter(|m| m.name == *name).count(), 1, "{name}");
        let first_line = mutant.with.is_empty() || all.iter().any(|m| m.name == mutant.with);
        assert!(first_line, "{name}");
    }
}

/// What became of one; None where it is as it should be.
fn complaint(tree: &mut Tree, all: &[Mutant], mutant: &Mutant) -> Option<String> {
    match tree.try_mutants(&[mutant], &mutant.noticed) {
        Outcome::Noticed(by) => {
            println!("{}: noticed by {by}", mutant.name);
            return None;
        }
        Outcome::Error(what) => return Some(what),
        Outcome::Survived if mutant.second.is_empty() => {
            return Some(format!("survives: {}", mutant.breaks));
        }
        Outcome::Survived => {}
    }
    let first_line = all.iter().find(|m| m.name == mutant.with).unwrap();
    match tree.try_mutants(&[mutant, first_line], &mutant.noticed) {
        Outcome::Noticed(by) => {
            let (name, with, second) = (&mutant.name, &mutant.with, &mutant.second);
            println!("{name}: a second line, since {second}; with {with} noticed by {by}");
            None
        }
        Outcome::Error(what) => Some(what),
        Outcome::Survived => Some(format!("survives together with {}", mutant.with)),
    }
}

#[test]
#[ignore = "builds the core a hundred times: make mutants"]
fn no_mutant_survives() {
    let wanted = std::env::var("MUTANTS").unwrap_or_default();
    let all = list::mutants();
    let mut tree = Tree::new();
    if let Err(what) = tree.passes() {
        panic!("without any change: {what}");
    }
    let chosen = all.iter().filter(|mutant| mutant.name.contains(&wanted));
    let (mut count, mut complaints) = (0, Vec::new());
    for mutant in chosen {
        count += 1;
        if let Some(what) = complaint(&mut tree, &all, mutant) {
            println!("{}: {what}", mutant.name);
            complaints.push(format!("{}: {what}", mutant.name));
        }
    }
    println!("{count} mutants, {} not noticed", complaints.len());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
