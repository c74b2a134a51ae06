//! Asking before taking: whether somebody on the link has one of a resource's addresses already.
//!
//! RFC 5227 asks three times over some seconds. Who refuses to take an address that is in use waits for far
//! less: an owner that is up answers within milliseconds.

use crate::config::vip::AddressSet;
use crate::resource::announce::{Announcer, own_macs};
use crate::resource::sentry::{Claim, Sentry};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// When the question is put, from the beginning on.
const QUESTIONS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(60),
    Duration::from_millis(120),
];
/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Asks for all addresses of a resource at once; the first foreign owner, if there is any. An interface
/// that is not Ethernet has no neighbours to ask.
///
/// # Errors
/// The question could not be put.
pub async fn foreign_owner(set: &AddressSet, index: u32) -> io::Result<Option<Claim>> {
    let addresses: BTreeSet<_> = set.addresses.iter().map(|one| one.address).collect();
    let sentry = Sentry::open();
    if !addresses.iter().all(|address| sentry.hears(*address)) {
        return Err(io::Error::other(
            "answers cannot be received: CAP_NET_RAW is needed",
        ));
    }
    sentry.watch(addresses.iter().copied())?;
    let ears = sentry.ears()?;
    let own = own_macs()?;
    let is_foreign = |claim: &Claim| {
        claim.index == index && addresses.contains(&claim.address) && !own.contains(&claim.mac)
    };
    let mut announcer = Announcer::default();
    let begin = Instant::now();
    let ends = QUESTIONS.iter().skip(1).copied().chain([PATIENCE]);
    for end in ends {
        for address in &addresses {
            if !announcer.probe(index, *address)? {
                return Ok(None);
            }
        }
        while let Ok(claims) = timeout_at(begin + end, ears.next()).await {
            if let Some(claim) = claims.into_iter().find(is_foreign) {
                return Ok(Some(claim));
            }
        }
        sleep_until(begin + end).await;
    }
    Ok(None)
}
