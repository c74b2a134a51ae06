//! The list of mutants, and how one is applied to a file's text.

/// One change.
#[derive(Debug, Clone, Default)]
pub struct Mutant {
    pub name: String,
    pub file: String,
    /// Lines that stand below each other, without their indentation.
    old: Vec<String>,
    new: Vec<String>,
    pub breaks: String,
    /// The test program that is tried first.
    pub noticed: String,
    /// Why it is a second line of defence, if it is one.
    pub second: String,
    /// The mutant that breaks the first line.
    pub with: String,
}

/// All of them.
pub fn mutants() -> Vec<Mutant> {
    parse(include_str!("list.txt"))
}

fn parse(text: &str) -> Vec<Mutant> {
    let mut all: Vec<Mutant> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim().to_owned();
        if word == "=" {
            all.push(Mutant {
                name: rest,
                ..Mutant::default()
            });
            continue;
        }
        if word.is_empty() || word == "#" {
            continue;
        }
        let mutant = all.last_mut().unwrap();
        match word {
            "file" => mutant.file = rest,
            "-" => mutant.old.push(rest),
            "+" => mutant.new.push(rest),
            "breaks" => mutant.breaks = rest,
            "noticed" => mutant.noticed = rest,
            "second" => mutant.second = rest,
            "with" => mutant.with = rest,
            other => panic!("line {number} of the list begins with {other:?}"),
        }
    }
    all
}

impl Mutant {
    /// The file's text with the change.
    ///
    /// # Errors
    /// The lines are not there, or more than once.
    pub fn applied(&self, text: &str) -> Result<String, String> {
        let lines: Vec<&str> = text.lines().collect();
        let fits = |place: &usize| {
            let here = lines[*place..].iter().map(|line| line.trim());
            here.take(self.old.len())
                .eq(self.old.iter().map(String::as_str))
        };
        let places: Vec<usize> = (0..lines.len()).filter(fits).collect();
        let [place] = places.as_slice() else {
            return Err(format!(
                "{} has {:?} {} times",
                self.file,
                self.old,
                places.len()
            ));
        };
        let after = &lines[place + self.old.len()..];
        let new = self.new.iter().map(String::as_str);
        let whole: Vec<&str> = lines[..*place]
            .iter()
            .copied()
            .chain(new)
            .chain(after.iter().copied())
            .collect();
        Ok(whole.join("\n") + "\n")
    }
}

#[test]
fn a_change_is_applied_at_its_only_place() {
    let all = parse("# why\n= name\nfile f\n- b\n- c\n+ d\nbreaks something\n");
    assert_eq!(all[0].applied("a\n  b\n  c\na\n").unwrap(), "a\nd\na\n");
    assert!(all[0].applied("a\n  b\n  d\n").is_err());
    assert!(all[0].applied("b\nc\nb\nc\n").is_err());
}
