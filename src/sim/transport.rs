//! The one place where a status becomes a packet and back: the real codec, under one key.

use crate::wire::brief::Exchange;
use crate::wire::codec::{Heartbeat, Received, SenderFacts, decode, encode};
use crate::wire::keys::Keys;
use crate::wire::status::Status;
use std::sync::{Arc, LazyLock, OnceLock};

/// What travels: the bytes of one heartbeat.
#[derive(Debug, Clone)]
pub struct Packet(Arc<Recording>);

#[derive(Debug)]
struct Recording {
    bytes: Vec<u8>,
    /// All receivers of the same bytes read the same: decoding once per packet is enough.
    read: OnceLock<Option<Heartbeat>>,
}

/// The cheapest digest: the simulator forges nothing, and what it replays is genuine.
static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::parse("auth 1\n1 crc\n").unwrap_or_default());

const FACTS: SenderFacts<'static> = SenderFacts {
    timestamp_unix_secs: 1,
    loadavg: "n/a",
    ttl: 1,
};

impl Packet {
    fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Recording {
            bytes,
            read: OnceLock::new(),
        }))
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.0.bytes.len()
    }
}

/// A status on its way out, whole.
pub fn pack(status: &Status) -> Packet {
    Packet::new(encode(status, &KEYS, &FACTS))
}

/// A status on its way out, as a life of a daemon says it.
pub fn pack_as(exchange: &mut Exchange, status: &Status) -> Packet {
    Packet::new(exchange.encode(status, &KEYS, &FACTS))
}

/// What a receiver reads; none where it must drop the packet.
pub fn unpack(packet: &Packet) -> Option<Heartbeat> {
    let decoded = || match decode(&packet.0.bytes, &KEYS) {
        Ok(Received::Heartbeat(heartbeat)) => Some(heartbeat),
        Ok(Received::Foreign(_)) | Err(_) => None,
    };
    packet.0.read.get_or_init(decoded).clone()
}
