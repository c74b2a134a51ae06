//! The bytes that tell neighbours where an address is now: ARP (RFC 826, RFC 5227) and neighbour
//! advertisements (RFC 4861), as whole Ethernet frames.
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
            let packet = ipv6_packet(address, &neighbour_advertisement(address, mac));
            vec![frame(ALL_NODES_MAC, mac, ETHERTYPE_IPV6, &packet)]
        }
    }
}

/// A gratuitous ARP packet of 28 bytes: sender and target protocol address are both `address`.
pub fn arp(form: ArpForm, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let (opcode, target) = match form {
        ArpForm::Request => (1, [0; 6]),
        ArpForm::Reply => (2, mac),
    };
    let mut packet = Vec::with_capacity(28);
    packet.extend([0, 1]);
    packet.extend(ETHERTYPE_IPV4);
    packet.extend([6, 4, 0, opcode]);
    packet.extend(mac);
    packet.extend(address.octets());
    packet.extend(target);
    packet.extend(address.octets());
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
    let sum = checksum(address, &message);
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

/// An IPv6 packet to all nodes. Receivers drop advertisements whose hop limit is not 255.
fn ipv6_packet(source: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, 255]);
    packet.extend(source.octets());
    packet.extend(ALL_NODES.octets());
    packet.extend(message);
    packet
}

/// The Internet checksum over pseudo-header and message (RFC 8200 section 8.1); the message's own
/// checksum field is zero. Messages here have an even length.
fn checksum(source: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(40 + message.len());
    bytes.extend(source.octets());
    bytes.extend(ALL_NODES.octets());
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
            checksum(address, &message),
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
}
