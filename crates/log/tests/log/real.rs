//! A folder of the file system.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use nightgate_log::{Disk, RealDisk, read_exact_at, write_all_at};

#[test]
fn a_second_opener_is_told_who_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shelf");
    let first = RealDisk::open(&path).unwrap();
    let fault = RealDisk::open(&path).unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::ResourceBusy);
    let pid = format!("pid {}", std::process::id());
    assert!(fault.to_string().contains(&pid), "{fault}");
    drop(first);
    RealDisk::open(&path).expect("the lock went with its holder");
}

#[test]
fn folders_and_files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/shelf");
    let disk = RealDisk::open(&path).unwrap();
    disk.open("log-1", true).unwrap();
    disk.open("quarantine/log-2", true).unwrap();
    let mode = |name: &str| path.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("quarantine")), (0o700, 0o700));
    assert_eq!((mode("log-1"), mode("LOCK")), (0o600, 0o600));
    assert_eq!(mode("quarantine/log-2"), 0o600);
}

#[test]
fn bytes_and_lengths_are_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let file = disk.open("log-1", true).unwrap();
    assert_eq!(file.name(), "log-1");
    assert!(file.is_empty().unwrap());
    write_all_at(file.as_ref(), b"beginning and end", 100).unwrap();
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 117);
    let mut bytes = [1; 20];
    read_exact_at(file.as_ref(), &mut bytes, 90).unwrap();
    assert_eq!(&bytes, b"\0\0\0\0\0\0\0\0\0\0beginning ");
    let fault = read_exact_at(file.as_ref(), &mut bytes, 100).unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::UnexpectedEof);
    assert!(fault.to_string().contains("log-1"), "{fault}");
    file.set_len(5).unwrap();
    assert_eq!(file.len().unwrap(), 5);
}

#[test]
fn reserved_room_reads_as_zeros_and_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let file = disk.open("log-1", true).unwrap();
    write_all_at(file.as_ref(), &[7; 100], 0).unwrap();
    file.reserve(1_000_000).unwrap();
    file.reserve(50).unwrap();
    let len = file.len().unwrap();
    assert!(
        len == 1_000_000 || len == 100,
        "where it cannot be reserved, nothing happens"
    );
    let mut bytes = vec![1; len as usize];
    read_exact_at(file.as_ref(), &mut bytes, 0).unwrap();
    assert!(bytes[..100].iter().all(|byte| *byte == 7));
    assert!(bytes[100..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_punched_range_reads_as_zeros_part_pages_too() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let file = disk.open("log-1", true).unwrap();
    write_all_at(file.as_ref(), &vec![9; 1 << 20], 0).unwrap();
    file.sync().unwrap();
    let before = file.occupied().unwrap();
    file.punch(1_001, 900_003).unwrap();
    file.punch(5, 0).unwrap();
    file.sync().unwrap();
    let mut bytes = vec![1; 1 << 20];
    read_exact_at(file.as_ref(), &mut bytes, 0).unwrap();
    assert!(bytes[1_001..901_004].iter().all(|byte| *byte == 0));
    assert!(
        bytes[..1_001]
            .iter()
            .chain(&bytes[901_004..])
            .all(|byte| *byte == 9)
    );
    assert_eq!(file.len().unwrap(), 1 << 20);
    assert!(file.occupied().unwrap() <= before);
}

#[test]
fn names_are_listed_renamed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    for name in ["b", "a", "c"] {
        disk.open(name, true).unwrap();
    }
    disk.rename("a", "quarantine/a").unwrap();
    disk.rename("c", "b").unwrap();
    disk.sync_names().unwrap();
    assert_eq!(disk.names().unwrap(), ["b"]);
    disk.open("quarantine/a", false).unwrap();
    disk.remove("b").unwrap();
    let fault = disk.remove("b").unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::NotFound);
    assert!(fault.to_string().contains("failed to remove b"), "{fault}");
    assert_eq!(
        disk.open("../x", true).err().unwrap().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        disk.open("x", false).err().unwrap().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn the_space_of_the_file_system_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let space = RealDisk::open(folder.path()).unwrap().space().unwrap();
    assert!(space.total > 0 && space.free <= space.total);
}
