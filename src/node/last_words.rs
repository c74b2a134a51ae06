//! What is said for a daemon that has died: that it is gone, so that the others need not wait for deadtime.

use crate::ids::GroupName;
use crate::link::{LinkEvent, Links};
use crate::node::start::load_key_file;
use crate::process;
use crate::tenure::Left;
use crate::wire::codec::{SenderFacts, encode};
use crate::wire::keys::Keys;
use crate::wire::status::{Status, last_words};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// How often the last words are said, since nobody can ask for them again.
const TIMES: usize = 3;

/// Longest wait for the links before they are said.
const LINKS_PATIENCE: Duration = Duration::from_millis(300);

/// The links, ready before there is anything to say.
pub(super) struct Mouth {
    ports: Links,
    events: mpsc::Receiver<LinkEvent>,
    silent: BTreeSet<usize>,
    deadline: Instant,
    keys: Keys,
    newest: Status,
}

impl Mouth {
    /// None where there is nobody to tell, or nothing to say it with. Needs a runtime.
    pub(super) fn open(left: &Left) -> Option<Self> {
        let newest = left.tenure.as_ref()?.words.as_deref()?.clone();
        let links = &left.held.links;
        if links.is_empty() {
            return None;
        }
        let keys = load_key_file(left.held.keyfile.as_deref()?).inspect_err(|error| {
            tracing::warn!("the others are not told, they wait for deadtime: {error:#}");
        });
        let keys = keys.ok()?;
        let (sender, events) = mpsc::channel(64);
        Some(Self {
            ports: Links::start(links, sender),
            events,
            silent: (0..links.len()).collect(),
            deadline: Instant::now() + LINKS_PATIENCE,
            keys,
            newest,
        })
    }

    /// Says that all is released but this. Answers the words, which are newer than all before.
    pub(super) async fn say(&mut self, unreleased: &BTreeSet<GroupName>) -> Status {
        self.wait_for_links().await;
        let mut words = last_words(self.newest.clone(), unreleased);
        let facts = SenderFacts {
            timestamp_unix_secs: process::unix_now_secs(),
            loadavg: &process::loadavg(),
            ttl: 2,
        };
        for _ in 0..TIMES {
            self.ports.send(&encode(&words, &self.keys, &facts));
            words.sequence = words.sequence.next();
        }
        self.newest = words.clone();
        words
    }

    async fn wait_for_links(&mut self) {
        while !self.silent.is_empty() {
            match timeout_at(self.deadline, self.events.recv()).await {
                Ok(Some(LinkEvent::State { link, .. })) => {
                    self.silent.remove(&usize::from(link.0));
                }
                Ok(Some(LinkEvent::Received { .. })) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}
