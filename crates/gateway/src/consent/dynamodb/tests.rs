//! What stands in an item; the book itself runs on an emulator in `tests/aws`.

use jiff::Timestamp;
use nightgate_core::{Basis, Scope};
use proptest::prelude::*;

use super::*;
use crate::aws::tables::text;
use crate::consent::Act;

fn any_event() -> impl Strategy<Value = ConsentEvent> {
    let scope = prop::sample::select(vec![Scope::General, Scope::Night]);
    // Few instants, so that many events meet at one.
    let act = prop_oneof![
        Just(Act::Grant(Basis::Explicit)),
        (0..4_i64).prop_map(|later| {
            let ends = Timestamp::constant(1_800_000_000 + later * 7, 5);
            Act::Grant(Basis::TransactionException { ends })
        }),
        Just(Act::Withdraw),
    ];
    (scope, act, 0..4_i64, 0..2_i32).prop_map(|(scope, act, at, nano)| ConsentEvent {
        key: RecipientKey::from_stored("+821012345678"),
        scope,
        act,
        at: Timestamp::constant(1_700_000_000 + at * 3600, nano),
        source: "test".to_owned(),
    })
}

proptest! {
    /// The table keeps the greatest text of each attribute; that is what folding keeps.
    #[test]
    fn the_greatest_texts_mean_what_the_history_means(
        events in prop::collection::vec(any_event(), 0..12),
    ) {
        let pk = partition(&RecipientKey::from_stored("+821012345678"));
        let mut kept = key(&pk, STATE);
        let mut folded = Consent::default();
        for event in &events {
            event.fold_into(&mut folded);
            for (attribute, value) in item::raises(event).unwrap() {
                let known = kept.get(attribute).and_then(|known| known.as_s().ok());
                if known.is_none_or(|known| *known < value) {
                    kept.insert(attribute.to_owned(), text(&value));
                }
            }
        }
        prop_assert_eq!(item::consent(&kept).unwrap(), (pk, folded));
    }

    #[test]
    fn an_event_reads_back_from_its_item_and_its_key_tells_it_apart(
        one in any_event(), other in any_event(),
    ) {
        let item = item::of_event("consent#x", &one).unwrap();
        prop_assert_eq!(&item::event(&one.key, &item).unwrap(), &one);
        let second = item::of_event("consent#x", &other).unwrap();
        prop_assert_eq!(item["sk"] == second["sk"], one.order() == other.order());
    }
}

#[test]
fn an_item_that_somebody_else_wrote_is_corrupt_and_not_an_empty_consent() {
    for (attribute, value) in [
        ("general_granted", "yes"),
        ("general_granted", "2026-01-01T00:00:00Z because"),
        ("night_granted", "2026-01-01T00:00:00Z transaction soon"),
        ("general_withdrawn", "never"),
    ] {
        let mut item = key("consent#x", STATE);
        item.insert(attribute.to_owned(), text(value));
        assert_eq!(
            item::consent(&item).unwrap_err().kind,
            Kind::Corrupt,
            "{value}"
        );
    }
}
