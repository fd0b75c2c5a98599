//! Finds shelves, keeps their counts and numbers arrivals, for the length of one call.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

use nightgate_core::Priority;
use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::hold::State;
use crate::hold::codec;
use crate::hold::key::ShelfKey;

/// Shelves seen in one call and what it changed of their counts. Nothing is remembered longer:
/// another process may have changed them meanwhile.
pub(super) struct Shelving<'c> {
    connection: &'c Connection,
    ids: HashMap<Rc<ShelfKey>, i64>,
    keys: HashMap<i64, Rc<ShelfKey>>,
    changes: BTreeMap<i64, Change>,
    /// Arrivals of this call, once one was asked for: its end is the next.
    arrivals: Option<Range<i64>>,
}

#[derive(Clone, Copy, Default)]
struct Change {
    held: i64,
    leased: i64,
    buried: i64,
    ended: i64,
}

impl Change {
    fn of(&mut self, state: State) -> &mut i64 {
        match state {
            State::Held => &mut self.held,
            State::Leased => &mut self.leased,
            State::Buried => &mut self.buried,
            _ => &mut self.ended,
        }
    }
}

/// Where a message stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) shelf: i64,
    pub(super) state: State,
}

impl<'c> Shelving<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            ids: HashMap::new(),
            keys: HashMap::new(),
            changes: BTreeMap::new(),
            arrivals: None,
        }
    }

    /// The number of the next message to arrive.
    pub(super) fn next_arrival(&mut self) -> Result<i64> {
        if let Some(arrivals) = &self.arrivals {
            return Ok(arrivals.end);
        }
        let mut read = self
            .connection
            .prepare_cached("SELECT value FROM counter WHERE name = 'next_seq'")?;
        let next = read.query_row([], |row| row.get(0))?;
        self.arrivals = Some(next..next);
        Ok(next)
    }

    /// Gives the next number away.
    pub(super) fn arrive(&mut self) -> Result<i64> {
        let seq = self.next_arrival()?;
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.end += 1;
        }
        Ok(seq)
    }

    /// Lets a message that is there arrive anew, behind all others; says its new number.
    pub(super) fn anew(&mut self, seq: i64) -> Result<i64> {
        let new = self.arrive()?;
        for move_row in [
            "UPDATE message SET seq = ?2 WHERE seq = ?1",
            "UPDATE body SET seq = ?2 WHERE seq = ?1",
        ] {
            self.connection
                .prepare_cached(move_row)?
                .execute([seq, new])?;
        }
        Ok(new)
    }

    /// The shelf with this key, made if there is none.
    pub(super) fn id(&mut self, key: &ShelfKey) -> Result<i64> {
        if let Some(&id) = self.ids.get(key) {
            return Ok(id);
        }
        let (lane, class) = (key.lane.as_str(), key.class.as_str());
        let (purpose, campaign) = (key.purpose.as_str(), key.campaign.as_deref());
        let values = params![lane, class, key.due, key.priority.get(), purpose, campaign];
        let mut find = self.connection.prepare_cached(
            "SELECT id FROM shelf WHERE lane = ?1 AND class = ?2 AND due IS ?3 AND priority = ?4
             AND purpose = ?5 AND campaign IS ?6 ORDER BY id LIMIT 1",
        )?;
        let id = match find.query_row(values, |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                let mut make = self.connection.prepare_cached(
                    "INSERT INTO shelf (lane, class, due, priority, purpose, campaign)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?;
                make.insert(values)?
            }
        };
        let key = Rc::new(key.clone());
        self.ids.insert(Rc::clone(&key), id);
        self.keys.insert(id, key);
        Ok(id)
    }

    /// The key of a shelf that exists.
    pub(super) fn key(&mut self, id: i64) -> Result<Rc<ShelfKey>> {
        if let Some(key) = self.keys.get(&id) {
            return Ok(Rc::clone(key));
        }
        let key = Rc::new(read_key(self.connection, id)?);
        self.keys.insert(id, Rc::clone(&key));
        Ok(key)
    }

    /// Counts a message in.
    pub(super) fn add(&mut self, to: Place) {
        *self.changes.entry(to.shelf).or_default().of(to.state) += 1;
    }

    /// Counts a message out.
    pub(super) fn take(&mut self, from: Place) {
        *self.changes.entry(from.shelf).or_default().of(from.state) -= 1;
    }

    /// Writes the counts and the next arrival, and drops shelves on which nothing stands any more.
    pub(super) fn finish(self) -> Result<()> {
        if let Some(arrivals) = self.arrivals.filter(|arrivals| !arrivals.is_empty()) {
            self.connection
                .prepare_cached("UPDATE counter SET value = ?1 WHERE name = 'next_seq'")?
                .execute([arrivals.end])?;
        }
        let mut count = self.connection.prepare_cached(
            "UPDATE shelf SET held = held + ?2, leased = leased + ?3, buried = buried + ?4,
             ended = ended + ?5 WHERE id = ?1",
        )?;
        let mut tidy = self.connection.prepare_cached(
            "DELETE FROM shelf WHERE id = ?1 AND held = 0 AND leased = 0 AND buried = 0
             AND ended = 0",
        )?;
        for (id, change) in self.changes {
            count.execute(params![
                id,
                change.held,
                change.leased,
                change.buried,
                change.ended
            ])?;
            tidy.execute([id])?;
        }
        Ok(())
    }
}

/// The key of a shelf that exists.
pub(super) fn read_key(connection: &Connection, id: i64) -> Result<ShelfKey> {
    let mut read = connection.prepare_cached(
        "SELECT lane, purpose, class, campaign, priority, due FROM shelf WHERE id = ?1",
    )?;
    read.query_row([id], |row| codec::read_shelf(row, 0))
}

/// Every priority, first to last.
pub(super) fn priorities() -> impl Iterator<Item = u8> {
    0..=Priority::LAST
}
