//! Just enough of Rust's grammar to judge a source file: code without comments and texts, the paths it names, its
//! functions, its lint attributes.
//!
//! Everything works on text and keeps line numbers. What it does not understand it passes over, so it can miss a
//! breach that is hidden on purpose, never invent one.

/// The code alone: comments, texts and characters are blanks, quotes and line ends stay.
pub(crate) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_comment(&chars, at),
            'r' if !continues_word(&code) => match end_of_raw_text(&chars, at) {
                Some(end) => end,
                None => at,
            },
            '"' => end_of_text(&chars, at),
            '\'' => end_of_character(&chars, at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            let quoted = chars[at] != '/';
            code.push_str(if quoted { "\"\"" } else { " " });
            code.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        }
    }
    code
}

fn continues_word(code: &str) -> bool {
    let last = code.chars().next_back();
    last.is_some_and(|c| is_word(c) && c != 'b')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    let rest = chars[from..].iter().position(|c| *c == '\n');
    rest.map_or(chars.len(), |length| from + length)
}

fn end_of_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_raw_text(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(from + 1 + hashes) != Some(&'"') {
        return None;
    }
    let closes = |at: usize| {
        chars[at] == '"'
            && chars[at + 1..].len() >= hashes
            && chars[at + 1..at + 1 + hashes].iter().all(|c| *c == '#')
    };
    let end = (from + hashes + 2..chars.len()).find(|at| closes(*at))?;
    Some(end + 1 + hashes)
}

fn end_of_text(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of a character, or `from` where the quote begins a lifetime.
fn end_of_character(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => {
            let rest = chars[(from + 3).min(chars.len())..]
                .iter()
                .position(|c| *c == '\'');
            rest.map_or(from, |length| from + 3 + length + 1)
        }
        (Some(_), Some('\'')) => from + 3,
        _ => from,
    }
}

/// The code without its `#[cfg(test)]` items; their lines are left empty.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut left = code.to_owned();
    while let Some(start) = left.find(MARK) {
        let item = start + MARK.len();
        let opened = left[item..].find(['{', ';']).map(|at| item + at);
        let end = match opened {
            Some(at) if left[at..].starts_with('{') => closing(&left, at),
            Some(at) => at + 1,
            None => left.len(),
        };
        let lines: String = left[start..end].chars().filter(|c| *c == '\n').collect();
        left.replace_range(start..end, &lines);
    }
    left
}

/// The place after the bracket that closes the one at `from`.
fn closing(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return from + at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// The line, from 1, of a place in a text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// A path as written, `use` trees taken apart, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// Places of a whole word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

/// All paths that begin with `root` (`crate`, `std`, the name of a crate), without that root.
pub(crate) fn paths(code: &str, root: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for at in words(code, root) {
        // `a::std::b` is not a path into std; `::std::b` is one.
        let before = code[..at].trim_end();
        let inner = before.strip_suffix("::").unwrap_or_default();
        if inner.chars().next_back().is_some_and(is_word) {
            continue;
        }
        let line = line_of(code, at);
        let rest = code[at + root.len()..].trim_start();
        if let Some(rest) = rest.strip_prefix("::") {
            expand(rest, "", &mut |path| found.push(Named { line, path }));
        } else if before.ends_with("use") {
            found.push(Named {
                line,
                path: String::new(),
            });
        }
    }
    found
}

/// Takes a path or a tree of paths apart; returns what follows it.
fn expand<'a>(text: &'a str, prefix: &str, found: &mut dyn FnMut(String)) -> &'a str {
    let text = text.trim_start();
    let join = |name: &str| match (prefix, name) {
        (_, "self") => prefix.to_owned(),
        ("", _) => name.to_owned(),
        _ => format!("{prefix}::{name}"),
    };
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = expand(rest, prefix, found);
            let next = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[next..].strip_prefix(',').unwrap_or(&rest[next..]);
            if rest.is_empty() || rest.len() == before {
                return rest;
            }
        }
    }
    if let Some(rest) = text.strip_prefix('*') {
        found(join("*"));
        return rest;
    }
    let length = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let path = join(name);
    match rest.trim_start().strip_prefix("::") {
        Some(more)
            if more
                .trim_start()
                .starts_with(|c| is_word(c) || c == '{' || c == '*') =>
        {
            expand(more, &path, found)
        }
        _ => {
            found(path);
            rest
        }
    }
}

/// Paths that leave a module by `super`, as paths from the crate's root; `depth` is how deep the module stands.
pub(crate) fn paths_upwards(code: &str, depth: usize) -> Vec<Named> {
    let chain = "super::".repeat(depth);
    let mut found = Vec::new();
    for at in words(code, "super") {
        let continued = code[..at].trim_end().ends_with("::");
        if let Some(rest) = code[at..].strip_prefix(&chain)
            && !continued
        {
            let line = line_of(code, at);
            expand(rest, "", &mut |path| found.push(Named { line, path }));
        }
    }
    found
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) line: usize,
    pub(crate) name: String,
    /// From `fn` to the closing brace.
    pub(crate) lines: usize,
}

/// All functions of a file, inner ones too.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    words(code, "fn")
        .filter_map(|at| {
            let rest = code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            let body = body_of(code, at).filter(|_| !name.is_empty())?;
            let end = closing(code, body);
            let lines = line_of(code, end.saturating_sub(1)) - line_of(code, at) + 1;
            Some(Function {
                line: line_of(code, at),
                name,
                lines,
            })
        })
        .collect()
}

/// Where the body of a function begins; none for a declaration.
fn body_of(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '{' if depth == 0 => return Some(from + at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// An attribute that silences a lint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silencer {
    pub(crate) line: usize,
    pub(crate) allows: bool,
    pub(crate) has_reason: bool,
}

/// All `allow` and `expect` attributes, within `cfg_attr` too.
pub(crate) fn silencers(code: &str) -> Vec<Silencer> {
    let attributes = code.match_indices('#').filter_map(|(at, _)| {
        let rest = &code[at + 1..];
        let bracket = rest.find('[').filter(|n| matches!(&rest[..*n], "" | "!"))?;
        let open = at + 1 + bracket;
        Some((at, &code[open..closing(code, open)]))
    });
    let mut found = Vec::new();
    for (at, attribute) in attributes {
        for (word, allows) in [("allow", true), ("expect", false)] {
            let lints = words(attribute, word)
                .find(|n| attribute[n + word.len()..].trim_start().starts_with('('));
            if let Some(lints) = lints {
                let list = &attribute[lints..closing(attribute, lints)];
                found.push(Silencer {
                    line: line_of(code, at),
                    allows,
                    has_reason: words(list, "reason").next().is_some(),
                });
            }
        }
    }
    found
}
