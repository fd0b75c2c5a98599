//! File heads.

use nightgate_log::head::{HEAD_LEN, Head, HeadFault, Salt};
use nightgate_log::{Disk, SimDisk};

const HEAD: Head = Head {
    kind: 3,
    version: 2,
    salt: Salt(*b"sixteen bytes!!!"),
};

fn fault(bytes: &[u8]) -> HeadFault {
    Head::decode("log-7", bytes, 3, 2).unwrap_err()
}

#[test]
fn a_head_reads_back_what_was_written() {
    let disk = SimDisk::new();
    let file = disk.open("log-7", true).unwrap();
    HEAD.write(file.as_ref()).unwrap();
    assert_eq!(file.len().unwrap(), HEAD_LEN);
    assert_eq!(Head::read(file.as_ref(), 3, 2).unwrap(), HEAD);
    assert_eq!(
        Head::read(file.as_ref(), 3, 9).unwrap(),
        HEAD,
        "an older version than the newest"
    );
}

#[test]
fn the_bytes_of_a_head_are_fixed() {
    let bytes = HEAD.encode();
    assert_eq!(&bytes[..8], b"NGLG\x03\0\x02\0");
    assert_eq!(&bytes[8..24], b"sixteen bytes!!!");
    assert_eq!(bytes[24..60], [0; 36]);
    assert_eq!(bytes[60..], crc32c(&bytes[..60]).to_le_bytes());
}

/// CRC-32C bit by bit: another way than the crate's, so that the format cannot drift.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, byte)
}

#[test]
fn a_wrong_head_says_which_file_and_what_was_expected() {
    assert!(matches!(fault(&[]), HeadFault::Unfinished { .. }));
    assert!(matches!(
        fault(&HEAD.encode()[..63]),
        HeadFault::Unfinished { .. }
    ));
    assert!(matches!(fault(&[0; 64]), HeadFault::Unfinished { .. }));
    assert!(matches!(fault(&[b'x'; 64]), HeadFault::Foreign { .. }));
    let other = Head { kind: 4, ..HEAD };
    let said = fault(&other.encode()).to_string();
    assert_eq!(said, "log-7: expected a file of kind 3, found kind 4");
    let newer = Head { version: 3, ..HEAD };
    let said = fault(&newer.encode()).to_string();
    assert!(
        said.starts_with("log-7: expected format version 1 to 2, found 3"),
        "{said}"
    );
    let kind = std::io::Error::from(fault(&newer.encode())).kind();
    assert_eq!(kind, std::io::ErrorKind::Unsupported);
}

#[test]
fn every_flipped_bit_of_a_head_is_noticed() {
    for bit in 0..64 * 8 {
        let mut bytes = HEAD.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let fault = fault(&bytes);
        assert!(
            matches!(fault, HeadFault::Foreign { .. } | HeadFault::Damaged { .. }),
            "{fault}"
        );
    }
}
