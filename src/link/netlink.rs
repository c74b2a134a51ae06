//! Asks the kernel for interfaces and addresses, and learns at once when they change.
//!
//! The only file of the link layer that knows netlink. An event is never interpreted beyond "look again" and "this
//! interface is gone": what is true is read anew each time, so a lost event costs at most one period of the caller.

use super::interfaces::{Address, Interface, Snapshot};
use futures_util::{Stream, StreamExt, TryStreamExt};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use std::io;
use std::pin::Pin;
use tokio::task::JoinHandle;

type Payload = NetlinkPayload<RouteNetlinkMessage>;

/// A connection for questions and one for events; dropping it ends both.
pub(super) struct Netlink {
    handle: rtnetlink::Handle,
    events: Pin<Box<dyn Stream<Item = Payload> + Send + Sync>>,
    tasks: [JoinHandle<()>; 2],
}

/// Something changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Indexes of interfaces that were deleted; their sockets are dead even if the index is in use again.
    pub(super) deleted: Vec<u32>,
    /// No further changes will come: the connection broke.
    pub(super) ended: bool,
}

impl Netlink {
    /// Opens both connections in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's, for example where the address family is forbidden to this process.
    pub(super) fn open() -> io::Result<Self> {
        let (asking, handle, _) = rtnetlink::new_connection()?;
        // Separate, so that an overrun of events cannot swallow an answer.
        let (listening, _, events) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ])?;
        Ok(Self {
            handle,
            events: Box::pin(events.map(|(message, _)| message.payload)),
            tasks: [tokio::spawn(asking), tokio::spawn(listening)],
        })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The kernel's, or that the connection is broken.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, rtnetlink::Error> {
        let mut interfaces = Vec::new();
        let mut links = self
            .handle
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
            .execute();
        while let Some(message) = links.try_next().await? {
            interfaces.extend(interface(&message));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            let Some(address) = address(&message) else {
                continue;
            };
            if let Some(interface) = interfaces
                .iter_mut()
                .find(|i| i.index == message.header.index)
            {
                interface.addresses.push(address);
            }
        }
        Ok(Snapshot { interfaces })
    }

    /// Waits for a change, then takes all that have arrived. Loses nothing when cancelled.
    pub(super) async fn changed(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut next = self.events.next().await;
        loop {
            match next {
                Some(payload) => changes.deleted.extend(deleted_interface(&payload)),
                None => {
                    changes.ended = true;
                    return changes;
                }
            }
            next = match futures_util::FutureExt::now_or_never(self.events.next()) {
                Some(next) => next,
                None => return changes,
            };
        }
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn deleted_interface(payload: &Payload) -> Option<u32> {
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = payload else {
        return None;
    };
    // Other families (a port that leaves a bridge) do not mean that the interface is gone.
    (link.header.interface_family == AddressFamily::Unspec).then_some(link.header.index)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's list of attributes is open"
)]
fn interface(message: &LinkMessage) -> Option<Interface> {
    let name = message.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    Some(Interface {
        index: message.header.index,
        name,
        enabled: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        addresses: Vec::new(),
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's list of attributes is open"
)]
fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut any, mut broadcast) = (None, None, None);
    let mut flags = AddressFlags::empty();
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => any = Some(*ip),
            AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point interface `Address` is the other end; IPv6 has no `Local` elsewhere.
    let ip = local.or(any)?;
    let optimistic = flags.contains(AddressFlags::Optimistic);
    Some(Address {
        ip,
        prefix: message.header.prefix_len,
        broadcast,
        tentative: flags.contains(AddressFlags::Dadfailed)
            || (flags.contains(AddressFlags::Tentative) && !optimistic),
        // The same bit says "temporary" for IPv6.
        secondary: ip.is_ipv4() && flags.contains(AddressFlags::Secondary),
    })
}
