//! The bytes that tell neighbours where an address is now, ask who has it, and say that somebody does: ARP
//! (RFC 826, RFC 5227) and neighbour discovery (RFC 4861), sent as whole Ethernet frames.
//!
//! Pure: no sockets here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A 48-bit Ethernet address.
pub type Mac = [u8; 6];

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const BROADCAST: Mac = [0xff; 6];
/// Where frames for `ff02::1`, all nodes on the link, go (RFC 2464).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;

/// Which of the two forms an ARP announcement takes; some neighbours listen to one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpForm {
    /// Opcode 1, the form that RFC 5227 recommends.
    Request,
    /// Opcode 2.
    Reply,
}

/// Frames that announce `address` at `mac`: one for IPv6, for IPv4 the request form and, where
/// `both_forms`, the reply form.
pub fn announcement(address: IpAddr, mac: Mac, both_forms: bool) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            let frame = |form| frame(BROADCAST, mac, ETHERTYPE_ARP, &arp(form, mac, address));
            let mut frames = vec![frame(ArpForm::Request)];
            if both_forms {
                frames.push(frame(ArpForm::Reply));
            }
            frames
        }
        IpAddr::V6(address) => {
            let message = neighbour_advertisement(address, mac);
            let packet = ipv6_packet(address, ALL_NODES, &message);
            vec![frame(ALL_NODES_MAC, mac, ETHERTYPE_IPV6, &packet)]
        }
    }
}

/// The frame that asks whether somebody has `address` already, without naming a sender: an ARP probe
/// (RFC 5227), or a neighbour solicitation as duplicate address detection sends it (RFC 4862).
pub fn probe(address: IpAddr, mac: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => {
            let packet = arp_packet(1, (mac, Ipv4Addr::UNSPECIFIED), ([0; 6], address));
            frame(BROADCAST, mac, ETHERTYPE_ARP, &packet)
        }
        IpAddr::V6(address) => {
            let [.., a, b, c] = address.octets();
            let [high, low] = [u16::from_be_bytes([0xff, a]), u16::from_be_bytes([b, c])];
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low);
            let source = Ipv6Addr::UNSPECIFIED;
            let message = neighbour_solicitation(address, group);
            let packet = ipv6_packet(source, group, &message);
            frame([0x33, 0x33, 0xff, a, b, c], mac, ETHERTYPE_IPV6, &packet)
        }
    }
}

/// A gratuitous ARP packet of 28 bytes: sender and target protocol address are both `address`.
pub fn arp(form: ArpForm, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let (opcode, target) = match form {
        ArpForm::Request => (1, [0; 6]),
        ArpForm::Reply => (2, mac),
    };
    arp_packet(opcode, (mac, address), (target, address))
}

fn arp_packet(opcode: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = Vec::with_capacity(28);
    packet.extend([0, 1]);
    packet.extend(ETHERTYPE_IPV4);
    packet.extend([6, 4, 0, opcode]);
    for (mac, address) in [sender, target] {
        packet.extend(mac);
        packet.extend(address.octets());
    }
    packet
}

/// An unsolicited neighbour advertisement of 32 bytes to all nodes, with override flag and checksum.
pub fn neighbour_advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let mut message = Vec::with_capacity(32);
    message.extend([136, 0, 0, 0, OVERRIDE, 0, 0, 0]);
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac);
    with_checksum(address, ALL_NODES, message)
}

/// A neighbour solicitation of 24 bytes from nobody.
fn neighbour_solicitation(address: Ipv6Addr, group: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(address.octets());
    with_checksum(Ipv6Addr::UNSPECIFIED, group, message)
}

fn with_checksum(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(from, to, &message);
    message
        .iter_mut()
        .skip(2)
        .zip(sum)
        .for_each(|(byte, sum)| *byte = sum);
    message
}

fn frame(to: Mac, from: Mac, ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &ethertype[..], payload].concat()
}

/// An IPv6 packet. Receivers drop advertisements and solicitations whose hop limit is not 255.
fn ipv6_packet(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, 255]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet
}

/// The Internet checksum over pseudo-header and message (RFC 8200 section 8.1); the message's own
/// checksum field is zero. Messages here have an even length.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(40 + message.len());
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    let mut sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(position, byte)| u32::from(*byte) << (8 * ((position + 1) % 2)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

/// Who claims an address in an ARP packet: its sender. None for a probe, which claims nothing.
pub fn arp_claim(packet: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    if !matches!(head, [0, 1, 8, 0, 6, 4, 0, 1 | 2]) {
        return None;
    }
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    (!address.is_unspecified()).then_some((address, *mac))
}

/// Who claims an address in an ICMPv6 message: a neighbour advertisement that names a hardware address.
pub fn advertised_claim(message: &[u8]) -> Option<(Ipv6Addr, Mac)> {
    let (head, rest) = message.split_first_chunk::<8>()?;
    let (target, mut options) = rest.split_first_chunk::<16>()?;
    if !head.starts_with(&[136, 0]) {
        return None;
    }
    while let [kind, length, value @ ..] = options {
        // The length counts eight bytes; a message with an option of length 0 is invalid.
        let bytes = usize::from(*length)
            .checked_mul(8)
            .filter(|bytes| *bytes > 0)?;
        if (*kind, bytes) == (2, 8) {
            return Some((Ipv6Addr::from(*target), *value.first_chunk::<6>()?));
        }
        options = options.get(bytes..)?;
    }
    None
}

/// A hardware address as people write it.
pub fn show_mac(mac: Mac) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    #[test]
    fn an_arp_announcement_is_a_request_for_its_own_address() {
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 10, 0, 0, 99, 0, 0, 0, 0, 0,
            0, 10, 0, 0, 99,
        ];
        assert_eq!(
            arp(ArpForm::Request, MAC, Ipv4Addr::new(10, 0, 0, 99)),
            expected
        );
    }

    #[test]
    fn the_reply_form_names_the_own_hardware_address_twice() {
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 10, 0, 0, 99, 0x52, 0x54, 0,
            0x12, 0x34, 0x56, 10, 0, 0, 99,
        ];
        assert_eq!(
            arp(ArpForm::Reply, MAC, Ipv4Addr::new(10, 0, 0, 99)),
            expected
        );
    }

    #[test]
    fn a_neighbour_advertisement_overrides_and_carries_the_hardware_address() {
        let address: Ipv6Addr = "fd00::99".parse().unwrap();
        // The checksum was computed by another program.
        let mut expected = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
        expected.extend(address.octets());
        expected.extend([2, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let message = neighbour_advertisement(address, MAC);
        assert_eq!(message.len(), 32);
        assert_eq!(
            checksum(address, ALL_NODES, &message),
            [0, 0],
            "a receiver's sum comes out as zero"
        );
        expected[2..4].copy_from_slice(&message[2..4]);
        assert_eq!(message, expected);
        assert_eq!(message[2..4], [0xd4, 0xaf]);
    }

    #[test]
    fn frames_go_to_everybody_on_the_link() {
        let four = announcement("10.0.0.99".parse().unwrap(), MAC, true);
        assert_eq!(four.len(), 2);
        assert_eq!(four[0].len(), 42);
        assert_eq!(
            four[0][..14],
            [
                255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6
            ]
        );
        let six = announcement("fd00::99".parse().unwrap(), MAC, true);
        assert_eq!(six.len(), 1);
        assert_eq!(six[0].len(), 86);
        assert_eq!(six[0][..6], ALL_NODES_MAC);
        assert_eq!(six[0][14..22], [0x60, 0, 0, 0, 0, 32, 58, 255]);
    }

    #[test]
    fn probes_ask_without_naming_a_sender() {
        let four = probe("10.0.0.99".parse().unwrap(), MAC);
        assert_eq!(four[..6], BROADCAST);
        assert_eq!(four[20..22], [0, 1]);
        assert_eq!(four[28..32], [0; 4], "sender");
        assert_eq!(four[38..42], [10, 0, 0, 99], "target");
        assert_eq!(arp_claim(&four[14..]), None);
        let six = probe("fd00::12:3499".parse().unwrap(), MAC);
        assert_eq!(six[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x99]);
        assert_eq!(six[22..38], [0; 16], "source");
        let group: Ipv6Addr = "ff02::1:ff12:3499".parse().unwrap();
        assert_eq!(six[38..54], group.octets());
        assert_eq!(six[54], 135);
        assert_eq!(six.len(), 14 + 40 + 24);
        let nobody = Ipv6Addr::UNSPECIFIED;
        assert_eq!(checksum(nobody, group, &six[54..]), [0, 0]);
    }

    #[test]
    fn claims_are_read_from_what_neighbours_send() {
        let four = Ipv4Addr::new(10, 0, 0, 99);
        for form in [ArpForm::Request, ArpForm::Reply] {
            assert_eq!(arp_claim(&arp(form, MAC, four)), Some((four, MAC)));
        }
        assert_eq!(arp_claim(&arp(ArpForm::Reply, MAC, four)[..17]), None);
        let six: Ipv6Addr = "fd00::99".parse().unwrap();
        let message = neighbour_advertisement(six, MAC);
        assert_eq!(advertised_claim(&message), Some((six, MAC)));
        assert_eq!(advertised_claim(&message[..24]), None, "without the option");
        let mut endless = message;
        endless[25] = 0;
        assert_eq!(advertised_claim(&endless), None);
        assert_eq!(show_mac(MAC), "52:54:00:12:34:56");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..99)) {
            let _ = (arp_claim(&bytes), advertised_claim(&bytes));
        }
    }
}
