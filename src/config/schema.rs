//! Which sections and keys there are: the one list that decoding, suggestions and the example's test use.

/// One table of the configuration.
#[derive(Debug)]
pub struct Section {
    /// As it stands in messages: `[timing]`, `[[node]]`, `a resource`.
    pub title: &'static str,
    /// The keys of this version, in the order in which messages list them.
    pub keys: &'static [&'static str],
    /// Keys that the product knows but this version does not.
    pub later: &'static [&'static str],
}

/// The whole file: one key per section.
pub const ROOT: Section = Section {
    title: "the file",
    keys: &[
        "cluster", "timing", "auth", "node", "link", "group", "quorum", "respawn",
    ],
    later: &["ping", "connectivity", "arbiter", "fence", "watchdog"],
};

/// `[cluster]`
pub const CLUSTER: Section = Section {
    title: "[cluster]",
    keys: &["name", "auto_failback"],
    later: &[],
};

/// `[timing]`
pub const TIMING: Section = Section {
    title: "[timing]",
    keys: &["keepalive", "warntime", "deadtime", "initdead"],
    later: &["deadping"],
};

/// `[auth]`
pub const AUTH: Section = Section {
    title: "[auth]",
    keys: &["keyfile"],
    later: &[],
};

/// `[[node]]`
pub const NODE: Section = Section {
    title: "[[node]]",
    keys: &["name", "role"],
    later: &[],
};

/// `[[link]]`
pub const LINK: Section = Section {
    title: "[[link]]",
    keys: &[
        "ucast",
        "bcast",
        "mcast",
        "interface",
        "port",
        "ttl",
        "direct",
    ],
    later: &["serial", "baud"],
};

/// `[[group]]`
pub const GROUP: Section = Section {
    title: "[[group]]",
    keys: &[
        "name",
        "nodes",
        "auto_failback",
        "stop_margin",
        "resources",
        "check",
    ],
    later: &[],
};

/// One entry of a group's `resources`.
pub const RESOURCE: Section = Section {
    title: "a resource",
    keys: &[
        "vip",
        "interface",
        "label",
        "source",
        "route",
        "on_conflict",
        "unit",
        "mount",
        "device",
        "fstype",
        "options",
        "script",
        "args",
        "ocf",
        "params",
        "monitor_interval",
        "id",
        "start_timeout",
        "stop_timeout",
        "on_failure",
        "restart_limit",
        "restart_window",
        "standby",
        "check",
    ],
    later: &[],
};

/// `check` of a resource or a group.
pub const CHECK: Section = Section {
    title: "a check",
    keys: &[
        "http",
        "status",
        "text",
        "verify",
        "ca",
        "tcp",
        "exec",
        "user",
        "unit",
        "interval",
        "timeout",
        "failures",
        "successes",
        "start_grace",
    ],
    later: &[],
};

/// `[quorum]`
pub const QUORUM: Section = Section {
    title: "[quorum]",
    keys: &["policy"],
    later: &["on_loss"],
};

/// `[[respawn]]`
pub const RESPAWN: Section = Section {
    title: "[[respawn]]",
    keys: &["user", "command"],
    later: &[],
};

/// Every section below the root.
pub const SECTIONS: &[&Section] = &[
    &CLUSTER, &TIMING, &AUTH, &NODE, &LINK, &GROUP, &RESOURCE, &CHECK, &QUORUM, &RESPAWN,
];

/// A section that has this key, other than `section`; for a key that stands in the wrong place.
pub(crate) fn other_home(section: &Section, key: &str) -> Option<&'static Section> {
    SECTIONS
        .iter()
        .copied()
        .filter(|other| other.title != section.title)
        .find(|other| other.keys.contains(&key))
}

/// The candidate that `text` is most likely a misspelling of, if any is near enough.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(text, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Longest text that is compared; no valid name is longer.
const COMPARED_MAX: usize = 100;

/// Levenshtein's distance, in which exchanging two neighbours counts once; letter case counts nothing.
fn distance(left: &str, right: &str) -> usize {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (left, right) = (letters(left), letters(right));
    if left.len() > COMPARED_MAX || right.len() > COMPARED_MAX {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let cell = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
            let mut best = (cell(&row, j) + usize::from(a != b))
                .min(cell(&row, j + 1) + 1)
                .min(cell(&next, j) + 1);
            let exchanged =
                i > 0 && j > 0 && left.get(i - 1) == Some(b) && right.get(j - 1) == Some(a);
            if exchanged {
                best = best.min(cell(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein_with_exchanges() {
        assert_eq!(distance("deadtime", "deadtime"), 0);
        assert_eq!(distance("DeadTime", "deadtime"), 0);
        assert_eq!(distance("deadtme", "deadtime"), 1);
        assert_eq!(distance("daedtime", "deadtime"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(
            nearest("deadtme", TIMING.keys.iter().copied()),
            Some("deadtime")
        );
        assert_eq!(nearest("colour", TIMING.keys.iter().copied()), None);
    }

    #[test]
    fn no_key_is_both_supported_and_not() {
        for section in SECTIONS.iter().copied().chain([&ROOT]) {
            assert!(section.keys.iter().all(|key| !section.later.contains(key)));
        }
    }
}
