//! What a message costs, in bytes and in nanoseconds. `cargo test --release --package nightgate
//! --lib block::tests::figures -- --ignored --nocapture`

use std::time::Duration;

use nightgate_core::{MessageId, Recipient, RecipientKey};

use super::*;
use crate::clock::{Clock, SystemClock};

const MESSAGES: usize = 10_000;
/// Each block's best of so many: others use the machine, too.
const ROUNDS: usize = 25;
const BODY_BYTES: usize = 300;

/// Text of letters in no order, as the peers' bench sends it.
fn letters(random: &mut fastrand::Rng, row: usize) -> Vec<u8> {
    let mut body = format!(
        "{{\"id\":\"msg-{row:09}\",\"to\":\"+8210{:08}\",\"campaign\":\"cmp-{:04}\",\
         \"channel\":\"sms\",\"kind\":\"ad\",\"title\":\"Autumn sale\",\"text\":\"",
        row * 7919 % 100_000_000,
        row % 50
    );
    body.extend((body.len()..BODY_BYTES - 2).map(|_| random.alphanumeric()));
    (body + "\"}").into_bytes()
}

/// Some 460 bytes of an order's notice.
fn order(random: &mut fastrand::Rng, _row: usize) -> Vec<u8> {
    const NAMES: [&str; 6] = ["김민준", "이서연", "박도윤", "최지우", "정하은", "강예준"];
    const ITEMS: [&str; 4] = [
        "무선 이어폰 프로 2세대",
        "유기농 제주 감귤 5kg",
        "접이식 캠핑 의자 세트",
        "스테인리스 텀블러 500ml",
    ];
    const COURIERS: [&str; 3] = ["CJ대한통운", "한진택배", "우체국택배"];
    let name = NAMES[random.usize(..NAMES.len())];
    let item = ITEMS[random.usize(..ITEMS.len())];
    let courier = COURIERS[random.usize(..COURIERS.len())];
    let number = random.u32(..100_000_000);
    let amount = random.u32(30..3000) * 100;
    let body = format!(
        "{{\"template\":\"ORDER_{:02}\",\"name\":\"{name}\",\"order_no\":\"20261122-{number:08}\",\
         \"item\":\"{item}\",\"qty\":{},\"amount\":{amount},\"courier\":\"{courier}\",\
         \"tracking\":\"{:012}\",\"text\":\"[달빛상회] {name} 고객님, 주문하신 {item} 상품이 \
         정상적으로 접수되었습니다. 주문번호 {number:08}, 결제금액 {amount}원. 배송은 {}일 이내 \
         시작됩니다.\",\"link\":\"https://dalbit.example/o/{:010x}\"}}",
        random.u32(1..5),
        random.u32(1..4),
        random.u64(..1_000_000_000_000),
        random.u32(1..4),
        random.u64(..1 << 40)
    );
    body.into_bytes()
}

fn noise(random: &mut fastrand::Rng, _row: usize) -> Vec<u8> {
    (0..BODY_BYTES).map(|_| random.u8(..)).collect()
}

fn counter(_: &mut fastrand::Rng, row: usize) -> String {
    format!("msg-{row:09}")
}

fn uuid(random: &mut fastrand::Rng, _row: usize) -> String {
    let hex = format!("{:032x}", random.u128(..));
    let (a, b, c) = (&hex[..8], &hex[8..12], &hex[13..16]);
    format!("{a}-{b}-4{c}-a{}-{}", &hex[17..20], &hex[20..])
}

fn ulid(random: &mut fastrand::Rng, _row: usize) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |_| char::from(DIGITS[random.usize(..DIGITS.len())]);
    (0..26).map(digit).collect()
}

type Make<T> = fn(&mut fastrand::Rng, usize) -> T;

fn rows(id: Make<String>, body: Make<Vec<u8>>) -> Vec<Row> {
    let mut random = fastrand::Rng::with_seed(9);
    let shared = plain_row(0, 0);
    let row = |row: usize| {
        // Texts that messages share are one copy, as they are when a batch comes in.
        let mut made = shared.clone();
        let recipient = format!("+8210{:08}", random.u32(..100_000_000));
        made.held.key = RecipientKey::from_stored(&recipient);
        made.held.message.recipient = Recipient::from_stored(&recipient);
        made.held.message.id = MessageId::new(&id(&mut random, row)).unwrap();
        made.held.message.body = body(&mut random, row).into();
        made.arrival = row as u32;
        made
    };
    (0..MESSAGES).map(row).collect()
}

/// Rows by block, as a put cuts them.
fn cut(rows: &[Row]) -> Vec<&[Row]> {
    let mut bytes = 0;
    let full = |row: &Row, _: &Row| {
        bytes += weight(&row.held);
        let full = bytes >= BLOCK_RAW_BYTES;
        bytes *= usize::from(!full);
        !full
    };
    rows.chunk_by(full).collect()
}

/// Runs `work` and keeps its time if it is the shortest yet.
fn time<T>(clock: &SystemClock, best: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = clock.monotonic();
    let result = std::hint::black_box(work());
    *best = (*best).min(clock.monotonic() - start);
    result
}

/// Bytes of a block and the shortest times it took.
#[derive(Default)]
struct Figures {
    bytes: [usize; 3],
    times: [Duration; 3],
}

fn measure_block(clock: &SystemClock, packer: &mut Packer, rows: &[Row]) -> Figures {
    let [mut pack, mut open, mut build] = [Duration::MAX; 3];
    let count = rows.len() as u32;
    let shelf = ShelfKey::of(&rows[0].held);
    let mut lent = Vec::with_capacity(rows.len());
    let mut bytes = [0; 3];
    for _ in 0..ROUNDS {
        let packed = time(clock, &mut pack, || packed(packer, rows));
        bytes = [packed.raw, packed.head.len(), packed.body.len()];
        let section = Bytes::from(packed.body);
        let (head, body) = time(clock, &mut open, || {
            let head = open_head(&packed.head, count).unwrap();
            (head, open_body_of(&section, count).unwrap())
        });
        let all = helds(&head, &body, 0..rows.len(), &shelf, Timestamp::UNIX_EPOCH);
        time(clock, &mut build, || lent.extend(all));
        lent.clear();
    }
    let times = [pack, open, build];
    Figures { bytes, times }
}

fn measure(name: &str, rows: &[Row]) {
    let (clock, mut packer) = (SystemClock::default(), Packer::new());
    let mut all = Figures::default();
    for rows in cut(rows) {
        let one = measure_block(&clock, &mut packer, rows);
        for of in 0..3 {
            all.bytes[of] += one.bytes[of];
            all.times[of] += one.times[of];
        }
    }
    let [raw, head, body] = all.bytes.map(|bytes| bytes as f64 / rows.len() as f64);
    let [pack, open, build] = all.times.map(|time| time.as_nanos() as usize / rows.len());
    println!(
        "{name:16} raw {raw:6.1} B, head {head:5.1} B, body {body:6.1} B; pack {pack:4} ns, \
         open {open:4} ns, build {build:4} ns"
    );
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let ids: [(&str, Make<String>); 3] = [("counter", counter), ("uuid", uuid), ("ulid", ulid)];
    let bodies: [(&str, Make<Vec<u8>>); 3] =
        [("noise", noise), ("letters", letters), ("order", order)];
    for (body_name, body) in bodies {
        for (id_name, id) in ids {
            measure(&format!("{body_name} {id_name}"), &rows(id, body));
        }
    }
}
