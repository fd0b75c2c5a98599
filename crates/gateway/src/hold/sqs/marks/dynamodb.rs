//! Marks in the DynamoDB table that also keeps consents: one item each (`pk = recall`, `sk` the
//! instant and something that tells two of one instant apart), which the table's time-to-live
//! (`ttl`) takes away once no queue can hold what it names.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{Mark, Marks};
use crate::aws::tables::{Item, Table, Words, key, text, text_of, ttl};
use crate::error::{Error, Kind, Result};
use crate::hold::Scope;

/// The partition of all marks: they are few, and read together.
const PARTITION: &str = "recall";
/// How long a mark is kept: a queue keeps a message for 14 days, and clocks differ.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(15 * 24);

/// The marks.
pub struct DynamoMarks(Table);

impl DynamoMarks {
    /// Marks in `table`.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        Self(table.of("hold"))
    }
}

/// The sort key of everything at or after an instant begins at this text: texts of instants sort as
/// instants do.
fn place(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// The item of a mark. `salt` tells marks of one instant apart.
fn item(mark: &Mark, salt: u64) -> Result<Item> {
    let scope = serde_json::to_string(&mark.scope);
    let scope =
        scope.map_err(|error| Error::new(Kind::Invalid, "hold", "write a recall").with(error))?;
    let ends = mark.at.checked_add(KEPT_FOR).unwrap_or(Timestamp::MAX);
    let mut item = key(PARTITION, &format!("{}#{salt:016x}", place(mark.at)));
    item.insert("scope".to_owned(), text(&scope));
    item.insert("ttl".to_owned(), ttl(ends));
    Ok(item)
}

/// The mark of an item.
fn mark(item: &Item) -> Result<Mark> {
    let corrupt = || {
        Error::new(
            Kind::Corrupt,
            "hold",
            "read a recall: its item is of another shape",
        )
    };
    let text = |name: &str| text_of(item, name).ok_or_else(corrupt);
    let at = text("sk")?.split('#').next().unwrap_or_default();
    let scope: Scope = serde_json::from_str(text("scope")?).map_err(|_| corrupt())?;
    let at = at.parse().map_err(|_| corrupt())?;
    Ok(Mark { scope, at })
}

#[async_trait]
impl Marks for DynamoMarks {
    async fn add(&self, mark: Mark) -> Result<()> {
        let item = item(&mark, fastrand::u64(..))?;
        self.0.put("note a recall", item).await
    }

    async fn since(&self, from: Timestamp) -> Result<Vec<Mark>> {
        let words = Words::default().text(":pk", PARTITION);
        let words = words.text(":from", &place(from));
        let late = "pk = :pk AND sk >= :from";
        let items = self.0.query("read recalls", late, &words).await?;
        items.iter().map(mark).collect()
    }
}

#[cfg(test)]
mod tests {
    use nightgate_core::{MessageId, RecipientKey};

    use super::*;
    use crate::hold::Lane;

    #[test]
    fn a_mark_reads_back_and_sorts_by_its_instant() {
        let scopes = [
            Scope::Id(MessageId::new("m-1").unwrap()),
            Scope::Campaign("가을 세일".into()),
            Scope::Recipient(RecipientKey::from_stored("+821012345678")),
            Scope::Lane(Lane::new("kakao")),
        ];
        let mut last = String::new();
        for (seconds, scope) in (0..).zip(scopes) {
            let at = Timestamp::new(1_790_000_000 + seconds, 900_000_000).unwrap();
            let written = Mark { scope, at };
            let item = item(&written, 7).unwrap();
            assert_eq!(mark(&item).unwrap(), written);
            let place_of_it = item["sk"].as_s().unwrap().clone();
            assert!(last < place_of_it && place(at) <= place_of_it);
            last = place_of_it;
        }
    }

    #[test]
    fn an_item_of_another_shape_is_corrupt_and_not_passed_over() {
        let written = Mark {
            scope: Scope::Lane(Lane::new("kakao")),
            at: Timestamp::UNIX_EPOCH,
        };
        for name in ["sk", "scope"] {
            let mut item = item(&written, 1).unwrap();
            item.insert(name.to_owned(), text("what"));
            assert_eq!(mark(&item).unwrap_err().kind, Kind::Corrupt);
        }
    }
}
